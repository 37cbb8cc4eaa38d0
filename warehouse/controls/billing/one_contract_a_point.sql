--| severity = "block"
--| holds = "producer"
--| text = "two contracts hold for one metering point on the same days: its energy would be billed twice"
SELECT a.producer_id, a.prm, a.contract_id, b.contract_id AS another, max(a.valid_from) AS a_from, max(b.valid_from) AS b_from
FROM billing.contract_days AS a
JOIN billing.contract_days AS b
  ON b.prm = a.prm AND b.month = a.month AND b.contract_id <> a.contract_id
  AND a.first_day < b.day_after AND b.first_day < a.day_after
WHERE a.month = '{period}' AND a.kind <> 'DEMAND_RESPONSE' AND b.kind <> 'DEMAND_RESPONSE'
GROUP BY a.producer_id, a.prm, a.contract_id, b.contract_id
ORDER BY a.prm, a.contract_id
