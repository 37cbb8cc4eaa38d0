--| severity = "warn"
--| text = "An answer of a partner was quarantined in the last two days."
--| hint = "collect.faults has its faults; the next run asks again"
SELECT collect, item, reason, received_at FROM collect.answers
WHERE verdict = 'quarantined' AND received_at >= TIMESTAMPTZ '{as_of}' - INTERVAL '2 days'
