//! `information_schema`: the lake's tables and columns as the SQL standard describes them.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::catalog::TableProvider;
use datafusion::scalar::ScalarValue;
use pgwire::api::Type;

use super::super::pg_types;
use super::super::shared::Shared;
use super::pg::{Row, memory_table, schema_of, text};
use super::relations::{self, Relation};
use sql::error::Result;
use sql::schemas::CATALOG;
use sql::snapshot::LakeSnapshot;

/// The tables that are listed; others of the standard can be read and are empty.
pub(crate) const NAMES: [&str; 12] = [
    "columns",
    "enabled_roles",
    "information_schema_catalog_name",
    "key_column_usage",
    "referential_constraints",
    "routines",
    "schemata",
    "sequences",
    "table_constraints",
    "table_privileges",
    "tables",
    "views",
];

/// A table of `information_schema` that depends on the lake; `None` if the name is another.
///
/// # Errors
/// If the lake's tables cannot be listed.
pub(crate) async fn table(shared: &Shared, view: &LakeSnapshot, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
    let listed = || relations::all(&shared.catalogue.column_cache, view);
    let (schema, rows) = match name {
        "tables" => (TABLES, listed().await?.iter().map(table_row).collect()),
        "columns" => (COLUMNS, listed().await?.iter().flat_map(columns).collect()),
        "schemata" => (SCHEMATA, schemata(&listed().await?)),
        "views" => (VIEWS, listed().await?.iter().filter(|relation| relation.is_view).map(view_row).collect()),
        "table_privileges" => (PRIVILEGES, listed().await?.iter().map(|relation| privilege(relation, view)).collect()),
        "enabled_roles" => ("role_name:t", vec![Row::from([("role_name", text(role(view)))])]),
        "information_schema_catalog_name" => ("catalog_name:t", vec![Row::from([("catalog_name", text(CATALOG))])]),
        _ => return Ok(None),
    };
    memory_table(schema_of(schema), &rows).map(Some)
}

const TABLES: &str = "table_catalog:t table_schema:t table_name:t table_type:t self_referencing_column_name:t \
    reference_generation:t user_defined_type_catalog:t user_defined_type_schema:t user_defined_type_name:t \
    is_insertable_into:t is_typed:t commit_action:t";
const COLUMNS: &str = "table_catalog:t table_schema:t table_name:t column_name:t ordinal_position:i column_default:n \
    is_nullable:t data_type:t character_maximum_length:n character_octet_length:n numeric_precision:i \
    numeric_precision_radix:i numeric_scale:i datetime_precision:i interval_type:n collation_name:n domain_name:n \
    udt_catalog:t udt_schema:t udt_name:t dtd_identifier:t is_self_referencing:t is_identity:t \
    identity_generation:n is_generated:t generation_expression:n is_updatable:t";
const SCHEMATA: &str = "catalog_name:t schema_name:t schema_owner:t default_character_set_catalog:t \
    default_character_set_schema:t default_character_set_name:t sql_path:t";
const VIEWS: &str = "table_catalog:t table_schema:t table_name:t view_definition:t check_option:t is_updatable:t \
    is_insertable_into:t is_trigger_updatable:t is_trigger_deletable:t is_trigger_insertable_into:t";
const PRIVILEGES: &str = "grantor:t grantee:t table_catalog:t table_schema:t table_name:t privilege_type:t \
    is_grantable:t with_hierarchy:t";

fn name_columns(relation: &Relation) -> Row {
    Row::from([
        ("table_catalog", text(CATALOG)),
        ("table_schema", text(&relation.name.schema)),
        ("table_name", text(&relation.name.table)),
    ])
}

fn table_row(relation: &Relation) -> Row {
    let mut row = name_columns(relation);
    row.insert("table_type", text(if relation.is_view { "VIEW" } else { "BASE TABLE" }));
    row.insert("is_insertable_into", text("NO"));
    row.insert("is_typed", text("NO"));
    row
}

fn view_row(relation: &Relation) -> Row {
    let mut row = name_columns(relation);
    row.extend([("check_option", text("NONE")), ("is_updatable", text("NO")), ("is_insertable_into", text("NO"))]);
    row
}

fn role(view: &LakeSnapshot) -> String {
    view.role.as_ref().map(|role| role.name.clone()).unwrap_or_default()
}

fn privilege(relation: &Relation, view: &LakeSnapshot) -> Row {
    let mut row = name_columns(relation);
    row.extend([
        ("grantor", text("wattlake")),
        ("grantee", text(role(view))),
        ("privilege_type", text("SELECT")),
        ("is_grantable", text("NO")),
        ("with_hierarchy", text("YES")),
    ]);
    row
}

fn schemata(relations: &[Relation]) -> Vec<Row> {
    let row = |name: String| {
        Row::from([("catalog_name", text(CATALOG)), ("schema_name", text(name)), ("schema_owner", text("wattlake"))])
    };
    relations::schemas(relations).into_keys().map(row).collect()
}

fn columns(relation: &Relation) -> Vec<Row> {
    let fields = relation.columns.fields().iter().enumerate();
    fields
        .map(|(at, field)| {
            let position = i32::try_from(at + 1).unwrap_or(i32::MAX);
            let mut row = name_columns(relation);
            row.extend(column(field, position));
            row
        })
        .collect()
}

fn column(field: &Field, position: i32) -> Vec<(&'static str, ScalarValue)> {
    let pg_type = pg_types::of_field(field);
    let number = |value: Option<i32>| ScalarValue::Int32(value);
    let (precision, radix, scale) = match field.data_type() {
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            (Some(i32::from(*precision)), Some(10), Some(i32::from(*scale)))
        }
        _ => match pg_type {
            Type::INT2 => (Some(16), Some(2), Some(0)),
            Type::INT4 => (Some(32), Some(2), Some(0)),
            Type::INT8 => (Some(64), Some(2), Some(0)),
            Type::FLOAT4 => (Some(24), Some(2), None),
            Type::FLOAT8 => (Some(53), Some(2), None),
            _ => (None, None, None),
        },
    };
    let time = match pg_type {
        Type::TIMESTAMP | Type::TIMESTAMPTZ | Type::TIME | Type::INTERVAL => Some(6),
        Type::DATE => Some(0),
        _ => None,
    };
    vec![
        ("column_name", text(field.name())),
        ("ordinal_position", number(Some(position))),
        ("is_nullable", text(if field.is_nullable() { "YES" } else { "NO" })),
        ("data_type", text(standard_name(&pg_type))),
        ("numeric_precision", number(precision)),
        ("numeric_precision_radix", number(radix)),
        ("numeric_scale", number(scale)),
        ("datetime_precision", number(time)),
        ("udt_catalog", text(CATALOG)),
        ("udt_schema", text("pg_catalog")),
        ("udt_name", text(pg_type.name())),
        ("dtd_identifier", text(position.to_string())),
        ("is_self_referencing", text("NO")),
        ("is_identity", text("NO")),
        ("is_generated", text("NEVER")),
        ("is_updatable", text("NO")),
    ]
}

fn standard_name(pg_type: &Type) -> &str {
    match *pg_type {
        Type::BOOL => "boolean",
        Type::INT2 => "smallint",
        Type::INT4 => "integer",
        Type::INT8 => "bigint",
        Type::FLOAT4 => "real",
        Type::FLOAT8 => "double precision",
        Type::TIMESTAMP => "timestamp without time zone",
        Type::TIMESTAMPTZ => "timestamp with time zone",
        Type::TIME => "time without time zone",
        Type::CHAR => "\"char\"",
        _ if pg_types::is_array(pg_type) => "ARRAY",
        _ => pg_type.name(),
    }
}
