--| severity = "block"
--| text = "day-ahead or imbalance prices of the month are missing, or of the wrong step"
--| hint = "day-ahead by the quarter since delivery of 2025-10-01, imbalances since 2025: load the prices again"
SELECT w.series, count(p.starts_at) AS prices, count(p.starts_at) FILTER (WHERE p.step <> w.step) AS of_another_step,
       CAST((extract(epoch FROM timestamptz '{to}') - extract(epoch FROM timestamptz '{from}')) / max(w.step_s) AS bigint)
         AS expected
FROM (SELECT 'DAY_AHEAD_FR' AS series,
             CASE WHEN timestamptz '{from}' >= timestamptz '2025-09-30T22:00:00Z' THEN 'PT15M' ELSE 'PT60M' END AS step,
             CASE WHEN timestamptz '{from}' >= timestamptz '2025-09-30T22:00:00Z' THEN 900 ELSE 3600 END AS step_s
      UNION ALL
      SELECT 'IMBALANCE_FR',
             CASE WHEN timestamptz '{from}' >= timestamptz '2024-12-31T23:00:00Z' THEN 'PT15M' ELSE 'PT30M' END,
             CASE WHEN timestamptz '{from}' >= timestamptz '2024-12-31T23:00:00Z' THEN 900 ELSE 1800 END) AS w
LEFT JOIN billing.prices_now AS p ON p.series = w.series AND p.starts_at >= '{from}' AND p.starts_at < '{to}'
GROUP BY w.series
HAVING count(p.starts_at) <> CAST((extract(epoch FROM timestamptz '{to}') - extract(epoch FROM timestamptz '{from}'))
                                  / max(w.step_s) AS bigint)
    OR count(p.starts_at) FILTER (WHERE p.step <> w.step) > 0
ORDER BY w.series
