-- Distinct series and the median power, by quality.
SELECT quality, count(DISTINCT series_id) AS series, median(power_kw) AS median_kw
FROM bench.measurements GROUP BY quality ORDER BY quality
