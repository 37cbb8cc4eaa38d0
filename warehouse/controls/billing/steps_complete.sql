--| severity = "block"
--| holds = "producer"
--| text = "a metering point's declared steps are not those of the days on which its contract holds"
--| hint = "a local month has an hour less in March and one more in October: ask for the file again"
SELECT d.producer_id, d.prm, d.steps, c.seconds / d.step_s AS expected
FROM (SELECT d.producer_id, d.prm, count(*) AS steps, max(d.step_s) AS step_s, min(d.step_s) AS least_step_s
      FROM billing.declared_by_producer AS d
      JOIN billing.contract_days AS c
        ON c.prm = d.prm AND c.producer_id = d.producer_id AND c.month = d.month
        AND d.starts_at >= c.starts_at AND d.starts_at < c.ends_at
      WHERE d.month = '{period}'
      GROUP BY d.producer_id, d.prm) AS d
JOIN (SELECT producer_id, prm, CAST(sum(extract(epoch FROM ends_at) - extract(epoch FROM starts_at)) AS bigint) AS seconds
      FROM billing.contract_days WHERE month = '{period}' GROUP BY producer_id, prm) AS c
  ON c.prm = d.prm AND c.producer_id = d.producer_id
WHERE d.steps * d.step_s <> c.seconds OR d.least_step_s <> d.step_s
ORDER BY d.prm
