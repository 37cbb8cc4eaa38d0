--| description = "Predictions of the same issue times, two by two, by what came: skill above 0 is better than the rival"
SELECT a.prediction, r.prediction AS rival, a.site, a.horizon, count(*) AS forecasts,
    min(a.issued_at) AS first_issue, max(a.issued_at) AS last_issue,
    1 - sum((a.observed - a.mean) * (a.observed - a.mean)) / nullif(sum((a.observed - r.mean) * (a.observed - r.mean)), 0) AS skill,
    avg(CASE WHEN a.observed BETWEEN a.q10 AND a.q90 THEN 1.0 ELSE 0.0 END) AS coverage,
    avg(CASE WHEN a.observed BETWEEN r.q10 AND r.q90 THEN 1.0 ELSE 0.0 END) AS coverage_rival
FROM forecast.judged a
JOIN forecast.judged r ON r.site = a.site AND r.issued_at = a.issued_at AND r.at = a.at AND r.prediction <> a.prediction
WHERE a.observed IS NOT NULL
GROUP BY a.prediction, r.prediction, a.site, a.horizon
