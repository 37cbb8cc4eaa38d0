-- A dashboard's panel: one month of one technology by day.
SELECT date_trunc('day', m.ts) AS day, sum(m.energy_kwh) AS energy_kwh
FROM bench.measurements m JOIN bench.units u ON u.series_id = m.series_id
WHERE u.technology = 'wind' AND m.ts >= '2025-10-01 00:00:00+00' AND m.ts < '2025-11-01 00:00:00+00'
GROUP BY 1 ORDER BY 1
