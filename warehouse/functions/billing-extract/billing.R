# The month's lines: what each producer is paid for each contract, by rule.
#
# The event (docs/billing.md has its columns):
#   period      "2026-03", a local month
#   as_of       the instant as of which the inputs were asked for; it is only handed on
#   parameters  zone ("Europe/Paris"), bidding_zone ("FR")
#   inputs      contracts, declared, meters, prices, precedence, negative_before: tables, column by column
# The answer:
#   lines       one row for each contract version and rule, to be entered in the books
#   days        energy of each contract and local day, for charts and controls
#   incomplete  contracts that could not be billed, with the reason
#   totals      of each bill, a producer's for a contract, and of all of them
#
# The same event gives the same bytes: energies are whole Wh, prices whole ten-thousandths, amounts whole cents, and
# rows are sorted by their keys (data.table sorts as in the C locale).

library(data.table)
source("money.R")
source("calendar.R")
source("inputs.R")
source("energy.R")
source("prices.R")
source("rules.R")

setDTthreads(1)

extract <- function(event) {
  zone <- parameter(event, "zone", "Europe/Paris")
  check_zone(zone)
  month <- month_of(event$period, zone)
  steps <- grid(month)
  inputs <- sapply(names(INPUTS), read_input, event = event, simplify = FALSE)
  market <- market_of(inputs$prices, month, steps, parameter(event, "bidding_zone", "FR"), sum(inputs$negative_before$seconds))
  series <- series_of(inputs, steps)

  contracts <- in_month(inputs$contracts, month)
  billed <- lapply(seq_len(nrow(contracts)), function(i) bill(contracts[i], steps, series, inputs$precedence, market))
  lines <- gathered(billed, "lines", EMPTY_LINES)
  days <- gathered(billed, "days", EMPTY_DAYS)
  incomplete <- rbind(gathered(billed, "incomplete", EMPTY_INCOMPLETE), without_contract(inputs$declared, contracts, month))
  # All of a contract's month, or nothing of it: no bill for the half that could be computed.
  whole <- function(rows) rows[!contract_id %in% incomplete$contract_id]
  lines <- whole(lines)
  list(
    period = event$period,
    as_of = event$as_of,
    inputs_hash = if (is.null(event$inputs_hash)) NA else event$inputs_hash,
    lines = shown(lines),
    days = whole(days),
    incomplete = incomplete,
    totals = totals(lines)
  )
}

parameter <- function(event, name, default) {
  value <- event$parameters[[name]]
  if (is.null(value)) default else value
}

# The energies of the month at its own step.
series_of <- function(inputs, steps) {
  rows <- check_series(rbind(declared_series(inputs$declared), inputs$meters))
  at_step(rows, steps$step_s[1])
}

# The versions of contracts that hold on any day of the month, in the order of the answer.
in_month <- function(contracts, month) {
  contracts <- contracts[valid_from < month$after & (is.na(valid_to) | (valid_to > month$first & valid_to > valid_from))]
  contracts[order(producer_id, contract_id, valid_from)]
}

# A contract version's lines, or why there are none.
bill <- function(contract, steps, series, precedence, market) {
  tryCatch({
    own <- billed_steps(contract, steps, series, precedence, market$month)
    rule <- RULES[[contract$kind]]
    if (is.null(rule)) incomplete(contract, sprintf("there is no rule for %s; there are %s", contract$kind,
                                                    paste(names(RULES), collapse = ", ")))
    if (!contract$vat %in% c("reverse_charge", "none", "standard")) {
      incomplete(contract, sprintf("vat is '%s', not one of reverse_charge, none, standard", contract$vat))
    }
    list(lines = lines_of(contract, own, rule(contract, own, market), market$month), days = days_of(contract, own, market$month))
  }, incomplete = function(condition) {
    list(incomplete = data.table(
      period = market$month$period, producer_id = contract$producer_id, contract_id = contract$contract_id,
      prm = contract$prm, reason = condition$reason))
  })
}

# The steps on whose local day the contract holds, each with the energy of the source that comes first.
billed_steps <- function(contract, steps, series, precedence, month) {
  wanted <- steps[, .(start, step_s, day, at = .I)][holds(contract$valid_from, contract$valid_to, day)]
  of_point <- series[prm == contract$prm]
  candidates <- of_point[source != "FORECAST"]
  # Net of auxiliaries: a source that does not say what they took can't be billed.
  if (contract$kind == "CR") candidates <- candidates[!is.na(withdrawal_wh)]
  own <- by_precedence(wanted, candidates, precedence, contract$kind)
  own <- merge(wanted, own[, !"day"], by = "start", all.x = TRUE)
  missing <- own[is.na(energy_wh)]
  if (nrow(missing)) {
    incomplete(contract, sprintf("%d of %d steps have no energy from any source; the first is %s", nrow(missing), nrow(own),
                                 instant_text(missing$start[1], month$zone)))
  }
  own[is.na(withdrawal_wh), withdrawal_wh := 0]
  forecast <- of_point[source == "FORECAST", .(start, forecast_wh = energy_wh)]
  own <- merge(own, forecast, by = "start", all.x = TRUE)
  setorder(own, start)
  own[]
}

lines_of <- function(contract, steps, lines, month) {
  used <- steps[, .N, by = source][order(source)]
  data.table(
    period = month$period, producer_id = contract$producer_id, producer = contract$producer,
    contract_id = contract$contract_id, valid_from = contract$valid_from, site_id = contract$site_id,
    prm = contract$prm, kind = contract$kind, line = seq_along(lines), rbindlist(lines),
    quality = worst(steps$quality), sources = paste0(used$source, ":", used$N, collapse = " "), steps = nrow(steps)
  )
}

days_of <- function(contract, steps, month) {
  steps[, .(
    period = month$period, producer_id = contract$producer_id, contract_id = contract$contract_id, prm = contract$prm,
    steps = .N, energy_wh = sum(energy_wh), quality = worst(quality)
  ), by = day]
}

without_contract <- function(declared, contracts, month) {
  rows <- unique(declared[!prm %in% contracts$prm, .(contract_id, prm)])[order(contract_id, prm)]
  if (nrow(rows) == 0) return(EMPTY_INCOMPLETE)
  data.table(period = month$period, producer_id = NA_character_, rows,
             reason = "declared, but no contract for this metering point holds in the month")
}

# Texts for amounts: a JSON number would be a double to whoever reads it.
shown <- function(lines) {
  lines <- copy(lines)
  lines[, `:=`(amount = euros(cents), vat_amount = euros(vat_cents))]
  lines[, !c("cents", "vat_cents")]
}

totals <- function(lines) {
  bills <- lines[, .(lines = .N, cents = sum(cents), vat_cents = sum(vat_cents)), by = .(period, producer_id, contract_id)]
  list(
    bills = bills[, .(period, producer_id, contract_id, lines, amount = euros(cents), vat_amount = euros(vat_cents),
                      document = ifelse(cents < 0, "credit_note", "invoice"))],
    lines = nrow(lines), amount = euros(sum(lines$cents)), vat_amount = euros(sum(lines$vat_cents))
  )
}

gathered <- function(billed, part, empty) rbindlist(c(list(empty), lapply(billed, `[[`, part)), use.names = TRUE)

EMPTY_LINES <- data.table(
  period = character(), producer_id = character(), producer = character(), contract_id = character(),
  valid_from = character(), site_id = character(), prm = character(), kind = character(), line = integer(),
  rule = character(), quantity = numeric(), unit = character(), price = character(), price_unit = character(),
  cents = numeric(), vat = character(), vat_rate_pct = character(), vat_cents = numeric(), quality = character(),
  sources = character(), steps = integer()
)
EMPTY_DAYS <- data.table(
  day = character(), period = character(), producer_id = character(), contract_id = character(), prm = character(),
  steps = integer(), energy_wh = numeric(), quality = character()
)
EMPTY_INCOMPLETE <- data.table(
  period = character(), producer_id = character(), contract_id = character(), prm = character(), reason = character()
)
