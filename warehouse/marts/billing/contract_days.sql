--| description = "Versions of contracts, each with the months in which they hold, and from and to which instant"

SELECT c.contract_id, c.producer_id, c.prm, c.kind, c.pmax_kw, c.technology, c.valid_from, c.imbalance_share, c.nbcapa_mw,
       c.cap_mwh_year, c.cap_mwh_life, m.month,
       greatest(c.valid_from, m.first) AS first_day, least(coalesce(c.valid_to, m.last), m.last) AS day_after,
       CAST(greatest(c.valid_from, m.first) AS timestamp) AT TIME ZONE 'Europe/Paris' AS starts_at,
       CAST(least(coalesce(c.valid_to, m.last), m.last) AS timestamp) AT TIME ZONE 'Europe/Paris' AS ends_at
FROM billing.contracts_now AS c
JOIN (SELECT to_char(first, 'YYYY-MM') AS month, first, CAST(first + INTERVAL '1 month' AS date) AS last
      FROM (SELECT make_date(2000 + n / 12, n % 12 + 1, 1) AS first FROM generate_series(0, 1199) AS t (n)) AS f) AS m
  ON c.valid_from < m.last AND (c.valid_to IS NULL OR c.valid_to > m.first)
WHERE c.valid_to IS NULL OR c.valid_to > c.valid_from
