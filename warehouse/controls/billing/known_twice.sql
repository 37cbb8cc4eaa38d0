--| severity = "block"
--| holds = "producer"
--| text = "two files give different values that became known at the same instant: nobody can tell which is right"
--| hint = "have the right one published again with a later known_at"
SELECT c.producer_id, k.what, k.key, k.known_at, k.one, k.another
FROM (SELECT NULL AS prm, 'price' AS what, series || ' ' || CAST(starts_at AS text) AS key, known_at,
             min(CAST(price AS text)) AS one, max(CAST(price AS text)) AS another
      FROM billing.prices
      WHERE (starts_at >= timestamptz '{from}' AND starts_at < timestamptz '{to}')
         OR (step = 'P1Y' AND starts_at <= timestamptz '{from}' AND starts_at > timestamptz '{from}' - interval '365 days')
      GROUP BY series, starts_at, step, known_at
      HAVING count(DISTINCT price) > 1 AND count(DISTINCT file_name) > 1
      UNION ALL
      SELECT prm, 'energy', prm || ' ' || source || ' ' || CAST(starts_at AS text), known_at,
             min(CAST(energy_wh AS text) || ' ' || quality), max(CAST(energy_wh AS text) || ' ' || quality)
      FROM billing.meters WHERE starts_at >= timestamptz '{from}' AND starts_at < timestamptz '{to}' AND source <> 'TSO'
      GROUP BY prm, source, starts_at, known_at
      HAVING count(DISTINCT coalesce(CAST(energy_wh AS text), '') || ' ' || coalesce(CAST(withdrawal_wh AS text), '') || quality) > 1
         AND count(DISTINCT file_name) > 1) AS k
LEFT JOIN (SELECT DISTINCT prm, producer_id FROM billing.contract_days WHERE month = '{period}') AS c ON c.prm = k.prm
WHERE k.prm IS NULL OR c.producer_id IS NOT NULL
ORDER BY k.what, k.key
