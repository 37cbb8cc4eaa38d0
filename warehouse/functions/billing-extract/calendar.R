# Months and days are local, steps are instants: a day in Paris has 23, 24 or 25 hours.

# From which delivery on which step holds, in seconds. Both changes fall on a local midnight.
SETTLEMENT_STEPS <- data.frame(since = c("1990-01-01", "2025-01-01"), step_s = c(1800, 900))
DAY_AHEAD_STEPS <- data.frame(since = c("1990-01-01", "2025-10-01"), step_s = c(3600, 900))

# Without its rules a time zone silently becomes UTC, and every bill is wrong by an hour.
check_zone <- function(zone) {
  folder <- Sys.getenv("TZDIR", "/usr/share/zoneinfo")
  if (!file.exists(file.path(folder, zone))) {
    stop(sprintf("the time zone '%s' is not in %s: install the time zones, or correct parameters$zone", zone, folder),
         call. = FALSE)
  }
}

# Seconds since 1970 of the local midnight that begins a day.
midnight <- function(day, zone) as.numeric(as.POSIXct(paste(day, "00:00:00"), tz = zone))

# The local day of an instant, as "2026-03-29".
local_day <- function(start, zone) format(as.POSIXct(start, origin = "1970-01-01", tz = zone), "%Y-%m-%d")

# "2026-03-28T23:00:00Z (2026-03-29 00:00 Europe/Paris)"
instant_text <- function(start, zone) {
  at <- as.POSIXct(start, origin = "1970-01-01", tz = "UTC")
  paste0(format(at, "%Y-%m-%dT%H:%M:%SZ"), " (", format(at, "%Y-%m-%d %H:%M", tz = zone), " ", zone, ")")
}

# A month "2026-03": its bounds in seconds, its first day and the first of the next.
month_of <- function(period, zone) {
  if (length(period) != 1 || !grepl("^[0-9]{4}-(0[1-9]|1[0-2])$", period)) {
    stop(sprintf("the period '%s' is no month such as 2026-03", paste(period, collapse = " ")), call. = FALSE)
  }
  first <- as.Date(paste0(period, "-01"))
  after <- seq(first, by = "1 month", length.out = 2)[2]
  list(
    period = period, zone = zone, first = format(first), after = format(after),
    from = midnight(format(first), zone), to = midnight(format(after), zone),
    days = as.numeric(after - first), days_of_year = if (format(as.Date(paste0(format(first, "%Y"), "-12-31")), "%j") == "366") 366 else 365
  )
}

# The step that holds for a delivery, by one of the tables above.
step_at <- function(start, steps, zone) {
  since <- vapply(steps$since, midnight, 0, zone = zone)
  steps$step_s[findInterval(start, since)]
}

# A month's steps, those by which it is settled and priced: the shorter of both.
grid <- function(month) {
  step_s <- min(step_at(month$from, SETTLEMENT_STEPS, month$zone), step_at(month$from, DAY_AHEAD_STEPS, month$zone))
  start <- seq(month$from, month$to - step_s, by = step_s)
  data.table(start = start, step_s = step_s, day = local_day(start, month$zone))
}

# Whether a row with valid_from and valid_to (the first day on which it no longer holds, or NA) holds on a day.
holds <- function(valid_from, valid_to, day) day >= valid_from & (is.na(valid_to) | day < valid_to)
