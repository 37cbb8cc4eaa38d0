--| severity = "warn"
--| tolerance = 0.02
--| text = "too many of a metering point's steps are estimated or provisional"
SELECT prm, steps, estimated, round(100.0 * estimated / steps, 1) AS estimated_pct
FROM (SELECT prm, count(*) AS steps, count(*) FILTER (WHERE quality = 'estimated') AS estimated
      FROM billing.energies_now WHERE starts_at >= '{from}' AND starts_at < '{to}' GROUP BY prm
      UNION ALL
      SELECT d.prm, d.steps, d.estimated
      FROM (SELECT prm, count(*) AS steps, count(*) FILTER (WHERE source = 'ESTIME' OR status = 'PROVISOIRE') AS estimated
            FROM billing.declared_now WHERE month = '{period}' GROUP BY prm) AS d
      LEFT JOIN (SELECT DISTINCT prm FROM billing.energies_now WHERE starts_at >= '{from}' AND starts_at < '{to}') AS m
        ON m.prm = d.prm
      WHERE m.prm IS NULL) AS s
WHERE estimated > {tolerance} * steps
ORDER BY prm
