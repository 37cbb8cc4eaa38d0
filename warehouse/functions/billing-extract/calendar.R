# Months and days are local, steps are instants: a day in Paris has 23, 24 or 25 hours.

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

# The hour of an instant on the local clock.
local_hour <- function(start, zone) as.integer(format(as.POSIXct(start, origin = "1970-01-01", tz = zone), "%H"))

# The step that holds for a delivery by the rule `name`, in seconds. Changes fall on local midnights.
step_at <- function(start, name, rules, zone) {
  own <- rules[rule == name & kind == "*" & technology == "*"][order(valid_from)]
  if (nrow(own) == 0) stop(sprintf("there is no rule '%s': see marts/billing/rules.sql", name), call. = FALSE)
  since <- vapply(own$valid_from, midnight, 0, zone = zone)
  as.numeric(own$value)[findInterval(start, since)]
}

# A month's steps, those by which it is settled and priced: the shorter of both.
grid <- function(month, rules) {
  step_s <- min(step_at(month$from, "settlement_step_s", rules, month$zone), step_at(month$from, "day_ahead_step_s", rules, month$zone))
  start <- seq(month$from, month$to - step_s, by = step_s)
  data.table(start = start, step_s = step_s, day = local_day(start, month$zone))
}

# Whether a row with valid_from and valid_to (the first day on which it no longer holds, or NA) holds on a day.
holds <- function(valid_from, valid_to, day) day >= valid_from & (is.na(valid_to) | day < valid_to)

# What a rule says of a contract on a day, as text: the row for its kind and technology before those for all of them, and
# of these the one that began last; NA where there is none.
rule_value <- function(rules, name, contract, day) {
  own <- rules[rule == name & kind %in% c(contract$kind, "*") & technology %in% c(contract$technology, "*") & valid_from <= day]
  if (nrow(own) == 0) return(NA_character_)
  own[order((kind != "*") + (technology != "*"), valid_from)][.N]$value
}
