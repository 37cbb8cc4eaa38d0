--| severity = "warn"
--| tolerance = 0.02
--| rows_max = 96
--| text = "a step's declared energy is not what was metered, by more than a kWh"
SELECT d.prm, d.starts_at, d.energy_wh, m.wh AS metered_wh, d.file_name, d.file_row
FROM billing.declared_now AS d
JOIN (SELECT e.prm, s.step_s, to_timestamp(CAST(extract(epoch FROM e.starts_at) AS bigint)
               - CAST(extract(epoch FROM e.starts_at) AS bigint) % s.step_s) AS starts_at, sum(e.energy_wh) AS wh
      FROM billing.energies_now AS e
      JOIN (SELECT DISTINCT prm, step_s FROM billing.declared_now WHERE month = '{period}') AS s ON s.prm = e.prm
      WHERE e.starts_at >= '{from}' AND e.starts_at < '{to}'
      GROUP BY 1, 2, 3) AS m
  ON m.prm = d.prm AND m.starts_at = d.starts_at AND m.step_s = d.step_s
WHERE d.month = '{period}' AND abs(d.energy_wh - m.wh) > {tolerance} * m.wh AND abs(d.energy_wh - m.wh) > 1000
ORDER BY d.prm, d.starts_at
