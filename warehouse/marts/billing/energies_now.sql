--| description = "What the grid's operator metered of each step: corrected where it was corrected"

SELECT DISTINCT ON (prm, starts_at) prm, source, starts_at, step_s, energy_wh, quality, known_at, recorded_at
FROM billing.meters_now
WHERE source IN ('DSO_CORRECTED', 'DSO_RAW') AND quality NOT IN ('invalid', 'missing')
ORDER BY prm, starts_at, source
