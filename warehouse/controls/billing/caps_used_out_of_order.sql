--| severity = "block"
--| holds = "producer"
--| text = "a later month of a contract with a cap was billed before this one was as it is now: the cap is used twice, or not up"
--| hint = "run function:billing-extract, load:days and load:lines for the later month again, the first one first, then the statements"
-- What a month's lines pay, by what the months before it have used of the cap now: rules.R, left_of_caps.
SELECT producer_id, contract_id, prm, period AS later_month, paid_wh / 1000 AS paid_kwh,
       least(all_wh, greatest(0, left_wh)) / 1000 AS expected_kwh
FROM (SELECT producer_id, contract_id, prm, period, cap_year, cap_mwh_year, cap_mwh_life, paid_wh, all_wh,
             least(coalesce(CAST(cap_mwh_year * 1000000 AS bigint) - coalesce(sum(used_wh) OVER (
                              PARTITION BY contract_id, prm, cap_year ORDER BY period
                              ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0), 9000000000000000),
                   coalesce(CAST(cap_mwh_life * 1000000 AS bigint) - coalesce(sum(used_wh) OVER (
                              PARTITION BY contract_id, prm ORDER BY period
                              ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0), 9000000000000000)) AS left_wh
      FROM (SELECT b.*, t.cap_mwh_year, t.cap_mwh_life,
                   -- A year of the cap begins with the month in which the contract began.
                   CAST(CAST(substr(b.period, 1, 4) AS int)
                        - CASE WHEN substr(b.period, 6, 2) < substr(o.begins, 6, 2) THEN 1 ELSE 0 END AS text) AS cap_year
            FROM (SELECT max(producer_id) AS producer_id, contract_id, prm, period,
                         sum(CASE WHEN rule = 'cr' THEN quantity ELSE 0 END) AS used_wh,
                         sum(CASE WHEN rule = 'cr_management' THEN quantity ELSE 0 END) AS paid_wh,
                         sum(CASE WHEN rule IN ('cr', 'cr_beyond_cap') THEN quantity ELSE 0 END) AS all_wh
                  FROM billing.bills WHERE kind = 'CR' GROUP BY contract_id, prm, period) AS b
            JOIN (SELECT contract_id, to_char(min(valid_from), 'YYYY-MM') AS begins FROM billing.contracts_now
                  WHERE kind = 'CR' GROUP BY contract_id) AS o ON o.contract_id = b.contract_id
            -- Versions with different caps in one month are not judged.
            JOIN (SELECT contract_id, prm, month, max(cap_mwh_year) AS cap_mwh_year, max(cap_mwh_life) AS cap_mwh_life
                  FROM billing.contract_days WHERE cap_mwh_year IS NOT NULL OR cap_mwh_life IS NOT NULL
                  GROUP BY contract_id, prm, month
                  HAVING count(DISTINCT coalesce(cap_mwh_year, -1)) = 1 AND count(DISTINCT coalesce(cap_mwh_life, -1)) = 1) AS t
              ON t.contract_id = b.contract_id AND t.prm = b.prm AND t.month = b.period) AS c) AS l
WHERE period > '{period}' AND paid_wh <> least(all_wh, greatest(0, left_wh))
  -- A cap of all years, or of the year that this month is in.
  AND (cap_mwh_life IS NOT NULL OR (contract_id, prm, cap_year) IN (
         SELECT b.contract_id, b.prm,
                CAST(CAST(substr('{period}', 1, 4) AS int)
                     - CASE WHEN substr('{period}', 6, 2) < substr(o.begins, 6, 2) THEN 1 ELSE 0 END AS text)
         FROM billing.bills AS b
         JOIN (SELECT contract_id, to_char(min(valid_from), 'YYYY-MM') AS begins FROM billing.contracts_now GROUP BY contract_id) AS o
           ON o.contract_id = b.contract_id
         WHERE b.period = '{period}' AND b.kind = 'CR'))
ORDER BY contract_id, prm, period
