--| severity = "block"
--| text = "a file of the month was corrected after its lines were made"
--| mend = "run function:billing-extract for the month again: what changes becomes a reversal and a new line"
SELECT d.file_name, d.file_version, d.producer_id, max(d.recorded_at) AS corrected_at
FROM billing.declared d
JOIN (SELECT file_name, max(file_version) AS file_version FROM billing.declared GROUP BY file_name) newest
  ON newest.file_name = d.file_name AND newest.file_version = d.file_version
WHERE d.month = '{period}'
  AND d.recorded_at > (SELECT max(l.recorded_at) FROM billing.lines l WHERE l.period = '{period}')
GROUP BY d.file_name, d.file_version, d.producer_id ORDER BY d.file_name
