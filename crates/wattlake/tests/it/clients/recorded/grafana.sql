-- What Grafana's PostgreSQL data source asks: the version, TimescaleDB, what the query builder shows, and a panel's query with its macros expanded. Taken from its source, rewritten.
-- https://github.com/grafana/grafana/tree/main/public/app/plugins/datasource/grafana-postgresql-datasource

-- when: save and test
select current_setting('server_version_num')::int/100 as version
\g

-- when: save and test
select extversion from pg_extension where extname = 'timescaledb'
\g

-- when: the query builder's schemas
-- row: platform
SELECT schema_name AS "name" FROM information_schema.schemata
WHERE schema_name NOT IN ('information_schema', 'pg_catalog', 'pg_toast', '_timescaledb_cache') ORDER BY schema_name
\g

-- when: the query builder's tables
-- row: platform.readings
-- row: platform.sites
SELECT CASE WHEN quote_ident(table_schema) IN (
    SELECT CASE WHEN trim(s[i]) = '"$user"' THEN user ELSE trim(s[i]) END
    FROM generate_series(
        array_lower(string_to_array(current_setting('search_path'), ','), 1),
        array_upper(string_to_array(current_setting('search_path'), ','), 1)) as i,
      string_to_array(current_setting('search_path'), ',') s)
  THEN quote_ident(table_name) ELSE quote_ident(table_schema) || '.' || quote_ident(table_name) END AS "table"
FROM information_schema.tables
WHERE quote_ident(table_schema) NOT IN ('information_schema', 'pg_catalog', '_timescaledb_cache')
ORDER BY CASE WHEN quote_ident(table_schema) IN (
    SELECT CASE WHEN trim(s[i]) = '"$user"' THEN user ELSE trim(s[i]) END
    FROM generate_series(
        array_lower(string_to_array(current_setting('search_path'), ','), 1),
        array_upper(string_to_array(current_setting('search_path'), ','), 1)) as i,
      string_to_array(current_setting('search_path'), ',') s) THEN 0 ELSE 1 END, 1
\g

-- when: the tables of a chosen schema
-- row: readings
SELECT quote_ident(table_name) AS "table" FROM information_schema.tables WHERE quote_ident(table_schema) = 'platform' ORDER BY 1
\g

-- when: the query builder's columns
-- row: at | timestamp with time zone
-- row: local_at | timestamp without time zone
-- row: power_kw | double precision
-- row: energy_kwh | numeric
-- row: note | text
-- row: step_s | bigint
SELECT quote_ident(column_name) AS "column", data_type AS "type"
FROM information_schema.columns
WHERE CASE WHEN array_length(parse_ident('platform.readings'), 1) = 2
  THEN quote_ident(table_schema) = (parse_ident('platform.readings'))[1]
    AND quote_ident(table_name) = (parse_ident('platform.readings'))[2]
  ELSE quote_ident(table_name) = 'platform.readings' END
\g

-- when: a panel: $__timeGroupAlias(at, '1h'), $__timeFilter(at)
-- row: 1 | 105.5
SELECT floor(extract(epoch from at)/3600)*3600 AS "time", site_id::text AS metric, min(power_kw) + 2.5 AS "power_kw"
FROM platform.readings
WHERE at BETWEEN '2026-03-28T22:00:00Z' AND '2026-03-29T22:00:00.123Z'
GROUP BY 1, 2 ORDER BY 1, 2
\g

-- when: a panel: $__timeEpoch(at), $__unixEpochFilter, $__timeFrom()
-- row: 100
SELECT extract(epoch from at) AS "time", power_kw FROM platform.readings
WHERE at >= '2026-03-28T22:00:00Z' AND at < '2026-03-28T22:00:00Z'::timestamptz + interval '1 hour' AND site_id = 1
ORDER BY at LIMIT 10
\g
