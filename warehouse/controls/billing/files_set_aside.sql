--| severity = "block"
--| text = "a file of the month was set aside, and no accepted one has come since"
--| mend = "ask the producer for a corrected file: its faults are in ingest.faults"
SELECT name AS file, version, reason
FROM ingest.files f
WHERE f.ingest = 'production' AND f.name LIKE '%{period}%' AND f.verdict = 'quarantined'
  AND NOT EXISTS (SELECT 1 FROM ingest.files later WHERE later.ingest = f.ingest AND later.name = f.name
                  AND later.verdict = 'accepted' AND later.version >= f.version)
ORDER BY name, version
