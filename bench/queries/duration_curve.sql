-- The power that the portfolio exceeds for each per cent of the year.
SELECT percent, min(energy_kwh) AS energy_kwh
FROM (SELECT ntile(100) OVER (ORDER BY energy_kwh DESC) AS percent, energy_kwh
      FROM (SELECT ts, sum(energy_kwh) AS energy_kwh FROM bench.measurements GROUP BY ts) AS steps) AS ranked
GROUP BY percent ORDER BY percent
