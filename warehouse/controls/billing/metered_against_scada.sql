--| severity = "warn"
--| tolerance = 0.05
--| text = "a month's metered energy is not what SCADA saw"
SELECT m.prm, m.wh / 1000 AS metered_kwh, s.wh / 1000 AS scada_kwh,
       round(100.0 * (m.wh - s.wh) / nullif(s.wh, 0), 2) AS difference_pct
FROM (SELECT prm, sum(energy_wh) AS wh FROM billing.energies_now
      WHERE starts_at >= '{from}' AND starts_at < '{to}' GROUP BY prm) AS m
JOIN (SELECT prm, sum(energy_wh) AS wh FROM billing.meters_now
      WHERE source = 'SCADA' AND starts_at >= '{from}' AND starts_at < '{to}' GROUP BY prm) AS s ON s.prm = m.prm
WHERE abs(m.wh - s.wh) > {tolerance} * s.wh
ORDER BY m.prm
