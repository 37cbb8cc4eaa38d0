--| description = "Versions of a model against its champion: their backtests on the issue times that both have; skill 0 is as good as the champion"
WITH backtest AS (
    SELECT v.model, v.version, v.aliases LIKE '%"champion"%' AS is_champion, b.site, b.horizon, b.issued_at, b.observed,
        b.mean, b.persistence, CASE WHEN b.observed BETWEEN b.q10 AND b.q90 THEN 1.0 ELSE 0.0 END AS is_covered,
        greatest(0.1 * (b.observed - b.q10), 0.9 * (b.q10 - b.observed)) + 0.5 * abs(b.observed - b.q50)
            + greatest(0.9 * (b.observed - b.q90), 0.1 * (b.q90 - b.observed)) AS pinball
    FROM forecast.backtests b JOIN system.model_versions v ON v.training_job = b.training_job
    WHERE b.observed IS NOT NULL
)
SELECT a.model, a.version, c.version AS champion, a.site, a.horizon, count(*) AS forecasts,
    min(a.issued_at) AS first_issue, max(a.issued_at) AS last_issue,
    sqrt(avg((a.observed - a.mean) * (a.observed - a.mean))) AS rmse,
    sqrt(avg((a.observed - c.mean) * (a.observed - c.mean))) AS rmse_champion,
    1 - sum((a.observed - a.mean) * (a.observed - a.mean)) / nullif(sum((a.observed - c.mean) * (a.observed - c.mean)), 0) AS skill,
    1 - sum((a.observed - a.mean) * (a.observed - a.mean))
        / nullif(sum((a.observed - a.persistence) * (a.observed - a.persistence)), 0) AS skill_persistence,
    avg(a.pinball) / 3 AS pinball, avg(c.pinball) / 3 AS pinball_champion,
    avg(a.is_covered) AS coverage, avg(c.is_covered) AS coverage_champion
FROM backtest a
JOIN backtest c ON c.is_champion AND c.model = a.model AND c.site = a.site AND c.horizon = a.horizon AND c.issued_at = a.issued_at
WHERE NOT a.is_champion
GROUP BY a.model, a.version, c.version, a.site, a.horizon
