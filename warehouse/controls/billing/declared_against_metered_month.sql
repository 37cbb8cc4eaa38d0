--| severity = "warn"
--| tolerance = 0.005
--| text = "a month's declared energy is not what was metered"
--| hint = "compare both series before the bill goes out; waive it where the producer has explained it"
SELECT d.prm, d.wh / 1000 AS declared_kwh, m.wh / 1000 AS metered_kwh,
       round(100.0 * (d.wh - m.wh) / nullif(m.wh, 0), 2) AS difference_pct
FROM (SELECT prm, sum(energy_wh) AS wh FROM billing.declared_now WHERE month = '{period}' GROUP BY prm) AS d
JOIN (SELECT prm, sum(energy_wh) AS wh FROM billing.energies_now
      WHERE starts_at >= '{from}' AND starts_at < '{to}' GROUP BY prm) AS m ON m.prm = d.prm
WHERE abs(d.wh - m.wh) > {tolerance} * m.wh
ORDER BY d.prm
