# The month's lines: what each producer is paid for each contract, by rule.
#
# The event (docs/billing.md has its columns):
#   period      "2026-03", a local month
#   as_of       the instant as of which the inputs were asked for; it is only handed on
#   parameters  zone ("Europe/Paris"), bidding_zone ("FR")
#   inputs      the tables of inputs.R, column by column
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
  inputs <- sapply(names(INPUTS), read_input, event = event, simplify = FALSE)
  steps <- grid(month, inputs$rules)
  market <- market_of(inputs, month, steps, parameter(event, "bidding_zone", "FR"))
  series <- series_of(inputs, steps)

  contracts <- in_month(inputs$contracts, month)
  # What caps leave depends on what was billed before, of this month too.
  before <- inputs$billed_before
  market$billed_before <- function(contract) before[contract_id == contract$contract_id & prm == contract$prm]
  billed <- lapply(seq_len(nrow(contracts)), function(i) {
    one <- bill(contracts[i], contracts, steps, series, inputs$precedence, market)
    if (!is.null(one$lines)) {
      before <<- rbind(before, one$lines[rule == "cr", .(contract_id, prm, period, energy_wh = quantity)])
    }
    one
  })
  lines <- gathered(billed, "lines", EMPTY_LINES)[order(producer_id, contract_id, prm, valid_from, line)]
  days <- gathered(billed, "days", EMPTY_DAYS)[order(producer_id, contract_id, prm, day)]
  kept_back <- gathered(billed, "incomplete", EMPTY_INCOMPLETE)
  # All of a contract's month, or nothing of it: no bill for the half that could be computed.
  whole <- function(rows) rows[!contract_id %in% kept_back$contract_id]
  lines <- whole(lines)
  # What nobody has a contract for keeps nobody back.
  incomplete <- rbind(kept_back, without_contract(inputs$declared, contracts, month))
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
  meters <- inputs$meters[, .(prm, producer_id = rep(NA_character_, .N), source, start, step_s, energy_wh, withdrawal_wh, quality)]
  rows <- check_series(rbind(declared_series(inputs$declared), meters))
  at_step(rows, steps$step_s[1])
}

# The versions of contracts that hold on any day of the month, in the order in which they use up a cap.
in_month <- function(contracts, month) {
  contracts <- contracts[valid_from < month$after & (is.na(valid_to) | (valid_to > month$first & valid_to > valid_from))]
  contracts[order(contract_id, prm, valid_from)]
}

# Another version of a contract that holds for the same metering point on the same days.
overlapping <- function(contract, contracts) {
  contracts[contract_id == contract$contract_id & prm == contract$prm & valid_from != contract$valid_from &
              (is.na(valid_to) | contract$valid_from < valid_to) &
              (is.na(contract$valid_to) | valid_from < contract$valid_to)]
}

# A contract version's lines, or why there are none.
bill <- function(contract, contracts, steps, series, precedence, market) {
  tryCatch({
    other <- overlapping(contract, contracts)
    if (nrow(other)) incomplete(contract, sprintf("its version from %s overlaps the one from %s", contract$valid_from, other$valid_from[1]))
    own <- billed_steps(contract, steps, series, precedence, market$month)
    rule <- RULES[[contract$kind]]
    if (is.null(rule)) incomplete(contract, sprintf("there is no rule for %s; there are %s", contract$kind,
                                                    paste(names(RULES), collapse = ", ")))
    for (vat in c(contract$vat, if (!is.na(contract$fee_vat)) contract$fee_vat)) {
      if (!vat %in% c("reverse_charge", "none", "standard", "exempt")) {
        incomplete(contract, sprintf("vat is '%s', not one of reverse_charge, none, standard, exempt", vat))
      }
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
  # What another producer declares of the point is not this one's.
  of_point <- series[prm == contract$prm & (is.na(producer_id) | producer_id == contract$producer_id)]
  wrong <- of_point[is_wrong == TRUE & start %in% wanted$start]
  if (nrow(wrong)) {
    incomplete(contract, sprintf("%s has an energy that is missing or below zero at %s, and for %d steps in all", wrong$source[1],
                                 instant_text(wrong$start[1], month$zone), nrow(wrong)))
  }
  candidates <- of_point[source != "FORECAST"]
  own <- by_precedence(wanted, candidates, precedence, contract$kind)
  own <- merge(wanted, own[, !"day"], by = "start", all.x = TRUE)
  missing <- own[is.na(energy_wh)]
  if (nrow(missing)) {
    incomplete(contract, sprintf("%d of %d steps have no energy from any source; the first is %s", nrow(missing), nrow(own),
                                 instant_text(missing$start[1], month$zone)))
  }
  doubled <- own[overlaps == TRUE]
  if (nrow(doubled)) {
    incomplete(contract, sprintf("%s has values of several steps at once at %s, and for %d steps in all", doubled$source[1],
                                 instant_text(doubled$start[1], month$zone), nrow(doubled)))
  }
  own[, auxiliaries := NA_character_]
  if (contract$kind == "CR") own <- with_auxiliaries(contract, own, candidates, precedence, month)
  own[is.na(withdrawal_wh), withdrawal_wh := 0]
  forecast <- of_point[source == "FORECAST", .(start, forecast_wh = energy_wh)]
  own <- merge(own, forecast, by = "start", all.x = TRUE)
  setorder(own, start)
  own[]
}

# Net of auxiliaries: an operator's meter may not say what they took. Then it is what the next source says that does.
with_auxiliaries <- function(contract, own, candidates, precedence, month) {
  others <- by_precedence(own[is.na(withdrawal_wh), .(start, day)], candidates[!is.na(withdrawal_wh)], precedence, contract$kind)
  # Not `at`: that is a column, which would stand in its place below.
  place <- match(own$start, others$start)
  own[, `:=`(auxiliaries = others$source[place],
             withdrawal_wh = ifelse(is.na(withdrawal_wh), others$withdrawal_wh[place], withdrawal_wh))]
  unknown <- own[is.na(withdrawal_wh)]
  if (nrow(unknown)) {
    incomplete(contract, sprintf("of %d steps no source says what the auxiliaries took; the first is %s", nrow(unknown),
                                 instant_text(unknown$start[1], month$zone)))
  }
  own
}

# How many steps were billed from which source: "DSO_CORRECTED:96 DSO_RAW:2876".
sources_of <- function(steps) {
  used <- steps[, .N, by = source][order(source)]
  auxiliaries <- steps[!is.na(auxiliaries), .N, by = auxiliaries][order(auxiliaries)]
  paste(c(paste0(used$source, ":", used$N), if (nrow(auxiliaries)) paste0("auxiliaries=", auxiliaries$auxiliaries, ":", auxiliaries$N)),
        collapse = " ")
}

lines_of <- function(contract, steps, lines, month) {
  data.table(
    period = month$period, producer_id = contract$producer_id, producer = contract$producer,
    contract_id = contract$contract_id, valid_from = contract$valid_from, site_id = contract$site_id,
    prm = contract$prm, kind = contract$kind, line = seq_along(lines), rbindlist(lines),
    quality = worst(steps$quality), sources = sources_of(steps), steps = nrow(steps)
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
                      document = ifelse(cents < 0, "negative_invoice", "invoice"))],
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
