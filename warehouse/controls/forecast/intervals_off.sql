--| severity = "warn"
--| tolerance = 0.2
--| text = "The interval from q10 to q90 held too few of the values of the last sixty days; it should hold 80 in 100."
--| hint = "train again: wattlake model train hydro; forecast.live has the coverage by month"
SELECT prediction, site, horizon, count(*) AS forecasts,
    avg(CASE WHEN observed BETWEEN q10 AND q90 THEN 1.0 ELSE 0.0 END) AS coverage
FROM forecast.judged
WHERE observed IS NOT NULL AND issued_at > TIMESTAMPTZ '{as_of}' - INTERVAL '60 days'
    AND recorded_at < issued_at + INTERVAL '1 day'
GROUP BY prediction, site, horizon
HAVING count(*) >= 30 AND avg(CASE WHEN observed BETWEEN q10 AND q90 THEN 1.0 ELSE 0.0 END) < 0.8 - {tolerance}
