-- The whole table in one row.
SELECT count(*) AS points, min(ts) AS first, max(ts) AS last, avg(power_kw) AS power_kw, max(power_kw) AS most_kw,
       sum(energy_kwh) AS energy_kwh
FROM bench.measurements
