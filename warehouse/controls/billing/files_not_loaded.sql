--| severity = "block"
--| text = "a file was accepted, and its rows are not in billing.declared"
--| hint = "run load:declared and load:declared-workbook, then function:billing-extract for the month again"
SELECT f.ingest, f.name AS file, f.version, f.recorded_at AS came_at
FROM ingest.files AS f
WHERE f.ingest IN ('production', 'production-workbook') AND f.verdict = 'accepted' AND f.rows > 0
  AND NOT EXISTS (SELECT 1 FROM billing.declared AS d WHERE d.file_name = f.name AND d.file_sha256 = f.sha256)
ORDER BY f.name, f.version
