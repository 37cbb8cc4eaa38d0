-- What R's RPostgreSQL 0.7 sends: when it connects, lists tables and fields, and for every column of a result.
-- https://cran.r-project.org/package=RPostgreSQL

-- when: dbConnect, dbListTables, dbListFields, dbGetQuery
set datestyle to ISO
\g

-- when: dbConnect, dbListTables, dbListFields, dbGetQuery
-- row: sites
select tablename from pg_tables where schemaname !='information_schema' and schemaname !='pg_catalog'
\g

-- when: dbConnect, dbListTables, dbListFields, dbGetQuery
select attnotnull from pg_attribute where attrelid=12033 and attnum='2'
\g

-- when: dbConnect, dbListTables, dbListFields, dbGetQuery
-- row: sites
select tablename from pg_tables where schemaname !='information_schema' and schemaname !='pg_catalog' and schemaname='platform' and tablename='sites'
\g

-- when: dbConnect, dbListTables, dbListFields, dbGetQuery
select tablename from pg_tables where schemaname !='information_schema' and schemaname !='pg_catalog' and schemaname='platform' and tablename='nothing'
\g

-- when: dbConnect, dbListTables, dbListFields, dbGetQuery
-- row: id
-- row: power_kw
select a.attname from pg_attribute a, pg_class c, pg_tables t, pg_namespace nsp where a.attrelid = c.oid and c.relname = t.tablename and c.relnamespace = nsp.oid and a.attnum > 0 and nspname = schemaname and schemaname = 'platform' and tablename = 'sites'
\g

-- when: dbConnect, dbListTables, dbListFields, dbGetQuery
select attnotnull from pg_attribute where attrelid=1249 and attnum='2'
\g

-- when: dbConnect, dbListTables, dbListFields, dbGetQuery
select attnotnull from pg_attribute where attrelid={platform.sites} and attnum='1'
\g

-- when: dbConnect, dbListTables, dbListFields, dbGetQuery
select attnotnull from pg_attribute where attrelid={platform.readings} and attnum='2'
\g

-- when: dbConnect, dbListTables, dbListFields, dbGetQuery
select typname, typcategory from pg_type where oid = 1009
\g

-- when: dbConnect, dbListTables, dbListFields, dbGetQuery
SELECT * from "platform"."sites"
\g

-- when: dbConnect, dbListTables, dbListFields, dbGetQuery
select 1 as one
\g
