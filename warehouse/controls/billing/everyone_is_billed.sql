--| severity = "block"
--| text = "a contract held in the month, and has no line in force"
--| mend = "the answer of billing-extract says why, under \"incomplete\""
SELECT DISTINCT c.contract_id, c.producer_id, c.prm
FROM billing.contracts_now AS c
WHERE c.kind <> 'DEMAND_RESPONSE'
  AND c.valid_from < CAST(timestamptz '{to}' AT TIME ZONE 'Europe/Paris' AS date)
  AND (c.valid_to IS NULL OR c.valid_to > CAST(timestamptz '{from}' AT TIME ZONE 'Europe/Paris' AS date))
  AND NOT EXISTS (SELECT 1 FROM billing.bills AS b WHERE b.period = '{period}' AND b.contract_id = c.contract_id)
ORDER BY c.contract_id
