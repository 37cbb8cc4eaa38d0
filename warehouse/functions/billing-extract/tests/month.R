# A made-up month to change one thing of, and what tests look at. Run from the function's folder:
#   Rscript tests/contracts.R
if (!exists("extract")) source("billing.R")

PRM <- "30000000000042"
seconds <- function(text) as.numeric(as.POSIXct(text, tz = "UTC", format = "%Y-%m-%dT%H:%M:%SZ"))

# The steps of a local month.
steps_of <- function(period, step_s = 900) {
  month <- month_of(period, "Europe/Paris")
  seq(month$from, month$to - step_s, by = step_s)
}

columns <- function(...) list(columns = as.list(data.frame(..., stringsAsFactors = FALSE)))

contract <- function(kind, ...) {
  row <- list(
    contract_id = "CTR-2021-0042", producer_id = "PRD0042", producer = "Éoliennes citoyennes", site_id = "EOL-042",
    site = "Parc éolien", technology = "wind", prm = PRM, pmax_kw = "12000", kind = kind, valid_from = "2021-01-01",
    valid_to = NA_character_, begins_on = "2021-01-01", ends_on = NA_character_, price_eur_mwh = NA_character_, fee_eur_mwh = NA_character_,
    fee_eur_mw_month = NA_character_, management_premium_eur_mwh = NA_character_, nbcapa_mw = NA_character_,
    imbalance_share = NA_character_, go_eur_mwh = NA_character_, negative_premium = NA_character_,
    cap_mwh_year = NA_character_, cap_mwh_life = NA_character_, vat = "reverse_charge", vat_rate_pct = NA_character_,
    fee_vat = NA_character_, fee_vat_rate_pct = NA_character_
  )
  given <- list(...)
  stopifnot(names(given) %in% names(row))
  row[names(given)] <- given
  row
}

contracts <- function(...) list(columns = as.list(rbindlist(list(...))))

meters <- function(start, energy_wh, source = "DSO_RAW", step_s = 900, quality = "measured", withdrawal_wh = 0, prm = PRM) {
  columns(prm = prm, source = source, start = start, step_s = step_s, energy_wh = energy_wh,
          withdrawal_wh = withdrawal_wh, quality = quality)
}

day_ahead <- function(period, price, step = "PT15M") {
  step_s <- unname(STEP_SECONDS[step])
  columns(series = "DAY_AHEAD_FR", start = steps_of(period, step_s), step = step, price = price)
}

price <- function(series, day, step, price) {
  columns(series = series, start = midnight(day, "Europe/Paris"), step = step, price = price)
}

together <- function(...) list(columns = as.list(rbindlist(lapply(list(...), function(table) as.data.table(table$columns)))))

PRECEDENCE <- columns(
  kind = "*", source = c("DSO_CORRECTED", "DSO_RAW", "PRODUCER_DECLARED", "SCADA"), rank = 1:4,
  valid_from = "2000-01-01", valid_to = NA_character_
)

# The rules of marts/billing/rules.sql that the tests need.
rule <- function(rule, kind, technology, valid_from, value) data.table(rule, kind, technology, valid_from, value)
RULES_BY_LAW <- list(columns = as.list(rbind(
  rule("settlement_step_s", "*", "*", c("1990-01-01", "2025-01-01"), c("1800", "900")),
  rule("day_ahead_step_s", "*", "*", c("1990-01-01", "2025-10-01"), c("3600", "900")),
  rule("price_of_hour", "CR", "*", "2025-10-01", "mean"),
  rule("m0_period", "CR", "hydro", "2016-12-15", "year"),
  rule(paste0("negative_premium_", c("share", "free_hours", "from_hour", "to_hour")), "CR", "solar", "2016-01-01",
       c("0.5", "15", "8", "20")))))

# The hours of the year before a month; `negative` of them, at 12:00 of the first days, have a negative price.
hours_before <- function(period, negative = 0) {
  start <- seq(midnight(paste0(substr(period, 1, 4), "-01-01"), "Europe/Paris"), month_of(period, "Europe/Paris")$from - 3600, by = 3600)
  noon <- start[local_hour(start, "Europe/Paris") == 12]
  columns(start = start, covered_s = 3600, price_sum = ifelse(start %in% head(noon, negative), "-4.00", "160.00"))
}

event <- function(period = "2026-03", contracts, meters, prices = list(columns = list()),
                  declared = list(columns = list()), precedence = PRECEDENCE, before = list(columns = list()), rules = RULES_BY_LAW,
                  billed_before = list(columns = list())) {
  list(
    period = period, as_of = "2026-04-02T06:00:00Z", parameters = list(zone = "Europe/Paris", bidding_zone = "FR"),
    inputs_hash = "feed", inputs = list(
      contracts = contracts, declared = declared, meters = meters, prices = prices, precedence = precedence,
      rules = rules, hours_before = before, billed_before = billed_before)
  )
}

amounts <- function(result) {
  lines <- result$lines
  setNames(lines$amount, lines$rule)
}

expect <- function(found, wanted) {
  if (!identical(found, wanted)) {
    stop("found ", paste(deparse(found), collapse = " "), "\n  wanted ", paste(deparse(wanted), collapse = " "), call. = FALSE)
  }
}

expect_error <- function(code, ...) {
  message <- tryCatch({ code; NULL }, error = conditionMessage)
  if (is.null(message)) stop("no error, where one was expected", call. = FALSE)
  for (part in c(...)) if (!grepl(part, message, fixed = TRUE)) stop("'", message, "' does not say '", part, "'", call. = FALSE)
}
