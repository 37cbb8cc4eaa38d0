--| severity = "warn"
--| tolerance = 0.005
--| text = "a month's declared energy is not what was metered"
--| mend = "compare both series before the bill goes out; waive it where the producer has explained it"
SELECT d.prm, d.wh / 1000 AS declared_kwh, m.wh / 1000 AS metered_kwh,
       round(100.0 * (d.wh - m.wh) / nullif(m.wh, 0), 2) AS difference_pct
FROM (SELECT d.prm, sum(d.energy_wh) AS wh FROM billing.declared d
      JOIN (SELECT file_name, max(file_version) AS file_version FROM billing.declared GROUP BY file_name) newest
        ON newest.file_name = d.file_name AND newest.file_version = d.file_version
      WHERE d.starts_at >= '{from}' AND d.starts_at < '{to}' GROUP BY d.prm) d
JOIN (SELECT p.prm, sum(m.energy_wh) AS wh FROM platform.measurements_10min m
      JOIN platform.series r ON r.id = m.series_id AND r.quantity = 'active_power' AND r.unit_id IS NULL
      JOIN platform.metering_points p ON p.site_id = r.site_id
      WHERE m.ts >= '{from}' AND m.ts < '{to}' GROUP BY p.prm) m ON m.prm = d.prm
WHERE abs(d.wh - m.wh) > {tolerance} * m.wh
ORDER BY d.prm
