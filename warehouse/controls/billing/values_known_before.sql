--| severity = "warn"
--| text = "other energies or prices arrived after those that count, and say that they were known before them: they don't count"
--| hint = "late copies of older publications do no harm; a correction needs a known_at after what it corrects"
SELECT 'energy' AS what, o.prm || ' ' || o.source AS key, count(*) AS rows, min(o.starts_at) AS first, max(o.known_at) AS known_at,
       max(n.known_at) AS counts_since, max(o.file_name) AS file_name
-- Few steps have several rows.
FROM (SELECT prm, source, starts_at FROM billing.meters
      WHERE starts_at >= timestamptz '{from}' AND starts_at < timestamptz '{to}' AND known_at <= now()
      GROUP BY prm, source, starts_at HAVING min(known_at) < max(known_at)) AS s
JOIN billing.meters_now AS n ON n.prm = s.prm AND n.source = s.source AND n.starts_at = s.starts_at
JOIN billing.meters AS o
  ON o.prm = s.prm AND o.source = s.source AND o.starts_at = s.starts_at
  AND o.known_at < n.known_at AND o.recorded_at > n.recorded_at
WHERE n.starts_at >= timestamptz '{from}' AND n.starts_at < timestamptz '{to}'
  AND o.starts_at >= timestamptz '{from}' AND o.starts_at < timestamptz '{to}'
  AND (o.energy_wh IS DISTINCT FROM n.energy_wh OR o.withdrawal_wh IS DISTINCT FROM n.withdrawal_wh OR o.quality <> n.quality)
GROUP BY o.prm, o.source
UNION ALL
SELECT 'price', o.series || ' ' || o.step, count(*), min(o.starts_at), max(o.known_at), max(n.known_at), max(o.file_name)
FROM (SELECT DISTINCT ON (series, starts_at, step) series, starts_at, step, price, known_at, recorded_at
      FROM billing.prices WHERE known_at <= now()
      ORDER BY series, starts_at, step, known_at DESC, recorded_at DESC) AS n
JOIN billing.prices AS o
  ON o.series = n.series AND o.starts_at = n.starts_at AND o.step = n.step
  AND o.known_at < n.known_at AND o.recorded_at > n.recorded_at
WHERE o.price <> n.price
  AND ((o.starts_at >= timestamptz '{from}' AND o.starts_at < timestamptz '{to}')
       OR (o.step = 'P1Y' AND o.starts_at <= timestamptz '{from}' AND o.starts_at > timestamptz '{from}' - interval '365 days'))
GROUP BY o.series, o.step
ORDER BY 1, 2
