# A price that is missing ends the run, and says which one.
source("tests/month.R")

AT <- steps_of("2026-03")
spot <- contracts(contract("SPOT_PASSTHROUGH", fee_eur_mwh = "0"))
whole <- day_ahead("2026-03", "50.00")
without <- function(rows) list(columns = lapply(whole$columns, function(column) column[-rows]))

gap <- which(AT == seconds("2026-03-29T01:15:00Z"))
expect_error(extract(event(contracts = spot, meters = meters(AT, 1), prices = without(gap))),
             "bidding zone FR", "2026-03-29T01:15:00Z (2026-03-29 03:15 Europe/Paris)", "1 steps", "2026-03")
expect_error(extract(event(contracts = spot, meters = meters(AT, 1), prices = without(1))), "2026-02-28T23:00:00Z (2026-03-01 00:00 Europe/Paris)")
expect_error(extract(event(contracts = spot, meters = meters(AT, 1), prices = without(2972))), "2026-03-31T21:45:00Z (2026-03-31 23:45 Europe/Paris)")
expect_error(extract(event(contracts = spot, meters = meters(AT, 1))), "2972 steps")
# Of another zone is none.
other <- whole
other$columns$series <- rep("DAY_AHEAD_BE", 2972)
expect_error(extract(event(contracts = spot, meters = meters(AT, 1), prices = other)), "bidding zone FR")
# Without a value is none.
empty <- whole
empty$columns$price <- replace(rep("1", 2972), 5, NA)
expect_error(extract(event(contracts = spot, meters = meters(AT, 1), prices = empty)), "2026-03-01T00:00:00Z")
# A comma is no decimal point.
comma <- whole
comma$columns$price <- rep("50,00", 2972)
expect_error(extract(event(contracts = spot, meters = meters(AT, 1), prices = comma)), "price '50,00'")

# Reference prices: none, of another month, and two. They keep back the contract that needs them, and nobody else.
m0 <- contracts(contract("M0_MINUS_FEE", fee_eur_mwh = "0"), contract("OA", contract_id = "CTR-B", price_eur_mwh = "1"))
reason <- function(...) {
  result <- extract(event(contracts = m0, meters = meters(AT, 1), ...))
  expect(result$lines$contract_id, "CTR-B")
  result$incomplete$reason
}
none <- "M0_WIND: no price from 2026-03-01, which M0_MINUS_FEE needs: load the prices and run again"
expect(reason(), none)
expect(reason(prices = price("M0_WIND", "2026-02-01", "P1M", "1")), none)
expect(reason(prices = together(price("M0_WIND", "2026-03-01", "P1M", "1"), price("M0_WIND", "2026-03-01", "P1M", "2"))),
       "M0_WIND: more than one price from 2026-03-01, which M0_MINUS_FEE needs: load the prices and run again")
# In January the price of the year begins at the same instant.
january <- steps_of("2026-01")
both <- together(price("M0_WIND", "2026-01-01", "P1M", "40"), price("M0_WIND", "2026-01-01", "P1Y", "50"))
result <- extract(event("2026-01", contracts(contract("M0_MINUS_FEE", fee_eur_mwh = "0")), meters(january, 250000), both))
expect(result$lines$price[1], "40.0000")
# Who needs no price of the market is asked for none, but the others' prices are everybody's matter.
both <- contracts(contract("OA", price_eur_mwh = "1"), contract("SPOT_PASSTHROUGH", contract_id = "CTR-B", fee_eur_mwh = "0"))
expect(nrow(extract(event(contracts = contracts(contract("OA", price_eur_mwh = "1")), meters = meters(AT, 1)))$lines), 1L)
expect_error(extract(event(contracts = both, meters = meters(AT, 1))), "DAY_AHEAD_FR")
