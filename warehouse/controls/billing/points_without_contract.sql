--| severity = "warn"
--| text = "a metering point injects on days on which no contract holds for it: nobody is paid"
--| hint = "a contract ended, has not begun, or is missing"
SELECT m.prm, count(*) AS steps, sum(m.energy_wh) / 1000 AS kwh, min(m.starts_at) AS first
FROM billing.energies_now AS m
LEFT JOIN billing.contract_days AS c
  ON c.prm = m.prm AND c.month = '{period}' AND m.starts_at >= c.starts_at AND m.starts_at < c.ends_at
WHERE m.starts_at >= '{from}' AND m.starts_at < '{to}' AND m.energy_wh > 0 AND c.contract_id IS NULL
GROUP BY m.prm
ORDER BY m.prm
