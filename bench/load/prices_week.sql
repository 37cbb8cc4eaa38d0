\set from 1735689600 + random(0, 357) * 86400
\set to :from + 7 * 86400
SELECT zone, time_bucket('1 hour', ts) AS hour, avg(price_eur_mwh) AS price_eur_mwh FROM bench.prices WHERE ts >= to_timestamp(:from) AND ts < to_timestamp(:to) GROUP BY 1, 2 ORDER BY 1, 2;
