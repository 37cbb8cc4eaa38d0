-- The same by DISTINCT ON, PostgreSQL's way.
SELECT DISTINCT ON (series_id) series_id, ts, power_kw, energy_kwh, quality, revision, received_at
FROM bench.measurements ORDER BY series_id, ts DESC
