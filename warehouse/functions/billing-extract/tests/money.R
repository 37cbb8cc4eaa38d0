source("tests/month.R")

expect(ten_thousandths(c("68.6115", "-0.05", "7", "4000.00", "0.00010")), c(686115, -500, 70000, 4e7, 1))
expect(ten_thousandths(c(0.1, -500, NA)), c(1000, -5e6, NA))
expect_error(ten_thousandths("1,50"), "price '1,50'", "decimal point")
expect_error(ten_thousandths("0.00001"), "four decimals")
expect_error(ten_thousandths(""), "four decimals")
expect(decimal_text(c(686115, -500, 0, NA)), c("68.6115", "-0.0500", "0.0000", NA))
expect(euros(c(0, 5, -5, 123456, -100)), c("0.00", "0.05", "-0.05", "1234.56", "-1.00"))

# Half a cent goes away from zero, on both sides: 1 MWh at 0.005 EUR/MWh.
expect(energy_cents(1e6, 50), 1)
expect(energy_cents(1e6, -50), -1)
expect(energy_cents(1e6, 49), 0)
expect(energy_cents(1e6, -49), 0)
expect(energy_cents(1e6, 149), 1)
expect(energy_cents(1e6, 150), 2)
# 0.1 + 0.2: ten cents and twenty are thirty, whatever doubles make of it.
expect(energy_cents(c(1e6, 1e6), c(1000, 2000)), 30)
# 4 x 0.25 cents: the sum is rounded, not its parts.
expect(energy_cents(rep(1e6, 4), rep(25, 4)), 1)

# Beyond what a double holds: 4,000 steps of 99,999 MWh at 3,999.9999 EUR/MWh, and sums of random products by
# another program's integers.
expect(energy_cents(rep(99999e6, 4000), 39999999), 159998396000040)
expect(energy_cents(c(8022074679, -84319355824, -71928600533), c(9081935, 38220482, -32215517)), -8326534075)
expect(energy_cents(c(-9044, 1), c(39999999, -1)), -3618)
expect(shared_cents(c(41346102676, -90487943732, 16333257562), c(16126116, -30624164, -7698759), 5000), 16560619316)
expect(shared_cents(c(-61953167669, 12913012118, 46648458916), c(-24190194, 36626738, 1403729), 5000), 10185512255)
expect(shared_cents(c(-83044719191, 61392428239, -85411368428), c(-10326900, -33747779, 34714297), 5000), -20896296003)
expect(divided_wide(94495856815, 50116481823, 120e9), 39464999087)
expect(divided_wide(-84994702838, 18414379930, 366e6), -4276297131411)
expect(divided_wide(9083139920, 10722414653, 366e6), 266101619053)
expect(divided_wide(1, 1, 2), 1)
expect(divided_wide(-1, 1, 2), -1)
expect(divided(c(7, -7, 5, -5, 4), 10), c(1, -1, 1, -1, 0))
# What can't be held exactly ends the run.
expect_error(wide_sum(0.5, 1))
expect_error(wide_sum(1e13, 1))
expect_error(euros(0.5))
expect_error(whole_numbers("9007199254740993", "meters.energy_wh"), "meters.energy_wh, row 1", "9007199254740993")
expect_error(whole_numbers(c("1", "1.5"), "meters.energy_wh"), "row 2", "1.5")
