# Amounts in whole cents, prices in whole ten-thousandths of a euro, energies in whole Wh.
#
# A double holds every whole number up to 2^53, and nothing here is ever anything but a whole number:
# so no amount depends on the order of a sum, on the machine or on R's version.

WHOLE_MAX <- 2^53
LIMB <- 1e6

# "68.6115" as 686115. More than four decimals are refused, unless they are zeros.
ten_thousandths <- function(x, what = "price") {
  if (is.numeric(x)) x <- ifelse(is.na(x), NA, format(x, digits = 15, scientific = FALSE, trim = TRUE))
  x <- sub("^(-?[0-9]+\\.[0-9]{4})0+$", "\\1", as.character(x))
  good <- is.na(x) | grepl("^-?[0-9]{1,11}(\\.[0-9]{1,4})?$", x)
  if (!all(good)) stop(sprintf("%s '%s': a number with a decimal point and up to four decimals is expected",
                               what, x[!good][1]), call. = FALSE)
  none <- is.na(x)
  x[none] <- "0"
  digits <- sub("^-?[0-9]+\\.?", "", x)
  whole <- as.numeric(sub("^-?([0-9]+).*$", "\\1", x))
  fraction <- as.numeric(substr(paste0(digits, "0000"), 1, 4))
  ifelse(none, NA, ifelse(startsWith(x, "-"), -1, 1) * (whole * 1e4 + fraction))
}

# 686115 as "68.6115".
decimal_text <- function(ten_thousandths) {
  size <- abs(ten_thousandths)
  text <- sprintf("%s%.0f.%04.0f", ifelse(ten_thousandths < 0, "-", ""), size %/% 1e4, size %% 1e4)
  ifelse(is.na(ten_thousandths), NA, text)
}

# -5 as "-0.05".
euros <- function(cents) {
  stopifnot(cents == round(cents), abs(cents) < WHOLE_MAX)
  sprintf("%s%.0f.%02.0f", ifelse(cents < 0, "-", ""), abs(cents) %/% 100, abs(cents) %% 100)
}

# The exact sum of a * b, as limbs: high * 1e12 + mid * 1e6 + low, the last two not negative.
# A product may be larger than 2^53; those of limbs aren't, nor are the sums of a month of them.
wide_sum <- function(a, b) {
  if (length(b) == 1L) b <- rep(b, length(a))
  stopifnot(length(a) == length(b), length(a) <= 4000, a == round(a), b == round(b))
  if (any(abs(a) >= 1e12, abs(b) >= 1e12)) {
    # Whose energy it is is not billed; nobody else is kept back by it.
    reason <- "an energy of 1 TWh and more, or a price as large, is more than is counted here"
    stop(structure(class = c("incomplete", "error", "condition"), list(message = reason, call = NULL, reason = reason)))
  }
  a_high <- a %/% LIMB; a_low <- a %% LIMB
  b_high <- b %/% LIMB; b_low <- b %% LIMB
  low <- sum(a_low * b_low)
  mid <- sum(a_high * b_low + a_low * b_high) + low %/% LIMB
  high <- sum(a_high * b_high) + mid %/% LIMB
  c(high = high, mid = mid %% LIMB, low = low %% LIMB)
}

# A wide sum divided by 10^digits (6 to 12), rounded half away from zero.
rounded <- function(wide, digits) {
  part <- 10^(digits - 6)
  whole <- wide[["high"]] * 10^(12 - digits) + wide[["mid"]] %/% part
  rest <- (wide[["mid"]] %% part) * LIMB + wide[["low"]]
  half <- 10^digits / 2
  stopifnot(abs(whole) < WHOLE_MAX)
  # `whole` is the floor: below zero, exactly one half lies further away from zero already.
  whole + (if (whole < 0) rest > half else rest >= half)
}

# Sum of energy x price, in cents: 1 Wh at 0.0001 EUR/MWh is 1e-10 EUR.
energy_cents <- function(wh, price) rounded(wide_sum(wh, price), 8)

# The same, of which a share in ten-thousandths counts.
shared_cents <- function(wh, price, share) rounded(wide_sum(wh, price * share), 12)

# a / b, rounded half away from zero.
divided <- function(a, b) {
  stopifnot(a == round(a), abs(a) < WHOLE_MAX / 2, b > 0)
  size <- abs(a)
  sign(a) * (size %/% b + (2 * (size %% b) >= b))
}

# The greatest whole number by which both can be divided.
greatest_divisor <- function(a, b) if (b == 0) a else greatest_divisor(b, a %% b)

# a x b / c, where a x b may be too large to be held exactly.
divided_wide <- function(a, b, c) {
  stopifnot(c == round(c), c > 0, c < 9e12)
  wide <- wide_sum(a, b)
  negative <- wide[["high"]] < 0
  if (negative) wide <- wide_sum(-a, b)
  # By hand, three digits after three digits: no rest grows beyond 2^53.
  whole <- wide[["high"]] %/% c
  rest <- wide[["high"]] %% c
  for (digits in c(wide[["mid"]] %/% 1e3, wide[["mid"]] %% 1e3, wide[["low"]] %/% 1e3, wide[["low"]] %% 1e3)) {
    rest <- rest * 1e3 + digits
    whole <- whole * 1e3 + rest %/% c
    rest <- rest %% c
  }
  whole <- whole + (2 * rest >= c)
  stopifnot(whole < WHOLE_MAX)
  if (negative) -whole else whole
}
