--| severity = "block"
--| text = "a metering point has no contract at some of its steps"
SELECT d.prm, count(*) AS steps
FROM billing.declared d
WHERE d.starts_at >= '{from}' AND d.starts_at < '{to}'
  AND NOT EXISTS (
    SELECT 1 FROM platform.contracts c JOIN platform.metering_points m ON m.site_id = c.site_id
    WHERE m.prm = d.prm AND c.kind <> 'DEMAND_RESPONSE'
      AND CAST(d.starts_at AS date) >= c.valid['lower']
      AND (c.valid['upper'] IS NULL OR CAST(d.starts_at AS date) <= c.valid['upper']))
GROUP BY d.prm ORDER BY d.prm
