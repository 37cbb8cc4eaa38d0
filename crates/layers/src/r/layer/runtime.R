# R/etc/runtime.R, compiled when the layer was packed: parsed and compiled anew at each cold start
# it would take 150 ms.
eval(readRDS("/opt/R/etc/runtime.rds"))
