--| description = "How forecasts that were issued in time did, month by month, beside the champion's backtest: rmse_ratio above 1 is worse than it"
WITH champion AS (
    SELECT s.site, s.horizon, max(s.rmse) AS rmse, max(s.skill_persistence) AS skill, max(s.coverage) AS coverage
    FROM forecast.scores s JOIN system.model_versions v ON v.training_job = s.training_job
    WHERE s.method = 'forecast' AND v.aliases LIKE '%"champion"%'
    GROUP BY s.site, s.horizon
), month AS (
    SELECT prediction, site, horizon, date_trunc('month', issued_at) AS month, count(*) AS forecasts,
        sqrt(avg((observed - mean) * (observed - mean))) AS rmse,
        1 - sum((observed - mean) * (observed - mean)) / nullif(sum((observed - persistence) * (observed - persistence)), 0) AS skill,
        avg(CASE WHEN observed BETWEEN q10 AND q90 THEN 1.0 ELSE 0.0 END) AS coverage
    FROM forecast.judged
    WHERE observed IS NOT NULL AND persistence IS NOT NULL AND recorded_at < issued_at + INTERVAL '1 day'
    GROUP BY prediction, site, horizon, date_trunc('month', issued_at)
)
SELECT m.prediction, m.site, m.horizon, m.month, m.forecasts, m.rmse, c.rmse AS rmse_backtest,
    m.rmse / nullif(c.rmse, 0) AS rmse_ratio, m.skill, c.skill AS skill_backtest, m.coverage, c.coverage AS coverage_backtest
FROM month m LEFT JOIN champion c ON c.site = m.site AND c.horizon = m.horizon
