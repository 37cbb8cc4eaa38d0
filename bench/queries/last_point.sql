-- The last point of every series.
SELECT series_id, max(ts) AS at, last(energy_kwh, ts) AS energy_kwh
FROM bench.measurements GROUP BY series_id ORDER BY series_id
-- duckdb
SELECT series_id, max(ts) AS at, arg_max(energy_kwh, ts) AS energy_kwh
FROM bench.measurements GROUP BY series_id ORDER BY series_id
