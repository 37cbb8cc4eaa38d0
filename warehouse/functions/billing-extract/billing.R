# The month's lines: what each producer is paid for each contract, by rule.
#
# The event (docs/billing.md):
#   period, as_of, parameters
#   inputs$declared           prm, start (seconds, UTC), step_s, energy_wh, aux_wh, status
#   inputs$contracts          contract, producer_id, producer, site_id, site, technology, prm, kind, price,
#                             parameters (JSON), valid_from, valid_to (local days; the second is after the last)
#   inputs$prices             start, step (ISO 8601), price (EUR/MWh, as text)
#   inputs$market_references  technology, m0 (EUR/MWh, as text)
# Each input is {"columns": {name: [values]}}, or {"file": "/inputs/NAME.csv"} where the event would be too large.
#
# Energies are whole Wh, prices whole ten-thousandths of EUR/MWh, amounts whole cents: nothing here is a rounded
# double, so that the same event gives the same bytes on every machine.

library(data.table)
source("money.R")
source("rules.R")

extract <- function(event) {
  zone <- event$parameters$zone
  declared <- input(event$inputs$declared)
  contracts <- input(event$inputs$contracts)
  prices <- prices_of(input(event$inputs$prices))
  m0 <- input(event$inputs$market_references)
  if (nrow(declared) == 0) stop("nothing was declared for ", event$period)
  unknown <- setdiff(declared$prm, contracts$prm)
  if (length(unknown) > 0) stop("no contract for the metering point ", unknown[1])

  steps <- priced(declared, prices)
  # The local day of a step decides which contract holds: days in Paris have 23, 24 or 25 hours.
  steps[, day := as.IDate(format(as.POSIXct(start, origin = "1970-01-01", tz = "UTC"), tz = zone))]
  lines <- lapply(seq_len(nrow(contracts)), function(at) {
    contract <- contracts[at]
    own <- steps[prm == contract$prm & holds(contract, day)]
    if (nrow(own) == 0) return(NULL)
    terms <- jsonlite::fromJSON(contract$parameters)
    reference <- m0$m0[match(contract$technology, m0$technology)]
    rule <- RULES[[contract$kind]]
    if (is.null(rule)) stop("no rule for contracts of kind ", contract$kind, " (", contract$contract, ")")
    of_contract(event, contract, own, rule(contract, own, terms, reference, event$parameters))
  })
  lines <- rbindlist(lines)
  setorder(lines, producer_id, contract, valid_from, line)
  list(
    period = event$period,
    as_of = event$as_of,
    lines = lapply(seq_len(nrow(lines)), function(at) as.list(lines[at])),
    totals = lapply(split(lines, by = "producer_id"), function(own) {
      list(producer_id = own$producer_id[1], lines = nrow(own), amount = euros(sum(cents(own$amount))))
    })
  )
}

# One form for both ways in which rows come.
input <- function(given) {
  if (!is.null(given$file)) {
    return(fread(given$file, colClasses = "character", na.strings = "", encoding = "UTF-8"))
  }
  as.data.table(lapply(given$columns, function(values) {
    if (is.list(values)) values <- unlist(lapply(values, function(value) if (is.null(value)) NA else value))
    values
  }))
}

prices_of <- function(prices) {
  seconds <- c(PT60M = 3600, PT1H = 3600, PT30M = 1800, PT15M = 900)
  step <- seconds[as.character(prices$step)]
  if (anyNA(step)) stop("a day-ahead price has the step ", prices$step[is.na(step)][1])
  data.table(price_start = as.numeric(prices$start), price_step = unname(step), price = tenthousandths(prices$price))
}

# Each declared step with its price; a step that is longer than the price's is parted, its Wh evenly, the rest of
# the division to the first parts.
priced <- function(declared, prices) {
  steps <- declared[, .(
    prm = as.character(prm), start = as.numeric(start), step = as.numeric(step_s),
    wh = as.numeric(energy_wh), aux = as.numeric(aux_wh), status
  )]
  stopifnot(all(steps$wh == round(steps$wh)), all(abs(steps$wh) < 2^53))
  price_step <- if (nrow(prices) > 0) min(prices$price_step) else 3600
  parts <- pmax(1, steps$step / price_step)
  steps <- steps[rep(seq_len(.N), parts)]
  part <- sequence(parts) - 1
  of <- rep(parts, parts)
  parted <- function(wh) wh %/% of + (part < wh %% of)
  steps[, `:=`(wh = parted(wh), aux = parted(aux), start = start + part * step / of, step = step / of)]
  at <- prices[steps, on = .(price_start <= start), mult = "last", .(price_start = x.price_start, price_step, price)]
  covered <- !is.na(at$price) & steps$start < at$price_start + at$price_step
  if (!all(covered)) {
    missing <- format(as.POSIXct(steps$start[!covered][1], origin = "1970-01-01", tz = "UTC"), "%Y-%m-%dT%H:%M:%SZ")
    stop("no day-ahead price for FR at ", missing, ": a bill without it would be wrong; load the prices and run again")
  }
  steps[, price := at$price]
  steps
}

holds <- function(contract, day) {
  day >= as.IDate(contract$valid_from) & (is.na(contract$valid_to) | day < as.IDate(contract$valid_to))
}

# A contract's lines with all that a bill says of them. A part of a month is a contract of its own by its first day.
of_contract <- function(event, contract, steps, lines) {
  data.table(
    period = event$period,
    producer_id = as.integer(contract$producer_id),
    producer = contract$producer,
    contract = contract$contract,
    valid_from = as.character(contract$valid_from),
    site = contract$site,
    prm = contract$prm,
    kind = contract$kind,
    line = seq_along(lines),
    item = vapply(lines, function(line) line$item, ""),
    quantity_wh = vapply(lines, function(line) line$wh, 0),
    unit_price = vapply(lines, function(line) line$price, ""),
    amount = vapply(lines, function(line) euros(line$cents), ""),
    # Bought from producers for resale: the buyer owes the tax.
    vat = "reverse charge",
    quality = if (any(steps$status != "DEFINITIF")) "estimated" else "measured",
    rule = vapply(lines, function(line) line$rule, "")
  )
}
