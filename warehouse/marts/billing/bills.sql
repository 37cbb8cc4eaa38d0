--| description = "Lines in force: entered, and not taken back"

SELECT l.*
FROM billing.lines AS l
LEFT JOIN billing.lines AS r ON r.document = l.document AND r.reverses = l.entry
WHERE l.reverses IS NULL AND r.entry IS NULL
