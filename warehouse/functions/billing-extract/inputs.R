# The event's tables. Each comes as {"columns": {name: [values]}}, or as {"file": "/inputs/NAME.csv"} where the
# event would be too large; from here on there is no difference.

# What a column holds: text, whole numbers, decimals (texts such as "68.61", or numbers) as ten-thousandths.
INPUTS <- list(
  contracts = c(
    contract_id = "text", producer_id = "text", producer = "text", site_id = "text", site = "text",
    technology = "text", prm = "text", pmax_kw = "decimal", kind = "text", valid_from = "text", valid_to = "text",
    begins_on = "text", ends_on = "text",
    price_eur_mwh = "decimal", fee_eur_mwh = "decimal", fee_eur_mw_month = "decimal",
    management_premium_eur_mwh = "decimal", nbcapa_mw = "decimal", imbalance_share = "decimal",
    go_eur_mwh = "decimal", negative_premium = "text", cap_mwh_year = "decimal", cap_mwh_life = "decimal",
    vat = "text", vat_rate_pct = "decimal", fee_vat = "text", fee_vat_rate_pct = "decimal"
  ),
  declared = c(
    contract_id = "text", producer_id = "text", prm = "text", start = "whole", step_s = "whole", energy_wh = "whole", aux_wh = "whole",
    source = "text", status = "text"
  ),
  meters = c(
    prm = "text", source = "text", start = "whole", step_s = "whole", energy_wh = "whole", withdrawal_wh = "whole",
    quality = "text"
  ),
  prices = c(series = "text", start = "whole", step = "text", price = "decimal"),
  precedence = c(kind = "text", source = "text", rank = "whole", valid_from = "text", valid_to = "text"),
  rules = c(rule = "text", kind = "text", technology = "text", valid_from = "text", value = "text"),
  hours_before = c(start = "whole", covered_s = "whole", price_sum = "decimal"),
  billed_before = c(contract_id = "text", prm = "text", period = "text", energy_wh = "whole")
)

read_input <- function(event, name) {
  given <- event$inputs[[name]]
  if (is.null(given)) stop(sprintf("the event has no input '%s'", name), call. = FALSE)
  wanted <- INPUTS[[name]]
  rows <- if (!is.null(given$file) && file.size(given$file) <= 2) {
    data.table()
  } else if (!is.null(given$file)) {
    unquoted(fread(given$file, sep = ",", header = TRUE, colClasses = "character", na.strings = "", encoding = "UTF-8",
                   showProgress = FALSE))
  } else {
    as.data.table(given$columns)
  }
  # An answer without rows may come without columns, too.
  if (nrow(rows) == 0) rows <- as.data.table(sapply(names(wanted), function(column) character(), simplify = FALSE))
  missing <- setdiff(names(wanted), names(rows))
  if (length(missing)) {
    stop(sprintf("the input '%s' has no column '%s'; it has: %s", name, missing[1], paste(names(rows), collapse = ", ")),
         call. = FALSE)
  }
  for (column in names(wanted)) {
    set(rows, j = column, value = read_values(rows[[column]], wanted[[column]], paste0(name, ".", column)))
  }
  rows[, names(wanted), with = FALSE]
}

# fread leaves a quote within quotes doubled.
unquoted <- function(rows) rows[, lapply(.SD, gsub, pattern = '""', replacement = '"', fixed = TRUE)]

read_values <- function(values, type, what) {
  if (is.list(values)) values <- vapply(values, function(value) if (is.null(value)) NA_character_ else as.character(value), "")
  switch(type,
    text = { values <- as.character(values); ifelse(nzchar(values), values, NA_character_) },
    whole = whole_numbers(values, what),
    decimal = ten_thousandths(values, what))
}

whole_numbers <- function(values, what) {
  numbers <- suppressWarnings(as.numeric(values))
  bad <- which(is.na(numbers) != is.na(values) | (!is.na(numbers) & (numbers != round(numbers) | abs(numbers) >= WHOLE_MAX)))
  if (length(bad)) {
    stop(sprintf("%s, row %d: '%s' is no whole number that can be held exactly", what, bad[1], values[bad[1]]),
         call. = FALSE)
  }
  numbers
}
