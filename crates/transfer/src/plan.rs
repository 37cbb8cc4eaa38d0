//! What a transfer carries: which tables, under which names, which columns and how, by which key
//! and cursor. Made from the source's catalogue and the transfer's settings, before any row moves.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lake::TableName;
use regex::Regex;
use tokio_postgres::Client;

use crate::carried::{Carried, Kind, SourceType, carry};
pub use crate::cursor::{Cursor, CursorColumn, CursorKind};
use crate::dms;
use crate::error::{Context, Error, Result};
use crate::postgres::{Catalog, Table, TableKind, quote};
pub use crate::settings::{ColumnAs, Mode, OnNoCursor, Overlap, Settings, TableSettings};

#[derive(Debug, Clone)]
pub struct PlanColumn {
    pub name: String,
    /// SQL at the source, its cast included.
    pub expression: String,
    pub kind: Kind,
    /// SQL for a PostgreSQL target, which takes most types as they are.
    pub plain: String,
    /// The type that a PostgreSQL target gives the column.
    pub type_name: String,
    /// The source's column, where it is carried as one: its name and number, and the value of rows older than it.
    pub source: Option<SourceColumn>,
}

/// Where a column comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceColumn {
    pub name: String,
    pub number: i16,
    pub type_name: String,
    /// As [`crate::postgres::Column::missing`]; none where the value is computed.
    pub missing: Option<String>,
    /// The name that the plan gave the column, where the target keeps an earlier one.
    pub planned: Option<String>,
}

#[derive(Debug, Clone)]
pub struct TablePlan {
    pub source: Table,
    pub target: TableName,
    pub columns: Vec<PlanColumn>,
    pub filter: Option<String>,
    /// Target columns that identify a row; empty where nothing does.
    pub key: Vec<String>,
    /// The source enforces the key: no two rows have the same.
    pub key_holds: bool,
    pub cursor: Option<Cursor>,
    /// Why INCREMENTAL can't carry the table, where it can't.
    pub no_cursor: Option<String>,
    pub on_no_cursor: OnNoCursor,
    /// In the cursor's own unit: ids, or microseconds.
    pub overlap: i64,
    pub load_order: i64,
    /// The commands that read the table anew, for hints: in place of what the target has, and beside it.
    pub replace: String,
    pub resync: String,
}

impl TablePlan {
    /// The query that COPY runs over one piece of the table.
    pub fn select(&self, from: &str, condition: Option<&str>) -> String {
        let columns = self.columns.iter().map(|c| c.expression.as_str()).collect::<Vec<_>>();
        self.query(&columns, from, condition)
    }

    /// The same for a PostgreSQL target.
    pub fn select_plain(&self, from: &str, condition: Option<&str>) -> String {
        let columns = self.columns.iter().map(|c| c.plain.as_str()).collect::<Vec<_>>();
        self.query(&columns, from, condition)
    }

    fn query(&self, columns: &[&str], from: &str, condition: Option<&str>) -> String {
        let columns = columns.join(", ");
        let conditions: Vec<String> =
            self.filter.iter().map(String::as_str).chain(condition).map(|c| format!("({c})")).collect();
        let filter = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        format!("SELECT {columns} FROM {from}{filter}")
    }

    pub fn decoded(&self) -> Vec<(String, Kind)> {
        self.columns.iter().map(|c| (c.name.clone(), c.kind.clone())).collect()
    }

    pub fn key_positions(&self) -> Vec<usize> {
        self.key.iter().filter_map(|key| self.columns.iter().position(|c| c.name == *key)).collect()
    }

    /// The table and its partitions.
    pub fn relations(&self) -> impl Iterator<Item = u32> {
        self.source.relations()
    }
}

/// A table that can't be carried, and why; the others are.
#[derive(Debug)]
pub struct Refused {
    pub table: String,
    pub error: Error,
}

#[derive(Debug, Default)]
pub struct Plan {
    pub tables: Vec<TablePlan>,
    pub refused: Vec<Refused>,
    /// Names of `exclude` that no table of the source has.
    pub unmatched: Vec<String>,
}

/// Plans the whole transfer.
pub async fn plan(client: &Client, catalog: &Catalog, settings: &Settings) -> Result<Plan> {
    let mapping = match &settings.mapping {
        None => None,
        Some(path) => Some(read_mapping(path)?),
    };
    let selector = Selector::new(settings)?;
    let mut plan = Plan::default();
    for table in &catalog.tables {
        let planned = match &mapping {
            None if selector.takes(table) => plan_plain(table, settings),
            Some(mapping) => match plan_mapped(client, catalog, table, mapping, settings).await {
                Ok(None) => continue,
                Ok(Some(planned)) => Ok(planned),
                Err(error) => Err(error),
            },
            None => continue,
        };
        match planned.and_then(|planned| check(planned, settings, &catalog.user)) {
            Ok(planned) => plan.tables.push(planned),
            Err(error) => plan.refused.push(Refused { table: table.display(), error }),
        }
    }
    if let (Some(mapping), Some(path)) = (&mapping, &settings.mapping) {
        every_rule_applies(mapping, path, catalog)?;
    }
    let is_exact = |name: &&String| !name.contains(['*', '?']);
    let is_table = |name: &String| catalog.tables.iter().any(|table| table.display() == *name);
    plan.unmatched = settings.exclude.iter().filter(is_exact).filter(|name| !is_table(name)).cloned().collect();
    let included = settings.include.iter().filter(is_exact).filter(|_| mapping.is_none());
    for name in included.filter(|name| !settings.tables.contains_key(*name)) {
        if !is_table(name) {
            let error = Error::setup(format!("the source has no table {name}, or the user may not see it"))
                .state("missing")
                .hint(format!("correct or remove {name:?} in include; what the target has of it stays"));
            plan.refused.push(Refused { table: name.clone(), error });
        }
    }
    for name in settings.tables.keys() {
        if !catalog.tables.iter().any(|table| table.display() == *name) {
            let error = Error::setup(format!("the source has no table {name}, or the user may not see it"))
                .state("missing")
                .hint(format!("correct or remove [tables.{name:?}]; what the target has of it stays"));
            plan.refused.push(Refused { table: name.clone(), error });
        }
    }
    distinct_targets(&plan)?;
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

struct Selector {
    include: Vec<Regex>,
    exclude: Vec<Regex>,
    views: bool,
}

impl Selector {
    fn new(settings: &Settings) -> Result<Selector> {
        let compile = |patterns: &[String]| patterns.iter().map(|p| pattern(p)).collect::<Result<Vec<_>>>();
        Ok(Selector {
            include: compile(&settings.include)?,
            exclude: compile(&settings.exclude)?,
            views: settings.views,
        })
    }

    fn takes(&self, table: &Table) -> bool {
        let name = table.display();
        let included = self.include.is_empty() || self.include.iter().any(|p| p.is_match(&name));
        included && !self.exclude.iter().any(|p| p.is_match(&name)) && (self.views || !table.is_view())
    }
}

/// `*` any run, `?` one character.
fn pattern(text: &str) -> Result<Regex> {
    let escaped = regex::escape(text).replace("\\*", ".*").replace("\\?", ".");
    Regex::new(&format!("(?s)^{escaped}$")).map_err(|e| Error::setup(format!("read the pattern {text:?}")).because(e))
}

fn plan_plain(table: &Table, settings: &Settings) -> Result<TablePlan> {
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
        planned: None,
    }
}

fn plan_column(name: &str, expression: &str, source: &SourceType, type_name: &str, own: &TableSettings) -> PlanColumn {
    let carried = match own.columns.get(name) {
        None => carry(source),
        Some(ColumnAs::Text) => Carried { kind: Kind::Text, cast: Some("text") },
        Some(ColumnAs::Double) => Carried { kind: Kind::F64, cast: Some("float8") },
        // A text's binary form is its bytes.
        Some(ColumnAs::Bytes) => Carried { kind: Kind::Bytes, cast: None },
        Some(ColumnAs::Decimal(precision, scale)) => {
            Carried { kind: Kind::Decimal { precision: *precision, scale: *scale }, cast: Some("numeric") }
        }
    };
    let (plain, type_name) = for_postgres(expression, source, type_name, own.columns.get(name));
    let expression = match carried.cast {
        None => expression.to_owned(),
        Some(cast) => format!("({expression})::{cast}"),
    };
    PlanColumn { name: name.to_owned(), expression, kind: carried.kind, plain, type_name, source: None }
}

/// Built-in types go over as they are; a type that users made may not exist in the target, so a
/// domain becomes what it is made of and all else its text.
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
        // Without its size: PostgreSQL would round to the scale, silently.
        (Some(ColumnAs::Decimal(..)), _) => cast("numeric"),
        // With pg_catalog alone on the search path, a name with a dot is a user's type.
        (None, _) if !type_name.contains('.') => (expression.to_owned(), type_name.to_owned()),
        (None, SourceType::Builtin { name, .. }) => cast(in_sql(name)),
        (None, _) => cast("text"),
    }
}

/// A built-in type without a size, as PostgreSQL itself shows it. Not quoted, `char` and `bit` would be of size 1, and
/// take what fits without a word.
fn in_sql(name: &str) -> &str {
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

/// A rule that touches nothing was meant to touch something: a misspelt mask would let values through.
fn every_rule_applies(mapping: &dms::Mapping, path: &std::path::Path, catalog: &Catalog) -> Result<()> {
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
    // The server says what the expressions give.
    let sql = format!("SELECT {} FROM {}", expressions.join(", "), table.qualified());
    let statement =
        client.prepare(&sql).await.context(format!("plan {} as the table mapping asks", table.display()))?;
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

/// `names` are the columns that are carried as they are: their names at the source and in the target.
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
    // What inherits from a table may have the same keys as it: where nothing needs the key, it says nothing.
    let says_nothing = table.has_children && own.key.is_empty() && settings.mode == Mode::Initial;
    let key_source = if says_nothing { &Vec::new() } else { key_source };
    let key: Option<Vec<String>> = key_source.iter().map(target_of).collect();
    if key.is_none() && !own.key.is_empty() {
        return Err(Error::setup(format!("plan {}: its key {:?} is not among its columns", table.display(), own.key)));
    }
    let mut plan = TablePlan {
        source: table.clone(),
        target,
        columns,
        filter: None,
        // Rows of child tables may have the keys of others, whatever each table enforces.
        key_holds: !table.has_children && (own.key.is_empty() || is_enforced(table, &own.key)),
        key: key.unwrap_or_default(),
        cursor: None,
        no_cursor: None,
        on_no_cursor: own.on_no_cursor.unwrap_or(settings.on_no_cursor),
        overlap: 0,
        load_order: 0,
        replace: settings.command("run", &table.display(), " --replace"),
        resync: settings.command("resync", &table.display(), ""),
    };
    match order::choose(table, &plan, names, &own) {
        Ok(cursor) => {
            plan.overlap = order::overlap(&cursor, &own, settings)?;
            plan.cursor = Some(cursor);
        }
        Err(reason) if !own.cursor.is_empty() => {
            return Err(Error::setup(format!("plan {}: {reason}", table.display())));
        }
        Err(reason) => plan.no_cursor = Some(reason),
    }
    Ok(plan)
}

fn is_enforced(table: &Table, key: &[String]) -> bool {
    !table.key.is_empty() && table.key.iter().all(|column| key.contains(column))
}

/// The schema of SQL's system tables: a table of the lake in it could not be read.
const SYSTEM: &str = "system";

fn readable(plan: &TablePlan, user: &str) -> Result<()> {
    let (table, user) = (&plan.source, quote(user));
    let denied = |columns: &str| {
        Err(Error::setup(format!("read {}{columns}: permission denied", table.display())).hint(format!(
            "GRANT USAGE ON SCHEMA {} TO {user}; GRANT SELECT ON {} TO {user};",
            quote(&table.schema),
            table.qualified()
        )))
    };
    if !table.readable {
        return denied("");
    }
    let columns = plan.columns.iter().filter_map(|column| column.source.as_ref());
    let closed = |name: &str| table.columns.iter().any(|column| column.name == name && !column.readable);
    match columns.map(|column| &column.name).find(|name| closed(name)) {
        Some(name) => denied(&format!(", column {name:?}")),
        None => Ok(()),
    }
}

/// What would fail half-way is refused now.
fn check(plan: TablePlan, settings: &Settings, user: &str) -> Result<TablePlan> {
    let table = plan.source.display();
    readable(&plan, user)?;
    if plan.target.schema == SYSTEM {
        let context = format!("carry {table}: the schema {SYSTEM:?} of the target is taken by Wattlake's own tables");
        return Err(Error::setup(context).hint("set into = \"another_schema\" for the transfer"));
    }
    if plan.columns.is_empty() {
        return Err(
            Error::input(format!("carry {table}: it has no columns")).hint("exclude the table from the transfer")
        );
    }
    let mut seen = BTreeMap::new();
    for column in &plan.columns {
        if let Some(other) = seen.insert(column.name.to_lowercase(), &column.name) {
            let context = format!("carry {table}: columns {other:?} and {:?} differ by case only", column.name);
            return Err(Error::input(context).hint("rename one of them with a table mapping"));
        }
    }
    let own = settings.tables.get(&table);
    if let Some(name) = own.and_then(|own| own.columns.keys().find(|n| !plan.columns.iter().any(|c| c.name == **n))) {
        return Err(Error::setup(format!("plan {table}: there is no column {name:?} to carry another way")));
    }
    if settings.mode == Mode::Incremental
        && plan.on_no_cursor == OnNoCursor::Error
        && let Some(reason) = &plan.no_cursor
    {
        return Err(Error::setup(format!("carry {table} incrementally: {reason}")).hint(format!(
            "[tables.{table:?}] cursor = \"...\" (and key = [...] where the table declares none), \
             or on_no_cursor = \"reload\" to read it whole each time"
        )));
    }
    if plan.cursor.is_some() && plan.source.kind == TableKind::Foreign {
        tracing::warn!(%table, "a foreign table shows no transactions: late rows are found by the overlap only");
    }
    Ok(plan)
}

fn distinct_targets(plan: &Plan) -> Result<()> {
    let mut seen = BTreeMap::new();
    for table in &plan.tables {
        if let Some(other) = seen.insert(&table.target, table.source.display()) {
            let context = format!("{other} and {} would both become {}", table.source.display(), table.target);
            return Err(Error::setup(context).hint("leave `into` out, or rename one of them with a table mapping"));
        }
    }
    Ok(())
}

mod order;
#[cfg(test)]
mod tests;
