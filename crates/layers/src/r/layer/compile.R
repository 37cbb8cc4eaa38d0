arguments <- commandArgs(TRUE)
source <- parse(arguments[1L], keep.source = FALSE, encoding = "UTF-8")[[1L]]
compiled <- compiler::compile(source, options = list(optimize = 3L, suppressAll = TRUE))
# The older form says nothing of the machine that wrote it.
saveRDS(compiled, arguments[2L], version = 2L, compress = FALSE)
