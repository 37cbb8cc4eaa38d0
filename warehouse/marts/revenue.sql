--| kind = "table"
--| description = "What a site's energy was worth at the spot price, by hour of delivery"
--| since = "delivery_start"
--| order = ["site_id", "delivery_start"]

-- Prices of every step within the hour count alike, whatever the market's step is.
WITH energy AS (
    SELECT s.site_id, date_trunc('hour', m.ts) AS delivery_start, sum(m.energy_wh) AS energy_wh
    FROM platform.measurements_10min AS m
    JOIN platform.series AS s ON s.id = m.series_id
    GROUP BY s.site_id, date_trunc('hour', m.ts)
), prices AS (
    SELECT date_trunc('hour', delivery_start) AS delivery_start, avg(price_eur_mwh) AS price_eur_mwh
    FROM platform.market_prices
    WHERE zone = 'FR'
    GROUP BY date_trunc('hour', delivery_start)
)
SELECT
    e.site_id,
    e.delivery_start,
    e.energy_wh,
    p.price_eur_mwh,
    e.energy_wh * p.price_eur_mwh / 1000000 AS revenue_eur
FROM energy AS e
LEFT JOIN prices AS p ON p.delivery_start = e.delivery_start
