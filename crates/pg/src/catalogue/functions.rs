//! Functions of PostgreSQL that clients call in catalogue queries: the session's user, names of
//! objects, privileges, settings, and cancelling other connections.

use std::sync::{Arc, Mutex, Weak};

use datafusion::arrow::array::{Array, AsArray, BooleanArray, StringArray};
use datafusion::arrow::datatypes::{DataType, Int32Type};
use datafusion::common::TableReference;
use datafusion::common::cast::as_string_array;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use datafusion_pg_catalog::pg_catalog as library;

use super::super::connection::{Connection, StopReason};
use super::super::lock::locked;
use super::super::shared::Shared;
use super::super::variables::{SERVER_VERSION, Variables};
use lake::TableName;
use sql::roles::Role;
use sql::schemas::{CATALOG, DEFAULT_SCHEMA, INFORMATION_SCHEMA};

type Call = dyn Fn(&[ColumnarValue], usize) -> Result<ColumnarValue> + Send + Sync;

/// A function that takes any arguments.
struct Function {
    name: String,
    returns: DataType,
    signature: Signature,
    call: Arc<Call>,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Function").field(&self.name).finish()
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Function) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.call, &other.call)
    }
}

impl Eq for Function {}

impl std::hash::Hash for Function {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.returns.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        (self.call)(&args.args, args.number_rows)
    }
}

fn function(
    name: &str,
    returns: DataType,
    volatility: Volatility,
    call: impl Fn(&[ColumnarValue], usize) -> Result<ColumnarValue> + Send + Sync + 'static,
) -> ScalarUDF {
    let signature = Signature::one_of(
        vec![datafusion::logical_expr::TypeSignature::Nullary, datafusion::logical_expr::TypeSignature::VariadicAny],
        volatility,
    );
    ScalarUDF::new_from_impl(Function { name: name.to_owned(), returns, signature, call: Arc::new(call) })
}

fn constant(name: &str, value: ScalarValue) -> ScalarUDF {
    let returns = value.data_type();
    function(name, returns, Volatility::Stable, move |_, _| Ok(ColumnarValue::Scalar(value.clone())))
}

fn text(value: &str) -> ScalarValue {
    ScalarValue::Utf8(Some(value.to_owned()))
}

/// Functions that return NULL, since what they describe does not exist here.
const NULL_TEXT_FUNCTIONS: [&str; 18] = [
    "json_build_object",
    "pg_get_constraintdef",
    "obj_description",
    "col_description",
    "shobj_description",
    "pg_get_indexdef",
    "pg_get_viewdef",
    "pg_get_functiondef",
    "pg_get_function_arguments",
    "pg_get_function_result",
    "pg_get_function_identity_arguments",
    "pg_get_triggerdef",
    "pg_get_ruledef",
    "pg_get_serial_sequence",
    "pg_tablespace_location",
    "inet_server_addr",
    "inet_client_addr",
    "pg_get_function_sqlbody",
];
/// Functions that return true.
const TRUE_FUNCTIONS: [&str; 14] = [
    "pg_function_is_visible",
    "pg_type_is_visible",
    "pg_operator_is_visible",
    "pg_collation_is_visible",
    "pg_conversion_is_visible",
    "pg_opclass_is_visible",
    "has_column_privilege",
    "has_function_privilege",
    "has_language_privilege",
    "has_sequence_privilege",
    "has_tablespace_privilege",
    "has_type_privilege",
    "has_foreign_data_wrapper_privilege",
    "has_server_privilege",
];
/// Functions that return 0.
const ZERO_FUNCTIONS: [&str; 8] = [
    "pg_my_temp_schema",
    "pg_table_size",
    "pg_indexes_size",
    "pg_database_size",
    "pg_relation_filenode",
    "pg_tablespace_size",
    "txid_current",
    "pg_stat_get_live_tuples",
];

/// Registers the functions for a connection of `role` with process id `pid`.
pub(crate) fn register(
    context: &SessionContext,
    shared: &Arc<Shared>,
    variables: &Arc<Mutex<Variables>>,
    role: &Role,
    pid: i32,
) {
    register_library(context, shared);
    for name in NULL_TEXT_FUNCTIONS {
        context.register_udf(constant(name, ScalarValue::Utf8(None)));
    }
    for name in TRUE_FUNCTIONS {
        context.register_udf(constant(name, ScalarValue::Boolean(Some(true))));
    }
    for name in ZERO_FUNCTIONS {
        context.register_udf(constant(name, ScalarValue::Int64(Some(0))));
    }
    for name in ["has_schema_privilege", "has_database_privilege"] {
        context.register_udf(privilege(name, None));
    }
    for name in ["has_table_privilege", "has_any_column_privilege"] {
        context.register_udf(privilege(name, Some(role)));
    }
    for name in ["session_user", "current_user", "user", "current_role"] {
        context.register_udf(constant(name, text(&role.name)));
    }
    let started = ScalarValue::TimestampMicrosecond(Some(shared.started_at.timestamp_micros()), Some("UTC".into()));
    for (name, value) in [
        ("version", text(&format!("PostgreSQL {SERVER_VERSION} (Wattlake {})", env!("CARGO_PKG_VERSION")))),
        ("current_schema", text("public")),
        ("current_database", text(CATALOG)),
        ("pg_backend_pid", ScalarValue::Int32(Some(pid))),
        ("pg_is_in_recovery", ScalarValue::Boolean(Some(false))),
        ("pg_is_other_temp_schema", ScalarValue::Boolean(Some(false))),
        ("pg_has_role", ScalarValue::Boolean(Some(false))),
        ("pg_advisory_unlock_all", text("")),
        ("to_regtype", ScalarValue::Int32(None)),
        ("to_regclass", ScalarValue::Int32(None)),
        ("pg_postmaster_start_time", started.clone()),
        ("pg_conf_load_time", started),
        ("pg_encoding_to_char", text("UTF8")),
        ("pg_char_to_encoding", ScalarValue::Int32(Some(6))),
    ] {
        context.register_udf(constant(name, value));
    }
    register_settings(context, variables);
    register_cancel(context, shared, role);
    context.register_udf(user_by_id());
    context.register_udf(size_pretty());
    context.register_udf(quote_literal());
    context.register_udf(format());
}

fn register_library(context: &SessionContext, shared: &Shared) {
    context.register_udf(library::create_current_schemas_udf());
    context.register_udf(library::create_pg_table_is_visible());
    context.register_udf(library::format_type::create_format_type_udf());
    context.register_udf(library::pg_get_expr_udf::create_pg_get_expr_udf());
    context.register_udf(library::create_pg_get_partkeydef_udf());
    context.register_udf(library::create_pg_relation_is_publishable_udf());
    context.register_udf(library::create_pg_get_statisticsobjdef_columns_udf());
    context.register_udf(library::create_pg_relation_size_udf());
    context.register_udf(library::create_pg_total_relation_size_udf());
    context.register_udf(library::create_pg_stat_get_numscans());
    context.register_udf(library::create_pg_get_partition_ancestors_udf());
    context.register_udf(library::quote_ident_udf::create_quote_ident_udf());
    context.register_udf(library::quote_ident_udf::create_parse_ident_udf());
    context.register_udf(library::array_bounds_udf::create_array_upper_udf());
    context.register_udf(library::array_bounds_udf::create_array_lower_udf());
    context.register_udtf("pg_get_keywords", Arc::clone(&shared.catalogue.tables.pg_get_keywords) as _);
    library::generate_series_arg_coercion::CoerceIntArgsToBigInt::widen(context);
}

fn texts(value: &ColumnarValue, rows: usize) -> Result<StringArray> {
    let array = value.cast_to(&DataType::Utf8, None)?.into_array(rows)?;
    Ok(as_string_array(&array)?.clone())
}

/// A function that tests a privilege. Sessions are read-only, so only privileges to read are granted. For a table that
/// is given by name, the role must have it; an OID comes from the catalogue, which only lists what the role may read.
fn privilege(name: &str, of_tables: Option<&Role>) -> ScalarUDF {
    let of_tables = of_tables.cloned();
    function(name, DataType::Boolean, Volatility::Stable, move |args, rows| {
        let Some(privileges) = args.last() else { return Ok(ColumnarValue::Scalar(ScalarValue::Boolean(None))) };
        let reads = |privileges: &str| {
            let mut words = privileges.split(',').map(|word| word.trim().to_uppercase());
            words.any(|word| ["SELECT", "USAGE", "CONNECT"].iter().any(|right| word.starts_with(right)))
        };
        let privileges = texts(privileges, rows)?;
        let tables = args.len().checked_sub(2).map(|at| &args[at]).filter(|table| table.data_type().is_string());
        let tables = tables.map(|tables| texts(tables, rows)).transpose()?;
        let may_read = |row: usize| match (&of_tables, &tables) {
            (Some(role), Some(tables)) if !tables.is_null(row) => may_read_table(role, tables.value(row)),
            _ => true,
        };
        let answers: BooleanArray = privileges
            .iter()
            .enumerate()
            .map(|(row, privileges)| privileges.map(|privileges| reads(privileges) && may_read(row)))
            .collect();
        Ok(ColumnarValue::Array(Arc::new(answers)))
    })
}

fn may_read_table(role: &Role, table: &str) -> bool {
    let reference = TableReference::parse_str(table);
    match reference.schema().unwrap_or(DEFAULT_SCHEMA) {
        super::pg::PG_CATALOG | INFORMATION_SCHEMA => true,
        sql::system::SCHEMA => role.system,
        schema => role.may_read(&TableName::new(schema, reference.table())),
    }
}

fn register_settings(context: &SessionContext, variables: &Arc<Mutex<Variables>>) {
    let failed = |error: pgwire::error::PgWireError| DataFusionError::Execution(error.to_string());
    let held = Arc::clone(variables);
    context.register_udf(function("current_setting", DataType::Utf8, Volatility::Stable, move |args, rows| {
        let [name, rest @ ..] = args else {
            return Err(DataFusionError::Execution("current_setting needs the name of a parameter".to_owned()));
        };
        let missing_ok = matches!(rest.first(), Some(ColumnarValue::Scalar(ScalarValue::Boolean(Some(true)))));
        let variables = locked(&held);
        let values = texts(name, rows)?;
        let values = values.iter().map(|name| match name.map(|name| variables.show(name)) {
            Some(Ok(value)) => Ok(Some(value.to_owned())),
            Some(Err(error)) if !missing_ok => Err(failed(error)),
            _ => Ok(None),
        });
        Ok(ColumnarValue::Array(Arc::new(values.collect::<Result<StringArray>>()?)))
    }));
    let held = Arc::clone(variables);
    context.register_udf(function("set_config", DataType::Utf8, Volatility::Volatile, move |args, rows| {
        let [name, value, ..] = args else {
            return Err(DataFusionError::Execution(
                "set_config needs a name, a value and whether it is local".to_owned(),
            ));
        };
        let (names, values) = (texts(name, rows)?, texts(value, rows)?);
        let mut variables = locked(&held);
        let set = names.iter().zip(values.iter()).map(|(name, value)| match name {
            Some(name) => variables.set(name, value.map(str::to_owned)).map(Some).map_err(failed),
            None => Ok(None),
        });
        Ok(ColumnarValue::Array(Arc::new(set.collect::<Result<StringArray>>()?)))
    }));
}

fn register_cancel(context: &SessionContext, shared: &Arc<Shared>, role: &Role) {
    for (name, ends) in [("pg_cancel_backend", false), ("pg_terminate_backend", true)] {
        let shared: Weak<Shared> = Arc::downgrade(shared);
        let role = role.clone();
        context.register_udf(function(name, DataType::Boolean, Volatility::Volatile, move |args, rows| {
            let [pid, ..] = args else {
                return Err(DataFusionError::Execution("the pid of a connection is expected".to_owned()));
            };
            let pids = pid.cast_to(&DataType::Int32, None)?.into_array(rows)?;
            let answers = pids.as_primitive::<Int32Type>().iter().map(|pid| {
                let shared = shared.upgrade()?;
                let connection = locked(&shared.connections).get(&pid?).cloned();
                Some(connection.is_some_and(|connection| stop(&connection, &role, ends)))
            });
            Ok(ColumnarValue::Array(Arc::new(answers.collect::<BooleanArray>())))
        }));
    }
}

/// Cancels a connection's query, or ends the connection. A role may stop its own connections; one with access to the
/// system tables may stop all.
fn stop(connection: &Connection, role: &Role, ends: bool) -> bool {
    if !role.system && connection.role.name != role.name {
        return false;
    }
    if ends {
        connection.terminate(StopReason::Terminated);
        return true;
    }
    connection.cancel()
}

fn user_by_id() -> ScalarUDF {
    constant("pg_get_userbyid", text("wattlake"))
}

fn size_pretty() -> ScalarUDF {
    function("pg_size_pretty", DataType::Utf8, Volatility::Immutable, |args, rows| {
        const UNITS: [&str; 5] = ["bytes", "kB", "MB", "GB", "TB"];
        let [size, ..] = args else {
            return Err(DataFusionError::Execution("a number of bytes is expected".to_owned()));
        };
        let sizes = size.cast_to(&DataType::Int64, None)?.into_array(rows)?;
        let sizes = sizes.as_primitive::<datafusion::arrow::datatypes::Int64Type>();
        let written = sizes.iter().map(|size| {
            let (mut size, mut unit) = (size?, 0);
            while size.abs() >= 10 * 1024 && unit + 1 < UNITS.len() {
                size = (size + 512) / 1024;
                unit += 1;
            }
            Some(format!("{size} {}", UNITS[unit]))
        });
        Ok(ColumnarValue::Array(Arc::new(written.collect::<StringArray>())))
    })
}

fn quote_literal() -> ScalarUDF {
    function("quote_literal", DataType::Utf8, Volatility::Immutable, |args, rows| {
        let [value, ..] = args else { return Err(DataFusionError::Execution("a value is expected".to_owned())) };
        let values = texts(value, rows)?;
        let quoted = values.iter().map(|value| {
            let value = value?;
            let prefix = if value.contains('\\') { "E" } else { "" };
            Some(format!("{prefix}'{}'", value.replace('\\', "\\\\").replace('\'', "''")))
        });
        Ok(ColumnarValue::Array(Arc::new(quoted.collect::<StringArray>())))
    })
}

/// `format`: `%s` inserts a text, `%I` an identifier, `%L` a literal, `%%` a percent sign.
fn format() -> ScalarUDF {
    function("format", DataType::Utf8, Volatility::Immutable, |args, rows| {
        let [form, values @ ..] = args else {
            return Err(DataFusionError::Execution("format needs a format string".to_owned()));
        };
        let forms = texts(form, rows)?;
        let values = values.iter().map(|value| texts(value, rows)).collect::<Result<Vec<_>>>()?;
        let made = (0..rows).map(|row| {
            if forms.is_null(row) {
                return Ok(None);
            }
            let mut next = values.iter().map(|value| (!value.is_null(row)).then(|| value.value(row)));
            formatted(forms.value(row), &mut next).map(Some)
        });
        Ok(ColumnarValue::Array(Arc::new(made.collect::<Result<StringArray>>()?)))
    })
}

fn formatted(form: &str, values: &mut dyn Iterator<Item = Option<&str>>) -> Result<String> {
    let mut out = String::new();
    let mut characters = form.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let kind = characters.next();
        if kind == Some('%') {
            out.push('%');
            continue;
        }
        let value =
            values.next().ok_or_else(|| DataFusionError::Execution("too few arguments for format()".to_owned()))?;
        match (kind, value) {
            (Some('s'), value) => out.push_str(value.unwrap_or_default()),
            (Some('I'), Some(name)) => {
                let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
                    && !name.starts_with(|c: char| c.is_ascii_digit());
                out.push_str(&if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) });
            }
            (Some('L'), Some(text)) => out.push_str(&format!("'{}'", text.replace('\'', "''"))),
            (Some('L'), None) => out.push_str("NULL"),
            _ => return Err(DataFusionError::Execution("format() supports %s, %I, %L and %%".to_owned())),
        }
    }
    Ok(out)
}
