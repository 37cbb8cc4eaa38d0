--| description = "Forecasts beside what came, with the value that was the newest one when each was issued"
WITH newest AS (
    SELECT station, starts_at, last_value(flow_ls ORDER BY known_at) AS flow_ls
    FROM forecast.flows GROUP BY station, starts_at
)
SELECT f.prediction, f.site, f.issued_at, f.recorded_at, f.at, f.horizon, f.mean, f.q10, f.q50, f.q90, f.method,
    o.flow_ls AS observed, p.flow_ls AS persistence
FROM forecast.predictions f
LEFT JOIN newest o ON o.station = f.site AND o.starts_at = f.at
LEFT JOIN newest p ON p.station = f.site AND p.starts_at = f.at - f.horizon * INTERVAL '24 hours'
