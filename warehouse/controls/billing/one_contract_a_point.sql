--| severity = "block"
--| text = "two contracts hold for one metering point on the same days: its energy would be billed twice"
SELECT a.prm, a.contract_id, b.contract_id AS another, max(a.valid_from) AS a_from, max(b.valid_from) AS b_from
FROM billing.contracts_now AS a
JOIN billing.contracts_now AS b
  ON b.prm = a.prm AND b.contract_id > a.contract_id
  AND (a.valid_to IS NULL OR b.valid_from < a.valid_to) AND (b.valid_to IS NULL OR a.valid_from < b.valid_to)
WHERE a.kind <> 'DEMAND_RESPONSE' AND b.kind <> 'DEMAND_RESPONSE'
  AND a.valid_from < CAST(timestamptz '{to}' AT TIME ZONE 'Europe/Paris' AS date)
  AND b.valid_from < CAST(timestamptz '{to}' AT TIME ZONE 'Europe/Paris' AS date)
  AND (a.valid_to IS NULL OR a.valid_to > CAST(timestamptz '{from}' AT TIME ZONE 'Europe/Paris' AS date))
  AND (b.valid_to IS NULL OR b.valid_to > CAST(timestamptz '{from}' AT TIME ZONE 'Europe/Paris' AS date))
GROUP BY a.prm, a.contract_id, b.contract_id
ORDER BY a.prm, a.contract_id
