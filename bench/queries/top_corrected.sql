-- The largest of the corrected values.
SELECT series_id, ts, energy_kwh, revision FROM bench.measurements
WHERE quality = 'corrected' AND revision = 2 ORDER BY energy_kwh DESC, series_id, ts LIMIT 20
