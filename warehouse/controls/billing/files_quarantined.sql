--| severity = "block"
--| holds = "producer"
--| text = "a file was quarantined, and no file with its metering points' month was accepted since"
--| hint = "ask the producer for a corrected file, under whatever name: its faults are in ingest.faults"
-- A file that can't be read does not tell what it is about: then it is about what the accepted version before it is about,
-- under the same name. So is one of which only a part can be read, as far as it is about the same month.
SELECT DISTINCT c.producer_id, q.prm, q.file, q.version, q.reason
FROM (SELECT f.ingest, f.name AS file, f.version, f.reason, f.listed_at,
             s.subject ->> 'prm' AS prm, s.subject ->> 'producer_id' AS declared_by
      FROM (SELECT f.ingest, f.name, f.version, f.reason, f.listed_at,
                   max(CASE WHEN a.version < f.version THEN a.version END) AS accepted_before,
                   coalesce(max(o.subjects), 0) AS subjects, coalesce(max(o.of_month), 0) AS of_month
            FROM ingest.files AS f
            LEFT JOIN ingest.files AS a ON a.ingest = f.ingest AND a.name = f.name AND a.verdict = 'accepted'
            LEFT JOIN (SELECT ingest, name, version, count(*) AS subjects,
                              count(*) FILTER (WHERE subject ->> 'month' = '{period}') AS of_month
                       FROM ingest.subjects GROUP BY ingest, name, version) AS o
              ON o.ingest = f.ingest AND o.name = f.name AND o.version = f.version
            WHERE f.ingest IN ('production', 'production-workbook') AND f.verdict = 'quarantined'
            GROUP BY f.ingest, f.name, f.version, f.reason, f.listed_at, f.recorded_at
            -- The version itself, by another layout.
            HAVING coalesce(max(CASE WHEN a.version = f.version AND a.recorded_at > f.recorded_at THEN 1 ELSE 0 END), 0) = 0) AS f
      JOIN ingest.subjects AS s
        ON s.ingest = f.ingest AND s.name = f.name
        AND (s.version = f.version OR (s.version = f.accepted_before AND (f.subjects = 0 OR f.of_month > 0)))
      WHERE s.subject ->> 'month' = '{period}') AS q
JOIN (SELECT DISTINCT prm, producer_id FROM billing.contract_days WHERE month = '{period}') AS c ON c.prm = q.prm
LEFT JOIN (SELECT prm, producer_id, max(arrived_at) AS arrived_at FROM billing.declared_files WHERE month = '{period}'
           GROUP BY prm, producer_id) AS d ON d.prm = q.prm AND d.producer_id = q.declared_by
WHERE d.arrived_at IS NULL OR d.arrived_at < q.listed_at
ORDER BY q.file, q.version, q.prm
