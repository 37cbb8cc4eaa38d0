# Each kind of contract by figures made by hand. March 2026 in Paris has 743 hours: 1 MW all the time is 743 MWh.
source("tests/month.R")

AT <- steps_of("2026-03")
expect(length(AT), 2972L)
steady <- function(...) meters(AT, 250000, ...)
flat <- day_ahead("2026-03", "50.00")

# 743 x 50.00; 743 x 1.50
result <- extract(event(contracts = contracts(contract("SPOT_PASSTHROUGH", fee_eur_mwh = "1.50")), meters = steady(), prices = flat))
expect(amounts(result), c(spot = "37150.00", fee = "-1114.50"))
expect(result$lines$quantity, c(743e6, 743e6))
expect(result$lines$price, c(NA, "-1.5000"))
expect(result$lines$vat, c("reverse_charge", "reverse_charge"))
expect(result$lines$vat_amount, c("0.00", "0.00"))
expect(result$lines$quality[1], "measured")
expect(result$lines$sources[1], "DSO_RAW:2972")
expect(result$totals$amount, "36035.50")
expect(result$totals$bills$document, "invoice")
expect(nrow(result$incomplete), 0L)

# Each step at its own price: two quarters at -100, four at 4,000, the rest at 50.
prices <- rep("50.00", 2972)
prices[1:2] <- "-100.00"
prices[101:104] <- "4000.00"
result <- extract(event(contracts = contracts(contract("SPOT_PASSTHROUGH", fee_eur_mwh = "0")), meters = steady(),
                        prices = day_ahead("2026-03", prices)))
# 741.5 x 50 - 0.5 x 100 + 1 x 4000
expect(amounts(result), c(spot = "41025.00"))

# The producer bears half of the imbalance: 0.01 MWh more than forecast in each step, 29.72 MWh, at 60.
both <- together(steady(), meters(AT, 240000, source = "FORECAST"))
market <- together(flat, columns(series = "IMBALANCE_FR", start = AT, step = "PT15M", price = "60.00"))
imbalanced <- contracts(contract("SPOT_PASSTHROUGH", fee_eur_mwh = "0", imbalance_share = "0.5"))
result <- extract(event(contracts = imbalanced, meters = both, prices = market))
expect(amounts(result), c(spot = "37150.00", imbalance = "891.60"))
expect(result$lines$quantity[2], 29720000)
# Less than forecast costs.
short <- together(steady(), meters(AT, 260000, source = "FORECAST"))
expect(amounts(extract(event(contracts = imbalanced, meters = short, prices = market)))[["imbalance"]], "-891.60")
# Without a forecast there is no bill, and the reason is said.
result <- extract(event(contracts = imbalanced, meters = steady(), prices = market))
expect(nrow(result$lines), 0L)
expect(result$incomplete$reason,
       "2972 steps have no forecast, which its imbalance share needs; the first is 2026-02-28T23:00:00Z (2026-03-01 00:00 Europe/Paris)")

# 743 x 45.3371 = 33,685.4653; 743 x 2.37 = 1,760.91. The fee for power: 12 MW x 100.00. 743 x 0.35.
result <- extract(event(
  contracts = contracts(contract("M0_MINUS_FEE", fee_eur_mwh = "2.37", fee_eur_mw_month = "100", go_eur_mwh = "0.35")),
  meters = steady(), prices = price("M0_WIND", "2026-03-01", "P1M", "45.3371")))
expect(amounts(result), c(m0 = "33685.47", fee = "-1760.91", fee_power = "-1200.00", guarantee_of_origin = "260.05"))
expect(result$totals$amount, "30984.61")

# 743 x 68.6115 = 50,978.3445, and no price of the market is needed.
result <- extract(event(contracts = contracts(contract("FIXED_PPA", price_eur_mwh = "68.6115")), meters = steady()))
expect(amounts(result), c(ppa = "50978.34"))

# Two parts of a month: 12 MW x 100.00 x 15/31 = 580.645, x 16/31 = 619.355. Days before the 29th have 96 steps.
result <- extract(event(
  contracts = contracts(
    contract("M0_MINUS_FEE", fee_eur_mwh = "0", fee_eur_mw_month = "100", valid_to = "2026-03-16"),
    contract("M0_MINUS_FEE", fee_eur_mwh = "0", fee_eur_mw_month = "100", valid_from = "2026-03-16")),
  meters = steady(), prices = price("M0_WIND", "2026-03-01", "P1M", "10")))
expect(result$lines$valid_from, rep(c("2021-01-01", "2026-03-16"), each = 2))
expect(result$lines$steps, rep(c(1440L, 1532L), each = 2))
expect(result$lines$amount, c("3600.00", "-580.65", "3830.00", "-619.35"))
expect(result$totals$bills$lines, 4L)

# A tariff, with VAT on top: 743 x 82 = 60,926, a fifth of it 12,185.20.
result <- extract(event(contracts = contracts(contract("OA", price_eur_mwh = "82", vat = "standard", vat_rate_pct = "20.00")), meters = steady()))
expect(amounts(result), c(oa = "60926.00"))
expect(result$lines$vat_amount, "12185.20")

# The complement of remuneration: 0.25 MWh less 0.025 of auxiliaries; eight quarters of negative price are not paid.
negative <- rep("50.00", 2972)
negative[1001:1008] <- "-0.01"
market <- together(day_ahead("2026-03", negative), price("M0_HYDRO", "2026-03-01", "P1M", "45.30"),
                   price("PREFCAPA", "2026-01-01", "P1Y", "31210.00"))
hydro <- function(te) contracts(contract("CR", technology = "hydro", price_eur_mwh = te, management_premium_eur_mwh = "2.00",
                                         nbcapa_mw = "1.2", vat = "none"))
result <- extract(event(contracts = hydro("132.10"), meters = steady(withdrawal_wh = 25000), prices = market))
# 2,964 x 0.225 = 666.9 MWh: x (132.10 - 45.30), x 2.00; 1.2 x 31,210 x 31/365 = 3,180.854...
expect(amounts(result), c(cr = "57886.92", cr_management = "1333.80", cr_negative_price = "0.00", cr_capacity = "-3180.85"))
expect(result$lines$quantity, c(666900000, 666900000, 1800000, 1200000))
expect(result$lines$vat[1], "none")
# An operator's meter that does not say what the auxiliaries took is billed all the same: they are those of the next source
# that says it. Where none does, there is no bill.
unknown <- together(steady(withdrawal_wh = NA), meters(AT, 260000, source = "SCADA", withdrawal_wh = 25000))
result <- extract(event(contracts = hydro("132.10"), meters = unknown, prices = market))
expect(result$lines$sources[1], "DSO_RAW:2972 auxiliaries=SCADA:2972")
expect(result$lines$quantity[1], 666900000)
result <- extract(event(contracts = hydro("132.10"), meters = steady(withdrawal_wh = NA), prices = market))
expect(nrow(result$lines), 0L)
expect(result$incomplete$reason, "of 2972 steps no source says what the auxiliaries took; the first is 2026-02-28T23:00:00Z (2026-03-01 00:00 Europe/Paris)")
# Hydro's M0 is that of the year once it is known, but for the first and the last year of the contract.
yearly <- together(market, price("M0_HYDRO", "2026-01-01", "P1Y", "50.00"))
amount <- function(...) {
  terms <- contract("CR", technology = "hydro", price_eur_mwh = "132.10", management_premium_eur_mwh = "0", vat = "none", ...)
  amounts(extract(event(contracts = contracts(terms), meters = steady(withdrawal_wh = 25000), prices = yearly)))[["cr"]]
}
expect(amount(), "54752.49")
expect(amount(begins_on = "2026-01-15"), "57886.92")
expect(amount(ends_on = "2026-12-31"), "57886.92")
# Caps: 100 MWh are left of the year, which begins in March, and 600 of the contract's life.
before <- columns(contract_id = "CTR-2021-0042", prm = PRM, period = c("2025-12", "2026-02"), energy_wh = c(250e6, 250e6))
capped <- function(..., te = "132.10") {
  terms <- contract("CR", technology = "hydro", price_eur_mwh = te, management_premium_eur_mwh = "0", vat = "none", ...)
  result <- extract(event(contracts = contracts(terms), meters = steady(withdrawal_wh = 25000), prices = market, billed_before = before))
  setNames(result$lines$quantity, result$lines$rule)
}
expect(capped(cap_mwh_year = "600", begins_on = "2021-07-01")[c("cr", "cr_beyond_cap")], c(cr = 100e6, cr_beyond_cap = 566900000))
expect(capped(cap_mwh_year = "600", begins_on = "2021-03-01")[c("cr", "cr_beyond_cap")], c(cr = 600e6, cr_beyond_cap = 66900000))
expect(capped(cap_mwh_life = "500", begins_on = "2021-03-01")[c("cr", "cr_beyond_cap")], c(cr = 0, cr_beyond_cap = 666900000))
# What is above Te is owed in any case, and the management premium is not paid beyond the cap.
expect(capped(cap_mwh_life = "500", te = "40")[["cr"]], 666900000)
expect(capped(cap_mwh_life = "500", te = "40")[["cr_management"]], 0)
# Of a contract that is sold the seller, who comes first, uses the cap first.
result <- extract(event(contracts = contracts(
  contract("CR", technology = "hydro", producer_id = "PRD0043", price_eur_mwh = "100", management_premium_eur_mwh = "0", vat = "none", cap_mwh_life = "400", valid_to = "2026-03-16"),
  contract("CR", technology = "hydro", price_eur_mwh = "100", management_premium_eur_mwh = "0", vat = "none", cap_mwh_life = "400", valid_from = "2026-03-16")),
  meters = steady(withdrawal_wh = 0), prices = market))
expect(result$lines[rule == "cr"]$producer_id, c("PRD0042", "PRD0043"))
expect(result$lines[rule == "cr"]$quantity, c(42e6, 358e6))
# Two versions in a month share the cap.
result <- extract(event(contracts = contracts(
  contract("CR", technology = "hydro", price_eur_mwh = "100", management_premium_eur_mwh = "0", vat = "none", cap_mwh_life = "400", valid_to = "2026-03-16"),
  contract("CR", technology = "hydro", price_eur_mwh = "100", management_premium_eur_mwh = "0", vat = "none", cap_mwh_life = "400", valid_from = "2026-03-16")),
  meters = steady(withdrawal_wh = 0), prices = market))
expect(sum(result$lines[rule == "cr"]$quantity), 400e6)
# M0 above Te: 666.9 x (40 - 45.30) = -3,534.57, and the bill is below zero.
result <- extract(event(contracts = hydro("40"), meters = steady(withdrawal_wh = 25000), prices = market))
expect(amounts(result)[["cr"]], "-3534.57")
expect(result$totals$amount, "-5381.62")
expect(result$totals$bills$document, "negative_invoice")
# A price of zero is not negative.
zero <- rep("0.00", 2972)
result <- extract(event(contracts = hydro("132.10"), meters = steady(withdrawal_wh = 25000),
  prices = together(day_ahead("2026-03", zero), price("M0_HYDRO", "2026-03-01", "P1M", "45.30"), price("PREFCAPA", "2026-01-01", "P1Y", "0"))))
expect(result$lines$rule, c("cr", "cr_management", "cr_capacity"))
expect(result$lines$amount[3], "0.00")

# Auxiliaries are taken from the next source for the steps that lack them, wherever these are in the month.
own_steps <- AT[2000:2100]
result <- extract(event(contracts = contracts(contract("CR", technology = "hydro", price_eur_mwh = "100", management_premium_eur_mwh = "0",
                                                       vat = "none", valid_from = "2026-03-11")),
  meters = together(steady(withdrawal_wh = 25000), meters(own_steps, 250000, source = "DSO_CORRECTED", withdrawal_wh = NA_real_)), prices = market))
expect(result$lines[rule == "cr"]$sources, "DSO_CORRECTED:101 DSO_RAW:1911 auxiliaries=DSO_RAW:101")

# The premium for negative hours: an hour's price is the mean of its quarters since 2025-10-01. Two hours of the month are
# negative; those before count towards the fifteen that are free, and an hour in which the plant injects does not count.
solar <- contracts(contract("CR", technology = "solar", price_eur_mwh = "90", management_premium_eur_mwh = "2",
                            negative_premium = "yes", vat = "none"))
market <- together(day_ahead("2026-03", negative), price("M0_SOLAR", "2026-03-01", "P1M", "30"))
still <- rep(250000, 2972)
still[1001:1008] <- 0
premium <- function(energy_wh, before, prices = market) {
  result <- extract(event(contracts = solar, meters = meters(AT, energy_wh), prices = prices, before = hours_before("2026-03", before)))
  result$lines[rule == "cr_negative_premium"]$amount
}
# 0.5 x 12 x 90 for each hour
expect(premium(still, 15), "1080.00")
expect(premium(still, 14), "540.00")
expect(premium(still, 13), "0.00")
expect(premium(replace(still, 1008, 1), 15), "540.00")
# At night no hour counts, and neither does one whose mean is zero to the cent.
at_night <- replace(rep("50.00", 2972), 1:8, "-5.00")
night <- together(day_ahead("2026-03", at_night), price("M0_SOLAR", "2026-03-01", "P1M", "30"))
expect(premium(replace(still, 1:8, 0), 15, night), "0.00")
mean_zero <- replace(negative, 1001:1008, rep(c("-0.01", "-0.01", "0.01", "0.00"), 2))
expect(premium(still, 15, together(day_ahead("2026-03", mean_zero), price("M0_SOLAR", "2026-03-01", "P1M", "30"))), "0.00")
# The year's prices must be there: nobody knows how many hours were negative.
part <- hours_before("2026-03", 15)
part$columns <- lapply(part$columns, function(column) column[-7])
result <- extract(event(contracts = solar, meters = meters(AT, still), prices = market, before = part))
expect(nrow(result$lines), 0L)
expect(result$incomplete$reason,
       "day-ahead prices cover 1415 of the 1416 hours of the year before 2026-03, in which hours of negative price are counted: load them")
# Since the order of 8 September 2025 other hours count, which are not computed: where the month has hours of negative
# price the contract is not billed, and otherwise it is.
by_order <- RULES_BY_LAW
by_order$columns <- mapply(c, by_order$columns, list(rule = "negative_premium_order", kind = "CR", technology = "*",
                           valid_from = "2025-10-01", value = "8 September 2025")[names(by_order$columns)], SIMPLIFY = FALSE)
result <- extract(event(contracts = solar, meters = meters(AT, still), prices = market, before = hours_before("2026-03", 15), rules = by_order))
expect(nrow(result$lines), 0L)
expect(startsWith(result$incomplete$reason, "its premium for 8 steps of negative price follows the order of 8 September 2025"), TRUE)
result <- extract(event(contracts = solar, meters = meters(AT, still), prices = night, before = hours_before("2026-03", 15), rules = by_order))
expect(result$lines[rule == "cr_negative_premium"]$amount, "0.00")
# A technology without the rule has no premium that could be computed.
wind <- contracts(contract("CR", technology = "wind", price_eur_mwh = "90", management_premium_eur_mwh = "2", negative_premium = "yes", vat = "none"))
result <- extract(event(contracts = wind, meters = meters(AT, still), before = part,
                        prices = together(day_ahead("2026-03", negative), price("M0_WIND", "2026-03-01", "P1M", "30"))))
expect(result$incomplete$reason, "there is no rule negative_premium_free_hours for CR of wind: add it to marts/billing/rules.sql")

# Fees are the aggregator's own service, with another VAT than the energy.
result <- extract(event(contracts = contracts(contract("M0_MINUS_FEE", fee_eur_mwh = "1", fee_vat = "standard", fee_vat_rate_pct = "20")),
                        meters = steady(), prices = price("M0_WIND", "2026-03-01", "P1M", "40")))
expect(result$lines$vat, c("reverse_charge", "standard"))
expect(result$lines$vat_amount, c("0.00", "-148.60"))

# Guarantees of origin are reverse-charged where the energy is not, and a producer of the small companies' scheme has no VAT.
result <- extract(event(contracts = contracts(
  contract("FIXED_PPA", price_eur_mwh = "10", go_eur_mwh = "1", vat = "standard", vat_rate_pct = "20"),
  contract("FIXED_PPA", contract_id = "CTR-B", producer_id = "PRD0043", prm = "30000000000043", price_eur_mwh = "10", vat = "exempt")),
  meters = together(steady(), steady(prm = "30000000000043"))))
expect(result$lines$vat, c("standard", "reverse_charge", "exempt"))
expect(result$lines$vat_amount, c("1486.00", "0.00", "0.00"))

# Two metering points of a contract are billed each by itself.
parts <- contracts(contract("FIXED_PPA", price_eur_mwh = "10"), contract("FIXED_PPA", price_eur_mwh = "10", prm = "30000000000043"))
result <- extract(event(contracts = parts, meters = together(steady(), steady(prm = "30000000000043"))))
expect(result$lines$prm, c(PRM, "30000000000043"))
expect(result$totals$bills$amount, "14860.00")

# Versions that overlap would be billed twice.
result <- extract(event(contracts = contracts(contract("FIXED_PPA", price_eur_mwh = "10"), contract("FIXED_PPA", price_eur_mwh = "12", valid_from = "2026-03-10")),
                        meters = steady()))
expect(nrow(result$lines), 0L)
expect(result$incomplete$reason[1], "its version from 2021-01-01 overlaps the one from 2026-03-10")

# What is missing keeps one contract from being billed, and nobody else.
result <- extract(event(
  contracts = contracts(contract("FIXED_PPA"), contract("OA", contract_id = "CTR-B", producer_id = "PRD0043", price_eur_mwh = "10"),
                        contract("DEMAND_RESPONSE", contract_id = "CTR-C"), contract("OA", contract_id = "CTR-D", price_eur_mwh = "1", vat = "20%")),
  meters = steady()))
expect(result$lines$contract_id, "CTR-B")
expect(result$incomplete$reason, c(
  "price_eur_mwh is missing, which FIXED_PPA needs",
  "there is no rule for DEMAND_RESPONSE; there are SPOT_PASSTHROUGH, M0_MINUS_FEE, FIXED_PPA, OA, CR",
  "vat is '20%', not one of reverse_charge, none, standard, exempt"))

# A contract that ended, or has not begun, is no contract of the month.
result <- extract(event(contracts = contracts(contract("OA", price_eur_mwh = "1", valid_to = "2026-03-01"),
                                              contract("OA", price_eur_mwh = "1", valid_from = "2026-04-01")), meters = steady()))
expect(nrow(result$lines), 0L)
expect(result$totals$amount, "0.00")
