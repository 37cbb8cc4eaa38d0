-- What R's RPostgres asks when it connects and lists. Taken from its source, rewritten.
-- https://github.com/r-dbi/RPostgres/tree/main/R

-- when: dbConnect
SET datestyle to 'iso, mdy'
\g

-- when: dbConnect
SET TIMEZONE = 'UTC'
\g

-- when: dbConnect
-- row: 1184 | timestamptz
SELECT oid, typname FROM pg_type
\g

-- when: dbListTables, by information_schema
SELECT table_schema, table_name FROM information_schema.tables
WHERE TRUE AND (table_schema = ANY(current_schemas(true))) AND (table_schema <> 'pg_catalog')
ORDER BY table_type, table_name
\g

-- when: dbListTables, by the catalogue
SELECT n.nspname AS table_schema, cl.relname AS table_name
FROM pg_class AS cl INNER JOIN pg_namespace AS n ON cl.relnamespace = n.oid
WHERE (n.nspname = ANY(current_schemas(true))) AND (n.nspname <> 'pg_catalog') AND cl.relkind IN ('r', 'v', 'm', 'f', 'p')
ORDER BY cl.relkind, cl.relname
\g

-- when: dbListObjects(Id(schema = "platform"))
-- row: platform | readings
-- row: platform | sites
SELECT table_schema, table_name FROM information_schema.tables WHERE TRUE AND table_schema IN ('platform') ORDER BY table_type, table_name
\g

-- when: dbExistsTable(Id(schema = "platform", table = "readings"))
-- row: t
SELECT EXISTS (SELECT table_schema, table_name FROM information_schema.tables WHERE TRUE AND table_schema = 'platform' AND table_name = 'readings')
\g

-- when: dbExistsTable(Id(schema = "platform", table = "nothing"))
-- row: f
SELECT EXISTS (SELECT table_schema, table_name FROM information_schema.tables WHERE TRUE AND table_schema = 'platform' AND table_name = 'nothing')
\g

-- when: dbListFields(Id(schema = "platform", table = "readings"))
-- row: at
-- row: updated_at
SELECT column_name FROM (SELECT *, rank() OVER (ORDER BY nr) AS rnr
  FROM (SELECT 1 AS nr, 'platform'::varchar AS table_schema) t INNER JOIN INFORMATION_SCHEMA.columns USING (table_schema)
  WHERE table_name = 'readings') tttt
WHERE rnr = 1 ORDER BY ordinal_position
\g

-- when: dbListFields("readings")
SELECT column_name FROM (SELECT *, rank() OVER (ORDER BY nr) AS rnr
  FROM (SELECT nr, schemas[nr] AS table_schema
    FROM (SELECT *, generate_subscripts(schemas, 1) AS nr FROM (SELECT current_schemas(true) AS schemas) t) tt
    WHERE schemas[nr] <> 'pg_catalog') ttt
  INNER JOIN INFORMATION_SCHEMA.columns USING (table_schema) WHERE table_name = 'readings') tttt
WHERE rnr = 1 ORDER BY ordinal_position
\g

-- when: dbListFields, by the catalogue
-- row: at
SELECT attname FROM pg_attribute WHERE attrelid = '"platform"."readings"'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum
\g

-- when: dbReadTable
-- row: 3 | Barrage
SELECT * FROM "platform"."sites"
\g

-- when: dbGetQuery with parameters
-- with: '2', 'note 7'
-- row: 2 | 203.5
SELECT site_id, at, power_kw FROM platform.readings WHERE site_id = $1 AND note = $2
\g

-- when: the size of a result is asked for, by dbplyr
-- row: 3000
SELECT COUNT(*) AS "n" FROM (SELECT "readings".* FROM "platform"."readings") AS "q01"
\g

-- when: the columns of a table are asked for, by dbplyr
SELECT * FROM "platform"."readings" AS "q01" WHERE (0 = 1)
\g
