-- Mean error of the forecasts that were known two hours before, against what was measured.
SELECT f.series_id AS series_id, count(*) AS points, avg(abs(f.power_kw - m.power_kw)) AS error_kw
FROM (SELECT DISTINCT ON (series_id, valid_at) series_id, valid_at, power_kw FROM bench.forecasts
      WHERE known_at <= valid_at - INTERVAL '2 hours' ORDER BY series_id, valid_at, known_at DESC) AS f
JOIN bench.measurements m ON m.series_id = f.series_id AND m.ts = f.valid_at
GROUP BY 1 ORDER BY 1
