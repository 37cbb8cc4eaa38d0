# JSON for the layer's runtime.R, which includes this file. In base R, since jsonlite takes 70 ms of a cold start and
# writes at most 15 of a number's 17 digits.

# ---- JSON into R ----

json_token <- paste0(
  "\\G[ \\t\\r\\n]*+(?:[{}\\[\\],:]|\"[^\"\\\\\\x00-\\x1f]*+(?:\\\\(?:[\"\\\\/bfnrt]|u[0-9a-fA-F]{4})",
  "[^\"\\\\\\x00-\\x1f]*+)*+\"|-?(?:0|[1-9][0-9]*+)(?:\\.[0-9]++)?(?:[eE][+-]?[0-9]++)?|true|false|null)")

json_tokens <- function(text) {
  Encoding(text) <- "bytes"
  found <- gregexpr(json_token, text, perl = TRUE, useBytes = TRUE)[[1L]]
  lengths <- attr(found, "match.length")
  ends <- found + lengths - 1L
  covered <- if (found[1L] == -1L) 0L else ends[length(ends)]
  rest <- substring(text, covered + 1L, covered + 40L)
  if (grepl("[^ \t\r\n]", rest, useBytes = TRUE) || covered == 0L) json_refuse(covered + 1L, rest)
  tokens <- sub("^[ \t\r\n]+", "", substring(text, found, ends), useBytes = TRUE)
  Encoding(tokens) <- "bytes"
  list(text = tokens, starts = ends - nchar(tokens, "bytes") + 1L, end = covered + 1L)
}

json_refuse <- function(at, near) {
  near <- iconv(near, "UTF-8", "UTF-8", sub = "?")
  stop(sprintf("the event is not JSON: byte %d, near %s", at, encodeString(near, quote = "'")), call. = FALSE)
}

json_escapes <- c(n = "\n", t = "\t", r = "\r", b = "\b", f = "\f", `/` = "/", `\\` = "\\", `"` = "\"")

json_unquote <- function(tokens) {
  tokens <- substring(tokens, 2L, nchar(tokens, "bytes") - 1L)
  escaped <- which(grepl("\\", tokens, fixed = TRUE, useBytes = TRUE))
  Encoding(tokens) <- "UTF-8"
  for (i in escaped) tokens[i] <- json_unescape(tokens[i])
  tokens
}

json_unescape <- function(text) {
  pattern <- paste0("\\\\u[dD][89abAB][0-9a-fA-F]{2}\\\\u[dD][c-fC-F][0-9a-fA-F]{2}",
                    "|\\\\u[0-9a-fA-F]{4}|\\\\[^u]")
  found <- gregexpr(pattern, text, perl = TRUE)
  regmatches(text, found) <- list(vapply(regmatches(text, found)[[1L]], function(escape) {
    if (nchar(escape) == 2L) return(json_escapes[[substr(escape, 2L, 2L)]])
    high <- strtoi(substr(escape, 3L, 6L), 16L)
    if (nchar(escape) == 12L) {
      low <- strtoi(substr(escape, 9L, 12L), 16L)
      return(intToUtf8(0x10000 + (high - 0xd800) * 0x400 + (low - 0xdc00)))
    }
    if (high == 0L) stop("the event contains \\u0000, which no text in R can", call. = FALSE)
    if (high >= 0xd800 && high <= 0xdfff) "\ufffd" else intToUtf8(high)
  }, ""))
  text
}

# The doubles that are nearest to decimal numbers. as.numeric() may be off by one in the last digit.
json_nearest <- function(tokens) {
  numbers <- as.numeric(tokens)
  negative <- startsWith(tokens, "-")
  unsigned <- sub("^-", "", tokens)
  exponent <- regexpr("[eE]", unsigned)
  has_exponent <- exponent > 0L
  mantissa <- ifelse(has_exponent, substr(unsigned, 1L, exponent - 1L), unsigned)
  power <- integer(length(tokens))
  power[has_exponent] <- suppressWarnings(as.integer(substring(unsigned[has_exponent], exponent[has_exponent] + 1L)))
  point <- regexpr(".", mantissa, fixed = TRUE)
  power <- power - ifelse(point > 0L, nchar(mantissa) - point, 0L)
  digits <- sub("^0+", "", sub(".", "", mantissa, fixed = TRUE))
  length <- nchar(digits)
  # Both the digits and the power of ten are exact doubles: one operation rounds once.
  exact <- length <= 15L & !is.na(power) & abs(power) <= 22L
  whole <- as.numeric(digits[exact])
  whole[length[exact] == 0L] <- 0
  scale <- 10^abs(power[exact])
  numbers[exact] <- ifelse(power[exact] < 0L, whole / scale, whole * scale)
  numbers[exact & negative] <- -numbers[exact & negative]
  long <- which(!exact & is.finite(numbers) & numbers != 0)
  if (length(long) > 0L) numbers[long] <- json_nearest_of(numbers[long], digits[long], power[long])
  numbers
}

# Which of doubles and their neighbours are nearest to digits times powers of ten.
json_nearest_of <- function(numbers, digits, power) {
  size <- abs(numbers)
  step <- 2^(pmax(floor(log2(size)), -1022) - 52)
  near <- list(size, size - step, size + step)
  exact <- lapply(near, function(x) sprintf("%.45e", x))
  top <- lapply(exact, function(text) suppressWarnings(as.integer(substring(text, 49L))))
  wanted <- nchar(digits) + power - 1L
  highest <- pmax(wanted, top[[1L]], top[[2L]], top[[3L]], na.rm = TRUE)
  # The first 39 digits in groups of 13, which are exact doubles, all by the same power of ten.
  groups <- function(text, shift) {
    text <- paste0(strrep("0", pmax(0L, shift)), text, strrep("0", 40L))
    # A neighbour of the greatest double is infinite.
    lapply(c(1L, 14L, 27L), function(at) suppressWarnings(as.numeric(substr(text, at, at + 12L))))
  }
  of <- groups(digits, highest - wanted)
  best <- size
  least <- rep(Inf, length(size))
  for (at in seq_along(near)) {
    text <- paste0(substr(exact[[at]], 1L, 1L), substr(exact[[at]], 3L, 47L))
    mine <- groups(text, highest - top[[at]])
    away <- abs((mine[[1L]] - of[[1L]]) * 1e26 + (mine[[2L]] - of[[2L]]) * 1e13 + (mine[[3L]] - of[[3L]]))
    is_nearer <- is.finite(near[[at]]) & !is.na(away) & away < least
    best[is_nearer] <- near[[at]][is_nearer]
    least[is_nearer] <- away[is_nearer]
  }
  sign(numbers) * best
}

# Where each bracket's partner is, by the order of brackets of one depth; 0 where brackets do not match.
json_partners <- function(first) {
  partners <- integer(length(first))
  opens <- which(first == "{" | first == "[")
  closes <- which(first == "}" | first == "]")
  if (length(opens) != length(closes)) return(partners)
  depth <- cumsum((first == "{" | first == "[") - (first == "}" | first == "]"))
  opens <- opens[order(depth[opens], opens)]
  closes <- closes[order(depth[closes], closes)]
  match <- depth[opens] == depth[closes] + 1L & opens < closes & (first[opens] == "{") == (first[closes] == "}")
  partners[opens[match]] <- closes[match]
  partners
}

# The tokens' values as vectors, one for each type, so that arrays of them are taken out whole.
json_scalars <- function(tokens, first) {
  count <- length(tokens)
  kind <- character(count)
  kind[first == "\""] <- "text"
  kind[first %in% c("-", 0:9)] <- "double"
  kind[first == "t" | first == "f"] <- "logical"
  kind[first == "n"] <- "null"
  texts <- character(count)
  texts[kind == "text"] <- json_unquote(tokens[kind == "text"])
  numbers <- numeric(count)
  is_number <- kind == "double"
  numbers[is_number] <- json_nearest(tokens[is_number])
  kind[is_number & abs(numbers) <= .Machine$integer.max & !grepl("[.eE]", tokens)] <- "integer"
  list(kind = kind, texts = texts, numbers = numbers, logicals = first == "t")
}

# The scalars at these tokens as one vector, as jsonlite has it.
json_vector_at <- function(scalars, at) {
  kinds <- scalars$kind[at]
  missing <- kinds == "null"
  known <- unique(kinds[!missing])
  if (length(known) == 0L) return(rep(NA, length(at)))
  values <- if (identical(known, "text")) scalars$texts[at]
    else if (identical(known, "logical")) scalars$logicals[at]
    else if (identical(known, "integer")) as.integer(scalars$numbers[at])
    else if (all(known %in% c("integer", "double"))) scalars$numbers[at]
    else return(unlist(lapply(at, function(i) if (scalars$kind[i] == "null") NA else json_scalar_at(scalars, i))))
  values[missing] <- NA
  values
}

json_scalar_at <- function(scalars, at) {
  switch(scalars$kind[at],
    text = scalars$texts[at],
    integer = as.integer(scalars$numbers[at]),
    double = scalars$numbers[at],
    logical = scalars$logicals[at])
}

from_json <- function(text) {
  found <- json_tokens(text)
  tokens <- found$text
  first <- substr(tokens, 1L, 1L)
  scalars <- json_scalars(tokens, first)
  is_scalar_token <- nzchar(scalars$kind)
  partners <- json_partners(first)
  at <- 1L
  last <- length(tokens)
  refuse <- function() {
    if (at > last) json_refuse(found$end, "its end") else json_refuse(found$starts[at], tokens[at])
  }
  value <- function() {
    if (at > last) refuse()
    if (is_scalar_token[at]) {
      at <<- at + 1L
      return(json_scalar_at(scalars, at - 1L))
    }
    kind <- first[at]
    if (kind == "{") return(object())
    if (kind != "[") refuse()
    flat <- vector_or_table()
    if (is.null(flat)) array() else flat
  }
  # An array of scalars, or of objects that have the same keys in the same order and scalars only, without a step for each
  # token; NULL for any other array.
  vector_or_table <- function() {
    end <- partners[at]
    count <- end - at
    if (count < 2L) return(NULL)
    if (is_scalar_token[at + 1L]) {
      if (count %% 2L != 0L) return(NULL)
      places <- seq.int(at + 1L, end - 1L, by = 2L)
      commas <- places[-1L] - 1L
      if (!all(is_scalar_token[places]) || !all(first[commas] == ",")) return(NULL)
      at <<- end + 1L
      return(structure(json_vector_at(scalars, places), class = "json_array"))
    }
    period <- if (first[at + 1L] == "{") partners[at + 1L] - at + 1L else 0L
    if (period < 6L || period %% 4L != 2L || count %% period != 0L) return(NULL)
    shape <- matrix(first[seq.int(at + 1L, end)], nrow = period)
    shape[period, count %/% period] <- ","
    fields <- seq.int(2L, period - 4L, by = 4L)
    keys <- scalars$texts[at + fields]
    rows <- seq.int(at, by = period, length.out = count %/% period)
    is_same <- all(shape[1L, ] == "{") && all(shape[period, ] == ",") && all(shape[period - 1L, ] == "}") &&
      all(shape[fields, ] == "\"") && all(shape[fields + 1L, ] == ":") &&
      all(shape[fields[-1L] - 1L, ] == ",") && !anyDuplicated(keys)
    if (!is_same) return(NULL)
    for (i in seq_along(fields)) {
      if (!all(scalars$texts[rows + fields[i]] == keys[i]) || !all(is_scalar_token[rows + fields[i] + 2L])) return(NULL)
    }
    columns <- lapply(fields, function(field) json_vector_at(scalars, rows + field + 2L))
    names(columns) <- keys
    at <<- end + 1L
    structure(columns, class = "data.frame", row.names = seq_along(rows))
  }
  object <- function() {
    at <<- at + 1L
    keys <- character()
    all <- list()
    while (at <= last) {
      if (length(keys) == 0L && first[at] == "}") break
      if (first[at] != "\"" || at == last || first[at + 1L] != ":") refuse()
      keys[length(keys) + 1L] <- scalars$texts[at]
      at <<- at + 2L
      got <- value()
      all[length(keys)] <- list(got)
      if (at > last || first[at] == "}") break
      if (first[at] != ",") refuse()
      at <<- at + 1L
      if (at <= last && first[at] == "}") refuse()
    }
    if (at > last) refuse()
    at <<- at + 1L
    names(all) <- keys
    all
  }
  array <- function() {
    at <<- at + 1L
    all <- list()
    n <- 0L
    while (at <= last) {
      if (n == 0L && first[at] == "]") break
      got <- value()
      n <- n + 1L
      all[n] <- list(got)
      if (at > last || first[at] == "]") break
      if (first[at] != ",") refuse()
      at <<- at + 1L
    }
    if (at > last) refuse()
    at <<- at + 1L
    all
  }
  whole <- value()
  if (at <= last) refuse()
  simplified(whole, TRUE)
}

# A vector of the class json_array is an array that has no other arrays in it: not a scalar, also with one element.
is_scalar <- function(x) is.null(x) || (is.atomic(x) && length(x) == 1L && !inherits(x, "json_array"))
is_record <- function(x) is.list(x) && !is.null(names(x)) && !is.data.frame(x)

# Simplifies arrays as jsonlite does: scalars to a vector, records to a data frame, vectors of one length to a matrix.
simplified <- function(x, matrices) {
  if (inherits(x, "json_array")) return(unclass(x))
  if (!is.list(x) || is.data.frame(x)) return(x)
  if (!is.null(names(x))) {
    for (i in seq_along(x)) x[i] <- list(simplified(x[[i]], TRUE))
    return(x)
  }
  if (length(x) == 0L) return(x)
  if (all(vapply(x, is_scalar, NA))) {
    x[vapply(x, is.null, NA)] <- NA
    return(unlist(x))
  }
  records <- vapply(x, is_record, NA)
  if (any(records) && all(records | vapply(x, is.null, NA))) return(as_table(x))
  x <- lapply(x, simplified, matrices = TRUE)
  widths <- lengths(x)
  flat <- vapply(x, function(row) is.atomic(row) && is.null(dim(row)) && length(row) > 0L, NA)
  if (matrices && all(flat) && length(unique(widths)) == 1L) return(do.call(rbind, x))
  if (matrices && all(vapply(x, is.array, NA)) && length(unique(lapply(x, dim))) == 1L) {
    return(array(do.call(rbind, lapply(x, as.vector)), c(length(x), dim(x[[1L]]))))
  }
  # An empty element gets the type of the others, as in [[], [1]].
  empty <- vapply(x, identical, NA, list())
  if (any(empty) && !all(empty)) {
    if (all(vapply(x[!empty], is.data.frame, NA))) x[empty] <- list(data.frame())
    else if (all(flat[!empty])) x[empty] <- list(vector(typeof(x[!empty][[1L]])))
  }
  x
}

as_table <- function(records) {
  names <- unique(unlist(lapply(records, names)))
  columns <- lapply(names, function(name) simplified(lapply(records, function(row) row[[name]]), FALSE))
  names(columns) <- names
  structure(columns, class = "data.frame", row.names = seq_along(records))
}

# ---- R into JSON ----

json_text <- function(x) {
  if (length(x) == 0L) return(character())
  x <- enc2utf8(as.character(x))
  missing <- is.na(x)
  if (!all(validUTF8(x[!missing]))) {
    stop("the result contains a text that is not UTF-8: name its encoding where it is read", call. = FALSE)
  }
  if (any(grepl("[\"\\\\[:cntrl:]]", x))) {
    x <- gsub("\\", "\\\\", x, fixed = TRUE)
    x <- gsub("\"", "\\\"", x, fixed = TRUE)
    for (code in c(1:31)) {
      char <- rawToChar(as.raw(code))
      as <- switch(char, "\n" = "\\n", "\t" = "\\t", "\r" = "\\r", "\b" = "\\b", "\f" = "\\f",
                   sprintf("\\u%04x", code))
      x <- gsub(char, as, x, fixed = TRUE)
    }
  }
  x <- paste0("\"", x, "\"")
  x[missing] <- "null"
  x
}

# As few digits as are needed to read the same number back.
json_double <- function(x) {
  digits <- sprintf("%.15g", x)
  finite <- is.finite(x)
  digits[!finite] <- "0"
  for (more in c("%.16g", "%.17g")) {
    differ <- which(finite)[json_nearest(digits[finite]) != x[finite]]
    if (length(differ) == 0L) break
    digits[differ] <- sprintf(more, x[differ])
  }
  digits[!finite] <- "null"
  digits
}

json_time <- function(x) {
  x <- as.POSIXct(x)
  seconds <- unclass(x)
  whole <- floor(seconds + 5e-7)
  micros <- round((seconds - whole) * 1e6)
  micros[is.na(micros) | micros < 0] <- 0
  at <- format(.POSIXct(whole, "UTC"), "%Y-%m-%dT%H:%M:%S")
  json_text(ifelse(is.na(at), NA, paste0(at, sub("\\.?0+$", "", sprintf(".%06d", as.integer(micros))), "Z")))
}

# One JSON text for each element.
json_atoms <- function(x, path) {
  if (inherits(x, "POSIXt")) return(json_time(x))
  if (inherits(x, c("Date", "factor"))) return(json_text(as.character(x)))
  if (inherits(x, "integer64")) {
    loadNamespace("bit64")
    return(ifelse(is.na(x), "null", as.character(x)))
  }
  switch(typeof(x),
    logical = ifelse(is.na(x), "null", ifelse(x, "true", "false")),
    integer = ifelse(is.na(x), "null", sprintf("%d", x)),
    double = json_double(as.double(x)),
    character = json_text(x),
    stop(sprintf("the result's %s is of type %s, which JSON can't represent", path, typeof(x)), call. = FALSE))
}

json_rows <- function(x, path) {
  rows <- nrow(x)
  if (rows == 0L) return(character())
  fields <- lapply(seq_along(x), function(i) {
    column <- x[[i]]
    name <- names(x)[i]
    at <- paste0(path, "$", name)
    values <- if (is.data.frame(column)) json_rows(column, at)
      else if (is.list(column) && !inherits(column, "POSIXlt")) vapply(column, to_json, "", path = at)
      else if (is.matrix(column)) vapply(seq_len(rows), function(row) json_vector(column[row, ], at), "")
      else json_atoms(column, at)
    paste0(json_text(name), ":", values)
  })
  if (length(fields) == 0L) return(rep("{}", rows))
  paste0("{", do.call(paste, c(fields, sep = ",")), "}")
}

json_vector <- function(x, path) paste0("[", paste(json_atoms(x, path), collapse = ","), "]")

to_json <- function(x, path = "value") {
  if (is.null(x)) return("null")
  if (inherits(x, "json")) return(enc2utf8(paste(unclass(x), collapse = "\n")))
  if (is.data.frame(x)) return(paste0("[", paste(json_rows(x, path), collapse = ","), "]"))
  if (is.list(x) && !inherits(x, "POSIXlt")) {
    names <- names(x)
    at <- if (is.null(names)) paste0(path, "[[", seq_along(x), "]]") else paste0(path, "$", names)
    all <- character(length(x))
    for (i in seq_along(x)) all[i] <- to_json(x[[i]], at[i])
    if (is.null(names)) return(paste0("[", paste(all, collapse = ","), "]"))
    if (length(x) == 0L) return("{}")
    unnamed <- which(!nzchar(names))
    names[unnamed] <- as.character(unnamed)
    return(paste0("{", paste(json_text(names), all, sep = ":", collapse = ","), "}"))
  }
  if (!is.atomic(x) && !inherits(x, "POSIXlt")) {
    stop(sprintf("the result's %s is a %s, which JSON can't represent", path, class(x)[1L]), call. = FALSE)
  }
  if (is.matrix(x)) {
    rows <- vapply(seq_len(nrow(x)), function(row) json_vector(x[row, ], path), "")
    return(paste0("[", paste(rows, collapse = ","), "]"))
  }
  if (length(x) == 1L && !inherits(x, "AsIs")) json_atoms(x, path) else json_vector(x, path)
}
