--| severity = "block"
--| holds = "producer"
--| text = "a file of the month was accepted, and its rows are not in billing.declared"
--| hint = "run load:declared and load:declared-workbook, then function:billing-extract for the month again"
SELECT DISTINCT s.subject ->> 'producer_id' AS producer_id, f.ingest, f.name AS file, f.version, f.recorded_at AS came_at
FROM ingest.files AS f
JOIN ingest.subjects AS s ON s.ingest = f.ingest AND s.name = f.name AND s.version = f.version
WHERE f.ingest IN ('production', 'production-workbook') AND f.verdict = 'accepted' AND f.rows > 0
  AND s.subject ->> 'month' = '{period}'
  AND NOT EXISTS (SELECT 1 FROM billing.declared AS d
                  WHERE d.file_name = f.name AND d.file_sha256 = f.sha256 AND d.file_version >= f.version)
ORDER BY f.name, f.version
