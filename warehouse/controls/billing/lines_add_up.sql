--| severity = "block"
--| text = "entries and reversals of a bill don't add up to the lines in force"
SELECT document, sum(amount) AS entries,
       sum(CASE WHEN reverses IS NULL AND entry NOT IN
             (SELECT r.reverses FROM billing.lines r WHERE r.document = l.document AND r.reverses IS NOT NULL)
           THEN amount ELSE 0 END) AS in_force
FROM billing.lines l
WHERE period = '{period}'
GROUP BY document
HAVING sum(amount) <> sum(CASE WHEN reverses IS NULL AND entry NOT IN
             (SELECT r.reverses FROM billing.lines r WHERE r.document = l.document AND r.reverses IS NOT NULL)
           THEN amount ELSE 0 END)
