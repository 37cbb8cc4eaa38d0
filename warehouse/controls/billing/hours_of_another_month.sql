--| severity = "block"
--| holds = "producer"
--| text = "a file of the month has hours of another one"
SELECT producer_id, prm, file_name, count(*) AS steps, min(starts_at) AS first, max(starts_at) AS last
FROM billing.declared_by_producer
WHERE month = '{period}' AND (starts_at < timestamptz '{from}' OR starts_at >= timestamptz '{to}')
GROUP BY producer_id, prm, file_name
ORDER BY prm
