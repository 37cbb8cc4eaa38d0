--| severity = "block"
--| text = "a metering point's declared steps are not those of the calendar"
--| hint = "a local month has an hour less in March and one more in October: ask for the file again"
SELECT prm, count(*) AS steps, count(DISTINCT starts_at) AS instants,
       CAST((extract(epoch FROM timestamptz '{to}') - extract(epoch FROM timestamptz '{from}')) / max(step_s) AS bigint)
         AS expected
FROM billing.declared_now
WHERE month = '{period}'
GROUP BY prm
HAVING count(*) <> CAST((extract(epoch FROM timestamptz '{to}') - extract(epoch FROM timestamptz '{from}'))
                        / max(step_s) AS bigint)
    OR count(DISTINCT starts_at) <> count(*) OR min(step_s) <> max(step_s)
    OR min(starts_at) <> timestamptz '{from}' OR max(starts_at) >= timestamptz '{to}'
ORDER BY prm
