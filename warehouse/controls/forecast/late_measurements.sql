--| severity = "warn"
--| text = "A station has sent no flow for three days."
--| hint = "wattlake run collect:flows asks again; collect.answers and collect.faults have what was quarantined"
SELECT station, max(starts_at) AS newest FROM forecast.flows
GROUP BY station HAVING max(starts_at) < TIMESTAMPTZ '{as_of}' - INTERVAL '4 days'
