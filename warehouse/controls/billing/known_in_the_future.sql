--| severity = "block"
--| holds = "producer"
--| text = "rows have a known_at that is not over yet: they don't count, and what they correct is billed"
--| hint = "enter them again with the instant at which they became known"
-- A row is done with once its key was entered again, later, with an instant that is over.
SELECT f.producer_id, f.what, f.key, f.rows, f.known_at, f.file_name
FROM (SELECT p.producer_id, 'contract' AS what, k.contract_id || ' ' || k.prm || ' from ' || CAST(k.valid_from AS text) AS key,
             1 AS rows, k.known_at, k.file_name
      FROM billing.contracts AS k
      LEFT JOIN (SELECT contract_id, prm, valid_from, max(recorded_at) AS at FROM billing.contracts WHERE known_at <= now()
                 GROUP BY contract_id, prm, valid_from) AS a
        ON a.contract_id = k.contract_id AND a.prm = k.prm AND a.valid_from = k.valid_from AND a.at > k.recorded_at
      -- Whose it becomes, and whose it is.
      JOIN (SELECT DISTINCT contract_id, producer_id FROM billing.contracts) AS p ON p.contract_id = k.contract_id
      WHERE k.known_at > now() AND a.at IS NULL
        AND k.valid_from < CAST(timestamptz '{to}' AT TIME ZONE 'Europe/Paris' AS date)
        AND (k.valid_to IS NULL OR k.valid_to > CAST(timestamptz '{from}' AT TIME ZONE 'Europe/Paris' AS date)
             -- It ends a version that may hold in the month.
             OR (k.contract_id, k.prm) IN (SELECT contract_id, prm FROM billing.contract_days WHERE month = '{period}'))
      UNION ALL
      SELECT c.producer_id, 'energy', k.prm || ' ' || k.source, count(*), max(k.known_at), max(k.file_name)
      FROM billing.meters AS k
      LEFT JOIN (SELECT prm, source, starts_at, max(recorded_at) AS at FROM billing.meters
                 WHERE known_at <= now() AND starts_at >= timestamptz '{from}' AND starts_at < timestamptz '{to}'
                 GROUP BY prm, source, starts_at) AS a
        ON a.prm = k.prm AND a.source = k.source AND a.starts_at = k.starts_at AND a.at > k.recorded_at
      JOIN (SELECT DISTINCT prm, producer_id FROM billing.contract_days WHERE month = '{period}') AS c ON c.prm = k.prm
      WHERE k.known_at > now() AND k.starts_at >= timestamptz '{from}' AND k.starts_at < timestamptz '{to}' AND a.at IS NULL
      GROUP BY c.producer_id, k.prm, k.source
      UNION ALL
      SELECT c.producer_id, 'price', k.series || ' ' || k.step, count(*), max(k.known_at), max(k.file_name)
      FROM billing.prices AS k
      LEFT JOIN (SELECT series, starts_at, step, max(recorded_at) AS at FROM billing.prices WHERE known_at <= now()
                 GROUP BY series, starts_at, step) AS a
        ON a.series = k.series AND a.starts_at = k.starts_at AND a.step = k.step AND a.at > k.recorded_at
      JOIN (SELECT DISTINCT producer_id, series FROM billing.contract_series WHERE month = '{period}') AS c
        ON c.series = k.series
      WHERE k.known_at > now() AND a.at IS NULL
        AND ((k.starts_at >= timestamptz '{from}' AND k.starts_at < timestamptz '{to}')
             OR (k.step = 'P1Y' AND k.starts_at <= timestamptz '{from}'
                 AND k.starts_at > timestamptz '{from}' - interval '365 days'))
      GROUP BY c.producer_id, k.series, k.step
      UNION ALL
      -- A rank concerns all of them.
      SELECT NULL, 'rank', k.kind || ' ' || k.source || ' from ' || CAST(k.valid_from AS text), 1, k.known_at, k.file_name
      FROM billing.precedence AS k
      LEFT JOIN (SELECT kind, source, valid_from, max(recorded_at) AS at FROM billing.precedence WHERE known_at <= now()
                 GROUP BY kind, source, valid_from) AS a
        ON a.kind = k.kind AND a.source = k.source AND a.valid_from = k.valid_from AND a.at > k.recorded_at
      WHERE k.known_at > now() AND a.at IS NULL
        AND k.valid_from < CAST(timestamptz '{to}' AT TIME ZONE 'Europe/Paris' AS date)) AS f
ORDER BY f.what, f.key, f.producer_id
