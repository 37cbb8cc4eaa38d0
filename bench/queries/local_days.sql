-- Paris days of every series: 23, 24 or 25 hours each.
SELECT count(*) AS days, min(energy_kwh) AS least, max(energy_kwh) AS most, sum(points) AS points
FROM (SELECT series_id, time_bucket('1 day', ts, 'Europe/Paris') AS day, sum(energy_kwh) AS energy_kwh, count(*) AS points
      FROM bench.measurements GROUP BY 1, 2) AS days
-- duckdb
SET TimeZone = 'Europe/Paris';
SELECT count(*) AS days, min(energy_kwh) AS least, max(energy_kwh) AS most, sum(points) AS points
FROM (SELECT series_id, date_trunc('day', ts) AS day, sum(energy_kwh) AS energy_kwh, count(*) AS points
      FROM bench.measurements GROUP BY 1, 2) AS days
