--| severity = "block"
--| tolerance = 1.02
--| text = "a step has more energy than the units can give"
SELECT d.prm, d.starts_at, d.energy_wh / 1000 AS kwh, u.pmax_kw, d.file_name, d.file_row
FROM billing.declared d
JOIN platform.metering_points m ON m.prm = d.prm
JOIN (SELECT site_id, sum(pmax_kw) AS pmax_kw FROM platform.units GROUP BY site_id) u ON u.site_id = m.site_id
JOIN (SELECT file_name, max(file_version) AS file_version FROM billing.declared GROUP BY file_name) newest
  ON newest.file_name = d.file_name AND newest.file_version = d.file_version
WHERE d.starts_at >= '{from}' AND d.starts_at < '{to}'
  AND d.energy_wh > {tolerance} * 1000 * u.pmax_kw * d.step_s / 3600
ORDER BY d.prm, d.starts_at
