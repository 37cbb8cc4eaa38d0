SELECT series_id, max(ts) AS at, last(power_kw, ts) AS power_kw FROM bench.measurements WHERE ts >= to_timestamp(1767139200) GROUP BY 1 ORDER BY 1;
