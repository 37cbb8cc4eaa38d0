--| severity = "block"
--| text = "a contract holds on days of the month that are not billed"
--| hint = "the answer of billing-extract says why, under \"incomplete\""
SELECT c.contract_id, c.producer_id, c.prm, c.days, coalesce(b.days, 0) AS billed
FROM (SELECT contract_id, min(producer_id) AS producer_id, min(prm) AS prm,
             sum(CASE WHEN valid_to < last THEN valid_to ELSE last END - CASE WHEN valid_from > first THEN valid_from
                      ELSE first END) AS days
      FROM (SELECT *, CAST(timestamptz '{from}' AT TIME ZONE 'Europe/Paris' AS date) AS first,
                   CAST(timestamptz '{to}' AT TIME ZONE 'Europe/Paris' AS date) AS last
            FROM billing.contracts_now WHERE kind <> 'DEMAND_RESPONSE') AS v
      WHERE valid_from < last AND (valid_to IS NULL OR (valid_to > first AND valid_to > valid_from))
      GROUP BY contract_id) AS c
LEFT JOIN (SELECT contract_id, count(*) AS days
           FROM (SELECT contract_id, prm, day FROM billing.days WHERE period = '{period}'
                 GROUP BY contract_id, prm, day
                 HAVING sum(CASE WHEN reverses IS NULL THEN 1 ELSE -1 END) > 0) AS d
           GROUP BY contract_id) AS b ON b.contract_id = c.contract_id
WHERE coalesce(b.days, 0) < c.days
   OR NOT EXISTS (SELECT 1 FROM billing.bills AS l WHERE l.period = '{period}' AND l.contract_id = c.contract_id)
ORDER BY c.contract_id
