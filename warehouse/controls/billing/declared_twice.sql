--| severity = "block"
--| text = "a step of a metering point is declared by two files"
--| mend = "ask who declares it; the other file has to come again without it"
SELECT d.prm, d.starts_at, count(*) AS files, min(d.file_name) AS one, max(d.file_name) AS another
FROM billing.declared d
JOIN (SELECT file_name, max(file_version) AS file_version FROM billing.declared GROUP BY file_name) newest
  ON newest.file_name = d.file_name AND newest.file_version = d.file_version
WHERE d.starts_at >= '{from}' AND d.starts_at < '{to}'
GROUP BY d.prm, d.starts_at HAVING count(*) > 1 ORDER BY d.prm, d.starts_at
