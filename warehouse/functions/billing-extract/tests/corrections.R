# The same event gives the same, and a correction changes what it is about and nothing else.
source("tests/month.R")

AT <- steps_of("2026-03")
OTHER <- "30000000000043"
both <- contracts(
  contract("SPOT_PASSTHROUGH", fee_eur_mwh = "1.5"),
  contract("SPOT_PASSTHROUGH", contract_id = "CTR-2022-0043", producer_id = "PRD0043", prm = OTHER, fee_eur_mwh = "2"))
declared <- function(prm, energy_wh) {
  columns(contract_id = "of the file", producer_id = if (prm == PRM) "PRD0042" else "PRD0043", prm = prm, start = AT, step_s = 900, energy_wh = energy_wh, aux_wh = 0,
          source = "COMPTEUR", status = "DEFINITIF")
}
prices <- day_ahead("2026-03", sprintf("%.2f", 20 + 30 * sin(seq_along(AT))))
energy <- 100000 + seq_along(AT) * 7
none <- list(columns = list())
month <- function(first) {
  extract(event(contracts = both, meters = none, declared = together(declared(PRM, first), declared(OTHER, energy)), prices = prices))
}

before <- month(energy)
expect(month(energy), before)
expect(nrow(before$lines), 4L)

# A corrected file: one quarter of one producer is 1 MWh more. Its two lines differ, the other's don't in any column.
after <- month(replace(energy, 100, energy[100] + 1e6))
changed <- before$lines$amount != after$lines$amount
expect(changed, c(TRUE, TRUE, FALSE, FALSE))
expect(after$lines[3:4], before$lines[3:4])
expect(after$lines[1:2, !c("quantity", "amount")], before$lines[1:2, !c("quantity", "amount")])
expect(after$lines$quantity - before$lines$quantity, c(1e6, 1e6, 0, 0))
expect(after$lines$rule, before$lines$rule)
expect(sum(after$days$energy_wh != before$days$energy_wh), 1L)

# The bill is the sum of its rounded lines.
cents <- function(amount) as.numeric(sub(".", "", amount, fixed = TRUE))
expect(sum(cents(after$lines$amount)), cents(after$totals$amount))
expect(sum(cents(after$totals$bills$amount)), cents(after$totals$amount))

# The order of rows in any input is no matter.
turned <- event(contracts = both, meters = none, declared = together(declared(PRM, energy), declared(OTHER, energy)), prices = prices)
turned$inputs <- lapply(turned$inputs, function(input) list(columns = lapply(input$columns, rev)))
expect(extract(turned), before)
