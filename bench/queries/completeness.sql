-- The share of the points that are there, by month and zone.
SELECT u.zone AS zone, date_trunc('month', m.ts) AS month, count(*) AS points, count(m.power_kw) AS known,
       count(DISTINCT m.series_id) AS series
FROM bench.measurements m JOIN bench.units u ON u.series_id = m.series_id GROUP BY 1, 2 ORDER BY 1, 2
