--| description = "The skill of forecasts by site and horizon, also of those that were issued afterwards: 1 is perfect, 0 the newest value repeated"
SELECT prediction, site, horizon, count(*) AS forecasts,
    1 - sum((observed - mean) * (observed - mean)) / nullif(sum((observed - persistence) * (observed - persistence)), 0) AS skill,
    avg(CASE WHEN observed BETWEEN q10 AND q90 THEN 1.0 ELSE 0.0 END) AS coverage,
    avg(abs(observed - mean)) AS mae
FROM forecast.judged
WHERE observed IS NOT NULL AND persistence IS NOT NULL
GROUP BY prediction, site, horizon
