--| severity = "warn"
--| text = "something of an older month came after it was billed, and may change it"
--| hint = "run function:billing-extract, the loads and the statements for that month again, or keep it for the yearly settlement"
SELECT c.month, c.what, b.producer_id, b.contract_id, b.prm, c.came_at, c.file_name, b.billed_at
FROM (SELECT period, producer_id, contract_id, prm, max(recorded_at) AS billed_at
      FROM billing.lines WHERE period < '{period}' GROUP BY period, producer_id, contract_id, prm) AS b
JOIN (SELECT prm, month, 'file' AS what, max(recorded_at) AS came_at, max(file_name) AS file_name
      FROM billing.declared WHERE month < '{period}' GROUP BY prm, month
      UNION ALL
      SELECT prm, to_char(starts_at AT TIME ZONE 'Europe/Paris', 'YYYY-MM'), 'meter', max(recorded_at), max(file_name)
      FROM billing.meters WHERE starts_at < timestamptz '{from}' AND source IN ('DSO_RAW', 'DSO_CORRECTED')
      GROUP BY 1, 2
      UNION ALL
      SELECT d.prm, d.month, 'contract', max(k.recorded_at), max(k.file_name)
      FROM billing.contract_days AS d
      JOIN billing.contracts AS k ON k.contract_id = d.contract_id AND k.prm = d.prm AND k.valid_from = d.valid_from
      WHERE d.month < '{period}' GROUP BY 1, 2
      UNION ALL
      SELECT d.prm, d.month, 'price', max(k.recorded_at), max(k.file_name)
      FROM (SELECT DISTINCT prm, month FROM billing.contract_days WHERE month < '{period}' AND kind NOT IN ('FIXED_PPA', 'OA')) AS d
      JOIN (SELECT to_char(starts_at AT TIME ZONE 'Europe/Paris', 'YYYY-MM') AS month, max(recorded_at) AS recorded_at,
                   max(file_name) AS file_name
            FROM billing.prices WHERE starts_at < timestamptz '{from}' AND step <> 'P1Y' GROUP BY 1) AS k ON k.month = d.month
      GROUP BY 1, 2) AS c ON c.prm = b.prm AND c.month = b.period AND c.came_at > b.billed_at
LEFT JOIN (SELECT "for" AS period, max(started_at) AS at FROM system.runs
           WHERE job = 'load:lines' AND state = 'succeeded' GROUP BY 1) AS r ON r.period = b.period
WHERE r.at IS NULL OR c.came_at > r.at
ORDER BY c.month, b.contract_id
