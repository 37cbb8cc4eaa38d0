--| severity = "block"
--| holds = "producer"
--| text = "two files give different values that became known at the same instant: nobody can tell which is right"
--| hint = "have the right one published again with a later known_at"
-- Of prices for those whose contracts need them, and only where no later value has taken their place.
SELECT k.producer_id, k.what, k.key, k.known_at, k.one, k.another
FROM (SELECT c.producer_id, 'price' AS what, p.series || ' ' || CAST(p.starts_at AS text) AS key, p.known_at, p.one, p.another
      FROM (SELECT series, starts_at, known_at, min(CAST(price AS text)) AS one, max(CAST(price AS text)) AS another,
                   rank() OVER (PARTITION BY series, starts_at, step ORDER BY known_at DESC) AS age,
                   count(DISTINCT price) AS prices, count(DISTINCT file_name) AS files
            FROM billing.prices
            WHERE known_at <= now()
              AND ((starts_at >= timestamptz '{from}' AND starts_at < timestamptz '{to}')
                   OR (step = 'P1Y' AND starts_at <= timestamptz '{from}' AND starts_at > timestamptz '{from}' - interval '365 days'))
            GROUP BY series, starts_at, step, known_at) AS p
      JOIN (SELECT DISTINCT producer_id, kind, technology, imbalance_share FROM billing.contract_days
            WHERE month = '{period}') AS c
        ON (p.series LIKE 'DAY_AHEAD%' AND c.kind IN ('SPOT_PASSTHROUGH', 'CR'))
        OR (p.series LIKE 'IMBALANCE%' AND c.imbalance_share > 0)
        OR (p.series = 'M0_' || upper(c.technology) AND c.kind IN ('M0_MINUS_FEE', 'CR'))
        OR (p.series = 'PREFCAPA' AND c.kind = 'CR')
      WHERE p.age = 1 AND p.prices > 1 AND p.files > 1
      UNION ALL
      SELECT c.producer_id, 'energy', m.prm || ' ' || m.source || ' ' || CAST(m.starts_at AS text), m.known_at, m.one, m.another
      FROM (SELECT prm, source, starts_at, known_at, min(CAST(energy_wh AS text) || ' ' || quality) AS one,
                   max(CAST(energy_wh AS text) || ' ' || quality) AS another,
                   rank() OVER (PARTITION BY prm, source, starts_at ORDER BY known_at DESC) AS age,
                   count(DISTINCT coalesce(CAST(energy_wh AS text), '') || ' ' || coalesce(CAST(withdrawal_wh AS text), '')
                         || quality) AS energies,
                   count(DISTINCT file_name) AS files
            FROM (SELECT e.* FROM billing.meters AS e
                  -- Few steps are in several files: only they are compared.
                  JOIN (SELECT prm, source, starts_at FROM billing.meters
                        WHERE starts_at >= timestamptz '{from}' AND starts_at < timestamptz '{to}' AND source <> 'TSO'
                          AND known_at <= now()
                        GROUP BY prm, source, starts_at HAVING min(file_name) < max(file_name)) AS s
                    ON s.prm = e.prm AND s.source = e.source AND s.starts_at = e.starts_at
                  WHERE e.starts_at >= timestamptz '{from}' AND e.starts_at < timestamptz '{to}' AND e.known_at <= now()) AS e
            GROUP BY prm, source, starts_at, known_at) AS m
      JOIN (SELECT DISTINCT prm, producer_id FROM billing.contract_days WHERE month = '{period}') AS c ON c.prm = m.prm
      WHERE m.age = 1 AND m.energies > 1 AND m.files > 1) AS k
ORDER BY k.what, k.key, k.producer_id
