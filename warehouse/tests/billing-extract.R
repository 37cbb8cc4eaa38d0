# Hand-made cases of functions/billing-extract: Rscript warehouse/tests/billing-extract.R
setwd(if (dir.exists("warehouse")) "warehouse/functions/billing-extract" else "functions/billing-extract")
suppressMessages(source("billing.R"))

fails <- function(expr, words) {
  said <- tryCatch({ expr; "nothing failed" }, error = conditionMessage)
  if (!grepl(words, said, fixed = TRUE)) stop("expected ", words, ", not: ", said)
}

# Prices and amounts are whole numbers; half a cent goes away from zero.
stopifnot(tenthousandths("68.6115") == 686115, tenthousandths("-1.3") == -13000, price_text(-13000) == "-1.3000")
fails(tenthousandths("1.00005"), "not a price with up to four decimals: 1.00005")
stopifnot(cents_of(1e6, 686149) == 6861, cents_of(1e6, 686150) == 6862)
stopifnot(cents_of(1e6, -686149) == -6861, cents_of(1e6, -686150) == -6862)
stopifnot(euros(-6862) == "-68.62", euros(5) == "0.05", euros(123456789012) == "1234567890.12")
# 60 GWh at 90 EUR/MWh, an hour at a time: beyond what a double holds as one product.
stopifnot(cents_of(rep(6e7, 1000), 900000) == 540000000)

seconds <- function(text) as.numeric(as.POSIXct(text, tz = "UTC"))
event <- function(kind, from, wh, price, step = "PT60M", terms = '{"fee_eur_mwh": 1.3}', valid_from = "2008-01-01",
                  valid_to = NA, status = "DEFINITIF") {
  width <- c(PT60M = 3600, PT15M = 900)[[step]]
  list(
    period = "2025-03", as_of = "2025-04-01T04:00:00Z",
    parameters = list(zone = "Europe/Paris", capacity_eur_mw = "240.00"),
    inputs = list(
      declared = list(columns = list(
        prm = rep("30000000000001", length(wh)), start = seconds(from) + 3600 * (seq_along(wh) - 1),
        step_s = rep(3600, length(wh)), energy_wh = wh, aux_wh = rep(0, length(wh)), status = rep(status, length(wh)))),
      contracts = list(columns = list(
        contract = "CTR-2008-0001", producer_id = 1L, producer = "P", site_id = 1L, site = "S", technology = "wind",
        prm = "30000000000001", kind = kind, price = "68.6115", parameters = terms, valid_from = valid_from,
        valid_to = list(if (is.na(valid_to)) NULL else valid_to))),
      prices = list(columns = list(
        start = seconds(from) + width * (seq_along(price) - 1), step = rep(step, length(price)), price = price)),
      market_references = list(columns = list(technology = "wind", m0 = "50.1234"))))
}
amounts <- function(...) vapply(extract(event(...))$lines, function(line) line$amount, "")
night <- "2025-03-29 23:00:00"

# Energy at each hour's price: 10 - 2 x 20 + 0.5 x 30 = -15; the fee is 3.5 MWh x 1.30.
stopifnot(identical(amounts("SPOT_PASSTHROUGH", night, c(1e6, 2e6, 5e5), c("10.00", "-20.00", "30.00")), c("-15.00", "-4.55")))
# The same at quarter-hourly prices: an hour's Wh are parted evenly, the rest to the first parts.
quarters <- amounts("SPOT_PASSTHROUGH", night, c(1e6 + 3, 2e6), c("10.00", "12.00", "8.00", "10.00", rep("-20.00", 4)),
                    step = "PT15M")
stopifnot(identical(quarters, c("-30.00", "-3.90")))
# 3.5 MWh x 68.6115; M0 x 3.5 less the fee.
stopifnot(amounts("FIXED_PPA", night, c(1e6, 2e6, 5e5), rep("1.00", 3)) == "240.14")
stopifnot(identical(amounts("M0_MINUS_FEE", night, c(1e6, 2e6, 5e5), rep("1.00", 3)), c("175.43", "-4.55")))
# CR leaves out the hour of negative price: 1.5 x (68.6115 - 50.1234), 1.5 x 2, 2.4 MW x 240.
cr <- '{"nbcapa_mw": 2.4, "te_eur_mwh": 68.6115, "management_premium_eur_mwh": 2.0}'
stopifnot(identical(amounts("CR", night, c(1e6, 2e6, 5e5), c("10.00", "-20.00", "30.00"), terms = cr),
                    c("27.73", "3.00", "-576.00", "0.00")))

# The spring night has no 02:00; the day after begins an hour earlier in UTC. A contract that ends on the 30th holds
# for 23 hours of it.
month_end <- amounts("FIXED_PPA", night, rep(1e6, 30), rep("1.00", 30), valid_to = "2025-03-31")
stopifnot(month_end == euros(cents_of(rep(1e6, 23), 686115)))
# In autumn a day has 25.
autumn <- amounts("FIXED_PPA", "2025-10-25 22:00:00", rep(1e6, 30), rep("1.00", 30), valid_to = "2025-10-27")
stopifnot(autumn == euros(cents_of(rep(1e6, 25), 686115)))

stopifnot(extract(event("OA", night, 1e6, "1.00", status = "PROVISOIRE"))$lines[[1]]$quality == "estimated")
fails(amounts("FIXED_PPA", night, c(1e6, 1e6), "1.00"), "no day-ahead price for FR at 2025-03-30T00:00:00Z")
fails(amounts("BARTER", night, 1e6, "1.00"), "no rule for contracts of kind BARTER")

# The same event gives the same answer.
same <- event("CR", night, c(1e6, 2e6, 5e5), c("10.00", "-20.00", "30.00"), terms = cr)
stopifnot(identical(extract(same), extract(same)))
cat("all cases hold\n")
