--| severity = "warn"
--| text = "what a producer declares, or SCADA sees, has no rank on some days: it is never billed there"
--| hint = "add the rank in precedence.csv, behind the others, where it shall be billed when they have nothing"
SELECT s.producer_id, s.contract_id, s.prm, s.kind, s.source, min(d.day) AS first_day, count(*) AS days
-- Of each metering point the sources that have energies, from and to which day.
FROM (SELECT c.producer_id, c.contract_id, c.prm, c.kind, e.source, greatest(c.first_day, e.first_day) AS first_day,
             least(c.day_after - 1, e.last_day) AS last_day
      FROM billing.contract_days AS c
      JOIN (SELECT prm, producer_id, 'PRODUCER_DECLARED' AS source, CAST(first AT TIME ZONE 'Europe/Paris' AS date) AS first_day,
             CAST(last AT TIME ZONE 'Europe/Paris' AS date) AS last_day
      FROM billing.declared_files
      WHERE month = '{period}'
      UNION ALL
      SELECT prm, NULL, source, CAST(min(starts_at) AT TIME ZONE 'Europe/Paris' AS date),
             CAST(max(starts_at) AT TIME ZONE 'Europe/Paris' AS date)
      FROM billing.meters_now
      WHERE source = 'SCADA' AND quality NOT IN ('invalid', 'missing')
        AND starts_at >= timestamptz '{from}' AND starts_at < timestamptz '{to}'
      GROUP BY prm, source) AS e ON e.prm = c.prm AND (e.producer_id IS NULL OR e.producer_id = c.producer_id)
      WHERE c.month = '{period}' AND c.kind <> 'DEMAND_RESPONSE') AS s
JOIN (SELECT CAST(CAST(timestamptz '{from}' AT TIME ZONE 'Europe/Paris' AS date) + n * interval '1 day' AS date) AS day
      FROM generate_series(0, 30) AS t (n)) AS d
  ON d.day >= s.first_day AND d.day <= s.last_day
LEFT JOIN (SELECT k.kind, r.source, r.valid_from, r.valid_to
           FROM (SELECT DISTINCT ON (kind, source, valid_from) kind, source, valid_from, valid_to
                 FROM billing.precedence WHERE known_at <= now()
                 ORDER BY kind, source, valid_from, known_at DESC, recorded_at DESC, file_version DESC, file_sha256, file_row) AS r
           -- Rows of a kind of contract stand in place of those for all.
           JOIN (SELECT c.kind, coalesce(max(p.kind), '*') AS of
                 FROM (SELECT DISTINCT kind FROM billing.contract_days WHERE month = '{period}') AS c
                 LEFT JOIN (SELECT DISTINCT ON (kind, source, valid_from) kind, valid_from, valid_to
                            FROM billing.precedence WHERE known_at <= now()
                            ORDER BY kind, source, valid_from, known_at DESC, recorded_at DESC, file_version DESC, file_sha256,
                                     file_row) AS p
                   ON p.kind = c.kind AND p.valid_from < CAST(timestamptz '{to}' AT TIME ZONE 'Europe/Paris' AS date)
                   AND (p.valid_to IS NULL OR p.valid_to > CAST(timestamptz '{from}' AT TIME ZONE 'Europe/Paris' AS date))
                 GROUP BY c.kind) AS k ON k.of = r.kind) AS p
  ON p.kind = s.kind AND p.source = s.source AND p.valid_from <= d.day AND (p.valid_to IS NULL OR p.valid_to > d.day)
WHERE p.source IS NULL
GROUP BY s.producer_id, s.contract_id, s.prm, s.kind, s.source
ORDER BY s.contract_id, s.prm, s.source
