--| severity = "block"
--| tolerance = 1.02
--| text = "a step has less than nothing, or more energy than the plant can give"
SELECT d.prm, d.starts_at, d.energy_wh / 1000 AS kwh, c.pmax_kw, d.file_name, d.file_row
FROM billing.declared_now AS d
JOIN (SELECT prm, max(pmax_kw) AS pmax_kw FROM billing.contracts_now GROUP BY prm) AS c ON c.prm = d.prm
WHERE d.month = '{period}'
  AND (d.energy_wh < 0 OR d.aux_wh < 0 OR d.energy_wh > {tolerance} * c.pmax_kw * d.step_s / 3.6)
ORDER BY d.prm, d.starts_at
