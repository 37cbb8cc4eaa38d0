# The event back, by whichever runtime runs it; on request it ends, so that the next start is cold.
run <- function(event) {
  if (identical(event$do, "exit")) quit("no", 3)
  event
}
