--| severity = "block"
--| holds = "producer"
--| text = "between two versions of a contract are days of the month on which none holds: their energy is paid to nobody"
--| hint = "correct valid_to of the one or valid_from of the other, or waive it where the plant stood still"
SELECT b.producer_id, b.contract_id, b.prm, b.valid_to AS from_day, min(n.valid_from) AS to_day
FROM billing.contracts_now AS b
JOIN billing.contracts_now AS n ON n.contract_id = b.contract_id AND n.prm = b.prm AND n.valid_from > b.valid_to
WHERE b.valid_to > b.valid_from AND (n.valid_to IS NULL OR n.valid_to > n.valid_from)
  AND NOT EXISTS (SELECT 1 FROM billing.contracts_now AS o
                  WHERE o.contract_id = b.contract_id AND o.prm = b.prm AND o.valid_from <= b.valid_to
                    AND (o.valid_to IS NULL OR o.valid_to > b.valid_to))
  AND b.valid_to < CAST(timestamptz '{to}' AT TIME ZONE 'Europe/Paris' AS date)
GROUP BY b.producer_id, b.contract_id, b.prm, b.valid_to
HAVING min(n.valid_from) > CAST(timestamptz '{from}' AT TIME ZONE 'Europe/Paris' AS date)
ORDER BY b.contract_id, b.prm, b.valid_to
