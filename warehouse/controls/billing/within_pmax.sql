--| severity = "block"
--| holds = "producer"
--| tolerance = 1.02
--| text = "a step has less than nothing, or more energy than the plant can give; of SCADA and forecasts, half as much again"
SELECT c.producer_id, e.prm, e.source, e.starts_at, e.energy_wh / 1000 AS kwh, c.pmax_kw
FROM (SELECT prm, 'declared' AS source, starts_at, step_s, energy_wh, aux_wh AS withdrawal_wh
      FROM billing.declared_now WHERE month = '{period}'
      UNION ALL
      SELECT prm, source, starts_at, step_s, energy_wh, withdrawal_wh FROM billing.meters_now
      WHERE source <> 'TSO' AND quality NOT IN ('invalid', 'missing')
        AND starts_at >= '{from}' AND starts_at < '{to}') AS e
JOIN billing.contract_days AS c
  ON c.prm = e.prm AND c.month = '{period}' AND e.starts_at >= c.starts_at AND e.starts_at < c.ends_at
WHERE e.energy_wh < 0 OR e.withdrawal_wh < 0
   OR e.energy_wh > CASE WHEN e.source IN ('SCADA', 'FORECAST') THEN 1.5 ELSE {tolerance} END * c.pmax_kw * e.step_s / 3.6
ORDER BY e.prm, e.starts_at, e.source
