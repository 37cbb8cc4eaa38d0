# R's DBI with RPostgreSQL: lists, types, parameters, fetching in parts.
suppressMessages(library(RPostgreSQL))
url <- Sys.getenv("WATTLAKE_CLIENT_URL")
parts <- regmatches(url, regexec("^postgresql://([^:]+):([^@]+)@([^:]+):([0-9]+)/(.+)$", url))[[1]]
connect <- function() {
  dbConnect(PostgreSQL(), user = parts[2], password = parts[3], host = parts[4], port = as.integer(parts[5]), dbname = parts[6])
}
connection <- connect()
stopifnot(c("sites", "readings") %in% dbListTables(connection))
stopifnot(dbExistsTable(connection, c("platform", "sites")), !dbExistsTable(connection, c("platform", "nothing")))
stopifnot(identical(
  dbListFields(connection, c("platform", "sites")),
  c("id", "name", "kind", "power_kw", "opened_on", "active", "updated_at")
))

sites <- dbGetQuery(connection, "select * from platform.sites order by id")
stopifnot(identical(dim(sites), c(3L, 7L)), identical(sites$id, 1:3), sites$power_kw[1] == 12000.5, is.na(sites$power_kw[3]))
stopifnot(identical(sites$name[1], "Éoliennes du Nord"), inherits(sites$opened_on, "Date"), is.logical(sites$active))
stopifnot(identical(format(sites$opened_on), c("2019-03-31", "2022-10-30", NA)))

asked <- "select at, power_kw, energy_kwh, step_s from platform.readings where site_id = $1 and note = $2"
row <- dbGetQuery(connection, asked, c(2, "note 7"))
stopifnot(nrow(row) == 1, row$power_kw == 203.5, row$energy_kwh == 40.333334, row$step_s == 600, inherits(row$at, "POSIXct"))
stopifnot(format(row$at, tz = "UTC", "%Y-%m-%d %H:%M:%S") == "2026-03-28 23:10:00")

days <- dbGetQuery(connection, "select date_trunc('day', at) as day, avg(power_kw) as power_kw from platform.readings where site_id = 1 group by 1 order by 1")
stopifnot(nrow(days) == 8, days$power_kw[1] == 102.75)

result <- dbSendQuery(connection, "select * from platform.readings")
parts_read <- c()
while (!dbHasCompleted(result)) parts_read <- c(parts_read, nrow(fetch(result, n = 700)))
invisible(dbClearResult(result))
stopifnot(sum(parts_read) == 3000, parts_read[1] == 700)
stopifnot(nrow(dbReadTable(connection, c("platform", "sites"))) == 3)

failed <- tryCatch(suppressWarnings(dbGetQuery(connection, "select nothing from platform.sites")), error = function(e) NULL)
stopifnot(is.null(failed), dbGetQuery(connection, "select 1 as one")$one == 1)
invisible(dbDisconnect(connection))
cat("RPostgreSQL", as.character(packageVersion("RPostgreSQL")), "\n")
