-- What DuckDB 1.5's postgres extension sends when it attaches a database and scans its tables, without `ctid BETWEEN ...`, which it adds where pg_class.relpages is not 0: the lake says 0.
-- https://duckdb.org/docs/stable/core_extensions/postgres

-- when: attach, scan
SELECT version(), (SELECT COUNT(*) FROM pg_settings WHERE name LIKE 'rds%')
\g

-- when: attach, scan
SELECT 1
\g

-- when: attach, scan
DISCARD ALL
\g

-- when: attach, scan
SELECT to_regclass('duckdb_secrets')
\g

-- when: attach, scan
-- way: simple
BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;

SELECT oid, nspname
FROM pg_namespace

ORDER BY oid;

SELECT pg_namespace.oid AS namespace_id, relname, relpages, attname,
    pg_type.typname type_name, atttypmod type_modifier, pg_attribute.attndims ndim,
    attnum, pg_attribute.attnotnull AS notnull, NULL constraint_id,
    NULL constraint_type, NULL constraint_key, type_ns.nspname AS type_schema,
    col_desc.description AS column_comment,
    tbl_desc.description AS table_comment
FROM pg_class
JOIN pg_namespace ON relnamespace = pg_namespace.oid
JOIN pg_attribute ON pg_class.oid=pg_attribute.attrelid
JOIN pg_type ON atttypid=pg_type.oid
JOIN pg_namespace type_ns ON pg_type.typnamespace = type_ns.oid
LEFT JOIN pg_description col_desc ON col_desc.objoid=pg_class.oid AND col_desc.objsubid=pg_attribute.attnum
LEFT JOIN pg_description tbl_desc ON tbl_desc.objoid=pg_class.oid AND tbl_desc.objsubid=0
WHERE attnum > 0 AND relkind IN ('r', 'v', 'm', 'f', 'p')
UNION ALL
SELECT pg_namespace.oid AS namespace_id, relname, NULL relpages, NULL attname, NULL type_name,
    NULL type_modifier, NULL ndim, NULL attnum, NULL AS notnull,
    pg_constraint.oid AS constraint_id, contype AS constraint_type,
    conkey AS constraint_key, NULL AS type_schema,
    NULL AS column_comment, NULL AS table_comment
FROM pg_class
JOIN pg_namespace ON relnamespace = pg_namespace.oid
JOIN pg_constraint ON (pg_class.oid=pg_constraint.conrelid)
WHERE relkind IN ('r', 'v', 'm', 'f', 'p') AND contype IN ('p', 'u')
ORDER BY namespace_id, relname, attnum, constraint_id;

SELECT n.oid, enumtypid, typname, enumlabel
FROM pg_enum e
JOIN pg_type t ON e.enumtypid = t.oid
JOIN pg_namespace AS n ON (typnamespace=n.oid)

ORDER BY n.oid, enumtypid, enumsortorder;

SELECT n.oid, t.typrelid AS id, t.typname as type, pg_attribute.attname, sub_type.typname,
       sub_type_ns.nspname AS sub_type_schema
FROM pg_type t
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
JOIN pg_class ON pg_class.oid = t.typrelid
JOIN pg_attribute ON attrelid=t.typrelid
JOIN pg_type sub_type ON (pg_attribute.atttypid=sub_type.oid)
JOIN pg_catalog.pg_namespace sub_type_ns ON sub_type_ns.oid = sub_type.typnamespace
WHERE pg_class.relkind IN ('c', 'r', 'v', 'm', 'f', 'p')
AND t.typtype='c'
AND pg_attribute.attnum > 0
AND NOT pg_attribute.attisdropped

ORDER BY n.oid, t.oid, attrelid, attnum;

SELECT pg_namespace.oid, tablename, indexname
FROM pg_indexes
JOIN pg_namespace ON (schemaname=nspname)

ORDER BY pg_namespace.oid;
\g

-- when: attach, scan
COMMIT
\g

-- when: attach, scan
BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY
\g

-- when: attach, scan
COPY (SELECT "site_id", "at", "power_kw", "energy_kwh", "note", "tags", "steps", "raw", "local_at", "valid" FROM "platform"."readings" WHERE "site_id" = '2' AND "at" = '2026-03-28 23:10:00+00') TO STDOUT (FORMAT "binary")
\g

-- when: attach, scan
ROLLBACK
\g

-- when: attach, scan
COPY (SELECT "site_id", "energy_kwh" FROM "platform"."readings" ) TO STDOUT (FORMAT "binary")
\g

-- when: attach, scan
COPY (SELECT "id", "name" FROM "platform"."sites" ) TO STDOUT (FORMAT "binary")
\g

-- when: attach, scan
COPY (SELECT "?column?" FROM (select 1 from platform.readings where note is null) AS __unnamed_subquery ) TO STDOUT (FORMAT "binary")
\g
