--| severity = "warn"
--| tolerance = 0.005
--| text = "a month's declared energy is not what was metered"
--| hint = "compare both series before the bill goes out; waive it where the producer has explained it"
SELECT d.prm, d.wh / 1000 AS declared_kwh, m.wh / 1000 AS metered_kwh,
       round(100.0 * (d.wh - m.wh) / nullif(m.wh, 0), 2) AS difference_pct
FROM (SELECT prm, sum(energy_wh) AS wh FROM billing.declared_now WHERE month = '{period}' GROUP BY prm) AS d
-- On the days of which the declaration counts: a contract may begin or end in the month.
JOIN (SELECT e.prm, sum(e.energy_wh) AS wh FROM billing.energies_now AS e
      JOIN billing.contract_days AS c
        ON c.prm = e.prm AND c.month = '{period}' AND e.starts_at >= c.starts_at AND e.starts_at < c.ends_at
      WHERE e.starts_at >= '{from}' AND e.starts_at < '{to}' AND c.kind <> 'DEMAND_RESPONSE'
      GROUP BY e.prm) AS m ON m.prm = d.prm
WHERE abs(d.wh - m.wh) > {tolerance} * m.wh
ORDER BY d.prm
