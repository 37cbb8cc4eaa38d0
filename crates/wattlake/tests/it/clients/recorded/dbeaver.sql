-- What DBeaver asks beside the metadata of its JDBC driver (jdbc.sql): when it connects, and when its tree shows databases, schemas, tables, columns, keys, indexes. Written after its public source, below, and not recorded from the program itself.
-- https://github.com/dbeaver/dbeaver/tree/devel/plugins/org.jkiss.dbeaver.ext.postgresql

-- when: connect
SET extra_float_digits = 3
\g

-- when: connect
SET application_name = 'DBeaver - Main'
\g

-- when: connect
SELECT current_schema(),session_user
\g

-- when: connect
-- way: simple
-- row: platform
SELECT n.oid,n.*,d.description FROM pg_catalog.pg_namespace n
LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=n.oid AND d.objsubid=0 AND d.classoid='pg_namespace'::regclass ORDER BY nspname
\g

-- when: connect
SELECT n.nspname = ANY(current_schemas(true)), n.nspname, t.typname FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON t.typnamespace = n.oid WHERE t.oid = 1034
\g

-- when: connect
SHOW search_path
\g

-- when: connect
SELECT db.oid,db.* FROM pg_catalog.pg_database db WHERE datname=current_database()
\g

-- when: connect
-- row: standard_conforming_strings | on
select * from pg_catalog.pg_settings where name='standard_conforming_strings'
\g

-- when: connect
SELECT * FROM pg_catalog.pg_enum WHERE 1<>1 LIMIT 1
\g

-- when: connect
SELECT reltype FROM pg_catalog.pg_class WHERE 1<>1 LIMIT 1
\g

-- when: the types of a schema
-- row: timestamptz
SELECT t.oid,t.*,c.relkind,format_type(nullif(t.typbasetype, 0), t.typtypmod) as base_type_name, d.description
FROM pg_catalog.pg_type t
LEFT OUTER JOIN pg_catalog.pg_type et ON et.oid=t.typelem
LEFT OUTER JOIN pg_catalog.pg_class c ON c.oid=t.typrelid
LEFT OUTER JOIN pg_catalog.pg_description d ON t.oid=d.objoid
WHERE t.typname IS NOT NULL AND (c.relkind IS NULL OR c.relkind = 'c') AND (et.typcategory IS NULL OR et.typcategory <> 'C')
\g

-- when: the tables of a schema
-- way: simple
-- row: readings
-- row: sites
SELECT c.oid,c.*,d.description,pg_catalog.pg_get_expr(c.relpartbound, c.oid) as partition_expr, pg_catalog.pg_get_partkeydef(c.oid) as partition_key
FROM pg_catalog.pg_class c
LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=c.oid AND d.objsubid=0 AND d.classoid='pg_class'::regclass
WHERE c.relnamespace={platform} AND c.relkind not in ('i','I','c')
\g

-- when: the sizes of the tables of a schema
select c.oid,pg_catalog.pg_total_relation_size(c.oid) as total_rel_size,pg_catalog.pg_relation_size(c.oid) as rel_size
FROM pg_class c WHERE c.relnamespace={platform}
\g

-- when: the columns of a table
-- row: readings | at
-- row: readings | energy_kwh | 1179658
SELECT c.relname,a.*,pg_catalog.pg_get_expr(ad.adbin, ad.adrelid, true) as def_value,dsc.description,dep.objid
FROM pg_catalog.pg_attribute a
INNER JOIN pg_catalog.pg_class c ON (a.attrelid=c.oid)
LEFT OUTER JOIN pg_catalog.pg_attrdef ad ON (a.attrelid=ad.adrelid AND a.attnum = ad.adnum)
LEFT OUTER JOIN pg_catalog.pg_description dsc ON (c.oid=dsc.objoid AND a.attnum = dsc.objsubid)
LEFT OUTER JOIN pg_depend dep on dep.refobjid = a.attrelid AND dep.deptype = 'i' and dep.refobjsubid = a.attnum and dep.classid = dep.refclassid
WHERE NOT a.attisdropped AND a.attnum > 0 AND c.oid={platform.readings} ORDER BY a.attnum
\g

-- when: the keys of a table
SELECT c.oid,c.*,t.relname as tabrelname,rt.relnamespace as refnamespace,d.description,case when c.contype='c' then substring(pg_get_constraintdef(c.oid), 7) else null end consrc_copy
FROM pg_catalog.pg_constraint c
INNER JOIN pg_catalog.pg_class t ON t.oid=c.conrelid
LEFT OUTER JOIN pg_catalog.pg_class rt ON rt.oid=c.confrelid
LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=c.oid AND d.objsubid=0 AND d.classoid='pg_constraint'::regclass
WHERE c.conrelid={platform.sites} ORDER BY c.oid
\g

-- when: the indexes of a table
SELECT i.*,i.indkey as keys,c.relname,c.relnamespace,c.relam,c.reltablespace,tc.relname as tabrelname,dsc.description,
  pg_catalog.pg_get_expr(i.indpred, i.indrelid) as pred_expr,pg_catalog.pg_get_expr(i.indexprs, i.indrelid, true) as expr,
  pg_catalog.pg_relation_size(i.indexrelid) as index_rel_size,pg_catalog.pg_stat_get_numscans(i.indexrelid) as index_num_scans
FROM pg_catalog.pg_index i
INNER JOIN pg_catalog.pg_class c ON c.oid=i.indexrelid
INNER JOIN pg_catalog.pg_class tc ON tc.oid=i.indrelid
LEFT OUTER JOIN pg_catalog.pg_description dsc ON i.indexrelid=dsc.objoid
WHERE i.indrelid={platform.sites} ORDER BY tabrelname, c.relname
\g

-- when: the references to a table
SELECT DISTINCT dep.deptype, dep.classid, dep.objid, cl.relkind, attr.attname FROM pg_depend dep
LEFT JOIN pg_class cl ON dep.objid=cl.oid LEFT JOIN pg_attribute attr ON dep.objid=attr.attrelid AND dep.objsubid=attr.attnum
WHERE dep.refobjid={platform.readings} AND dep.deptype IN ('n') ORDER BY dep.deptype
\g

-- when: the policies of a table
select * from pg_catalog.pg_policies where schemaname='platform' and tablename='readings'
\g

-- when: the functions of a schema
SELECT p.oid as poid,p.*,pg_catalog.pg_get_expr(p.proargdefaults, 0) as arg_defaults,d.description
FROM pg_catalog.pg_proc p LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=p.oid AND d.objsubid = 0
WHERE p.pronamespace={platform} ORDER BY p.proname
\g

-- when: roles
SELECT a.oid,a.*,pg_catalog.shobj_description(a.oid, 'pg_authid') AS role_comment FROM pg_catalog.pg_roles a ORDER BY a.rolname
\g

-- when: the data of a table
-- row: 3 | Barrage
SELECT x.* FROM platform.sites x
\g

-- when: the count of its rows
-- row: 3000
select count(1) from (SELECT x.* FROM platform.readings x) dbvrcnt
\g
