\set from 1735689600 + random(0, 357) * 86400
\set to :from + 7 * 86400
SELECT quality, count(*) AS points FROM bench.measurements WHERE ts >= to_timestamp(:from) AND ts < to_timestamp(:to) GROUP BY 1 ORDER BY 1;
