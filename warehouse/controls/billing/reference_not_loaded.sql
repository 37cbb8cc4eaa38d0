--| severity = "block"
--| text = "a file of contracts, meters, prices or ranks of sources was accepted, and its rows are not in their table"
--| hint = "run the loads: load:contracts, load:meters, load:prices, load:precedence"
SELECT f.ingest, f.name AS file, f.version, f.recorded_at AS came_at
FROM ingest.files AS f
LEFT JOIN (SELECT 'contracts' AS ingest, file_name, file_version, file_sha256 FROM billing.contracts
           UNION SELECT 'meters', file_name, file_version, file_sha256 FROM billing.meters
           UNION SELECT 'prices', file_name, file_version, file_sha256 FROM billing.prices
           UNION SELECT 'precedence', file_name, file_version, file_sha256 FROM billing.precedence) AS l
  ON l.ingest = f.ingest AND l.file_name = f.name AND l.file_sha256 = f.sha256 AND l.file_version >= f.version
WHERE f.ingest IN ('contracts', 'meters', 'prices', 'precedence') AND f.verdict = 'accepted' AND f.rows > 0
  AND l.ingest IS NULL
ORDER BY f.ingest, f.name, f.version
