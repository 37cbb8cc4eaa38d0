//! The tables of `pg_catalog` that depend on the lake, its roles and the open connections.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use datafusion::arrow::array::{ArrayRef, RecordBatch, new_null_array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::scalar::ScalarValue;
use datafusion_pg_catalog::pg_catalog::PG_CATALOG_TABLES;
use pgwire::api::Type;

use super::super::lock::locked;
use super::super::shared::Shared;
use super::super::variables::Variables;
use super::super::{encode, pg_types};
use super::relations::{self, Relation};
use sql::error::{Context, Error, Kind, Result};
use sql::schemas::CATALOG;
use sql::snapshot::LakeSnapshot;

/// The name of the schema.
pub(super) const PG_CATALOG: &str = "pg_catalog";
/// The OID of the role that owns everything.
pub(crate) const OWNER: i32 = 10;
const DATABASE_OID: i32 = 16_384;
/// The metadata key of a column that is NULL in rows without a value for it.
const NULL_BY_DEFAULT: &str = "null_by_default";

/// One row: values by column. A column without a value gets the default of its type: false, 0 or an empty text.
pub(crate) type Row = HashMap<&'static str, ScalarValue>;

/// A text value.
pub(crate) fn text(value: impl Into<String>) -> ScalarValue {
    ScalarValue::Utf8(Some(value.into()))
}

/// A table of `pg_catalog` that depends on the lake or the connections; `None` if the name is another.
///
/// # Errors
/// If the lake's tables cannot be listed.
pub(crate) async fn table(
    shared: &Arc<Shared>,
    view: &LakeSnapshot,
    variables: &Mutex<Variables>,
    name: &str,
) -> Result<Option<Arc<dyn TableProvider>>> {
    let listed = || relations::all(&shared.catalogue.column_cache, view);
    let rows = match name {
        "pg_class" => classes(&listed().await?),
        "pg_attribute" => attributes(&listed().await?),
        "pg_namespace" => namespaces(&listed().await?),
        "pg_tables" => tables(&listed().await?, false),
        "pg_views" => tables(&listed().await?, true),
        "pg_database" => vec![database()],
        "pg_roles" | "pg_authid" => roles(shared, view),
        "pg_user" | "pg_shadow" => users(shared, view),
        "pg_settings" => settings(&locked(variables)),
        "pg_stat_activity" => activity(shared, view),
        _ => return Ok(None),
    };
    let schema = match name {
        "pg_views" => schema_of("schemaname:t viewname:t viewowner:t definition:t"),
        "pg_user" | "pg_shadow" => {
            schema_of("usename:t usesysid:o usecreatedb:b usesuper:b userepl:b usebypassrls:b passwd:n useconfig:a")
        }
        "pg_database" => schema_of(
            "oid:o datname:t datdba:o encoding:i datlocprovider:t datistemplate:b datallowconn:b datconnlimit:i \
             datfrozenxid:i datminmxid:i dattablespace:o datcollate:t datctype:t daticulocale:n datcollversion:n \
             datacl:a",
        ),
        "pg_roles" | "pg_authid" => schema_of(
            "oid:o rolname:t rolsuper:b rolinherit:b rolcreaterole:b rolcreatedb:b rolcanlogin:b rolreplication:b \
             rolconnlimit:i rolpassword:n rolvaliduntil:z rolbypassrls:b rolconfig:a",
        ),
        "pg_settings" => schema_of(
            "name:t setting:t unit:n category:t short_desc:t extra_desc:n context:t vartype:t source:t min_val:n \
             max_val:n enumvals:n boot_val:t reset_val:t sourcefile:n sourceline:i pending_restart:b",
        ),
        "pg_stat_activity" => schema_of(
            "datid:o datname:t pid:i leader_pid:i usesysid:o usename:t application_name:t client_addr:t \
             client_hostname:n client_port:i backend_start:z xact_start:z query_start:z state_change:z \
             wait_event_type:n wait_event:n state:t backend_xid:i backend_xmin:i query_id:i query:t backend_type:t",
        ),
        "pg_namespace" => schema_of("oid:o nspname:t nspowner:o nspacl:a"),
        "pg_tables" => schema_of(
            "schemaname:t tablename:t tableowner:t tablespace:n hasindexes:b hasrules:b hastriggers:b rowsecurity:b",
        ),
        "pg_class" => schema_of(
            "oid:o relname:t relnamespace:o reltype:o reloftype:o relowner:o relam:o relfilenode:o reltablespace:o \
             relpages:i reltuples:f relallvisible:i reltoastrelid:o relhasindex:b relisshared:b relpersistence:t \
             relkind:t relnatts:s relchecks:s relhasrules:b relhastriggers:b relhassubclass:b relrowsecurity:b \
             relforcerowsecurity:b relispopulated:b relreplident:t relispartition:b relrewrite:o relfrozenxid:i \
             relminmxid:i relacl:a reloptions:a relpartbound:n",
        ),
        _ => schema_of(
            "attrelid:o attname:t atttypid:o attstattarget:i attlen:s attnum:s attndims:i attcacheoff:i atttypmod:i \
             attbyval:b attalign:t attstorage:t attcompression:n attnotnull:b atthasdef:b atthasmissing:b \
             attidentity:t attgenerated:t attisdropped:b attislocal:b attinhcount:i attcollation:o attacl:a \
             attoptions:a attfdwoptions:a attmissingval:n",
        ),
    };
    memory_table(schema, &rows).map(Some)
}

/// Columns from a list of `name:type`: b boolean, i integer, s smallint, l bigint, f float, t text,
/// n text that is NULL by default, a text[], o oid, z timestamp with time zone.
pub(crate) fn schema_of(columns: &str) -> SchemaRef {
    let fields = columns.split_whitespace().map(|column| {
        let (name, letter) = column.split_once(':').unwrap_or((column, "t"));
        let data_type = match letter {
            "b" => DataType::Boolean,
            "i" | "o" => DataType::Int32,
            "s" => DataType::Int16,
            "l" => DataType::Int64,
            "f" => DataType::Float64,
            "a" => DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))),
            "z" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            _ => DataType::Utf8,
        };
        let field = Field::new(name, data_type, true);
        match letter {
            "n" => field.with_metadata([(NULL_BY_DEFAULT.to_owned(), String::new())].into()),
            "o" => field.with_metadata([(pg_types::OID_KEY.to_owned(), "oid".to_owned())].into()),
            _ => field,
        }
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// A table in memory. Columns that PostgreSQL never leaves NULL get the default of their type.
///
/// # Errors
/// If a value does not have its column's type, which is a bug.
pub(crate) fn memory_table(schema: SchemaRef, rows: &[Row]) -> Result<Arc<dyn TableProvider>> {
    const MAKE: &str = "build a table of the catalogue";
    let wrong = |error: datafusion::error::DataFusionError| Error::new(Kind::Bug, MAKE).because(error);
    let mut columns: Vec<ArrayRef> = Vec::new();
    for field in schema.fields() {
        let values =
            rows.iter().map(|row| row.get(field.name().as_str()).cloned().unwrap_or_else(|| default_value(field)));
        columns.push(match rows.is_empty() {
            true => new_null_array(field.data_type(), 0),
            false => ScalarValue::iter_to_array(values).map_err(wrong)?,
        });
    }
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).context(MAKE)?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]]).map_err(wrong)?))
}

fn default_value(field: &Field) -> ScalarValue {
    match field.data_type() {
        _ if field.metadata().contains_key(NULL_BY_DEFAULT) => {
            ScalarValue::try_from(field.data_type()).unwrap_or(ScalarValue::Null)
        }
        DataType::Boolean => ScalarValue::Boolean(Some(false)),
        DataType::Int16 => ScalarValue::Int16(Some(0)),
        DataType::Int32 => ScalarValue::Int32(Some(0)),
        DataType::Int64 => ScalarValue::Int64(Some(0)),
        DataType::Float64 => ScalarValue::Float64(Some(0.0)),
        DataType::Utf8 => text(""),
        other => ScalarValue::try_from(other).unwrap_or(ScalarValue::Null),
    }
}

fn int(value: i32) -> ScalarValue {
    ScalarValue::Int32(Some(value))
}

fn small(value: i16) -> ScalarValue {
    ScalarValue::Int16(Some(value))
}

fn true_value() -> ScalarValue {
    ScalarValue::Boolean(Some(true))
}

fn classes(relations: &[Relation]) -> Vec<Row> {
    let schemas = relations::schemas(relations);
    let row = |oid: i32, name: &str, schema: i32, kind: &str, columns: usize| {
        Row::from([
            ("oid", int(oid)),
            ("relname", text(name)),
            ("relnamespace", int(schema)),
            ("relowner", int(OWNER)),
            ("relam", int(if kind == "r" { 2 } else { 0 })),
            ("relfilenode", int(oid)),
            ("reltuples", ScalarValue::Float64(Some(-1.0))),
            ("relpersistence", text("p")),
            ("relkind", text(kind)),
            ("relnatts", small(i16::try_from(columns).unwrap_or(i16::MAX))),
            ("relispopulated", true_value()),
            ("relreplident", text("d")),
        ])
    };
    let own = relations.iter().map(|relation| {
        let schema = schemas.get(&relation.name.schema).copied().unwrap_or_default();
        let kind = if relation.is_view { "v" } else { "r" };
        row(relation.oid, &relation.name.table, schema, kind, relation.columns.fields().len())
    });
    // Clients look these OIDs up by `'pg_class'::regclass`; well-known ones are PostgreSQL's.
    let mut taken = std::collections::HashSet::new();
    let postgres = PG_CATALOG_TABLES.iter().map(|name| {
        let oid = match *name {
            "pg_type" => 1247,
            "pg_attribute" => 1249,
            "pg_proc" => 1255,
            "pg_class" => 1259,
            "pg_authid" => 1260,
            "pg_database" => 1262,
            "pg_tablespace" => 1213,
            "pg_constraint" => 2606,
            "pg_description" => 2609,
            "pg_index" => 2610,
            "pg_namespace" => 2615,
            "pg_extension" => 3079,
            name => relations::oid_of(&format!("pg_catalog.{name}"), &mut taken),
        };
        row(oid, name, 11, "r", 0)
    });
    own.chain(postgres).collect()
}

fn attributes(relations: &[Relation]) -> Vec<Row> {
    let of = |relation: &Relation| {
        let columns = relation.columns.fields().iter().enumerate().map(|(at, field)| {
            let pg_type = pg_types::of_field(field);
            let size = encode::type_size(&pg_type);
            Row::from([
                ("attrelid", int(relation.oid)),
                ("attname", text(field.name())),
                ("atttypid", int(i32::try_from(pg_type.oid()).unwrap_or(25))),
                ("attstattarget", int(-1)),
                ("attlen", small(size)),
                ("attnum", small(i16::try_from(at + 1).unwrap_or(i16::MAX))),
                ("attndims", int(i32::from(matches!(field.data_type(), DataType::List(_))))),
                ("attcacheoff", int(-1)),
                ("atttypmod", int(encode::type_modifier(field.data_type()))),
                ("attbyval", ScalarValue::Boolean(Some(size > 0))),
                ("attalign", text("i")),
                ("attstorage", text(if size > 0 { "p" } else { "x" })),
                ("attnotnull", ScalarValue::Boolean(Some(!field.is_nullable()))),
                ("attislocal", true_value()),
                ("attcollation", int(if pg_type == Type::TEXT { 100 } else { 0 })),
            ])
        });
        columns.collect::<Vec<_>>()
    };
    relations.iter().flat_map(of).collect()
}

fn namespaces(relations: &[Relation]) -> Vec<Row> {
    let schemas = relations::schemas(relations).into_iter();
    schemas
        .map(|(name, oid)| Row::from([("oid", int(oid)), ("nspname", text(name)), ("nspowner", int(OWNER))]))
        .collect()
}

fn tables(relations: &[Relation], views: bool) -> Vec<Row> {
    let chosen = relations.iter().filter(|relation| relation.is_view == views);
    let row = |relation: &Relation| {
        let (schema, name) = (text(&relation.name.schema), text(&relation.name.table));
        let owner = text("wattlake");
        match views {
            true => Row::from([("schemaname", schema), ("viewname", name), ("viewowner", owner)]),
            false => Row::from([("schemaname", schema), ("tablename", name), ("tableowner", owner)]),
        }
    };
    chosen.map(row).collect()
}

fn database() -> Row {
    Row::from([
        ("oid", int(DATABASE_OID)),
        ("datname", text(CATALOG)),
        ("datdba", int(OWNER)),
        ("encoding", int(6)),
        ("datlocprovider", text("c")),
        ("datallowconn", true_value()),
        ("datconnlimit", int(-1)),
        ("dattablespace", int(1663)),
        ("datcollate", text("C.UTF-8")),
        ("datctype", text("C.UTF-8")),
    ])
}

/// OIDs and names of the roles that the connection's role may see: the owner of everything, and itself or all.
fn visible<'a>(shared: &'a Shared, view: &LakeSnapshot) -> Vec<(i32, &'a str)> {
    let mut names: Vec<&str> = shared.logins.keys().map(String::as_str).collect();
    names.sort_unstable();
    let mut taken = std::collections::HashSet::new();
    let numbered = names.into_iter().map(|name| (relations::oid_of(&format!("role {name}"), &mut taken), name));
    let own = view.role.as_ref().map(|role| role.name.as_str());
    let seen = numbered.filter(|(_, name)| view.sees_system() || own == Some(name));
    std::iter::once((OWNER, "wattlake")).chain(seen.filter(|(_, name)| *name != "wattlake")).collect()
}

fn roles(shared: &Shared, view: &LakeSnapshot) -> Vec<Row> {
    let row = |(oid, name): (i32, &str)| {
        Row::from([
            ("oid", int(oid)),
            ("rolname", text(name)),
            ("rolinherit", true_value()),
            ("rolcanlogin", ScalarValue::Boolean(Some(shared.logins.contains_key(name)))),
            ("rolconnlimit", int(-1)),
        ])
    };
    visible(shared, view).into_iter().map(row).collect()
}

fn users(shared: &Shared, view: &LakeSnapshot) -> Vec<Row> {
    let known = visible(shared, view).into_iter().filter(|(_, name)| shared.logins.contains_key(*name));
    known.map(|(oid, name)| Row::from([("usename", text(name)), ("usesysid", int(oid))])).collect()
}

fn settings(variables: &Variables) -> Vec<Row> {
    let row = |(name, value): (&str, String)| {
        Row::from([
            ("name", text(name)),
            ("setting", text(value.clone())),
            ("context", text("user")),
            ("vartype", text("string")),
            ("source", text("session")),
            ("boot_val", text(value.clone())),
            ("reset_val", text(value)),
        ])
    };
    variables.all().map(row).collect()
}

/// `pg_stat_activity`: a role sees its own connections; one with access to the system tables sees all.
fn activity(shared: &Shared, view: &LakeSnapshot) -> Vec<Row> {
    let own = view.role.as_ref().map(|role| role.name.as_str());
    let numbers: HashMap<&str, i32> = visible(shared, view).into_iter().map(|(oid, name)| (name, oid)).collect();
    let instant = |at: Option<chrono::DateTime<chrono::Utc>>| {
        ScalarValue::TimestampMicrosecond(at.map(|at| at.timestamp_micros()), Some("UTC".into()))
    };
    let all = shared.all().into_iter();
    let seen = all.filter(|connection| view.sees_system() || own == Some(connection.role.name.as_str()));
    let row = |connection: Arc<super::super::connection::Connection>| {
        let name = connection.role.name.as_str();
        let activity = connection.activity();
        let state = match (activity.busy, activity.in_block) {
            (true, _) => "active",
            (false, true) => "idle in transaction",
            (false, false) => "idle",
        };
        Row::from([
            ("datid", int(DATABASE_OID)),
            ("datname", text(CATALOG)),
            ("pid", int(connection.pid)),
            ("usesysid", int(numbers.get(name).copied().unwrap_or_default())),
            ("usename", text(name)),
            ("application_name", text(activity.application)),
            ("client_addr", text(connection.client.ip().to_string())),
            ("client_port", int(i32::from(connection.client.port()))),
            ("backend_start", instant(Some(connection.connected_at))),
            ("query_start", instant(activity.started_at)),
            ("state_change", instant(activity.started_at)),
            ("state", text(state)),
            ("query", text(activity.text)),
            ("backend_type", text("client backend")),
        ])
    };
    seen.map(row).collect()
}
