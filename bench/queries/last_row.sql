-- The last row of every series, with all its columns, the way most people write it.
SELECT series_id, ts, power_kw, energy_kwh, quality, revision, received_at
FROM (SELECT *, row_number() OVER (PARTITION BY series_id ORDER BY ts DESC) AS rank FROM bench.measurements) AS ranked
WHERE rank = 1 ORDER BY series_id
