--| severity = "warn"
--| text = "a solar site declares energy while it is night all over the country"
SELECT d.prm, d.starts_at, d.energy_wh / 1000 AS kwh, d.file_name, d.file_row
FROM billing.declared d
JOIN platform.metering_points m ON m.prm = d.prm
JOIN platform.sites s ON s.id = m.site_id
WHERE d.starts_at >= '{from}' AND d.starts_at < '{to}' AND s.technology = 'solar' AND d.energy_wh > 0
  AND extract(hour FROM d.starts_at AT TIME ZONE 'Europe/Paris') IN (23, 0, 1, 2, 3)
ORDER BY d.prm, d.starts_at
