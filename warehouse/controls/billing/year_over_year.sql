--| severity = "warn"
--| tolerance = 3
--| text = "a contract's energy is far from the same month of the years before (z), of which there are three and more"
SELECT n.contract_id, n.wh / 1000 AS kwh, round(h.mean / 1000, 0) AS mean_kwh, round((n.wh - h.mean) / h.spread, 1) AS z
FROM (SELECT contract_id, sum(energy_wh) AS wh FROM billing.days WHERE period = '{period}' GROUP BY contract_id) AS n
JOIN (SELECT contract_id, avg(wh) AS mean, stddev(wh) AS spread
      FROM (SELECT contract_id, period, CAST(sum(energy_wh) AS double) AS wh FROM billing.days
            WHERE period < '{period}' AND substr(period, 6) = substr('{period}', 6) GROUP BY contract_id, period) AS m
      GROUP BY contract_id HAVING count(*) >= 3 AND stddev(wh) > 0) AS h ON h.contract_id = n.contract_id
WHERE abs(n.wh - h.mean) > {tolerance} * h.spread
ORDER BY n.contract_id
