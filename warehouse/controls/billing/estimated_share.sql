--| severity = "warn"
--| tolerance = 0.02
--| text = "too much of a metering point's energy is estimated or provisional"
SELECT d.prm, round(100.0 * sum(CASE WHEN d.source = 'ESTIME' OR d.status = 'PROVISOIRE' THEN 1 ELSE 0 END) / count(*), 1)
         AS estimated_pct
FROM billing.declared d
JOIN (SELECT file_name, max(file_version) AS file_version FROM billing.declared GROUP BY file_name) newest
  ON newest.file_name = d.file_name AND newest.file_version = d.file_version
WHERE d.starts_at >= '{from}' AND d.starts_at < '{to}'
GROUP BY d.prm
HAVING sum(CASE WHEN d.source = 'ESTIME' OR d.status = 'PROVISOIRE' THEN 1 ELSE 0 END) > {tolerance} * count(*)
ORDER BY d.prm
