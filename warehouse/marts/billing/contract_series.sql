--| description = "Which series of prices a version of a contract needs, in each of its months"

SELECT d.producer_id, d.contract_id, d.prm, d.valid_from, d.month, d.kind, d.technology, s.series
FROM billing.contract_days AS d
JOIN (VALUES ('DAY_AHEAD_FR'), ('IMBALANCE_FR'), ('M0_WIND'), ('M0_SOLAR'), ('M0_HYDRO'), ('PREFCAPA')) AS s (series)
  ON (s.series = 'DAY_AHEAD_FR' AND d.kind IN ('SPOT_PASSTHROUGH', 'CR'))
  OR (s.series = 'IMBALANCE_FR' AND d.imbalance_share > 0 AND d.kind IN ('SPOT_PASSTHROUGH', 'M0_MINUS_FEE', 'FIXED_PPA'))
  OR (s.series = 'M0_' || upper(d.technology) AND d.kind IN ('M0_MINUS_FEE', 'CR'))
  OR (s.series = 'PREFCAPA' AND d.kind = 'CR' AND d.nbcapa_mw > 0)
