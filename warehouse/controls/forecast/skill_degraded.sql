--| severity = "warn"
--| tolerance = 0.0
--| text = "The forecasts that were issued in the last sixty days are no better than the newest value repeated."
--| hint = "train again: wattlake model train hydro; forecast.scores has what the model reached in its backtest"
SELECT prediction, site, horizon, count(*) AS forecasts,
    1 - sum((observed - mean) * (observed - mean)) / nullif(sum((observed - persistence) * (observed - persistence)), 0) AS skill
FROM forecast.judged
WHERE observed IS NOT NULL AND persistence IS NOT NULL AND issued_at > TIMESTAMPTZ '{as_of}' - INTERVAL '60 days'
    AND recorded_at < issued_at + INTERVAL '1 day'
GROUP BY prediction, site, horizon
HAVING count(*) >= 30
    AND sum((observed - mean) * (observed - mean)) > (1 - {tolerance}) * sum((observed - persistence) * (observed - persistence))
