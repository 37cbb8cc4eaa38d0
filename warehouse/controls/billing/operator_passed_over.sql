--| severity = "block"
--| holds = "producer"
--| tolerance = 0.02
--| text = "the operator has values of a metering point's month, and too many of its steps are billed from another source"
--| hint = "the operator's values are missing, invalid, or cover other steps: ask it for them, or waive it"
SELECT s.producer_id, s.contract_id, s.prm, s.steps, s.from_operator, s.sources
FROM billing.operator_steps AS s
WHERE s.period = '{period}' AND s.steps - s.from_operator > {tolerance} * s.steps
  AND s.prm IN (SELECT prm FROM billing.meters_now
                WHERE source IN ('DSO_RAW', 'DSO_CORRECTED') AND starts_at >= '{from}' AND starts_at < '{to}')
ORDER BY s.contract_id, s.prm
