--| severity = "block"
--| holds = "producer"
--| text = "a file declares energy at steps at which its contract does not hold for the metering point, or has no perimeter"
SELECT d.producer_id, d.contract_id, d.prm, count(*) AS steps, min(d.starts_at) AS first, d.file_name
FROM billing.declared_by_producer AS d
LEFT JOIN billing.contracts_now AS c
  ON c.prm = d.prm AND c.contract_id = d.contract_id
  AND CAST(d.starts_at AT TIME ZONE 'Europe/Paris' AS date) >= c.valid_from
  AND (c.valid_to IS NULL OR CAST(d.starts_at AT TIME ZONE 'Europe/Paris' AS date) < c.valid_to)
WHERE d.month = '{period}' AND (d.energy_wh > 0 OR d.aux_wh > 0) AND (c.contract_id IS NULL OR c.perimeter IS NULL)
GROUP BY d.producer_id, d.contract_id, d.prm, d.file_name
ORDER BY d.prm
