# Steps, days and the changes of steps.
source("tests/month.R")

zone <- "Europe/Paris"
ppa <- function(...) contracts(contract("FIXED_PPA", price_eur_mwh = "10", ...))
steps_in <- function(result, on) result$days[day == on]$steps

# The clock goes forward: the 29th has 23 hours, and no step begins between 02:00 and 03:00.
at <- steps_of("2026-03")
result <- extract(event("2026-03", ppa(), meters(at, 250000)))
expect(steps_in(result, "2026-03-28"), 96L)
expect(steps_in(result, "2026-03-29"), 92L)
expect(result$days[day == "2026-03-29"]$energy_wh, 23e6)
expect(nrow(result$days), 31L)
# And back: 25 hours, 745 in the month.
at <- steps_of("2025-10")
result <- extract(event("2025-10", ppa(), meters(at, 250000)))
expect(steps_in(result, "2025-10-26"), 100L)
expect(amounts(result), c(ppa = "7450.00"))
expect(result$lines$steps, 2980L)

# A contract begins at a local midnight: on the 29th at 23:00 UTC of the day before.
at <- steps_of("2026-03")
energy <- ifelse(at < seconds("2026-03-28T23:00:00Z"), 1000000, 1)
result <- extract(event("2026-03", ppa(valid_from = "2026-03-29"), meters(at, energy)))
expect(result$lines$quantity, 284)
expect(result$lines$steps, 284L)
expect(result$lines$valid_from, "2026-03-29")
# It ends before the local midnight of its last day: of that, 23:00 UTC is another day's.
result <- extract(event("2026-03", ppa(valid_to = "2026-03-02"), meters(at, energy)))
expect(result$lines$steps, 96L)
result <- extract(event("2025-10", ppa(valid_from = "2025-10-26", valid_to = "2025-10-27"), meters(steps_of("2025-10"), 1)))
expect(result$lines$steps, 100L)

# Settled by half hours until 2024, by quarters since.
result <- extract(event("2024-12", ppa(), meters(steps_of("2024-12", 1800), 500000, step_s = 1800)))
expect(result$lines$steps, 1488L)
result <- extract(event("2025-01", ppa(), meters(steps_of("2025-01"), 250000)))
expect(result$lines$steps, 2976L)
expect(extract(event("2024-03", ppa(), meters(steps_of("2024-03", 1800), 1, step_s = 1800)))$lines$steps, 1486L)
expect(grid(month_of("2025-01", zone), read_input(list(inputs = list(rules = RULES_BY_LAW)), "rules"))$start[1], seconds("2024-12-31T23:00:00Z"))
# Quarters of a meter are enough for a month of half hours.
result <- extract(event("2024-12", ppa(), meters(steps_of("2024-12", 900), 250000)))
expect(result$lines$steps, 1488L)
expect(amounts(result), c(ppa = "7440.00"))

# Day-ahead prices by the hour before 2025-10-01: each counts for its four quarters.
spot <- contracts(contract("SPOT_PASSTHROUGH", fee_eur_mwh = "0"))
hours <- steps_of("2025-09", 3600)
price <- ifelse(hours == hours[2], "100", "10")
energy <- rep(0, 2880)
energy[5:8] <- c(1e6, 2e6, 3e6, 4e6)
result <- extract(event("2025-09", spot, meters(steps_of("2025-09"), energy), day_ahead("2025-09", price, "PT60M")))
expect(amounts(result), c(spot = "1000.00"))
# And by the quarter from that day's local midnight on, in UTC 22:00 of the day before.
quarters <- steps_of("2025-10")
expect(quarters[1], seconds("2025-09-30T22:00:00Z"))
energy <- rep(0, 2980)
energy[1:4] <- 1e6
result <- extract(event("2025-10", spot, meters(quarters, energy), day_ahead("2025-10", rep(c("1", "2", "3", "4"), 745))))
expect(amounts(result), c(spot = "10.00"))
# The wrong step is refused on either side.
expect_error(extract(event("2025-10", spot, meters(quarters, 1), day_ahead("2025-10", "1", "PT60M"))),
             "DAY_AHEAD_FR", "2025-09-30T22:00:00Z (2025-10-01 00:00 Europe/Paris)", "PT60M", "15 minutes")
expect_error(extract(event("2025-09", spot, meters(steps_of("2025-09"), 1), day_ahead("2025-09", "1"))), "PT15M", "60 minutes")

# Negative hours of the 25-hour day: both hours from 02:00 to 03:00 are there.
negative <- ifelse(quarters >= seconds("2025-10-26T00:00:00Z") & quarters < seconds("2025-10-26T02:00:00Z"), "-10", "10")
result <- extract(event("2025-10", spot, meters(quarters, 1e6), day_ahead("2025-10", negative)))
# 2,972 x 10 - 8 x 10
expect(amounts(result), c(spot = "29640.00"))

# Periods and zones that are none.
expect_error(extract(event("2026-13", ppa(), meters(at, 1))), "'2026-13' is no month")
odd <- event("2026-03", ppa(), meters(at, 1))
odd$parameters$zone <- "Europe/Pariss"
expect_error(extract(odd), "Europe/Pariss", "time zone")
