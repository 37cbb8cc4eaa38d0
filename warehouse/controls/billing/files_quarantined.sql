--| severity = "block"
--| holds = "producer"
--| text = "a file was quarantined, and no file with its metering points' month was accepted since"
--| hint = "ask the producer for a corrected file, under whatever name: its faults are in ingest.faults"
SELECT c.producer_id, q.prm, q.file, q.version, q.reason
FROM (SELECT s.subject ->> 'prm' AS prm, s.subject ->> 'producer_id' AS declared_by, f.name AS file, f.version, f.reason, max(f.listed_at) AS listed_at
      FROM ingest.files AS f
      JOIN ingest.subjects AS s ON s.ingest = f.ingest AND s.name = f.name AND s.version = f.version
      WHERE f.ingest IN ('production', 'production-workbook') AND f.verdict = 'quarantined'
        AND s.subject ->> 'month' = '{period}'
        AND NOT EXISTS (SELECT 1 FROM ingest.files AS a
                        WHERE a.ingest = f.ingest AND a.name = f.name AND a.version >= f.version AND a.verdict = 'accepted'
                          AND a.recorded_at > f.recorded_at)
      GROUP BY 1, 2, 3, 4, 5) AS q
JOIN (SELECT DISTINCT prm, producer_id FROM billing.contract_days WHERE month = '{period}') AS c ON c.prm = q.prm
LEFT JOIN (SELECT prm, producer_id, max(arrived_at) AS arrived_at FROM billing.declared_by_producer WHERE month = '{period}'
           GROUP BY prm, producer_id) AS d ON d.prm = q.prm AND d.producer_id = q.declared_by
WHERE d.arrived_at IS NULL OR d.arrived_at < q.listed_at
ORDER BY q.file, q.version
