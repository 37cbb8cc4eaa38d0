--| description = "The newest measurement of each series"

SELECT DISTINCT ON (m.series_id) m.series_id, s.site_id, m.ts, m.power_kw, m.quality
FROM platform.measurements_10min AS m
JOIN platform.series AS s ON s.id = m.series_id
ORDER BY m.series_id, m.ts DESC
