//! The plan of a transfer: its tables with their names in the target, their columns with the types, their
//! keys and cursors. It is made from the source's catalogue and the transfer's settings, before rows are read.

use std::path::PathBuf;

use lake::TableName;
use regex::Regex;
use tokio_postgres::Client;

pub use crate::cursor::{Cursor, CursorColumn, CursorKind};
use crate::dms;
use crate::error::{Context, Error, Result};
use crate::postgres::{Catalog, Table, quote};
pub use crate::settings::{ChangesSettings, ColumnAs, Deletes, Mode, OnNoCursor, Overlap, Settings, TableSettings};
use crate::type_map::{ColumnKind, ColumnMapping, SourceType, map_type};
use table_check::{check_distinct_targets, check_table};
pub use transfer_plan::{PlanColumn, RefusedTable, SourceColumn, TablePlan, TransferPlan};

/// Plans a transfer. A table that can't be transferred is refused, and does not stop the others.
///
/// # Errors
/// Where the settings or the table mapping are wrong, two tables have the same target, or the source can't be read.
pub async fn plan(client: &Client, catalog: &Catalog, settings: &Settings) -> Result<TransferPlan> {
    let mapping = match &settings.mapping {
        None => None,
        Some(path) => Some(read_mapping(path)?),
    };
    let selector = Selector::new(settings)?;
    let mut plan = TransferPlan::default();
    for table in &catalog.tables {
        let planned = match &mapping {
            None if selector.takes(table) => plan_unmapped(table, settings),
            Some(mapping) => match plan_mapped(client, catalog, table, mapping, settings).await {
                Ok(None) => continue,
                Ok(Some(planned)) => Ok(planned),
                Err(error) => Err(error),
            },
            None => continue,
        };
        match planned.and_then(|planned| check_table(planned, settings, &catalog.user)) {
            Ok(planned) => plan.tables.push(planned),
            Err(error) => plan.refused.push(RefusedTable { table: table.display(), error }),
        }
    }
    if let (Some(mapping), Some(path)) = (&mapping, &settings.mapping) {
        check_rules_match(mapping, path, catalog)?;
    }
    let is_exact = |name: &&String| !name.contains(['*', '?']);
    let is_table = |name: &String| catalog.tables.iter().any(|table| table.display() == *name);
    plan.unmatched = settings.exclude.iter().filter(is_exact).filter(|name| !is_table(name)).cloned().collect();
    let included = settings.include.iter().filter(is_exact).filter(|_| mapping.is_none());
    for name in included.filter(|name| !settings.tables.contains_key(*name)) {
        if !is_table(name) {
            let error = Error::setup(format!("the source has no table {name}, or the user may not see it"))
                .state("missing")
                .hint(format!("correct or remove {name:?} in include; the table in the target is kept"));
            plan.refused.push(RefusedTable { table: name.clone(), error });
        }
    }
    for name in settings.tables.keys() {
        if !catalog.tables.iter().any(|table| table.display() == *name) {
            let error = Error::setup(format!("the source has no table {name}, or the user may not see it"))
                .state("missing")
                .hint(format!("correct or remove [tables.{name:?}]; the table in the target is kept"));
            plan.refused.push(RefusedTable { table: name.clone(), error });
        }
    }
    check_distinct_targets(&plan, settings.mode == Mode::Changes && settings.changes.history)?;
    plan.tables.sort_by_key(|table| std::cmp::Reverse((table.load_order, table.source.bytes)));
    Ok(plan)
}

fn read_mapping(path: &PathBuf) -> Result<dms::Mapping> {
    let text = std::fs::read_to_string(path).context(format!("read the table mapping {}", path.display()))?;
    dms::Mapping::parse(&text).map_err(|problems| mapping_error(path, &problems))
}

fn mapping_error(path: &std::path::Path, problems: &[dms::Problem]) -> Error {
    let lines: Vec<String> = problems
        .iter()
        .map(|p| match &p.rule {
            Some(rule) => format!("{rule}: {}", p.what),
            None => p.what.clone(),
        })
        .collect();
    let error = Error::setup(format!("read the table mapping {}: {}", path.display(), lines.join("; ")));
    match problems.iter().find_map(|p| p.hint.clone()) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Which tables a transfer's file selects, by `schema.table`. A table mapping may select any.
pub(crate) fn name_selector(settings: &Settings) -> Result<impl Fn(&str) -> bool + Send + 'static> {
    let selector = Selector::new(settings)?;
    let has_mapping = settings.mapping.is_some();
    Ok(move |name: &str| has_mapping || selector.takes_name(name))
}

/// Whether patterns select a table, by its `schema.table`.
pub(crate) fn name_filter(include: &[String], exclude: &[String]) -> Result<impl Fn(&str) -> bool + Send + 'static> {
    let selector = Selector::of(include, exclude, true)?;
    Ok(move |name: &str| selector.takes_name(name))
}

struct Selector {
    include: Vec<Regex>,
    exclude: Vec<Regex>,
    views: bool,
}

impl Selector {
    fn new(settings: &Settings) -> Result<Selector> {
        Selector::of(&settings.include, &settings.exclude, settings.views)
    }

    fn of(include: &[String], exclude: &[String], views: bool) -> Result<Selector> {
        let compile = |patterns: &[String]| patterns.iter().map(|p| pattern(p)).collect::<Result<Vec<_>>>();
        Ok(Selector { include: compile(include)?, exclude: compile(exclude)?, views })
    }

    fn takes(&self, table: &Table) -> bool {
        self.takes_name(&table.display()) && (self.views || !table.is_view())
    }

    fn takes_name(&self, name: &str) -> bool {
        let included = self.include.is_empty() || self.include.iter().any(|p| p.is_match(name));
        included && !self.exclude.iter().any(|p| p.is_match(name))
    }
}

/// A pattern as a regular expression: `*` stands for any characters, also none, and `?` for exactly one.
fn pattern(text: &str) -> Result<Regex> {
    let escaped = regex::escape(text).replace("\\*", ".*").replace("\\?", ".");
    Regex::new(&format!("(?s)^{escaped}$")).map_err(|e| Error::setup(format!("read the pattern {text:?}")).because(e))
}

fn plan_unmapped(table: &Table, settings: &Settings) -> Result<TablePlan> {
    let own = settings.tables.get(&table.display()).cloned().unwrap_or_default();
    let columns = table
        .columns
        .iter()
        .map(|column| {
            let planned = plan_column(&column.name, &quote(&column.name), &column.source, &column.type_name, &own);
            PlanColumn { source: Some(source_of(column, true)), ..planned }
        })
        .collect();
    let schema = settings.into.clone().unwrap_or_else(|| table.schema.clone());
    let source_names: Vec<(String, String)> = table.columns.iter().map(|c| (c.name.clone(), c.name.clone())).collect();
    assemble(table, TableName::new(schema, &table.name), columns, &source_names, own, settings)
}

fn source_of(column: &crate::postgres::Column, is_plain: bool) -> SourceColumn {
    SourceColumn {
        name: column.name.clone(),
        number: column.number,
        type_name: column.type_name.clone(),
        missing: column.missing.clone().filter(|_| is_plain),
        planned_name: None,
    }
}

fn plan_column(name: &str, expression: &str, source: &SourceType, type_name: &str, own: &TableSettings) -> PlanColumn {
    let carried = match own.columns.get(name) {
        None => map_type(source),
        Some(ColumnAs::Text) => ColumnMapping { kind: ColumnKind::Text, cast: Some("text") },
        Some(ColumnAs::Double) => ColumnMapping { kind: ColumnKind::F64, cast: Some("float8") },
        // A text's binary form is its bytes.
        Some(ColumnAs::Bytes) => ColumnMapping { kind: ColumnKind::Bytes, cast: None },
        Some(ColumnAs::Decimal(precision, scale)) => {
            ColumnMapping { kind: ColumnKind::Decimal { precision: *precision, scale: *scale }, cast: Some("numeric") }
        }
    };
    let (postgres_expression, type_name) = for_postgres(expression, source, type_name, own.columns.get(name));
    let expression = match carried.cast {
        None => expression.to_owned(),
        Some(cast) => format!("({expression})::{cast}"),
    };
    PlanColumn { name: name.to_owned(), expression, kind: carried.kind, postgres_expression, type_name, source: None }
}

/// The expression and the type for a target in PostgreSQL. Built-in types are transferred without a cast. A user's type
/// may not exist in the target, so a domain is cast to its base type and any other user's type to text.
fn for_postgres(
    expression: &str,
    source: &SourceType,
    type_name: &str,
    carried_as: Option<&ColumnAs>,
) -> (String, String) {
    let cast = |to: &str| (format!("({expression})::{to}"), to.to_owned());
    match (carried_as, source) {
        (Some(ColumnAs::Text), _) => cast("text"),
        (Some(ColumnAs::Double), _) => cast("double precision"),
        (Some(ColumnAs::Bytes), _) => (format!("textsend(({expression})::text)"), "bytea".to_owned()),
        // Without its size: with one, PostgreSQL would round to the scale without an error.
        (Some(ColumnAs::Decimal(..)), _) => cast("numeric"),
        // Their values are OIDs of the source, which name other objects in the target.
        (None, _) if type_name.starts_with("reg") && !type_name.contains('.') => cast("text"),
        // With pg_catalog alone on the search path, a name with a dot is a user's type.
        (None, _) if !type_name.contains('.') => (expression.to_owned(), type_name.to_owned()),
        (None, SourceType::Builtin { name, .. }) => cast(builtin_sql_name(name)),
        (None, _) => cast("text"),
    }
}

/// The SQL name of a built-in type without a size, as PostgreSQL shows it. Unquoted, `char` and `bit` would have the
/// size 1, and a cast to them would truncate values without an error.
fn builtin_sql_name(name: &str) -> &str {
    match name {
        "char" => "\"char\"",
        "bit" => "\"bit\"",
        "varbit" => "bit varying",
        "varchar" => "character varying",
        "bool" => "boolean",
        "int2" => "smallint",
        "int4" => "integer",
        "int8" => "bigint",
        "float4" => "real",
        "float8" => "double precision",
        "time" => "time without time zone",
        "timetz" => "time with time zone",
        "timestamp" => "timestamp without time zone",
        "timestamptz" => "timestamp with time zone",
        other => other,
    }
}

/// Refuses a mapping with a rule that matches nothing: the rule may be a mask with a misspelt name, and the values
/// would be transferred unmasked.
fn check_rules_match(mapping: &dms::Mapping, path: &std::path::Path, catalog: &Catalog) -> Result<()> {
    let tables: Vec<(dms::Table<'_>, Vec<dms::Column<'_>>)> =
        catalog.tables.iter().map(|table| (dms_table(table), dms_columns(table))).collect();
    let unmatched = mapping.unmatched(&tables);
    if unmatched.is_empty() { Ok(()) } else { Err(mapping_error(path, &unmatched)) }
}

fn dms_table(table: &Table) -> dms::Table<'_> {
    let kind = if table.is_view() { dms::TableKind::View } else { dms::TableKind::Table };
    dms::Table { schema: &table.schema, name: &table.name, kind }
}

fn dms_columns(table: &Table) -> Vec<dms::Column<'_>> {
    table.columns.iter().map(|c| dms::Column { name: &c.name, type_name: &c.type_name }).collect()
}

async fn plan_mapped(
    client: &Client,
    catalog: &Catalog,
    table: &Table,
    mapping: &dms::Mapping,
    settings: &Settings,
) -> Result<Option<TablePlan>> {
    let dms_table = dms_table(table);
    let Some(selection) = mapping.select(&dms_table) else { return Ok(None) };
    let columns = dms_columns(table);
    let planned = mapping
        .plan(&dms_table, &columns, &selection)
        .map_err(|problems| mapping_error(settings.mapping.as_deref().unwrap_or("mapping".as_ref()), &problems))?;
    let own = settings.tables.get(&table.display()).cloned().unwrap_or_default();
    let expressions: Vec<&str> = planned.columns.iter().map(|c| c.expression.as_str()).collect();
    // The server gives the types of the expressions.
    let sql = format!("SELECT {} FROM {}", expressions.join(", "), table.qualified());
    let statement = client.prepare(&sql).await.context(format!("plan {} by the table mapping", table.display()))?;
    let columns = planned
        .columns
        .iter()
        .zip(&expressions)
        .zip(statement.columns())
        .map(|((column, expression), typed)| {
            let source = catalog.resolve(typed.type_().oid(), typed.type_modifier());
            let type_name = column
                .source
                .as_ref()
                .filter(|_| column.cast.is_none())
                .and_then(|name| table.columns.iter().find(|c| c.name == *name))
                .map_or_else(
                    || column.cast.clone().unwrap_or_else(|| typed.type_().name().to_owned()),
                    |c| c.type_name.clone(),
                );
            let from = column.source.as_ref().and_then(|name| table.columns.iter().find(|c| c.name == *name));
            let is_plain = from.is_some_and(|from| *expression == quote(&from.name));
            let planned = plan_column(&column.name, expression, &source, &type_name, &own);
            PlanColumn { source: from.map(|from| source_of(from, is_plain)), ..planned }
        })
        .collect();
    let names: Vec<(String, String)> =
        planned.columns.iter().filter_map(|c| Some((c.source.clone()?, c.name.clone()))).collect();
    let schema = settings.into.clone().unwrap_or(planned.schema);
    let mut plan = assemble(table, TableName::new(schema, planned.table), columns, &names, own, settings)?;
    if let Some(key) = planned.primary_key {
        plan.key = key;
    }
    plan.filter = planned.filter;
    plan.load_order = selection.load_order;
    Ok(Some(plan))
}

/// `names` has the columns whose values are transferred unchanged: their names at the source and in the target.
fn assemble(
    table: &Table,
    target: TableName,
    columns: Vec<PlanColumn>,
    names: &[(String, String)],
    own: TableSettings,
    settings: &Settings,
) -> Result<TablePlan> {
    let target_of = |source: &String| names.iter().find(|(from, _)| from == source).map(|(_, to)| to.clone());
    let key_source = if own.key.is_empty() { &table.key } else { &own.key };
    // A child table may have the same keys as its parent: where no mode needs the key, none is used.
    let is_unneeded = table.has_children && own.key.is_empty() && settings.mode == Mode::Initial;
    let key_source = if is_unneeded { &Vec::new() } else { key_source };
    let key: Option<Vec<String>> = key_source.iter().map(target_of).collect();
    if key.is_none() && !own.key.is_empty() {
        let known: Vec<&str> = names.iter().map(|(source, _)| source.as_str()).collect();
        let wrong = own.key.iter().find(|column| target_of(column).is_none());
        let hint = wrong.and_then(|column| base::suggestion("column", column, &known));
        let error = Error::setup(format!("plan {}: its key {:?} is not among its columns", table.display(), own.key));
        return Err(error.hint(hint.unwrap_or_default()));
    }
    let mut plan = TablePlan {
        source: table.clone(),
        target,
        columns,
        filter: None,
        // Rows of a child table may have keys of the parent's rows, whatever each of the tables enforces.
        is_key_enforced: !table.has_children && (own.key.is_empty() || is_enforced(table, &own.key)),
        key: key.unwrap_or_default(),
        cursor: None,
        no_cursor_reason: None,
        on_no_cursor: own.on_no_cursor.unwrap_or(settings.on_no_cursor),
        overlap: 0,
        load_order: 0,
        replace_command: settings.command("run", &table.display(), " --replace"),
        resync_command: settings.command("resync", &table.display(), ""),
    };
    if settings.mode == Mode::Changes {
        // The log has the order of the changes.
        return Ok(plan);
    }
    match order::choose_cursor(table, &plan, names, &own) {
        Ok(cursor) => {
            plan.overlap = order::overlap(&cursor, &own, settings)?;
            plan.cursor = Some(cursor);
        }
        Err(reason) if !own.cursor.is_empty() => {
            return Err(Error::setup(format!("plan {}: {reason}", table.display())));
        }
        Err(reason) => plan.no_cursor_reason = Some(reason),
    }
    Ok(plan)
}

/// Whether the source's primary key is part of `key`.
fn is_enforced(table: &Table, key: &[String]) -> bool {
    !table.key.is_empty() && table.key.iter().all(|column| key.contains(column))
}

mod order;
mod table_check;
mod transfer_plan;

#[cfg(test)]
mod tests;
