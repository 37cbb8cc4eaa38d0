--| severity = "block"
--| holds = "producer"
--| text = "a price of a month or a year does not begin at the local midnight of its first day: it is not used"
--| hint = "enter it again from the right instant, such as 2025-12-31T23:00:00Z for 2026"
SELECT DISTINCT c.producer_id, p.series, p.step, p.starts_at, p.begins AS expected, p.price
FROM (SELECT series, step, starts_at, price, known_at, CAST(first AS timestamp) AT TIME ZONE 'Europe/Paris' AS begins,
             to_char(first, CASE step WHEN 'P1Y' THEN 'YYYY' ELSE 'YYYY-MM' END) AS period
      -- An instant some hours off may be on the day before.
      FROM (SELECT *, CASE step WHEN 'P1Y' THEN date_trunc('year', starts_at AT TIME ZONE 'Europe/Paris' + interval '12 hours')
                                ELSE date_trunc('month', starts_at AT TIME ZONE 'Europe/Paris' + interval '12 hours') END AS first
            FROM billing.prices_now WHERE step IN ('P1M', 'P1Y')) AS m) AS p
JOIN billing.contract_series AS c
  ON c.series = p.series AND c.month = '{period}' AND p.period = substr('{period}', 1, length(p.period))
-- One that was entered again, rightly, and later.
LEFT JOIN billing.prices_now AS r
  ON r.series = p.series AND r.step = p.step AND r.starts_at = p.begins AND r.known_at >= p.known_at
WHERE p.starts_at <> p.begins AND r.series IS NULL
ORDER BY p.series, p.starts_at, c.producer_id
