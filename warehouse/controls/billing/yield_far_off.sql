--| severity = "warn"
--| tolerance = 20
--| text = "a contract's energy is far below what such a plant gives, or far from its own months before: kWh and MWh mistaken?"
--| hint = "less than 1 % of the plant's power over the month, or this many times more or less than the median of its months"
SELECT n.producer_id, n.contract_id, n.prm, n.wh / 1000 AS kwh, round(100.0 * n.wh / c.full_wh, 3) AS share_of_power_pct,
       h.wh / 1000 AS median_kwh
FROM (SELECT producer_id, contract_id, prm, sum(energy_wh) AS wh FROM billing.days WHERE period = '{period}'
      GROUP BY producer_id, contract_id, prm HAVING sum(energy_wh) > 0) AS n
JOIN (SELECT contract_id, prm,
             sum(pmax_kw * (extract(epoch FROM ends_at) - extract(epoch FROM starts_at)) / 3.6) AS full_wh
      FROM billing.contract_days WHERE month = '{period}' GROUP BY contract_id, prm) AS c
  ON c.contract_id = n.contract_id AND c.prm = n.prm
LEFT JOIN (SELECT contract_id, prm, median(wh) AS wh
           FROM (SELECT contract_id, prm, period, CAST(sum(energy_wh) AS double) AS wh FROM billing.days
                 WHERE period < '{period}' GROUP BY contract_id, prm, period) AS m
           GROUP BY contract_id, prm) AS h ON h.contract_id = n.contract_id AND h.prm = n.prm
WHERE n.wh < 0.01 * c.full_wh OR (h.wh > 0 AND (n.wh > {tolerance} * h.wh OR n.wh < h.wh / {tolerance}))
ORDER BY n.contract_id, n.prm
