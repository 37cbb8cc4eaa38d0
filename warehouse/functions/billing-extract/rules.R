# One rule for each kind of contract: its lines from the month's steps. A line is an item, Wh, a unit price as text
# (empty where each step has its own), cents, and the rule's name.

line <- function(item, wh, price, cents, rule) list(item = item, wh = wh, price = price, cents = cents, rule = rule)

# Injection less what the auxiliaries took.
net <- function(steps) steps$wh - steps$aux

at_price <- function(item, steps, price, rule) {
  wh <- net(steps)
  line(item, sum(wh), price_text(price), cents_of(wh, price), rule)
}

RULES <- list(
  # Sum over the steps of energy x day-ahead price, less a fee per MWh.
  SPOT_PASSTHROUGH = function(contract, steps, terms, reference, parameters) {
    fee <- tenthousandths(format(terms$fee_eur_mwh, nsmall = 1, trim = TRUE))
    list(
      line("energy at day-ahead price", sum(net(steps)), "", cents_of(net(steps), steps$price), "spot"),
      at_price("fee", steps, -fee, "fee")
    )
  },
  # Energy x (M0 - fee), M0 the month's reference price of the technology.
  M0_MINUS_FEE = function(contract, steps, terms, reference, parameters) {
    m0 <- known(reference, contract)
    fee <- tenthousandths(format(terms$fee_eur_mwh, nsmall = 1, trim = TRUE))
    list(at_price("energy at reference price", steps, m0, "m0"), at_price("fee", steps, -fee, "fee"))
  },
  FIXED_PPA = function(contract, steps, terms, reference, parameters) {
    list(at_price("energy at contract price", steps, tenthousandths(contract$price), "ppa"))
  },
  # The purchase obligation: a tariff for each MWh.
  OA = function(contract, steps, terms, reference, parameters) {
    list(at_price("energy at tariff", steps, tenthousandths(contract$price), "oa"))
  },
  # CR = E x (Te - M0 + management premium) - Nbcapa x Prefcapa, E over steps whose day-ahead price is not negative,
  # net of auxiliaries. Where M0 is above Te the premium is negative: a credit note.
  CR = function(contract, steps, terms, reference, parameters) {
    paid <- steps[price >= 0]
    te <- tenthousandths(contract$price)
    management <- tenthousandths(format(terms$management_premium_eur_mwh, nsmall = 1, trim = TRUE))
    capacity <- terms$nbcapa_mw * tenthousandths(parameters$capacity_eur_mw) / 100
    lines <- list(
      at_price("premium (Te - M0)", paid, te - known(reference, contract), "cr"),
      at_price("management premium", paid, management, "cr-management"),
      line("capacity", 0, parameters$capacity_eur_mw, -sign(capacity) * floor(abs(capacity) + 0.5), "cr-capacity")
    )
    without <- steps[price < 0]
    if (nrow(without) > 0) {
      lines <- c(lines, list(line("steps of negative price, not paid", sum(net(without)), "0.0000", 0, "cr-negative")))
    }
    lines
  }
)

known <- function(reference, contract) {
  if (length(reference) != 1 || is.na(reference)) {
    stop("no reference price M0 for ", contract$technology, ", which contract ", contract$contract, " needs")
  }
  tenthousandths(reference)
}
