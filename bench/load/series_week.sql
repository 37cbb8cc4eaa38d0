\set one random(1, :series)
\set two random(1, :series)
\set from 1735689600 + random(0, 357) * 86400
\set to :from + 7 * 86400
SELECT series_id, time_bucket('1 hour', ts) AS hour, avg(power_kw) AS power_kw FROM bench.measurements WHERE series_id IN (:one, :two) AND ts >= to_timestamp(:from) AND ts < to_timestamp(:to) GROUP BY 1, 2 ORDER BY 1, 2;
