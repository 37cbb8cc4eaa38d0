--| severity = "block"
--| holds = "producer"
--| text = "a metering point is declared by a producer who is not the one of its contract"
--| hint = "a wrong PRM in a file, or a plant that was sold: the contract says whose it is on which day"
SELECT c.producer_id, c.contract_id, d.prm, d.producer_id AS declared_by, d.file_name, count(*) AS steps
FROM billing.declared_by_producer AS d
JOIN billing.contract_days AS c
  ON c.prm = d.prm AND c.month = d.month AND d.starts_at >= c.starts_at AND d.starts_at < c.ends_at
WHERE d.month = '{period}' AND d.producer_id <> c.producer_id
  AND (d.energy_wh > 0 OR d.aux_wh > 0)
GROUP BY c.producer_id, c.contract_id, d.prm, d.producer_id, d.file_name
ORDER BY d.prm
