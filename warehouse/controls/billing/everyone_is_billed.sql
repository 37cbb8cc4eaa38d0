--| severity = "block"
--| holds = "producer"
--| text = "a contract holds on days of the month that are not billed"
--| hint = "run the function for the month; `wattlake function answer billing-extract --for MONTH` says why, under \"incomplete\""
SELECT c.producer_id, c.contract_id, c.prm, c.days, coalesce(b.days, 0) AS billed
FROM (SELECT producer_id, contract_id, prm, sum(day_after - first_day) AS days
      FROM billing.contract_days WHERE month = '{period}' AND kind <> 'DEMAND_RESPONSE'
      GROUP BY producer_id, contract_id, prm) AS c
LEFT JOIN (SELECT producer_id, contract_id, prm, count(*) AS days
           FROM (SELECT producer_id, contract_id, prm, day FROM billing.days WHERE period = '{period}'
                 GROUP BY producer_id, contract_id, prm, day
                 HAVING sum(CASE WHEN reverses IS NULL THEN 1 ELSE -1 END) > 0) AS d
           GROUP BY producer_id, contract_id, prm) AS b
  ON b.contract_id = c.contract_id AND b.prm = c.prm AND b.producer_id = c.producer_id
WHERE coalesce(b.days, 0) < c.days
   OR NOT EXISTS (SELECT 1 FROM billing.bills AS l
                  WHERE l.period = '{period}' AND l.contract_id = c.contract_id AND l.prm = c.prm
                    AND l.producer_id = c.producer_id)
ORDER BY c.contract_id, c.prm
