\set site random(0, :series / 3)
\set from 1735689600 + random(0, 334) * 86400
\set to :from + 31 * 86400
SELECT u.site, time_bucket('1 day', m.ts, 'Europe/Paris') AS day, sum(m.energy_kwh) AS energy_kwh FROM bench.measurements m JOIN bench.units u ON u.series_id = m.series_id WHERE u.site = 'Site ' || :site AND m.ts >= to_timestamp(:from) AND m.ts < to_timestamp(:to) GROUP BY 1, 2 ORDER BY 2;
