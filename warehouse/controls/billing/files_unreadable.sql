--| severity = "warn"
--| text = "a quarantined file, or one that is neither CSV nor a workbook, does not tell whose it is, or for which month"
--| hint = "look at it: ingest.faults has what is wrong, and `wattlake sql` its name and hash"
SELECT f.ingest, f.name AS file, f.version, f.reason
FROM ingest.files AS f
WHERE f.ingest IN ('production', 'production-workbook', 'production-other')
  AND (f.verdict = 'quarantined'
       -- A copy of such a file, or another one that is empty.
       OR (f.verdict = 'duplicate' AND f.sha256 IN (SELECT sha256 FROM ingest.files WHERE verdict = 'quarantined')
           AND f.sha256 NOT IN (SELECT sha256 FROM ingest.files WHERE verdict = 'accepted')))
  AND f.recorded_at >= timestamptz '{from}'
  AND NOT EXISTS (SELECT 1 FROM ingest.subjects AS s
                  WHERE s.ingest = f.ingest AND s.name = f.name AND s.version = f.version)
  AND NOT EXISTS (SELECT 1 FROM ingest.files AS later WHERE later.ingest = f.ingest AND later.name = f.name
                  AND later.verdict = 'accepted' AND later.version >= f.version)
ORDER BY f.name, f.version
