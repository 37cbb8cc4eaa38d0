--| severity = "warn"
--| tolerance = 12
--| text = "a series stands on one value for hours, and it is neither nothing nor all that the plant can give"
SELECT prm, min(starts_at) AS since, count(*) * max(step_s) / 3600.0 AS hours, max(energy_wh) AS wh
FROM (SELECT d.prm, d.starts_at, d.step_s, d.energy_wh,
             row_number() OVER (PARTITION BY d.prm ORDER BY d.starts_at)
             - row_number() OVER (PARTITION BY d.prm, d.energy_wh ORDER BY d.starts_at) AS stretch
      FROM billing.declared_now AS d
      JOIN (SELECT prm, max(pmax_kw) AS pmax_kw FROM billing.contracts_now GROUP BY prm) AS c ON c.prm = d.prm
      WHERE d.month = '{period}' AND d.energy_wh > 0 AND d.energy_wh < 0.99 * c.pmax_kw * d.step_s / 3.6
        AND d.event_code IS NULL) AS s
GROUP BY prm, energy_wh, stretch
HAVING count(*) * max(step_s) / 3600.0 >= {tolerance}
ORDER BY prm, since
