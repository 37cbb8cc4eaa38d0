//! What the source holds: tables with their columns, keys and partitions, read in a handful of
//! queries whatever the number of tables.

use std::collections::{BTreeMap, HashMap};

use tokio_postgres::{Client, Row};

use super::quote;
use crate::carried::SourceType;
use crate::error::{Context, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    Table,
    Partitioned,
    View,
    MaterializedView,
    Foreign,
}

#[derive(Debug, Clone)]
pub struct Column {
    pub name: String,
    /// As `format_type()` gives it, for messages.
    pub type_name: String,
    pub source: SourceType,
}

/// A piece of a table that can be read by page ranges.
#[derive(Debug, Clone)]
pub struct Leaf {
    pub oid: u32,
    /// Schema and name, quoted.
    pub name: String,
    pub pages: u64,
    /// A foreign partition has no pages of its own.
    pub has_pages: bool,
}

#[derive(Debug, Clone)]
pub struct Table {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    pub kind: TableKind,
    pub columns: Vec<Column>,
    /// The primary key, else a unique index that can identify a row; empty where there is neither.
    pub key: Vec<String>,
    pub leaves: Vec<Leaf>,
    pub rows_estimate: u64,
    pub bytes: u64,
    pub readable: bool,
    /// `pg_class.relreplident`: d(efault), n(othing), f(ull), i(ndex).
    pub replica_identity: char,
}

impl Table {
    pub fn qualified(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.name))
    }

    /// What a query reads the rows from: a table's heirs are tables of their own, its partitions are not.
    pub fn rows(&self) -> String {
        let only = if self.kind == TableKind::Table { "ONLY " } else { "" };
        format!("{only}{}", self.qualified())
    }

    /// `schema.name`, for messages and for the keys of the configuration.
    pub fn display(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    pub fn is_view(&self) -> bool {
        matches!(self.kind, TableKind::View | TableKind::MaterializedView)
    }
}

/// All types of the source, so that any column or expression can be resolved.
pub struct Catalog {
    types: HashMap<u32, TypeRow>,
    composites: HashMap<u32, Vec<(String, u32, i32)>>,
    ranges: HashMap<u32, u32>,
    multiranges: HashMap<u32, u32>,
    pub tables: Vec<Table>,
    pub server_version: u32,
}

struct TypeRow {
    name: String,
    schema: String,
    kind: char,
    base: u32,
    base_modifier: i32,
    element: u32,
    is_array: bool,
    relation: u32,
}

impl Catalog {
    pub async fn read(client: &Client) -> Result<Catalog> {
        let mut catalog = Catalog::read_types(client).await.context("read the source's types")?;
        catalog.tables = catalog.read_tables(client).await.context("read the source's tables")?;
        Ok(catalog)
    }

    async fn read_types(client: &Client) -> Result<Catalog> {
        let version = client.query_one("SELECT current_setting('server_version_num')::int", &[]).await;
        let server_version = version.context("ask for the server's version")?.get::<_, i32>(0).unsigned_abs();
        let types = client.query(TYPES, &[]).await.context("list types")?;
        let composites = client.query(COMPOSITES, &[]).await.context("list composite types")?;
        let multirange = if server_version >= 140_000 { "rngmultitypid" } else { "0::oid" };
        let ranges = client
            .query(&format!("SELECT rngtypid, rngsubtype, {multirange} FROM pg_range"), &[])
            .await
            .context("list range types")?;
        let mut fields: HashMap<u32, Vec<(String, u32, i32)>> = HashMap::new();
        for row in composites {
            fields.entry(row.get(0)).or_default().push((row.get(1), row.get(2), row.get(3)));
        }
        Ok(Catalog {
            types: types.iter().map(|row| (row.get(0), TypeRow::from(row))).collect(),
            composites: fields,
            ranges: ranges.iter().map(|row| (row.get(0), row.get(1))).collect(),
            multiranges: ranges.iter().map(|row| (row.get(2), row.get(0))).collect(),
            tables: Vec::new(),
            server_version,
        })
    }

    /// What a type is made of; `modifier` is `atttypmod`.
    pub fn resolve(&self, oid: u32, modifier: i32) -> SourceType {
        // PostgreSQL refuses a composite that holds itself, but an array of itself it allows.
        self.resolve_within(oid, modifier, 0)
    }

    fn resolve_within(&self, oid: u32, modifier: i32, depth: u8) -> SourceType {
        let Some(row) = self.types.get(&oid) else { return SourceType::Other(format!("type {oid}")) };
        if depth > 16 {
            return SourceType::Other(row.name.clone());
        }
        let inner = |oid, modifier| Box::new(self.resolve_within(oid, modifier, depth + 1));
        if row.is_array {
            return SourceType::Array(inner(row.element, modifier));
        }
        match row.kind {
            'd' => {
                let modifier = if row.base_modifier >= 0 { row.base_modifier } else { modifier };
                self.resolve_within(row.base, modifier, depth + 1)
            }
            'e' => SourceType::Enum,
            'c' => {
                let fields = self.composites.get(&row.relation).map_or(&[][..], Vec::as_slice);
                let field = |(name, oid, modifier): &(String, u32, i32)| (name.clone(), *inner(*oid, *modifier));
                SourceType::Composite(fields.iter().map(field).collect())
            }
            'r' => match self.ranges.get(&oid) {
                Some(bound) => SourceType::Range(inner(*bound, -1)),
                None => SourceType::Other(row.name.clone()),
            },
            'm' => match self.multiranges.get(&oid).and_then(|range| self.ranges.get(range)) {
                Some(bound) => SourceType::Multirange(inner(*bound, -1)),
                None => SourceType::Other(row.name.clone()),
            },
            'b' if row.schema == "pg_catalog" => SourceType::Builtin { name: row.name.clone(), modifier },
            _ => SourceType::Other(row.name.clone()),
        }
    }

    async fn read_tables(&self, client: &Client) -> Result<Vec<Table>> {
        let rows = client.query(TABLES, &[]).await.context("list tables")?;
        let mut tables: BTreeMap<u32, Table> = rows.iter().map(|row| (row.get(0), table_from(row))).collect();
        for row in client.query(COLUMNS, &[]).await.context("list columns")? {
            if let Some(table) = tables.get_mut(&row.get::<_, u32>(0)) {
                let source = self.resolve(row.get(2), row.get(3));
                table.columns.push(Column { name: row.get(1), type_name: row.get(4), source });
            }
        }
        for row in client.query(KEYS, &[]).await.context("list keys")? {
            if let Some(table) = tables.get_mut(&row.get::<_, u32>(0))
                && table.key.is_empty()
            {
                table.key = row.get(1);
            }
        }
        let leaves = client.query(LEAVES, &[]).await.context("list partitions")?;
        for row in &leaves {
            if let Some(table) = tables.get_mut(&row.get::<_, u32>(0)) {
                let has_pages = matches!(row.get::<_, i8>(4) as u8, b'r' | b'm');
                let name = format!("{}.{}", quote(row.get(2)), quote(row.get(3)));
                let pages = row.get::<_, i64>(5).unsigned_abs();
                table.bytes += row.get::<_, i64>(6).unsigned_abs();
                table.rows_estimate += row.get::<_, f32>(7).max(0.0) as u64;
                table.leaves.push(Leaf { oid: row.get(1), name, pages, has_pages });
            }
        }
        let mut tables: Vec<Table> = tables.into_values().collect();
        tables.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
        Ok(tables)
    }
}

impl From<&Row> for TypeRow {
    fn from(row: &Row) -> Self {
        TypeRow {
            name: row.get(1),
            schema: row.get(2),
            kind: row.get::<_, i8>(3) as u8 as char,
            base: row.get(4),
            base_modifier: row.get(5),
            element: row.get(6),
            is_array: row.get(7),
            relation: row.get(8),
        }
    }
}

fn table_from(row: &Row) -> Table {
    let kind = match row.get::<_, i8>(3) as u8 {
        b'p' => TableKind::Partitioned,
        b'v' => TableKind::View,
        b'm' => TableKind::MaterializedView,
        b'f' => TableKind::Foreign,
        _ => TableKind::Table,
    };
    Table {
        oid: row.get(0),
        schema: row.get(1),
        name: row.get(2),
        kind,
        columns: Vec::new(),
        key: Vec::new(),
        leaves: Vec::new(),
        rows_estimate: 0,
        bytes: 0,
        readable: row.get(4),
        replica_identity: row.get::<_, i8>(5) as u8 as char,
    }
}

const TYPES: &str = "SELECT t.oid, t.typname::text, n.nspname::text, t.typtype, t.typbasetype, t.typtypmod, \
     t.typelem, t.typinput = 'array_in'::regproc, t.typrelid \
     FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace";

const COMPOSITES: &str = "SELECT a.attrelid, a.attname::text, a.atttypid, a.atttypmod FROM pg_attribute a \
     JOIN pg_class c ON c.oid = a.attrelid \
     WHERE a.attnum > 0 AND NOT a.attisdropped AND c.reltype <> 0 \
       AND c.relnamespace <> 'pg_catalog'::regnamespace ORDER BY a.attrelid, a.attnum";

/// What a user made, partitions aside: they are read through the table that they belong to.
const TABLES: &str = "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind, \
     has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'), c.relreplident \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND c.relpersistence <> 't' \
       AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%' \
       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')";

const COLUMNS: &str = "SELECT a.attrelid, a.attname::text, a.atttypid, a.atttypmod, format_type(a.atttypid, a.atttypmod) \
     FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
     WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition \
       AND c.relnamespace <> 'pg_catalog'::regnamespace ORDER BY a.attrelid, a.attnum";

/// The primary key first, then unique indexes over columns that are never NULL, the narrowest first.
const KEYS: &str = "SELECT i.indrelid, k.names FROM pg_index i \
     CROSS JOIN LATERAL (SELECT array_agg(a.attname::text ORDER BY o.at) AS names, bool_and(a.attnotnull) AS never_null \
         FROM unnest(i.indkey::int2[]) WITH ORDINALITY o(num, at) \
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = o.num WHERE o.at <= i.indnkeyatts) k \
     WHERE i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL \
       AND k.never_null ORDER BY i.indrelid, i.indisprimary DESC, i.indnkeyatts, i.indexrelid";

const LEAVES: &str = "SELECT r.oid, l.oid, n.nspname::text, l.relname::text, l.relkind, \
     CASE WHEN l.relkind = 'f' THEN 0 ELSE pg_relation_size(l.oid) / current_setting('block_size')::int END, \
     CASE WHEN l.relkind = 'f' THEN 0 ELSE pg_table_size(l.oid) END, l.reltuples \
     FROM pg_class r \
     CROSS JOIN LATERAL (SELECT r.oid AS relid WHERE r.relkind <> 'p' \
         UNION ALL SELECT t.relid FROM pg_partition_tree(r.oid) t WHERE r.relkind = 'p' AND t.isleaf) t \
     JOIN pg_class l ON l.oid = t.relid JOIN pg_namespace n ON n.oid = l.relnamespace \
     WHERE r.relkind IN ('r', 'p', 'm') AND l.relkind IN ('r', 'm', 'f') AND NOT r.relispartition \
       AND r.relpersistence <> 't' AND r.relnamespace <> 'pg_catalog'::regnamespace ORDER BY r.oid, l.oid";
