-- What connectorx 0.4 sends for polars.read_database_uri: binary and CSV COPY, and the bounds of its partitions.
-- https://sfu-db.github.io/connector-x/databases/postgres.html

-- when: read_sql
COPY (select site_id, at, local_at, power_kw, energy_kwh, quality, step_s, factor, valid, note, updated_at from platform.readings) TO STDOUT WITH BINARY
\g

-- when: read_sql
SELECT min(CXTMPTAB_RANGE.site_id), max(CXTMPTAB_RANGE.site_id) FROM (SELECT site_id, at, local_at, power_kw, energy_kwh, quality, step_s, factor, valid, note, updated_at FROM platform.readings) AS CXTMPTAB_RANGE
\g

-- when: read_sql
COPY (SELECT * FROM (SELECT site_id, at, local_at, power_kw, energy_kwh, quality, step_s, factor, valid, note, updated_at FROM platform.readings) AS CXTMPTAB_PART WHERE 2 <= CXTMPTAB_PART.site_id AND CXTMPTAB_PART.site_id < 3) TO STDOUT WITH BINARY
\g

-- when: read_sql
COPY (SELECT * FROM (SELECT site_id, at, local_at, power_kw, energy_kwh, quality, step_s, factor, valid, note, updated_at FROM platform.readings) AS CXTMPTAB_PART WHERE 3 <= CXTMPTAB_PART.site_id AND CXTMPTAB_PART.site_id < 4) TO STDOUT WITH BINARY
\g

-- when: read_sql
COPY (SELECT * FROM (SELECT site_id, at, local_at, power_kw, energy_kwh, quality, step_s, factor, valid, note, updated_at FROM platform.readings) AS CXTMPTAB_PART WHERE 1 <= CXTMPTAB_PART.site_id AND CXTMPTAB_PART.site_id < 2) TO STDOUT WITH BINARY
\g

-- when: read_sql
COPY (select site_id, at, local_at, power_kw, energy_kwh, quality, step_s, factor, valid, note, updated_at from platform.readings) TO STDOUT WITH CSV
\g

-- when: read_sql
select site_id, at, local_at, power_kw, energy_kwh, quality, step_s, factor, valid, note, updated_at from platform.readings
\g

-- when: read_sql
COPY (select id, power_kw, opened_on from platform.sites order by id) TO STDOUT WITH BINARY
\g
