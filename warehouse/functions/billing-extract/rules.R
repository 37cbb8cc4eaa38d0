# One function for each kind of contract: its lines from the month's steps. All of them are given
#   contract  one row of the input `contracts`: a version of the contract, with its parameters
#   steps     its steps: start, day, energy_wh (injected), withdrawal_wh (auxiliaries), day_ahead() and the like by `at`
#   market    prices: see prices.R
# and build lines by `line`. Prices are ten-thousandths of EUR/MWh, amounts cents. What an amount is made of is
# written above it; each line is rounded to the cent, and a bill is the sum of its rounded lines.

RULES <- list(
  # Resale on the day-ahead market, less the aggregator's fee.
  SPOT_PASSTHROUGH = function(contract, steps, market) {
    spot <- market$day_ahead()[steps$at]
    c(
      # sum over the steps of E x day-ahead price
      list(line("spot", contract, "Wh", sum(steps$energy_wh), NA, energy_cents(steps$energy_wh, spot))),
      fees(contract, steps, market), imbalance(contract, steps, market), guarantees(contract, steps)
    )
  },

  # The month's reference price of the technology, less the aggregator's fee.
  M0_MINUS_FEE = function(contract, steps, market) {
    # E x M0
    c(list(at_price("m0", contract, sum(steps$energy_wh), market$reference(contract))),
      fees(contract, steps, market), imbalance(contract, steps, market), guarantees(contract, steps))
  },

  # A price agreed for all energy.
  FIXED_PPA = function(contract, steps, market) {
    # E x price of the contract
    c(list(at_price("ppa", contract, sum(steps$energy_wh), needed(contract, "price_eur_mwh"))),
      fees(contract, steps, market), imbalance(contract, steps, market), guarantees(contract, steps))
  },

  # The purchase obligation: a tariff for all energy.
  OA = function(contract, steps, market) {
    # E x tariff
    list(at_price("oa", contract, sum(steps$energy_wh), needed(contract, "price_eur_mwh")))
  },

  # The complement of remuneration (hydro, order of 2016; wind and solar alike):
  #   CR = E x (Te - M0 + management premium) - Nbcapa x Prefcapa
  # E over the hours whose day-ahead price is not negative, net of auxiliaries, up to the contract's caps. Where M0 is above
  # Te the first line is negative, and the bill may be below zero.
  CR = function(contract, steps, market) {
    difference <- needed(contract, "price_eur_mwh") - market$reference(contract)
    is_paid <- market$counted_price(contract)[steps$at] >= 0
    net_wh <- steps$energy_wh - steps$withdrawal_wh
    wh <- sum(net_wh[is_paid])
    capped_wh <- max(0, wh - left_of_caps(contract, market))
    # What is above Te is owed beyond the caps, too; a premium is never paid there.
    beyond_wh <- if (difference > 0) capped_wh else 0
    c(
      list(
        # E x (Te - M0)
        at_price("cr", contract, wh - beyond_wh, difference),
        # E x management premium
        at_price("cr_management", contract, wh - capped_wh, needed(contract, "management_premium_eur_mwh"))
      ),
      # What is not paid stays visible.
      if (beyond_wh > 0) list(at_price("cr_beyond_cap", contract, beyond_wh, 0)),
      if (any(!is_paid)) list(at_price("cr_negative_price", contract, sum(net_wh[!is_paid]), 0)),
      capacity(contract, steps, market),
      if (contract$negative_premium %in% "yes") list(negative_premium(contract, steps, market))
    )
  }
)

# How much energy the contract's caps leave, in Wh. A year of the cap begins with the month in which the contract began.
left_of_caps <- function(contract, market) {
  before <- market$billed_before(contract)
  left <- Inf
  if (!is.na(contract$cap_mwh_life)) left <- contract$cap_mwh_life * 100 - sum(before$energy_wh)
  if (!is.na(contract$cap_mwh_year)) {
    period <- market$month$period
    month <- substr(needed(contract, "begins_on"), 6, 7)
    year <- as.integer(substr(period, 1, 4)) - (substr(period, 6, 7) < month)
    in_year <- before[period_of(before) >= sprintf("%04d-%s", year, month)]
    left <- min(left, contract$cap_mwh_year * 100 - sum(in_year$energy_wh))
  }
  max(0, left)
}

period_of <- function(rows) rows[["period"]]

# Nbcapa x Prefcapa, a year's amount by its days: - MW x EUR/MW/year x days / days of the year
capacity <- function(contract, steps, market) {
  if (is.na(contract$nbcapa_mw) || contract$nbcapa_mw == 0) return(NULL)
  price <- market$capacity(contract)
  days <- length(unique(steps$day))
  # Both in ten-thousandths: 1e-8 EUR, a cent is 1e6 of it.
  amount <- -divided_wide(contract$nbcapa_mw, price * days, 1e6 * market$month$days_of_year)
  list(line("cr_capacity", contract, "W", contract$nbcapa_mw * 100, -price, amount, price_unit = "EUR/MW/year"))
}

# Plants that stand still while the price is negative, beyond the first such hours of a calendar year:
#   share x P x Te x n, n the hours beyond in which nothing was injected
# Which hours of the day count, how many are free, and the share are rules of the technology.
negative_premium <- function(contract, steps, market) {
  rule <- function(name) {
    value <- rule_value(market$rules, paste0("negative_premium_", name), contract, market$month$first)
    if (is.na(value)) {
      incomplete(contract, sprintf("there is no rule negative_premium_%s for %s of %s: add it to marts/billing/rules.sql",
                                   name, contract$kind, contract$technology))
    }
    value
  }
  free_s <- as.numeric(rule("free_hours")) * 3600
  from <- as.integer(rule("from_hour"))
  to <- as.integer(rule("to_hour"))
  in_hours <- function(start) { hour <- local_hour(start, market$month$zone); hour >= from & hour < to }
  step_s <- steps$step_s[1]
  is_negative <- market$counted_price(contract) < 0 & in_hours(market$steps$start)
  order <- rule_value(market$rules, "negative_premium_order", contract, market$month$first)
  if (!is.na(order) && any(is_negative)) {
    incomplete(contract, sprintf(
      "its premium for %d steps of negative price follows the order of %s, which is not computed here: take the number of hours that the grid operator tells, bill it apart, and set negative_premium to 'no'",
      sum(is_negative), order))
  }
  before_s <- negative_before_s(contract, market, in_hours)
  # How long it was negative in this year by the end of each step of the month.
  by_end <- before_s + cumsum(is_negative) * step_s
  injected <- if (counts_hours(market$rules, contract, market$month$first)) {
    ave(steps$energy_wh, steps$start - steps$start %% 3600, FUN = sum)
  } else {
    steps$energy_wh
  }
  counts <- is_negative[steps$at] & by_end[steps$at] > free_s & injected == 0
  # A step that the last free hour ends in counts for what lies beyond.
  seconds <- sum(pmin(step_s, by_end[steps$at] - free_s)[counts])
  te <- needed(contract, "price_eur_mwh")
  # P in 1e-7 MW, Te in 1e-4 EUR/MWh, minutes: 1e-11/60 EUR. The share as a fraction, so that all numbers are whole.
  share <- ten_thousandths(rule("share"), "negative_premium_share")
  common <- greatest_divisor(share, 1e4)
  amount <- divided_wide(needed(contract, "pmax_kw"), te * (seconds / 60) * (share / common), 60 * 1e9 * (1e4 / common))
  line("cr_negative_premium", contract, "s", seconds, te, amount)
}

# How long the price was negative in the hours that count, from the beginning of the year to the month.
negative_before_s <- function(contract, market, in_hours) {
  hours <- market$hours_before
  expected_s <- market$month$from - midnight(paste0(substr(market$month$period, 1, 4), "-01-01"), market$month$zone)
  covered <- sum(hours$covered_s == 3600)
  if (covered != nrow(hours) || covered * 3600 != expected_s) {
    incomplete(contract, sprintf(
      "day-ahead prices cover %d of the %d hours of the year before %s, in which hours of negative price are counted: load them",
      covered, expected_s %/% 3600, market$month$period))
  }
  if (nrow(hours) == 0) return(0)
  day <- local_day(hours$start, market$month$zone)
  is_mean <- vapply(unique(day), function(one) counts_hours(market$rules, contract, one), NA)[day]
  price <- ifelse(is_mean, mean_of_hour(hours$price_sum), hours$price_sum)
  3600 * sum(price < 0 & in_hours(hours$start))
}

# - E x fee per MWh, - P x fee per MW and month, the latter by the days on which the contract holds
fees <- function(contract, steps, market) {
  per_mwh <- needed(contract, "fee_eur_mwh", when = contract$kind != "FIXED_PPA")
  per_mw <- contract$fee_eur_mw_month
  c(
    if (!is.na(per_mwh) && per_mwh != 0) list(at_price("fee", contract, sum(steps$energy_wh), -per_mwh)),
    if (!is.na(per_mw) && per_mw != 0) {
      days <- length(unique(steps$day))
      # P in 1e-7 MW, the fee in 1e-4 EUR/MW: 1e-11 EUR.
      amount <- -divided_wide(needed(contract, "pmax_kw"), per_mw * days, 1e9 * market$month$days)
      list(line("fee_power", contract, "W", divided(contract$pmax_kw, 10), -per_mw, amount, price_unit = "EUR/MW/month"))
    }
  )
}

# sum over the steps of (E - forecast) x imbalance price x share: what a producer bears of an imbalance, or gains
imbalance <- function(contract, steps, market) {
  share <- contract$imbalance_share
  if (is.na(share) || share == 0) return(NULL)
  if (anyNA(steps$forecast_wh)) {
    incomplete(contract, sprintf("%d steps have no forecast, which its imbalance share needs; the first is %s",
                                 sum(is.na(steps$forecast_wh)),
                                 instant_text(steps$start[is.na(steps$forecast_wh)][1], market$month$zone)))
  }
  difference_wh <- steps$energy_wh - steps$forecast_wh
  amount <- shared_cents(difference_wh, market$imbalance()[steps$at], share)
  list(line("imbalance", contract, "Wh", sum(difference_wh), NA, amount))
}

# E x price of a guarantee of origin
guarantees <- function(contract, steps) {
  if (is.na(contract$go_eur_mwh) || contract$go_eur_mwh == 0) return(NULL)
  list(at_price("guarantee_of_origin", contract, sum(steps$energy_wh), contract$go_eur_mwh))
}

at_price <- function(rule, contract, wh, price) line(rule, contract, "Wh", wh, price, energy_cents(wh, price))

line <- function(rule, contract, unit, quantity, price, cents, price_unit = "EUR/MWh") {
  stopifnot(quantity == round(quantity), abs(quantity) < WHOLE_MAX)
  # Purchases for resale are reverse-charged, the complement of remuneration is no purchase, fees are the aggregator's own
  # service: the contract says which.
  is_fee <- rule %in% c("fee", "fee_power") && !is.na(contract$fee_vat)
  vat <- if (is_fee) contract$fee_vat else contract$vat
  # Guarantees of origin are reverse-charged as well (CGI, article 283, 2 septies).
  if (rule == "guarantee_of_origin" && vat == "standard") vat <- "reverse_charge"
  rate <- if (vat == "standard") needed(contract, if (is_fee) "fee_vat_rate_pct" else "vat_rate_pct") else 0
  list(
    rule = rule, quantity = quantity, unit = unit, price = decimal_text(price),
    price_unit = if (is.na(price)) NA_character_ else price_unit,
    cents = cents, vat = vat, vat_rate_pct = decimal_text(rate), vat_cents = divided(cents * rate, 1e6)
  )
}

# A contract's parameter that its rule can't do without.
needed <- function(contract, name, when = TRUE) {
  value <- contract[[name]]
  if (when && is.na(value)) incomplete(contract, sprintf("%s is missing, which %s needs", name, contract$kind))
  value
}

# What keeps one contract from being billed, and nobody else.
incomplete <- function(contract, reason) {
  stop(structure(class = c("incomplete", "error", "condition"),
                 list(message = sprintf("contract %s: %s", contract$contract_id, reason), call = NULL, reason = reason)))
}
