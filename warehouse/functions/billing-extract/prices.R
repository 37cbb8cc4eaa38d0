# Prices of a month's steps. A step's price that is missing, or of the wrong step, ends the run: a bill without it would be
# wrong for everybody. A price for a month or a year that is missing keeps only those contracts back that need it.

STEP_SECONDS <- c(PT60M = 3600, PT1H = 3600, PT30M = 1800, PT15M = 900)

# The market's view of a month: what rules ask for prices. Nothing is looked up before a rule needs it.
market_of <- function(inputs, month, steps, bidding_zone) {
  prices <- inputs$prices
  rules <- inputs$rules
  day_ahead <- NULL
  imbalance <- NULL
  hour_mean <- NULL
  market <- list(
    month = month,
    steps = steps,
    rules = rules,
    hours_before = inputs$hours_before,
    # A price for each step of the month, in ten-thousandths of EUR/MWh.
    day_ahead = function() {
      if (is.null(day_ahead)) {
        day_ahead <<- prices_of_steps(prices, paste0("DAY_AHEAD_", bidding_zone), bidding_zone, steps, "day_ahead_step_s", rules, month)
      }
      day_ahead
    },
    imbalance = function() {
      if (is.null(imbalance)) {
        imbalance <<- prices_of_steps(prices, paste0("IMBALANCE_", bidding_zone), bidding_zone, steps, "settlement_step_s", rules, month)
      }
      imbalance
    },
    # M0, the reference price of a technology: of the month, or of the year where a rule says so and it is known. In the
    # first and the last calendar year of a contract it is that of the month.
    reference = function(contract) {
      name <- paste0("M0_", toupper(contract$technology))
      year <- substr(month$period, 1, 4)
      is_whole_year <- !identical(substr(contract$begins_on, 1, 4), year) && !identical(substr(contract$ends_on, 1, 4), year)
      if (rule_value(rules, "m0_period", contract, month$first) %in% "year" && is_whole_year) {
        first <- paste0(year, "-01-01")
        of_year <- prices[series == name & step == "P1Y" & start == midnight(first, month$zone)]$price
        if (length(of_year) == 1 && !is.na(of_year)) return(of_year)
      }
      single_price(prices, name, "P1M", month$from, month$first, contract)
    },
    # Of a MW of guaranteed capacity and a year.
    capacity = function(contract) {
      first <- paste0(substr(month$period, 1, 4), "-01-01")
      single_price(prices, "PREFCAPA", "P1Y", midnight(first, month$zone), first, contract)
    }
  )
  # The price of the hour that a step is in, where a rule says that hours count for the contract; otherwise of the step.
  market$counted_price <- function(contract) {
    if (!counts_hours(rules, contract, month$first)) return(market$day_ahead())
    if (is.null(hour_mean)) {
      hour <- steps$start - steps$start %% 3600
      hour_mean <<- mean_of_hour(ave(market$day_ahead() * steps$step_s / 900, hour, FUN = sum))
    }
    hour_mean
  }
  market
}

counts_hours <- function(rules, contract, day) rule_value(rules, "price_of_hour", contract, day) %in% "mean"

# The mean of an hour's four quarters, whose sum is given, to two decimals.
mean_of_hour <- function(sum) divided(sum, 400) * 100

prices_of_steps <- function(prices, name, bidding_zone, steps, expected, rules, month) {
  own <- prices[series == name][order(start)]
  last <- findInterval(steps$start, own$start)
  at <- own[replace(last, last == 0, NA_integer_)]
  length_s <- unname(STEP_SECONDS[at$step])
  uncovered <- which(is.na(at$price) | steps$start >= at$start + ifelse(is.na(length_s), Inf, length_s))
  if (length(uncovered)) {
    stop(sprintf("%s: no price for bidding zone %s at %s, and for %d steps of %s in all: load the prices and run again",
                 name, bidding_zone, instant_text(steps$start[uncovered[1]], month$zone), length(uncovered), month$period),
         call. = FALSE)
  }
  right <- step_at(at$start, expected, rules, month$zone)
  wrong <- which(is.na(length_s) | length_s != right)
  if (length(wrong)) {
    stop(sprintf("%s: the price of bidding zone %s at %s is for %s, where one for %d minutes is expected", name,
                 bidding_zone, instant_text(at$start[wrong[1]], month$zone), at$step[wrong[1]], right[wrong[1]] / 60),
         call. = FALSE)
  }
  at$price
}

single_price <- function(prices, name, of, from, day, contract) {
  price <- prices[series == name & step == of & start == from]$price
  if (length(price) != 1 || is.na(price)) {
    incomplete(contract, sprintf("%s: %s price from %s, which %s needs: load the prices and run again", name,
                                 if (length(price) > 1) "more than one" else "no", day, contract$kind))
  }
  price
}
