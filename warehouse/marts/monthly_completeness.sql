--| description = "Days of each site with measurements, and those that miss a step, by month"

SELECT
    site_id,
    date_trunc('month', day AT TIME ZONE 'Europe/Paris') AS month,
    count(*) AS days,
    count(*) FILTER (WHERE steps < 138) AS days_short,
    sum(energy_wh) AS energy_wh
FROM marts.daily_production
GROUP BY site_id, date_trunc('month', day AT TIME ZONE 'Europe/Paris')
