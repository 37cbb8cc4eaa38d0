--| severity = "warn"
--| text = "A forecast of the last day was made more than two hours after its issue time."
--| hint = "wattlake runs prediction:hydro; its trigger, or the collects before it, came late"
SELECT prediction, site, issued_at, min(recorded_at) AS recorded_at FROM forecast.predictions
WHERE issued_at > TIMESTAMPTZ '{as_of}' - INTERVAL '25 hours' AND issued_at <= TIMESTAMPTZ '{as_of}'
GROUP BY prediction, site, issued_at
HAVING min(recorded_at) BETWEEN issued_at + INTERVAL '2 hours' AND issued_at + INTERVAL '1 day'
