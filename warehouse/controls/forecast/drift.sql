--| severity = "warn"
--| tolerance = 2.0
--| text = "The error of the last thirty days is a multiple of the one in the model's backtest."
--| hint = "has the gauge, the catchment or a unit changed? Then train again: wattlake model train hydro"
SELECT j.site, j.horizon, sqrt(avg((j.observed - j.mean) * (j.observed - j.mean))) AS rmse, max(s.rmse) AS rmse_backtest
FROM forecast.judged j
JOIN (SELECT site, horizon, last_value(rmse ORDER BY recorded_at) AS rmse FROM forecast.scores
      WHERE method = 'forecast' GROUP BY site, horizon) s ON s.site = j.site AND s.horizon = j.horizon
WHERE j.observed IS NOT NULL AND j.issued_at > TIMESTAMPTZ '{as_of}' - INTERVAL '30 days'
GROUP BY j.site, j.horizon
HAVING count(*) >= 15 AND sqrt(avg((j.observed - j.mean) * (j.observed - j.mean))) > {tolerance} * max(s.rmse)
