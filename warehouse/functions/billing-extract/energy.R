# From many series of a metering point to the one that is billed.

# Better first; a period takes its worst. "profiled" is measured by a longer step, which was divided.
QUALITIES <- c("measured", "corrected", "profiled", "estimated", "outage", "invalid", "missing")
# Of which nothing is billed.
UNUSABLE <- c("invalid", "missing")

worst <- function(qualities) QUALITIES[max(match(qualities, QUALITIES))]

# What producers declared, as one more series.
declared_series <- function(declared) {
  declared[, .(
    prm, producer_id, source = rep("PRODUCER_DECLARED", .N), start, step_s, energy_wh, withdrawal_wh = aux_wh,
    quality = ifelse(status == "DEFINITIF" & source != "ESTIME", "measured", "estimated")
  )]
}

check_series <- function(rows) {
  unknown <- setdiff(rows$quality, QUALITIES)
  if (length(unknown)) {
    stop(sprintf("the quality '%s' is not known; one of %s", unknown[1], paste(QUALITIES, collapse = ", ")), call. = FALSE)
  }
  twice <- anyDuplicated(rows, by = c("prm", "producer_id", "source", "start"))
  if (twice) {
    row <- rows[twice]
    stop(sprintf("%s of %s has two values at %s: an input query gives one for each step", row$source, row$prm,
                 instant_text(row$start, "UTC")), call. = FALSE)
  }
  # Nobody else is kept back by them.
  rows[, is_wrong := !quality %in% UNUSABLE & (is.na(energy_wh) | energy_wh < 0 | (!is.na(withdrawal_wh) & withdrawal_wh < 0))]
  rows[]
}

# Energies at another step, to the Wh. Each row is cut into parts that fit both steps, each part what has come by
# its end less what had come by its beginning: so the parts sum to the row. Steps that are not covered are left out, those
# that are covered more than once are marked.
at_step <- function(rows, to_s) {
  # Parts are of five minutes at the least, and a step begins at a whole number of its length.
  rows <- rows[!quality %in% UNUSABLE & step_s > 0 & (step_s %% 300 == 0 | to_s %% step_s == 0) & start %% pmin(step_s, 3600) == 0]
  if (all(rows$step_s == to_s)) {
    return(rows[, .(prm, producer_id, source, start, energy_wh, withdrawal_wh, quality, is_wrong, overlaps = rep(FALSE, .N))])
  }
  # 10 minutes and 15 have 5 in common.
  part_s <- ifelse(rows$step_s %% to_s == 0, to_s, ifelse(to_s %% rows$step_s == 0, rows$step_s, 300))
  count <- rows$step_s / part_s
  at <- rep(seq_len(nrow(rows)), count)
  before <- sequence(count) - 1
  share <- function(wh) (wh[at] * (before + 1)) %/% count[at] - (wh[at] * before) %/% count[at]
  worst_of_cut <- match("profiled", QUALITIES)
  parts <- data.table(
    prm = rows$prm[at], producer_id = rows$producer_id[at], source = rows$source[at], is_wrong = rows$is_wrong[at], start = rows$start[at] + before * part_s[at], part_s = part_s[at],
    energy_wh = share(rows$energy_wh), withdrawal_wh = share(rows$withdrawal_wh),
    quality = pmax(match(rows$quality, QUALITIES), ifelse(rows$step_s > to_s, worst_of_cut, 1))[at]
  )
  steps <- parts[, .(
    energy_wh = sum(energy_wh), withdrawal_wh = sum(withdrawal_wh), quality = max(quality), covered_s = sum(part_s),
    is_wrong = any(is_wrong)
  ), by = .(prm, producer_id, source, start = start - start %% to_s)]
  steps[covered_s >= to_s, .(prm, producer_id, source, start, energy_wh, withdrawal_wh, quality = QUALITIES[quality], is_wrong,
                             overlaps = covered_s > to_s)]
}

# For each of a contract's steps the value of the source that comes first in the table of precedence. Rows of the
# contract's kind stand in place of those for any kind ("*").
by_precedence <- function(steps, series, precedence, kind) {
  own <- precedence[["kind"]] == kind
  if (!any(own)) own <- precedence[["kind"]] == "*"
  ranks <- precedence[own]
  found <- merge(series, steps[, .(start, day)], by = "start")
  found <- merge(found, ranks[, .(source, rank, valid_from, valid_to)], by = "source", allow.cartesian = TRUE)
  found <- found[holds(valid_from, valid_to, day)]
  # Of several ranks of a source that hold, the one that began last.
  setorder(found, start, source, valid_from)
  found <- unique(found, by = c("start", "source"), fromLast = TRUE)
  setorder(found, start, rank, source)
  found <- found[!duplicated(start)]
  found[, .(start, day, source, energy_wh, withdrawal_wh, quality, overlaps)]
}
