--| severity = "block"
--| text = "a metering point's declared steps are not those of the calendar"
--| mend = "a local month has an hour less in March and one more in October: see starts_at of billing.declared"
SELECT d.prm, count(*) AS steps,
       CAST((extract(epoch FROM timestamptz '{to}') - extract(epoch FROM timestamptz '{from}')) / max(d.step_s) AS bigint)
         AS expected
FROM billing.declared d
JOIN (SELECT file_name, max(file_version) AS file_version FROM billing.declared GROUP BY file_name) newest
  ON newest.file_name = d.file_name AND newest.file_version = d.file_version
WHERE d.starts_at >= '{from}' AND d.starts_at < '{to}'
GROUP BY d.prm
HAVING count(*) <> CAST((extract(epoch FROM timestamptz '{to}') - extract(epoch FROM timestamptz '{from}'))
                        / max(d.step_s) AS bigint)
ORDER BY d.prm
