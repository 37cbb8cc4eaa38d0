--| severity = "block"
--| text = "entries and reversals of a bill don't add up to the lines in force"
SELECT l.document, sum(l.amount) AS entries,
       sum(CASE WHEN l.reverses IS NULL AND r.entry IS NULL THEN l.amount ELSE 0 END) AS in_force
FROM billing.lines l
LEFT JOIN billing.lines r ON r.document = l.document AND r.reverses = l.entry
WHERE l.period = '{period}'
GROUP BY l.document
HAVING sum(l.amount) <> sum(CASE WHEN l.reverses IS NULL AND r.entry IS NULL THEN l.amount ELSE 0 END)
ORDER BY l.document
