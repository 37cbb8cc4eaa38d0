--| kind = "table"
--| description = "Energy of a site on a local day, as measured, with the share of steps that came in"
--| since = "day"
--| order = ["site_id", "day"]

-- A day in Paris has 138, 144 or 150 steps of 10 minutes.
SELECT
    s.site_id,
    time_bucket('1 day', m.ts, 'Europe/Paris') AS day,
    sum(m.energy_wh) AS energy_wh,
    max(m.power_kw) AS power_kw_max,
    count(m.energy_wh) AS steps,
    count(*) FILTER (WHERE m.quality = 'corrected') AS steps_corrected
FROM platform.measurements_10min AS m
JOIN platform.series AS s ON s.id = m.series_id
GROUP BY s.site_id, time_bucket('1 day', m.ts, 'Europe/Paris')
