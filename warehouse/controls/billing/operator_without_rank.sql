--| severity = "block"
--| holds = "producer"
--| text = "the operator's energies of a source have no rank, so that another source is billed, or a rank names no source or kind"
--| hint = "add the rank in precedence.csv, with a later known_at; its sources are DSO_CORRECTED, DSO_RAW, PRODUCER_DECLARED and SCADA"
SELECT * FROM (
  SELECT s.producer_id, s.contract_id, s.prm, s.kind, s.source, min(d.day) AS first_day, count(*) AS days
  -- Of each metering point the sources that have energies, from and to which day.
  FROM (SELECT c.producer_id, c.contract_id, c.prm, c.kind, e.source, greatest(c.first_day, e.first_day) AS first_day,
               least(c.day_after - 1, e.last_day) AS last_day
        FROM billing.contract_days AS c
        JOIN (SELECT prm, CAST(NULL AS text) AS producer_id, source, CAST(min(starts_at) AT TIME ZONE 'Europe/Paris' AS date) AS first_day,
               CAST(max(starts_at) AT TIME ZONE 'Europe/Paris' AS date) AS last_day
        FROM billing.meters_now
        WHERE source IN ('DSO_CORRECTED', 'DSO_RAW') AND quality NOT IN ('invalid', 'missing')
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
  UNION ALL
  -- A name that is wrong may have stood for any source: all are held back. Not a row that the file's newest version has no longer.
  SELECT NULL, NULL, NULL, p.kind, p.source, p.valid_from, NULL
  FROM billing.precedence AS p
  LEFT JOIN (SELECT file_name, max(file_version) AS version FROM billing.precedence GROUP BY file_name) AS f
    ON f.file_name = p.file_name
  WHERE (p.source NOT IN ('DSO_CORRECTED', 'DSO_RAW', 'PRODUCER_DECLARED', 'SCADA')
         OR p.kind NOT IN ('*', 'SPOT_PASSTHROUGH', 'M0_MINUS_FEE', 'FIXED_PPA', 'CR', 'OA', 'DEMAND_RESPONSE'))
    AND (f.version IS NULL OR p.file_version = f.version)
    AND p.valid_from < CAST(timestamptz '{to}' AT TIME ZONE 'Europe/Paris' AS date)
    AND (p.valid_to IS NULL OR p.valid_to > CAST(timestamptz '{from}' AT TIME ZONE 'Europe/Paris' AS date))
) AS r
ORDER BY contract_id, prm, source
