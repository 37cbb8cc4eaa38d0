--| severity = "block"
--| text = "a metering point was declared, and no line of the month is in force for it"
SELECT DISTINCT d.prm, d.producer_id
FROM billing.declared d
WHERE d.starts_at >= '{from}' AND d.starts_at < '{to}'
  AND d.prm NOT IN (SELECT l.prm FROM billing.lines l WHERE l.period = '{period}' AND l.reverses IS NULL)
ORDER BY d.prm
