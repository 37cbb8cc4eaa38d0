--| severity = "warn"
--| tolerance = 2.0
--| text = "The error of the last thirty days is a multiple of the one in the champion's backtest."
--| hint = "has the gauge, the catchment or a unit changed? Then train again: wattlake model train hydro; forecast.live has it by month"
SELECT j.prediction, j.site, j.horizon, sqrt(avg((j.observed - j.mean) * (j.observed - j.mean))) AS rmse, max(s.rmse) AS rmse_backtest
FROM forecast.judged j
JOIN forecast.scores s ON s.site = j.site AND s.horizon = j.horizon AND s.method = 'forecast'
JOIN system.model_versions v ON v.training_job = s.training_job AND v.aliases LIKE '%"champion"%'
WHERE j.observed IS NOT NULL AND j.issued_at > TIMESTAMPTZ '{as_of}' - INTERVAL '30 days'
    AND j.recorded_at < j.issued_at + INTERVAL '1 day'
GROUP BY j.prediction, j.site, j.horizon
HAVING count(*) >= 15 AND sqrt(avg((j.observed - j.mean) * (j.observed - j.mean))) > {tolerance} * max(s.rmse)
