# An R function behind AWS Lambda's Runtime API. The handler `bill.run` is the function `run` of
# /var/task/bill.R:
#   run <- function(event) ...            the whole event
#   run <- function(event, context) ...   and request_id, deadline_ms, function_arn, ...
#   run <- function(period, inputs) ...   the event's fields, by name
# The event is what jsonlite::fromJSON() would return. A vector of length 1 in the result becomes a JSON scalar, or an
# array with I(x), and NA becomes null. Without arguments this process polls for events until it is ended; with EVENT
# REQUEST_ID HANDLER it answers that one event. It uses base R only, so that it can't conflict with a function's
# packages.

local({
  options(warn = 1)  # print warnings at once: the top level, where they would be printed, is never reached

@JSON@
  # ---- the Runtime API, over one socket that stays open ----

  address <- strsplit(Sys.getenv("AWS_LAMBDA_RUNTIME_API"), ":", fixed = TRUE)[[1L]]
  host <- paste0("Host: ", paste(address, collapse = ":"), "\r\n")
  path <- "/2018-06-01/runtime/"
  connection <- NULL
  wait_max <- 2678400L  # 31 days, the longest timeout of a socket in R; the request is repeated then

  connect <- function() {
    port <- if (length(address) > 1L) as.integer(address[2L]) else 80L
    connection <<- socketConnection(address[1L], port, blocking = TRUE, open = "r+b", timeout = wait_max,
                                    options = "no-delay")
  }

  # Sends a request. It is repeated once over a new socket where the connection was closed, by the other end or by a
  # function that closes all connections.
  ask <- function(method, what, body = raw(), headers = "") {
    head <- paste0(method, " ", path, what, " HTTP/1.1\r\n", host, headers,
                   if (method == "POST") paste0("Content-Length: ", length(body), "\r\n"), "\r\n")
    message <- c(charToRaw(head), body)
    for (again in c(TRUE, FALSE)) {
      answer <- tryCatch({
        if (is.null(connection)) connect()
        writeBin(message, connection)
        answered()
      }, error = function(e) {
        if (!is.null(connection)) try(close(connection), silent = TRUE)
        connection <<- NULL
        if (!again) stop(e)
      })
      if (!is.null(answer)) return(answer)
    }
  }

  answered <- function() {
    status <- readLines(connection, 1L, warn = FALSE)
    if (length(status) == 0L) stop("the Runtime API has closed its connection", call. = FALSE)
    lines <- character()
    while (nzchar(line <- readLines(connection, 1L, warn = FALSE))) lines[length(lines) + 1L] <- line
    colons <- regexpr(":", lines, fixed = TRUE)
    values <- sub("[ \t]+$", "", sub("^[ \t]+", "", substring(lines, colons + 1L)))
    names(values) <- tolower(substring(lines, 1L, colons - 1L))
    body <- if (identical(values["transfer-encoding"][[1L]], "chunked")) chunks()
      else exactly(as.integer(values["content-length"][[1L]]))
    list(status = as.integer(substr(status, 10L, 12L)), headers = values, body = body)
  }

  exactly <- function(count) {
    if (is.na(count) || count == 0L) return(raw())
    body <- readBin(connection, "raw", count)
    while (length(body) < count) {
      more <- readBin(connection, "raw", count - length(body))
      if (length(more) == 0L) stop("the Runtime API has closed its connection too early", call. = FALSE)
      body <- c(body, more)
    }
    body
  }

  chunks <- function() {
    all <- list()
    repeat {
      size <- strtoi(sub(";.*", "", readLines(connection, 1L, warn = FALSE)), 16L)
      if (length(size) != 1L || is.na(size)) stop("the Runtime API has sent a chunk without a size", call. = FALSE)
      all[[length(all) + 1L]] <- exactly(size)
      readLines(connection, 1L, warn = FALSE)
      if (size == 0L) return(do.call(c, all))
    }
  }

  post <- function(what, text, headers = "") {
    body <- if (is.raw(text)) text else charToRaw(text)
    answer <- ask("POST", what, body, headers)
    # 400: the event has been answered already, or its deadline has passed. 413: the caller gets the error.
    if (answer$status != 202L) message("runtime: ", what, ": ", answer$status, " ", rawToChar(answer$body))
    invisible(answer$status)
  }

  # ---- errors ----

  stack_max <- 50L

  # The function's own calls, the innermost last, with their files and lines.
  stack_of <- function(calls, below) {
    calls <- calls[seq_len(max(0L, length(calls) - 2L))]
    calls <- calls[-seq_len(min(below, length(calls)))]
    if (length(calls) > stack_max) calls <- calls[c(1:10, (length(calls) - stack_max + 11L):length(calls))]
    vapply(calls, function(call) {
      source <- attr(call, "srcref")
      text <- paste(deparse(call, nlines = 1L), collapse = "")
      if (is.null(source)) return(text)
      sprintf("%s:%d: %s", basename(attr(source, "srcfile")$filename), source[1L], text)
    }, "", USE.NAMES = FALSE)
  }

  # The value of `code`, or list(error, stack) of class "failed".
  guarded <- function(code) {
    stack <- character()
    below <- sys.nframe()
    tryCatch(
      # tryCatch adds four frames above the function's, and withCallingHandlers one.
      withCallingHandlers(code, error = function(e) stack <<- stack_of(sys.calls(), below + 5L)),
      error = function(e) structure(list(error = e, stack = stack), class = "failed"))
  }

  failure <- function(failed, type = class(failed$error)[1L]) {
    paste0("{\"errorMessage\":", json_text(conditionMessage(failed$error)), ",\"errorType\":", json_text(type),
           ",\"stackTrace\":", json_vector(failed$stack, "stackTrace"), "}")
  }

  # The error type in the Runtime API's form: Function.SimpleError.
  type_header <- function(type) {
    type <- if (grepl("^(Runtime|Function)\\.[A-Z][a-zA-Z]+$", type)) type else {
      words <- strsplit(type, "[^a-zA-Z]+")[[1L]]
      words <- words[nzchar(words)]
      words <- paste0(toupper(substr(words, 1L, 1L)), substring(words, 2L), collapse = "")
      paste0("Function.", if (nchar(words) > 1L) words else "Error")
    }
    paste0("Lambda-Runtime-Function-Error-Type: ", type, "\r\n")
  }

  say <- function(failed) {
    message("Error: ", conditionMessage(failed$error))
    if (length(failed$stack)) message(paste0("  at ", rev(failed$stack), collapse = "\n"))
  }

  # ---- the function ----

  load <- function(name) {
    parts <- regmatches(name, regexec("^(.+)\\.([^.]+)$", name))[[1L]]
    if (length(parts) == 0L) stop(sprintf("the handler '%s' is not of the form file.function", name), call. = FALSE)
    folders <- c(Sys.getenv("LAMBDA_TASK_ROOT", "/var/task"), "/opt")
    files <- file.path(rep(folders, each = 2L), paste0(parts[2L], c(".R", ".r")))
    file <- files[file.exists(files)][1L]
    if (is.na(file)) {
      stop(sprintf("the handler '%s' needs a file %s: none of %s exists", name, paste0(parts[2L], ".R"),
                   paste(files, collapse = ", ")), call. = FALSE)
    }
    # Like source(), which would take 40 ms more.
    for (expression in parse(file, keep.source = TRUE, encoding = "UTF-8")) eval(expression, globalenv())
    handler <- get0(parts[3L], globalenv(), mode = "function")
    if (is.null(handler)) stop(sprintf("%s defines no function '%s'", file, parts[3L]), call. = FALSE)
    handler
  }

  call_handler <- function(handler, event, context) {
    names <- names(formals(args(handler)))
    takes_context <- "context" %in% names
    if (length(names) == 0L) return(handler())
    if (is_record(event) && !"event" %in% names) {
      if (takes_context) event$context <- context
      unknown <- if ("..." %in% names) character() else setdiff(names(event), names)
      if (length(unknown)) {
        stop(sprintf("the event has a field '%s', which is no argument of the handler (%s)", unknown[1L],
                     paste(names, collapse = ", ")), call. = FALSE)
      }
      return(do.call(handler, event, quote = TRUE))
    }
    if (takes_context) handler(event, context = context) else handler(event)
  }

  context_of <- function(headers) {
    field <- function(name) unname(headers[name])
    client <- field("lambda-runtime-client-context")
    list(request_id = field("lambda-runtime-aws-request-id"),
         deadline_ms = as.numeric(field("lambda-runtime-deadline-ms")),
         function_arn = field("lambda-runtime-invoked-function-arn"),
         trace_id = field("lambda-runtime-trace-id"),
         client_context = if (is.na(client)) NULL else client)
  }

  answer <- function(handler, body, context) {
    result <- guarded({
      text <- if (is.raw(body)) rawToChar(body) else body
      Encoding(text) <- "UTF-8"
      if (!validUTF8(text)) stop("the event is not UTF-8", call. = FALSE)
      value <- call_handler(handler, if (nzchar(text)) from_json(text), context)
      if (is.raw(value)) value else to_json(value)
    })
    while (sink.number() > 0L) sink()
    what <- paste0("invocation/", context$request_id)
    if (inherits(result, "failed")) {
      say(result)
      post(paste0(what, "/error"), failure(result), type_header(class(result$error)[1L]))
    } else {
      post(paste0(what, "/response"), result, "Content-Type: application/json\r\n")
    }
  }

  loaded <- function(name) {
    handler <- guarded(load(name))
    if (!inherits(handler, "failed")) return(handler)
    say(handler)
    message <- conditionMessage(handler$error)
    type <- if (grepl("^the handler '.*' |defines no function", message)) "Runtime.NoSuchHandler" else "Runtime.InitError"
    list(failed = handler, type = type)
  }

  poll <- function() {
    handler <- loaded(Sys.getenv("_HANDLER"))
    if (!is.function(handler)) {
      post("init/error", failure(handler$failed, handler$type), type_header(handler$type))
      quit("no", 1L, FALSE)
    }
    repeat {
      event <- ask("GET", "invocation/next")
      if (event$status != 200L) {
        message("runtime: no next event: ", event$status, " ", rawToChar(event$body))
        quit("no", 1L, FALSE)
      }
      context <- context_of(event$headers)
      if (!is.na(context$trace_id)) Sys.setenv(`_X_AMZN_TRACE_ID` = context$trace_id)
      answer(handler, event$body, context)
    }
  }

  # EVENT may be @FILE, since the kernel refuses arguments of more than 128 KB.
  once <- function(event, request_id, name) {
    if (startsWith(event, "@")) {
      file <- substring(event, 2L)
      event <- readBin(file, "raw", file.size(file))
    }
    handler <- loaded(name)
    if (is.function(handler)) return(answer(handler, event, list(request_id = request_id)))
    post(paste0("invocation/", request_id, "/error"), failure(handler$failed, handler$type), type_header(handler$type))
  }

  arguments <- commandArgs(TRUE)
  if (length(arguments) == 3L) once(arguments[1L], arguments[2L], arguments[3L]) else poll()
})
