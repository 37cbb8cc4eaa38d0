-- What Npgsql asks at its first connection: all types, by what receives them, in one message. Power BI and Excel's Power Query use it. Written after its public source, below, and not recorded from the program itself.
-- https://github.com/npgsql/npgsql/blob/main/src/Npgsql/PostgresDatabaseInfo.cs

-- when: open
-- row: pg_catalog | 1184 | timestamptz | b | f
-- row: pg_catalog | 1009 | _text | a | 25
-- row: pg_catalog | 1700 | numeric
SELECT ns.nspname, t.oid, t.typname, t.typtype, t.typnotnull, t.elemtypoid
FROM (
  SELECT typ.oid, typ.typnamespace, typ.typname, typ.typtype, typ.typrelid, typ.typnotnull, typ.relkind,
    elemtyp.oid AS elemtypoid, elemtyp.typname AS elemtypname, elemcls.relkind AS elemrelkind,
    CASE WHEN elemproc.proname='array_recv' THEN 'a' ELSE elemtyp.typtype END AS elemtyptype
  FROM (
    SELECT typ.oid, typnamespace, typname, typrelid, typnotnull, relkind, typelem AS elemoid,
      CASE WHEN proc.proname='array_recv' THEN 'a' ELSE typ.typtype END AS typtype,
      CASE WHEN proc.proname='array_recv' THEN typ.typelem
        WHEN typ.typtype='r' THEN rngsubtype
        WHEN typ.typtype='m' THEN (SELECT rngtypid FROM pg_range WHERE rngmultitypid = typ.oid)
        WHEN typ.typtype='d' THEN typ.typbasetype END AS elemtypoid
    FROM pg_type AS typ
    LEFT JOIN pg_class AS cls ON (cls.oid = typ.typrelid)
    LEFT JOIN pg_proc AS proc ON proc.oid = typ.typreceive
    LEFT JOIN pg_range ON (pg_range.rngtypid = typ.oid)
  ) AS typ
  LEFT JOIN pg_type AS elemtyp ON elemtyp.oid = elemtypoid
  LEFT JOIN pg_class AS elemcls ON (elemcls.oid = elemtyp.typrelid)
  LEFT JOIN pg_proc AS elemproc ON elemproc.oid = elemtyp.typreceive
) AS t
JOIN pg_namespace AS ns ON (ns.oid = typnamespace)
WHERE typtype IN ('b', 'r', 'm', 'e', 'd') OR (typtype = 'c' AND relkind='c') OR (typtype = 'p' AND typname IN ('record', 'void'))
  OR (typtype = 'a' AND (elemtyptype IN ('b', 'r', 'm', 'e', 'd') OR (elemtyptype = 'p' AND elemtypname IN ('record', 'void')) OR (elemtyptype = 'c' AND elemrelkind='c')))
ORDER BY CASE WHEN typtype IN ('b', 'e', 'p') THEN 0 WHEN typtype = 'r' THEN 1 WHEN typtype = 'm' THEN 2 WHEN typtype = 'c' THEN 3
  WHEN typtype = 'd' AND elemtyptype <> 'a' THEN 4 WHEN typtype = 'a' THEN 5 WHEN typtype = 'd' AND elemtyptype = 'a' THEN 6 END
\g

-- when: open
SELECT typ.oid, att.attname, att.atttypid
FROM pg_type AS typ
JOIN pg_namespace AS ns ON (ns.oid = typ.typnamespace)
JOIN pg_class AS cls ON (cls.oid = typ.typrelid)
JOIN pg_attribute AS att ON (att.attrelid = typ.typrelid)
WHERE (typ.typtype = 'c' AND cls.relkind='c') AND attnum > 0 AND NOT attisdropped
ORDER BY typ.oid, att.attnum
\g

-- when: open
SELECT pg_type.oid, enumlabel FROM pg_enum JOIN pg_type ON pg_type.oid=enumtypid ORDER BY oid, enumsortorder
\g

-- when: open, all in one message
-- way: simple
SELECT version();
SELECT pg_type.oid, enumlabel FROM pg_enum JOIN pg_type ON pg_type.oid=enumtypid ORDER BY oid, enumsortorder;
\g

-- when: back to the pool
DISCARD ALL
\g

-- when: Power BI's navigator
-- row: platform | readings | BASE TABLE
select TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE from INFORMATION_SCHEMA.tables
where TABLE_SCHEMA not in ('information_schema', 'pg_catalog') order by TABLE_SCHEMA, TABLE_NAME
\g

-- when: Power BI's navigator
-- row: at | 2 | timestamp with time zone
-- row: power_kw | 4 | YES | double precision
select COLUMN_NAME, ORDINAL_POSITION, IS_NULLABLE, case when (data_type like '%unsigned%') then DATA_TYPE || ' unsigned' else DATA_TYPE end as DATA_TYPE
from INFORMATION_SCHEMA.columns where TABLE_SCHEMA = 'platform' and TABLE_NAME = 'readings' order by TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION
\g

-- when: Power BI's navigator
SELECT NULL AS PK_COLUMN_NAME, ii.column_name AS FK_COLUMN_NAME, kcu.ordinal_position AS ORDINAL, fk.constraint_name AS FK_NAME
FROM INFORMATION_SCHEMA.referential_constraints AS fk
INNER JOIN INFORMATION_SCHEMA.key_column_usage AS kcu ON fk.constraint_schema = kcu.constraint_schema AND fk.constraint_name = kcu.constraint_name
INNER JOIN INFORMATION_SCHEMA.key_column_usage AS ii ON ii.constraint_schema = fk.unique_constraint_schema AND ii.constraint_name = fk.unique_constraint_name
WHERE kcu.table_schema = 'platform' AND kcu.table_name = 'readings' ORDER BY kcu.ordinal_position
\g

-- when: Power BI's navigator
select i.CONSTRAINT_SCHEMA || '_' || i.CONSTRAINT_NAME as INDEX_NAME, ii.COLUMN_NAME, ii.ORDINAL_POSITION, case when i.CONSTRAINT_TYPE = 'PRIMARY KEY' then 'Y' else 'N' end as PRIMARY_KEY
from INFORMATION_SCHEMA.table_constraints i
inner join INFORMATION_SCHEMA.key_column_usage ii on i.CONSTRAINT_SCHEMA = ii.CONSTRAINT_SCHEMA and i.CONSTRAINT_NAME = ii.CONSTRAINT_NAME and i.TABLE_SCHEMA = ii.TABLE_SCHEMA and i.TABLE_NAME = ii.TABLE_NAME
where i.TABLE_SCHEMA = 'platform' and i.TABLE_NAME = 'sites' and i.CONSTRAINT_TYPE in ('PRIMARY KEY', 'UNIQUE')
order by 1, ii.TABLE_SCHEMA, ii.TABLE_NAME, ii.ORDINAL_POSITION
\g

-- when: Power BI's preview
-- row: 1 | Éoliennes du Nord
select "$Table"."id" as "id", "$Table"."name" as "name", "$Table"."updated_at" as "updated_at" from "platform"."sites" "$Table" limit 1000
\g
