--| severity = "warn"
--| text = "something of an older month came after it was billed, and may change it"
--| hint = "run function:billing-extract, the loads and the statements for that month again, or keep it for the yearly settlement"
-- What each month's lines were made from was read as of the instant of the function's run, not when they were loaded.
WITH billed AS (
  SELECT l.period, l.producer_id, l.contract_id, l.prm, l.valid_from, l.kind, l.first, l.day_after, k.technology, k.begins, k.ends,
         coalesce(r.at, l.recorded_at) AS billed_at
  FROM (SELECT period, producer_id, contract_id, prm, valid_from, kind, CAST(period || '-01' AS date) AS first,
               CAST(CAST(period || '-01' AS date) + interval '1 month' AS date) AS day_after, max(recorded_at) AS recorded_at
        FROM billing.lines WHERE period < '{period}' GROUP BY period, producer_id, contract_id, prm, valid_from, kind) AS l
  LEFT JOIN (SELECT contract_id, max(technology) AS technology, to_char(min(valid_from), 'YYYY') AS begins,
                    CASE WHEN count(*) = count(valid_to) THEN to_char(max(valid_to) - 1, 'YYYY') END AS ends
             FROM billing.contracts_now GROUP BY contract_id) AS k ON k.contract_id = l.contract_id
  LEFT JOIN (SELECT l."for" AS period,
                    max(CAST(regexp_replace(f.detail, '^.*"as_of":"([^"]*)".*$', '\1') AS timestamptz)) AS at
             FROM (SELECT "for", regexp_replace(figures, '^.*"answer_of":"([^"]*)".*$', '\1') AS answer FROM system.runs
                   WHERE job = 'load:lines' AND state = 'succeeded') AS l
             JOIN system.runs AS f ON f.id = l.answer
             GROUP BY l."for") AS r ON r.period = l.period
),
-- Rows that a file has again, unchanged, came with the first one that had them.
versions AS (
  SELECT contract_id, prm, valid_from, max(came_at) AS came_at, max(file_name) AS file_name,
         max(coalesce(valid_to, DATE '9999-12-31')) AS last_end
  FROM (SELECT contract_id, prm, valid_from, valid_to, min(recorded_at) AS came_at, min(file_name) AS file_name
        FROM billing.contracts
        GROUP BY contract_id, prm, valid_from, valid_to, known_at, producer_id, producer, site_id, site, technology, pmax_kw, kind,
                 price_eur_mwh, fee_eur_mwh, fee_eur_mw_month, management_premium_eur_mwh, nbcapa_mw, imbalance_share,
                 go_eur_mwh, negative_premium, cap_mwh_year, cap_mwh_life, vat, vat_rate_pct, fee_vat, fee_vat_rate_pct) AS v
  GROUP BY contract_id, prm, valid_from
),
prices AS (
  SELECT series, step = 'P1Y' AS of_year, to_char(starts_at AT TIME ZONE 'Europe/Paris', CASE step WHEN 'P1Y' THEN 'YYYY' ELSE 'YYYY-MM' END)
         AS period, max(came_at) AS came_at, max(file_name) AS file_name
  FROM (SELECT series, step, starts_at, price, known_at, min(recorded_at) AS came_at, min(file_name) AS file_name
        FROM billing.prices WHERE starts_at < timestamptz '{from}' GROUP BY series, step, starts_at, price, known_at) AS p
  GROUP BY 1, 2, 3
),
ranks AS (
  SELECT kind, valid_from, max(came_at) AS came_at, max(file_name) AS file_name, max(coalesce(valid_to, DATE '9999-12-31')) AS last_end
  FROM (SELECT kind, source, rank, valid_from, valid_to, known_at, min(recorded_at) AS came_at, min(file_name) AS file_name
        FROM billing.precedence GROUP BY kind, source, rank, valid_from, valid_to, known_at) AS p
  GROUP BY kind, valid_from
)
SELECT month, what, producer_id, contract_id, prm, max(came_at) AS came_at, max(file_name) AS file_name, max(billed_at) AS billed_at
FROM (SELECT b.period AS month, 'file' AS what, b.producer_id, b.contract_id, b.prm, c.came_at, c.file_name, b.billed_at
      FROM billed AS b
      JOIN (SELECT prm, month, max(recorded_at) AS came_at, max(file_name) AS file_name
            FROM billing.declared WHERE month < '{period}' GROUP BY prm, month) AS c ON c.prm = b.prm AND c.month = b.period
      WHERE c.came_at > b.billed_at
      UNION ALL
      SELECT b.period, 'meter', b.producer_id, b.contract_id, b.prm, c.came_at, c.file_name, b.billed_at
      FROM billed AS b
      JOIN (SELECT prm, to_char(starts_at AT TIME ZONE 'Europe/Paris', 'YYYY-MM') AS month, max(recorded_at) AS came_at,
                   max(file_name) AS file_name
            FROM billing.meters WHERE starts_at < timestamptz '{from}' AND source <> 'TSO'
            GROUP BY 1, 2) AS c ON c.prm = b.prm AND c.month = b.period
      WHERE c.came_at > b.billed_at
      UNION ALL
      -- Also a version that was withdrawn, or ended before the month: it held there once.
      SELECT b.period, 'contract', b.producer_id, b.contract_id, b.prm, c.came_at, c.file_name, b.billed_at
      FROM billed AS b
      JOIN versions AS c ON c.contract_id = b.contract_id AND c.prm = b.prm
      WHERE c.came_at > b.billed_at AND c.valid_from < b.day_after AND c.last_end > b.first
      UNION ALL
      -- A contract that was entered for a month which was billed without it.
      SELECT m.period, 'contract without a bill', d.producer_id, d.contract_id, d.prm, c.came_at, c.file_name, m.billed_at
      FROM (SELECT period, max(billed_at) AS billed_at FROM billed GROUP BY period) AS m
      JOIN billing.contract_days AS d ON d.month = m.period AND d.kind <> 'DEMAND_RESPONSE'
      JOIN versions AS c
        ON c.contract_id = d.contract_id AND c.prm = d.prm AND c.valid_from = d.valid_from AND c.came_at > m.billed_at
      LEFT JOIN (SELECT DISTINCT period, contract_id, prm FROM billed) AS b
        ON b.period = m.period AND b.contract_id = d.contract_id AND b.prm = d.prm
      WHERE d.month < '{period}' AND b.period IS NULL
      UNION ALL
      SELECT b.period, 'price', b.producer_id, b.contract_id, b.prm, p.came_at, p.file_name, b.billed_at
      FROM billed AS b
      JOIN (SELECT DISTINCT contract_id, prm, month, series FROM billing.contract_series WHERE month < '{period}') AS s
        ON s.contract_id = b.contract_id AND s.prm = b.prm AND s.month = b.period
      JOIN prices AS p ON p.series = s.series AND NOT p.of_year AND p.period = b.period
      WHERE p.came_at > b.billed_at
      UNION ALL
      -- Of a year: capacity, and M0 where the year's takes the place of the month's.
      SELECT b.period, 'price of the year', b.producer_id, b.contract_id, b.prm, p.came_at, p.file_name, b.billed_at
      FROM billed AS b
      JOIN (SELECT DISTINCT contract_id, prm, month, series FROM billing.contract_series
            WHERE month < '{period}' AND kind = 'CR' AND series NOT IN ('DAY_AHEAD_FR', 'IMBALANCE_FR')) AS s
        ON s.contract_id = b.contract_id AND s.prm = b.prm AND s.month = b.period
      JOIN prices AS p ON p.series = s.series AND p.of_year AND p.period = substr(b.period, 1, 4)
      WHERE p.came_at > b.billed_at
        AND (s.series = 'PREFCAPA'
             OR (b.technology IN (SELECT technology FROM billing.rules WHERE rule = 'm0_period' AND value = 'year')
                 AND b.begins <> p.period AND (b.ends IS NULL OR b.ends <> p.period)))
      UNION ALL
      SELECT b.period, 'rank', b.producer_id, b.contract_id, b.prm, r.came_at, r.file_name, b.billed_at
      FROM billed AS b
      JOIN ranks AS r ON r.kind = b.kind OR r.kind = '*'
      WHERE r.came_at > b.billed_at AND r.valid_from < b.day_after AND r.last_end > b.first) AS c
GROUP BY month, what, producer_id, contract_id, prm
ORDER BY month, contract_id, prm, what
