arguments <- commandArgs(TRUE)
source <- parse(arguments[1L], keep.source = FALSE, encoding = "UTF-8")[[1L]]
compiled <- compiler::compile(source, options = list(optimize = 3L, suppressAll = TRUE))
# Version 2 of the format does not contain the encoding of the machine that wrote it.
saveRDS(compiled, arguments[2L], version = 2L, compress = FALSE)
