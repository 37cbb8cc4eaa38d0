--| severity = "block"
--| holds = "producer"
--| text = "a file is billed whose newest version leaves out the metering point's month: it is about another month, producer or point"
--| hint = "ask which version is right: have the newest one sent again as it should be, or the older one under its name again"
-- Where no month is in its name, a file may be overwritten month after month: then a version of later months only is its next.
SELECT DISTINCT d.producer_id, d.prm, d.file_name, d.file_version AS billed_version, n.version AS newest_version,
       n.listed_at AS arrived_at, n.about
FROM billing.declared_files AS d
JOIN (SELECT DISTINCT prm, producer_id FROM billing.contract_days WHERE month = '{period}') AS c
  ON c.prm = d.prm AND c.producer_id = d.producer_id
JOIN (SELECT f.name, f.version, f.listed_at, string_agg(DISTINCT s.subject, ' ' ORDER BY s.subject) AS about,
             min(s.subject ->> 'month') AS first_month
      FROM (SELECT DISTINCT ON (ingest, name) ingest, name, version, listed_at FROM ingest.files
            WHERE ingest IN ('production', 'production-workbook') AND verdict = 'accepted'
            ORDER BY ingest, name, listed_at DESC, version DESC) AS f
      LEFT JOIN ingest.subjects AS s ON s.ingest = f.ingest AND s.name = f.name AND s.version = f.version
      GROUP BY f.name, f.version, f.listed_at) AS n
  ON n.name = d.file_name AND n.listed_at > d.arrived_at
WHERE d.month = '{period}'
  AND (n.first_month IS NULL OR n.first_month <= '{period}' OR regexp_like(d.file_name, '20[0-9]{2}[-_]?(0[1-9]|1[0-2])'))
ORDER BY d.file_name, d.prm
