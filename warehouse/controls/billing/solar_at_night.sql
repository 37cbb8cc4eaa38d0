--| severity = "warn"
--| text = "a solar site declares energy while it is night all over the country"
SELECT d.prm, d.starts_at, d.energy_wh / 1000 AS kwh, d.file_name, d.file_row
FROM billing.declared_now AS d
WHERE d.month = '{period}' AND d.energy_wh > 0
  AND d.prm IN (SELECT prm FROM billing.contracts_now WHERE technology = 'solar')
  AND extract(hour FROM d.starts_at AT TIME ZONE 'Europe/Paris') IN (23, 0, 1, 2, 3)
ORDER BY d.prm, d.starts_at
