# Which source is billed, by which step, and of which quality it is.
source("tests/month.R")

AT <- steps_of("2026-03")
ppa <- contracts(contract("FIXED_PPA", price_eur_mwh = "10"))
line_of <- function(...) extract(event(contracts = ppa, ...))$lines
declared <- function(start, energy_wh, step_s = 3600, status = "DEFINITIF", source = "COMPTEUR") {
  columns(contract_id = "CTR-2021-0042", producer_id = "PRD0042", prm = PRM, start = start, step_s = step_s, energy_wh = energy_wh, aux_wh = 0,
          source = source, status = status)
}

# Rows of meters in the form in which they are divided.
of_meters <- function(rows, ...) {
  rows <- as.data.table(rows$columns)
  rows[, `:=`(producer_id = NA_character_, is_wrong = FALSE)]
  rows[]
}

# Corrected before raw before declared, step by step, whatever the order of rows.
hours <- steps_of("2026-03", 3600)
all <- together(meters(AT[1:2960], 200000), meters(AT[1:4], 100000, source = "DSO_CORRECTED", quality = "corrected"))
shuffled <- lapply(all$columns, function(column) rev(column))
for (table in list(all, list(columns = shuffled))) {
  got <- line_of(meters = table, declared = declared(hours, 4e6))
  expect(got$sources, "DSO_CORRECTED:4 DSO_RAW:2956 PRODUCER_DECLARED:12")
  expect(got$quantity, 4 * 100000 + 2956 * 200000 + 12 * 1e6)
  # Hours that are divided were not measured by the quarter.
  expect(got$quality, "profiled")
}
# The table decides, not the code: another rank, for one kind only, from a day on.
ranks <- together(PRECEDENCE, columns(
  kind = "FIXED_PPA", source = c("PRODUCER_DECLARED", "DSO_RAW", "DSO_RAW"), rank = c(1, 2, 0),
  valid_from = c("2000-01-01", "2000-01-01", "2026-03-31"), valid_to = NA))
got <- line_of(meters = meters(AT, 1), declared = declared(hours, 4e6), precedence = ranks)
expect(got$sources, "DSO_RAW:96 PRODUCER_DECLARED:2876")

# A value that is invalid or missing is none: the next source stands in.
quality <- replace(rep("measured", 2972), 10, "invalid")
got <- line_of(meters = meters(AT, replace(rep(1, 2972), 10, NA), quality = quality), declared = declared(hours, 4e6))
expect(got$sources, "DSO_RAW:2971 PRODUCER_DECLARED:1")
# A period takes its worst quality.
got <- line_of(meters = meters(AT, 1, quality = replace(rep("measured", 2972), 7, "estimated")))
expect(got$quality, "estimated")
got <- line_of(meters = meters(AT, 1, quality = replace(rep("estimated", 2972), 7, "outage")))
expect(got$quality, "outage")
got <- line_of(meters = meters(AT[1], 1)[0], declared = declared(hours, 1, status = c("PROVISOIRE", rep("DEFINITIF", 742))))
expect(got$quality, "estimated")

# Other steps, to the Wh: an hour of 7 Wh is 1 + 2 + 2 + 2; ten minutes are cut in two, and what a day sums to stays.
parts <- at_step(of_meters(meters(AT[1], 7, step_s = 3600)), 900)
expect(parts$energy_wh, c(1, 2, 2, 2))
set.seed(42)
tens <- steps_of("2026-03", 600)
energy <- floor(runif(length(tens)) * 1e6)
parts <- at_step(of_meters(meters(tens, energy, source = "SCADA", step_s = 600)), 900)
expect(parts$start, AT)
expect(sum(parts$energy_wh), sum(energy))
# By hand: 10 and 5 minutes of 3 and 5 Wh, then 5 and 10 of 5 and 9.
parts <- at_step(of_meters(meters(AT[1] + c(0, 600, 1200), c(3, 5, 9), source = "SCADA", step_s = 600)), 900)
expect(parts$energy_wh, c(5, 12))
# A quarter that is covered in part is none.
parts <- at_step(of_meters(meters(AT[1], 600, source = "SCADA", step_s = 600)), 900)
expect(nrow(parts), 0L)

# A corrected half hour in place of two quarters is divided; one that lies over quarters of the same source is two values
# for the same time, and nobody is billed from it.
halves <- together(meters(AT[-(1:2)], 250000), meters(AT[1], 600000, source = "DSO_CORRECTED", step_s = 1800))
got <- line_of(meters = halves)
expect(got$sources, "DSO_CORRECTED:2 DSO_RAW:2970")
expect(got$quantity, 2970 * 250000 + 600000)
result <- extract(event(contracts = ppa, meters = together(meters(AT[-9], 250000), meters(AT[9], 600000, step_s = 1800))))
expect(nrow(result$lines), 0L)
expect(result$incomplete$reason,
       "DSO_RAW has values of several steps at once at 2026-03-01T01:15:00Z (2026-03-01 02:15 Europe/Paris), and for 1 steps in all")
# A step of seven minutes fits nothing.
expect(nrow(extract(event(contracts = ppa, meters = meters(AT, 1, step_s = 420)))$lines), 0L)

# A step that begins off the grid fits none.
expect(nrow(extract(event(contracts = ppa, meters = meters(AT + 420, 1)))$lines), 0L)
# A value that can't be keeps its contract back, and nobody else.
others <- contracts(contract("FIXED_PPA", price_eur_mwh = "10"), contract("OA", contract_id = "CTR-B", prm = "30000000000043", price_eur_mwh = "1"))
for (value in c(-1, NA)) {
  wrong <- together(meters(AT, replace(rep(1, 2972), 5, value)), meters(AT, 1, prm = "30000000000043"))
  result <- extract(event(contracts = others, meters = wrong))
  expect(result$lines$contract_id, "CTR-B")
  expect(result$incomplete$reason,
         "DSO_RAW has an energy that is missing or below zero at 2026-03-01T00:00:00Z (2026-03-01 01:00 Europe/Paris), and for 1 steps in all")
}
# What another producer declares of the point is not billed.
foreign <- declared(hours, 4e6)
foreign$columns$producer_id <- "PRD0099"
expect(nrow(extract(event(contracts = ppa, meters = meters(AT[1], 1)[0], declared = foreign))$lines), 0L)
# What is declared without a contract keeps nobody back.
stray <- declared(hours, 0)
stray$columns$prm <- "30000000000099"
result <- extract(event(contracts = ppa, meters = meters(AT, 1), declared = stray))
expect(nrow(result$lines), 1L)

# Energies far beyond 32 bits stay whole.
expect(line_of(meters = meters(AT, 3e8))$quantity, 2972 * 3e8)

# A step without any source: no bill, and which step it is.
result <- extract(event(contracts = ppa, meters = meters(AT[-(101:102)], 1)))
expect(nrow(result$lines), 0L)
expect(result$incomplete$reason,
       "2 of 2972 steps have no energy from any source; the first is 2026-03-02T00:00:00Z (2026-03-02 01:00 Europe/Paris)")
# Declared by somebody without a contract.
result <- extract(event(contracts = ppa, meters = meters(AT, 1), declared = columns(
  contract_id = "CTR-0", producer_id = "PRD0042", prm = "30000000000099", start = AT, step_s = 900, energy_wh = 1, aux_wh = 0, source = "COMPTEUR",
  status = "DEFINITIF")))
expect(nrow(result$lines), 1L)
expect(result$incomplete$prm, "30000000000099")

# All of a contract's month, or nothing: a step that is missing in one version keeps the other back, too.
two <- contracts(contract("FIXED_PPA", price_eur_mwh = "50", valid_to = "2026-03-16"),
                 contract("FIXED_PPA", price_eur_mwh = "60", valid_from = "2026-03-16"))
result <- extract(event(contracts = two, meters = meters(AT[-2000], 250000)))
expect(c(nrow(result$lines), nrow(result$days), nrow(result$incomplete)), c(0L, 0L, 1L))
expect(nrow(extract(event(contracts = two, meters = meters(AT, 250000)))$lines), 2L)

# A version that ends as it begins holds on no day.
none <- contracts(contract("FIXED_PPA", price_eur_mwh = "50", valid_to = "2026-03-16"),
                  contract("FIXED_PPA", price_eur_mwh = "55", valid_from = "2026-03-16", valid_to = "2026-03-16"),
                  contract("FIXED_PPA", price_eur_mwh = "60", valid_from = "2026-03-16"))
expect(extract(event(contracts = none, meters = meters(AT, 250000)))$lines$price, c("50.0000", "60.0000"))

# Of two ranks of a source that hold, the one that began last.
ranks <- together(PRECEDENCE, columns(kind = "*", source = "DSO_RAW", rank = 9, valid_from = "2026-01-01", valid_to = NA))
expect(line_of(meters = meters(AT, 1), declared = declared(hours, 4e6), precedence = ranks)$sources, "PRODUCER_DECLARED:2972")

# What no query should give.
expect_error(extract(event(contracts = ppa, meters = together(meters(AT, 1), meters(AT[5], 1)))),
             "DSO_RAW", PRM, "two values", "2026-03-01T00:00:00Z")
expect_error(extract(event(contracts = ppa, meters = meters(AT, 0.5))), "meters.energy_wh, row 1", "0.5")
expect_error(extract(event(contracts = ppa, meters = meters(AT, 1, quality = "good"))), "quality 'good'")
bare <- event(contracts = ppa, meters = meters(AT, 1))
bare$inputs$prices <- NULL
expect_error(extract(bare), "no input 'prices'")
bare <- event(contracts = ppa, meters = meters(AT, 1))
bare$inputs$meters$columns$quality <- NULL
expect_error(extract(bare), "'meters' has no column 'quality'", "withdrawal_wh")

# From a file as from columns.
ppa$columns$producer <- 'SARL "Les, Vents"'
named <- event(contracts = ppa, meters = meters(AT, 250000), declared = declared(hours, 1e6))
inline <- extract(named)
for (name in names(named$inputs)) {
  file <- tempfile(fileext = ".csv")
  columns <- as.data.table(named$inputs[[name]]$columns)
  if (ncol(columns) == 0) writeLines("", file) else fwrite(columns, file, na = "")
  named$inputs[[name]] <- list(file = file)
}
expect(extract(named), inline)
