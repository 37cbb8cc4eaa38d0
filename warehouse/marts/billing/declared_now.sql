--| description = "What counts of what is declared: of each step what the producer declares whose contract holds"

-- What another producer declares of the step is not billed, whenever its file arrived: after a sale both owners' files may
-- have the whole month.
SELECT d.*
FROM billing.declared_by_producer AS d
JOIN billing.contract_days AS c
  ON c.prm = d.prm AND c.producer_id = d.producer_id AND c.month = d.month
  AND d.starts_at >= c.starts_at AND d.starts_at < c.ends_at
WHERE c.kind <> 'DEMAND_RESPONSE'
