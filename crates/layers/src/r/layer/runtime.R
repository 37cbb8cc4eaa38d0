# R/etc/runtime.R, compiled when the layer was packed: to parse and compile it at each cold start would take 150 ms.
eval(readRDS("/opt/R/etc/runtime.rds"))
