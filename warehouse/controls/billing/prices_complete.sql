--| severity = "block"
--| text = "day-ahead or imbalance prices of the month, which a contract needs, are missing, or of the wrong step"
--| hint = "by the steps of billing.rules: load the prices again"
SELECT w.series, count(p.starts_at) AS prices, count(p.starts_at) FILTER (WHERE p.step <> w.step) AS of_another_step,
       CAST((extract(epoch FROM timestamptz '{to}') - extract(epoch FROM timestamptz '{from}')) / max(w.step_s) AS bigint)
         AS expected
FROM (SELECT s.series, CAST(r.value AS bigint) AS step_s, 'PT' || CAST(CAST(r.value AS bigint) / 60 AS text) || 'M' AS step
      FROM (SELECT 'DAY_AHEAD_FR' AS series, 'day_ahead_step_s' AS rule FROM billing.contract_days
            WHERE month = '{period}' AND kind IN ('SPOT_PASSTHROUGH', 'CR')
            UNION
            SELECT 'IMBALANCE_FR', 'settlement_step_s' FROM billing.contract_days
            WHERE month = '{period}' AND imbalance_share > 0) AS s
      JOIN (SELECT DISTINCT ON (rule) rule, value FROM billing.rules
            WHERE valid_from <= CAST(timestamptz '{from}' AT TIME ZONE 'Europe/Paris' AS date)
            ORDER BY rule, valid_from DESC) AS r ON r.rule = s.rule) AS w
LEFT JOIN billing.prices_now AS p ON p.series = w.series AND p.starts_at >= '{from}' AND p.starts_at < '{to}'
GROUP BY w.series
HAVING count(p.starts_at) <> CAST((extract(epoch FROM timestamptz '{to}') - extract(epoch FROM timestamptz '{from}'))
                                  / max(w.step_s) AS bigint)
    OR count(p.starts_at) FILTER (WHERE p.step <> w.step) > 0
ORDER BY w.series
