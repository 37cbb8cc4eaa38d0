--| severity = "block"
--| text = "a file was quarantined, and no accepted version of it has arrived since"
--| hint = "ask the producer for a corrected file: its faults are in ingest.faults"
SELECT f.ingest, f.name AS file, f.version, f.reason
FROM ingest.files AS f
WHERE f.ingest IN ('production', 'production-workbook') AND (f.name LIKE '%{period}%' OR f.name !~ '20[0-9][0-9]-[01][0-9]') AND f.verdict = 'quarantined'
  AND NOT EXISTS (SELECT 1 FROM ingest.files AS later WHERE later.ingest = f.ingest AND later.name = f.name
                  AND later.verdict = 'accepted' AND later.version >= f.version)
ORDER BY f.name, f.version
