--| severity = "block"
--| holds = "producer"
--| tolerance = 1.02
--| text = "a step has less than nothing, or more energy than the plant can give; of SCADA and forecasts, half as much again"
-- Of what is declared that of the contract's producer: it is billed, whoever else's file arrived later.
SELECT c.producer_id, e.prm, e.source, e.starts_at, e.energy_wh / 1000 AS kwh, c.pmax_kw
FROM (SELECT prm, producer_id, 'declared' AS source, starts_at, step_s, energy_wh, aux_wh AS withdrawal_wh
      FROM billing.declared_by_producer WHERE month = '{period}'
      UNION ALL
      SELECT prm, NULL, source, starts_at, step_s, energy_wh, withdrawal_wh FROM billing.meters_now
      WHERE source <> 'TSO' AND quality NOT IN ('invalid', 'missing')
        AND starts_at >= '{from}' AND starts_at < '{to}') AS e
JOIN billing.contract_days AS c
  ON c.prm = e.prm AND c.month = '{period}' AND e.starts_at >= c.starts_at AND e.starts_at < c.ends_at
  AND (e.producer_id IS NULL OR e.producer_id = c.producer_id)
WHERE e.energy_wh < 0 OR e.withdrawal_wh < 0
   OR e.energy_wh > CASE WHEN e.source IN ('SCADA', 'FORECAST') THEN 1.5 ELSE {tolerance} END * c.pmax_kw * e.step_s / 3.6
ORDER BY e.prm, e.starts_at, e.source
