--| severity = "block"
--| text = "a file of contracts, meters, prices or ranks of sources was quarantined, and no accepted version of it has arrived since"
--| hint = "its faults are in ingest.faults: correct the file, or waive it where another one has its rows"
SELECT f.ingest, f.name AS file, f.version, f.reason
FROM ingest.files AS f
WHERE f.ingest IN ('contracts', 'meters', 'prices', 'precedence') AND f.verdict = 'quarantined'
  AND f.recorded_at >= timestamptz '{from}'
  AND NOT EXISTS (SELECT 1 FROM ingest.files AS later WHERE later.ingest = f.ingest AND later.name = f.name
                  AND later.verdict = 'accepted' AND later.recorded_at >= f.recorded_at)
ORDER BY f.name, f.version
