# Whole numbers for prices and amounts.

# "68.6115" as 686115; more than four decimals are refused.
tenthousandths <- function(text) {
  text <- as.character(text)
  good <- grepl("^-?[0-9]+([.][0-9]{1,4})?$", text)
  if (!all(good)) stop("not a price with up to four decimals: ", text[!good][1])
  parts <- strsplit(sub("^-", "", text), ".", fixed = TRUE)
  whole <- vapply(parts, function(part) as.numeric(part[1]), 0)
  broken <- vapply(parts, function(part) if (length(part) > 1) as.numeric(substr(paste0(part[2], "0000"), 1, 4)) else 0, 0)
  ifelse(startsWith(text, "-"), -1, 1) * (whole * 1e4 + broken)
}

# The sum of Wh times ten-thousandths of EUR/MWh, in cents, rounded half away from zero: one cent is 1e8 of their
# unit. Each product stays below 2^53; the sums are kept in two parts, so that they do, too.
cents_of <- function(wh, price) {
  products <- wh * price
  stopifnot(all(abs(products) < 2^53))
  high <- sum(products %/% 1e8)
  low <- sum(products %% 1e8)
  high <- high + low %/% 1e8
  low <- low %% 1e8
  # In both parts the total is high * 1e8 + low, 0 <= low < 1e8.
  if (high < 0) high + (low > 5e7) else high + (low >= 5e7)
}

euros <- function(cents) {
  stopifnot(abs(cents) < 2^53)
  paste0(ifelse(cents < 0, "-", ""), format(abs(cents) %/% 100, scientific = FALSE, trim = TRUE), ".",
         sprintf("%02d", as.integer(abs(cents) %% 100)))
}

cents <- function(euros) {
  vapply(euros, function(text) tenthousandths(text) / 100, 0, USE.NAMES = FALSE)
}

# 686115 as "68.6115".
price_text <- function(tenthousandths) {
  paste0(ifelse(tenthousandths < 0, "-", ""), format(abs(tenthousandths) %/% 1e4, scientific = FALSE, trim = TRUE), ".",
         sprintf("%04d", as.integer(abs(tenthousandths) %% 1e4)))
}
