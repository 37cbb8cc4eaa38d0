\set from 1735689600 + random(0, 364) * 86400
\set to :from + 86400
SELECT u.technology, m.ts, sum(m.power_kw) AS power_kw FROM bench.measurements m JOIN bench.units u ON u.series_id = m.series_id WHERE m.ts >= to_timestamp(:from) AND m.ts < to_timestamp(:to) GROUP BY 1, 2 ORDER BY 1, 2;
