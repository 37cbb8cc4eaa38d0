-- One week of one series, every 10 minutes, gaps shown.
SELECT g.at AS at, m.power_kw AS power_kw
FROM (SELECT value AS at FROM generate_series(TIMESTAMP '2025-03-24 00:00:00', TIMESTAMP '2025-03-30 23:50:00', INTERVAL '10 minutes') AS steps(value)) AS g
LEFT JOIN (SELECT ts AT TIME ZONE 'UTC' AS at, power_kw FROM bench.measurements
           WHERE series_id = 17 AND ts >= '2025-03-24 00:00:00+00' AND ts < '2025-03-31 00:00:00+00') AS m ON m.at = g.at
ORDER BY 1
