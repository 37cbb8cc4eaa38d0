--| severity = "warn"
--| text = "a producer's month ends in a credit note"
SELECT producer_id, producer, sum(amount) AS amount
FROM billing.lines WHERE period = '{period}'
GROUP BY producer_id, producer HAVING sum(amount) < 0 ORDER BY producer_id
