-- A dashboard's panel: three series, one week.
SELECT series_id, time_bucket(INTERVAL '1 hour', ts) AS hour, avg(power_kw) AS power_kw
FROM bench.measurements
WHERE series_id IN (3, 5, 8) AND ts >= '2025-06-02 00:00:00+00' AND ts < '2025-06-09 00:00:00+00'
GROUP BY 1, 2 ORDER BY 1, 2
