--| severity = "block"
--| text = "a metering point has no contract, or no balance perimeter, at some of its declared steps"
SELECT d.prm, count(*) AS steps, min(d.starts_at) AS first
FROM billing.declared_now AS d
LEFT JOIN billing.contracts_now AS c
  ON c.prm = d.prm AND CAST(d.starts_at AT TIME ZONE 'Europe/Paris' AS date) >= c.valid_from
  AND (c.valid_to IS NULL OR CAST(d.starts_at AT TIME ZONE 'Europe/Paris' AS date) < c.valid_to)
WHERE d.month = '{period}' AND (c.contract_id IS NULL OR c.perimeter IS NULL OR c.contract_id <> d.contract_id)
GROUP BY d.prm
ORDER BY d.prm
