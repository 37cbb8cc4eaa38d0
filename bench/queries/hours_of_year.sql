-- Production of the portfolio, hour by hour, for a year.
SELECT date_trunc('hour', ts) AS hour, sum(energy_kwh) AS energy_kwh
FROM bench.measurements GROUP BY 1 ORDER BY 1
