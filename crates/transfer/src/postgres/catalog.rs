//! The tables of a server with their columns, keys and partitions, read by a fixed number of queries.

use std::collections::{BTreeMap, HashMap};

use tokio_postgres::{Client, Row};

use super::quote;
use crate::error::{Context, Result};
use crate::type_map::SourceType;

/// The kinds of relations that can be transferred, by `pg_class.relkind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TableKind {
    /// An ordinary table.
    #[default]
    Table,
    /// A partitioned table.
    Partitioned,
    /// A view.
    View,
    /// A materialized view.
    MaterializedView,
    /// A foreign table.
    Foreign,
}

/// A column of a table.
#[derive(Debug, Clone)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// `pg_attribute.attnum`, which stays when the column is renamed.
    pub number: i16,
    /// Its type as `format_type()` gives it.
    pub type_name: String,
    /// The OID of its type.
    pub type_oid: u32,
    /// `pg_attribute.atttypmod`
    pub modifier: i32,
    /// Its type or, of a domain, the type that it restricts: a NULL of it is always valid.
    pub input_type: String,
    /// Its type, resolved.
    pub source: SourceType,
    /// It may contain NULL.
    pub nullable: bool,
    /// The user may read it.
    pub readable: bool,
    /// The text of the value in rows that are older than the column, where it was added with a constant default.
    pub missing: Option<String>,
    /// Rows that are older than the column may have a value in it: a default, or a computed one.
    pub filled: bool,
    /// The sequence that its values come from.
    pub sequence: Option<Sequence>,
    /// The expression of a generated column.
    pub generated: Option<String>,
}

/// The sequence of a `serial` or identity column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequence {
    /// `pg_class.oid`
    pub oid: u32,
    /// The last value; `None` where none was taken since the sequence was created or restarted, or where the user may
    /// not read it.
    pub last: Option<i64>,
    /// How many values a session takes at a time.
    pub cache: i64,
    /// It counts up and does not start again at its end.
    pub grows: bool,
    /// The user may read it, and it is not locked.
    pub readable: bool,
}

/// A relation that holds rows of a table: the table itself, a partition or a child.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// `pg_class.oid`
    pub oid: u32,
    /// Schema and name, quoted.
    pub name: String,
    /// The number of its pages, by the statistics; 0 where there are none.
    pub pages: u64,
    /// `pg_class.relfilenode`, which changes when the relation is truncated or rewritten. 0 where it has none.
    pub file_node: u32,
    /// It can be read by page ranges. A foreign partition has no pages of its own.
    pub has_pages: bool,
    /// The user may read it directly. A privilege on the parent is enough to read it through the parent.
    pub readable: bool,
    /// The transaction that attached it, or one of the tables that it is a part of, with its epoch; 0 for the table
    /// itself, and where it is long ago.
    pub attached_by: i64,
}

/// A table, view or foreign table.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// `pg_class.oid`
    pub oid: u32,
    /// The name of its schema.
    pub schema: String,
    /// Its name, without the schema.
    pub name: String,
    /// The kind of relation.
    pub kind: TableKind,
    /// Its columns, in their order.
    pub columns: Vec<Column>,
    /// The columns of the primary key, else of a unique index that identifies rows; empty where there is neither.
    pub key: Vec<String>,
    /// The relations that hold its rows; none for a view.
    pub leaves: Vec<Leaf>,
    /// Other tables inherit from it (`INHERITS`, hypertables): their rows are its rows, and they are its leaves.
    pub has_children: bool,
    /// The number of its rows, by the statistics.
    pub rows_estimate: u64,
    /// The size of its pages in bytes, by the statistics.
    pub bytes: u64,
    /// The user may use the schema, and read some of the columns.
    pub readable: bool,
    /// It is not written to the log: it is empty in a base backup, and unreadable on a standby.
    pub unlogged: bool,
    /// `pg_class.relreplident`: d(efault), n(othing), f(ull), i(ndex).
    pub replica_identity: char,
}

impl Table {
    /// The name with its schema, quoted.
    pub fn qualified(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.name))
    }

    /// What a query selects from to read all rows: the table with its partitions and children.
    pub fn rows(&self) -> String {
        self.qualified()
    }

    /// What a query selects from to read the rows of a leaf: the leaf alone or, where the user has no privilege on it,
    /// its rows of the table.
    pub fn rows_of(&self, leaf: &Leaf) -> String {
        if leaf.readable {
            return format!("ONLY {}", leaf.name);
        }
        format!("(SELECT *, tableoid, ctid, xmin FROM {} WHERE tableoid = {}::oid) AS leaf", self.rows(), leaf.oid)
    }

    /// The OIDs of the table and of the relations that hold its rows.
    pub fn relations(&self) -> impl Iterator<Item = u32> {
        std::iter::once(self.oid).chain(self.leaves.iter().map(|leaf| leaf.oid))
    }

    /// `schema.name`, for messages and for the keys of the configuration. A part with a dot or a quote in it is quoted,
    /// so that no two tables have the same name.
    pub fn display(&self) -> String {
        display(&self.schema, &self.name)
    }

    /// Whether it is a view or a materialized view.
    pub fn is_view(&self) -> bool {
        matches!(self.kind, TableKind::View | TableKind::MaterializedView)
    }
}

/// The name of a table as [`Table::display`] writes it.
pub fn display(schema: &str, name: &str) -> String {
    format!("{}.{}", quote_if_needed(schema), quote_if_needed(name))
}

fn quote_if_needed(name: &str) -> String {
    if name.contains(['.', '"']) { quote(name) } else { name.to_owned() }
}

/// The identity of a database, independent of the address that it is reached by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// `pg_control_system().system_identifier`, which a cluster and its standbys have in common.
    pub system: i64,
    /// `pg_database.oid`
    pub database: u32,
}

impl Identity {
    /// Reads the identity of the connection's database.
    pub async fn of(client: &Client) -> Result<Identity> {
        let row = client.query_one(IDENTITY, &[]).await.context("read the server's identity")?;
        Ok(Identity { system: row.get(0), database: row.get(1) })
    }
}

const IDENTITY: &str = "SELECT (SELECT system_identifier FROM pg_control_system()), oid FROM pg_database \
     WHERE datname = current_database()";

/// The tables and types of a database.
pub struct Catalog {
    types: HashMap<u32, TypeRow>,
    composites: HashMap<u32, Vec<(String, u32, i32)>>,
    ranges: HashMap<u32, u32>,
    multiranges: HashMap<u32, u32>,
    /// The tables, ordered by schema and name.
    pub tables: Vec<Table>,
    /// `server_version_num`, such as 150014.
    pub server_version: u32,
    /// The database's identity.
    pub identity: Identity,
    /// The user of the connection.
    pub user: String,
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
    /// Reads the catalogue. No query waits for a lock on a user's table.
    pub async fn read(client: &Client) -> Result<Catalog> {
        let mut catalog = Catalog::read_types(client).await.context("read the source's types")?;
        catalog.tables = catalog.read_tables(client).await.context("read the source's tables")?;
        Ok(catalog)
    }

    async fn read_types(client: &Client) -> Result<Catalog> {
        let server =
            client.query_one("SELECT current_setting('server_version_num')::int, current_user::text", &[]).await;
        let server = server.context("read the server's version")?;
        let (server_version, user) = (server.get::<_, i32>(0).unsigned_abs(), server.get(1));
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
            user,
            server_version,
            identity: Identity::of(client).await?,
        })
    }

    /// The type with this OID, resolved; `modifier` is `atttypmod`.
    pub fn resolve(&self, oid: u32, modifier: i32) -> SourceType {
        // The depth is limited: PostgreSQL allows a composite with an array of itself.
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
                table.columns.push(self.column_from(&row));
            }
        }
        for row in client.query(SEQUENCES, &[]).await.context("list sequences")? {
            let column = tables.get_mut(&row.get::<_, u32>(0)).and_then(|table| {
                table.columns.iter_mut().find(|column| i32::from(column.number) == row.get::<_, i32>(1))
            });
            if let Some(column) = column {
                let (oid, last, cache, grows, readable) = (row.get(6), row.get(2), row.get(3), row.get(4), row.get(5));
                column.sequence = Some(Sequence { oid, last, cache, grows, readable });
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
                let pages = u64::from(row.get::<_, i32>(5).unsigned_abs());
                table.bytes += pages * row.get::<_, i32>(6).unsigned_abs() as u64;
                table.rows_estimate += row.get::<_, f32>(7).max(0.0) as u64;
                table.unlogged |= row.get::<_, i8>(9) as u8 == b'u';
                table.has_children |= row.get::<_, bool>(10);
                table.leaves.push(Leaf {
                    oid: row.get(1),
                    name,
                    pages,
                    file_node: row.get(8),
                    has_pages,
                    readable: row.get(11),
                    attached_by: row.get(12),
                });
            }
        }
        let mut tables: Vec<Table> = tables.into_values().collect();
        tables.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
        Ok(tables)
    }
}

impl Catalog {
    fn column_from(&self, row: &Row) -> Column {
        Column {
            name: row.get(1),
            source: self.resolve(row.get(2), row.get(3)),
            type_name: row.get(4),
            type_oid: row.get(2),
            modifier: row.get(3),
            input_type: row.get(11),
            number: row.get(5),
            nullable: !row.get::<_, bool>(6),
            readable: row.get(7),
            missing: row.get(8),
            filled: row.get(9),
            sequence: None,
            generated: row.get(10),
        }
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
        readable: row.get(4),
        replica_identity: row.get::<_, i8>(5) as u8 as char,
        ..Table::default()
    }
}

const TYPES: &str = "SELECT t.oid, t.typname::text, n.nspname::text, t.typtype, t.typbasetype, t.typtypmod, \
     t.typelem, t.typinput = 'array_in'::regproc, t.typrelid \
     FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace";

const COMPOSITES: &str = "SELECT a.attrelid, a.attname::text, a.atttypid, a.atttypmod FROM pg_attribute a \
     JOIN pg_class c ON c.oid = a.attrelid \
     WHERE a.attnum > 0 AND NOT a.attisdropped AND c.reltype <> 0 \
       AND c.relnamespace <> 'pg_catalog'::regnamespace ORDER BY a.attrelid, a.attnum";

/// The tables of users, without partitions and without children by inheritance that have no column of their own: those
/// are read through their parent. No query here opens a relation: a locked table must not stop the others. The privilege
/// on a relation that was dropped a moment ago is NULL.
const TABLES: &str = "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind, \
     COALESCE(has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'SELECT'), false), c.relreplident \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND c.relpersistence <> 't' \
       AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%' \
       AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid AND NOT EXISTS (SELECT FROM pg_attribute a \
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attinhcount = 0)) \
       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')";

const COLUMNS: &str = "SELECT a.attrelid, a.attname::text, a.atttypid, a.atttypmod, format_type(a.atttypid, a.atttypmod), \
     a.attnum, a.attnotnull, COALESCE(has_column_privilege(a.attrelid, a.attnum, 'SELECT'), false), \
     CASE WHEN a.atthasmissing THEN (a.attmissingval::text::text[])[1] \
       WHEN c.relkind = 'p' THEN (SELECT min((b.attmissingval::text::text[])[1]) FROM pg_inherits i \
         JOIN pg_attribute b ON b.attrelid = i.inhrelid WHERE i.inhparent = c.oid AND b.attname = a.attname AND b.atthasmissing) END, \
     a.atthasdef OR a.atthasmissing OR a.attnotnull OR a.attidentity <> '', \
     CASE WHEN a.attgenerated <> '' THEN (SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d \
         WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum) END, \
     CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) ELSE format_type(a.atttypid, a.atttypmod) END \
     FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_type t ON t.oid = a.atttypid \
     WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition \
       AND c.relnamespace <> 'pg_catalog'::regnamespace ORDER BY a.attrelid, a.attnum";

/// Sequences of `serial` and identity columns.
const SEQUENCES: &str = "SELECT d.refobjid, d.refobjsubid, CASE WHEN r.is_readable THEN pg_sequence_last_value(s.seqrelid) END, \
     s.seqcache, s.seqincrement > 0 AND NOT s.seqcycle, r.is_readable, s.seqrelid \
     FROM pg_sequence s \
     JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = s.seqrelid AND d.refclassid = 'pg_class'::regclass \
       AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0 \
     CROSS JOIN LATERAL (SELECT COALESCE(has_sequence_privilege(s.seqrelid, 'USAGE, SELECT'), false) \
         AND s.seqrelid <> ALL (ARRAY(SELECT relation FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation IS NOT NULL)) \
         AS is_readable) r";

/// The primary key first, then unique indexes over columns that are never NULL, the narrowest first.
const KEYS: &str = "SELECT i.indrelid, k.names FROM pg_index i \
     CROSS JOIN LATERAL (SELECT array_agg(a.attname::text ORDER BY o.at) AS names, bool_and(a.attnotnull) AS never_null \
         FROM unnest(i.indkey::int2[]) WITH ORDINALITY o(num, at) \
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = o.num WHERE o.at <= i.indnkeyatts) k \
     WHERE i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL \
       AND k.never_null ORDER BY i.indrelid, i.indisprimary DESC, i.indnkeyatts, i.indexrelid";

/// The relations that hold the rows of a table: itself, and all that inherit from it, as partitions or by `INHERITS`.
const LEAVES: &str = "WITH RECURSIVE tree AS ( \
         SELECT c.oid AS root, c.oid AS relid, false AS is_child, 0::bigint AS attached_by FROM pg_class c \
         WHERE c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition AND c.relpersistence <> 't' \
           AND c.relnamespace <> 'pg_catalog'::regnamespace \
         UNION SELECT t.root, i.inhrelid, NOT c.relispartition, greatest(t.attached_by, \
             pg_snapshot_xmax(pg_current_snapshot())::text::bigint - age(i.xmin)) FROM tree t \
           JOIN pg_inherits i ON i.inhparent = t.relid JOIN pg_class c ON c.oid = i.inhrelid) \
     SELECT t.root, l.oid, n.nspname::text, l.relname::text, l.relkind, CASE WHEN l.relkind = 'f' THEN 0 ELSE l.relpages END, \
     current_setting('block_size')::int, l.reltuples, l.relfilenode, l.relpersistence, t.is_child, COALESCE(has_any_column_privilege(l.oid, 'SELECT'), false), \
     t.attached_by \
     FROM (SELECT root, relid, bool_or(is_child) AS is_child, max(attached_by) AS attached_by FROM tree GROUP BY root, relid) t \
     JOIN pg_class l ON l.oid = t.relid JOIN pg_namespace n ON n.oid = l.relnamespace \
     WHERE l.relkind IN ('r', 'm', 'f') ORDER BY t.root, l.oid";
