# Prices of a month's steps. A price that is missing, or of the wrong step, ends the run: a bill without it
# would be wrong for everybody.

STEP_SECONDS <- c(PT60M = 3600, PT1H = 3600, PT30M = 1800, PT15M = 900)

# The market's view of a month: what rules ask for prices. Nothing is looked up before a rule needs it.
market_of <- function(prices, month, steps, bidding_zone, negative_before_s) {
  day_ahead <- NULL
  imbalance <- NULL
  list(
    month = month,
    # A price for each step of the month, in ten-thousandths of EUR/MWh.
    day_ahead = function() {
      if (is.null(day_ahead)) {
        day_ahead <<- prices_of_steps(prices, paste0("DAY_AHEAD_", bidding_zone), bidding_zone, steps, DAY_AHEAD_STEPS, month)
      }
      day_ahead
    },
    imbalance = function() {
      if (is.null(imbalance)) {
        imbalance <<- prices_of_steps(prices, paste0("IMBALANCE_", bidding_zone), bidding_zone, steps, SETTLEMENT_STEPS, month)
      }
      imbalance
    },
    # M0, the month's reference price of a technology.
    reference = function(technology) {
      single_price(prices, paste0("M0_", toupper(technology)), month$from, month$first, month)
    },
    # Of a MW of guaranteed capacity and a year.
    capacity = function() {
      first <- paste0(substr(month$period, 1, 4), "-01-01")
      single_price(prices, "PREFCAPA", midnight(first, month$zone), first, month)
    },
    # How long the price was negative in this year before this month.
    negative_before_s = negative_before_s
  )
}

prices_of_steps <- function(prices, name, bidding_zone, steps, expected, month) {
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
  right <- step_at(at$start, expected, month$zone)
  wrong <- which(is.na(length_s) | length_s != right)
  if (length(wrong)) {
    stop(sprintf("%s: the price of bidding zone %s at %s is for %s, where one for %d minutes is expected", name,
                 bidding_zone, instant_text(at$start[wrong[1]], month$zone), at$step[wrong[1]], right[wrong[1]] / 60),
         call. = FALSE)
  }
  at$price
}

single_price <- function(prices, name, from, day, month) {
  price <- prices[series == name & start == from]$price
  if (length(price) != 1 || is.na(price)) {
    stop(sprintf("%s: %s price from %s, which %s needs: load the prices and run again", name,
                 if (length(price) > 1) "more than one" else "no", day, month$period), call. = FALSE)
  }
  price
}
