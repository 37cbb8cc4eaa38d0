//! Statements of clients: parsed, planned so far that their result columns and parameter types are
//! known, and bound to the values of their parameters.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock, Mutex};

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::sql::parser::Statement;
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use pgwire::api::Type;
use pgwire::api::portal::{Format, Portal};
use pgwire::error::PgWireResult;
use sqlparser::ast;
use tokio_util::task::AbortOnDropHandle;

use super::binding::{parameter_types, with_values};
use super::connection::Connection;
use super::copy::CopyOut;
use super::lock::locked;
use super::problem::{self, NOT_SUPPORTED};
use super::{catalogue, encode, parameters, variables};
use sql::complexity::nesting;
use sql::plan::{PlannedQuery, columns_of};
use sql::{frontend, statement};

/// The deepest nesting of parentheses of a catalogue query that the library's parser is given.
const CATALOGUE_NESTING_MAX: usize = 12;

static CATALOGUE_QUERIES: LazyLock<PostgresCompatibilityParser> = LazyLock::new(PostgresCompatibilityParser::new);

/// One statement of a client's text, rewritten for the engine.
#[derive(Debug, Clone)]
pub(crate) struct ParsedStatement {
    /// Its own text; written from the syntax tree if the client sent several statements at once.
    pub(crate) text: String,
    /// The rewritten statement.
    pub(crate) statement: Statement,
    /// The parameters whose values are arrays, such as `$1`.
    arrays: BTreeSet<String>,
    /// The parameters that are cast to `oid`: an integer in the engine, a type of its own for clients.
    oids: BTreeSet<String>,
}

/// A statement of the extended protocol.
#[derive(Debug)]
pub(crate) struct PreparedStatement {
    pub(crate) parsed: ParsedStatement,
    /// The result columns; empty if the statement returns no rows.
    pub(crate) columns: SchemaRef,
    /// The types of `$1`, `$2` and so on.
    pub(crate) parameters: Vec<Type>,
    /// The query of a DECLARE, which has the statement's parameters.
    cursor_query: Option<Box<PreparedStatement>>,
    /// The plan, with the Sync count when it was made: valid until the client's next Sync or the end of its block.
    planned: Mutex<Option<(u64, PlannedQuery)>>,
}

/// Parses the statements of a text, in order.
///
/// # Errors
/// If the text has a syntax error, with its position.
pub(crate) fn parse(sql: &str) -> PgWireResult<Vec<ParsedStatement>> {
    let statements = match statement::parse_any(sql) {
        Ok(statements) => statements,
        Err(error) => {
            // The parser does not know some short forms of PostgreSQL.
            if let Some(longer) = expand_short_form(sql) {
                return parse(&longer);
            }
            return Err(problem::of(&error, Some(sql)));
        }
    };
    let only = statements.len() == 1;
    statements.into_iter().map(|statement| rewrite_statement(statement, only.then_some(sql))).collect()
}

/// Parses a text of one statement.
///
/// # Errors
/// If the text has a syntax error, or holds another number of statements.
pub(crate) fn parse_one(query: &str) -> PgWireResult<ParsedStatement> {
    let mut statements = parse(query)?;
    match (statements.pop(), statements.len()) {
        (Some(only), 0) => Ok(only),
        _ => Err(problem::error("42601", "one query is expected")),
    }
}

/// The full form of `ABORT`, `FETCH cursor` and `FETCH FROM cursor`.
fn expand_short_form(sql: &str) -> Option<String> {
    let words: Vec<&str> = sql.trim().trim_end_matches(';').split_whitespace().collect();
    let is = |word: &str, known: &str| word.eq_ignore_ascii_case(known);
    match words[..] {
        [abort] if is(abort, "abort") => Some("ROLLBACK".to_owned()),
        [fetch, name] if is(fetch, "fetch") => Some(format!("FETCH NEXT FROM {name}")),
        [fetch, from, name] if is(fetch, "fetch") && (is(from, "from") || is(from, "in")) => {
            Some(format!("FETCH NEXT FROM {name}"))
        }
        _ => None,
    }
}

fn rewrite_statement(read: Statement, whole: Option<&str>) -> PgWireResult<ParsedStatement> {
    let text = whole.map_or_else(|| read.to_string(), |sql| sql.trim().trim_end_matches(';').to_owned());
    let Statement::Statement(sql) = read else {
        return Ok(ParsedStatement {
            text,
            statement: statement::rewrite(read),
            arrays: BTreeSet::new(),
            oids: BTreeSet::new(),
        });
    };
    let mut sql = *sql;
    let oids = catalogue::parameters_cast_to_oid(&sql);
    let (mut arrays, mut words) = (BTreeSet::new(), text.clone());
    // The catalogue library mistakes the quotes of array elements for a part of the elements.
    if text.contains("'{\"") {
        arrays = frontend::rewrite_array_comparisons(&mut sql);
        words = sql.to_string();
    }
    if catalogue::reads_catalogue(&sql) {
        sql = rewrite_catalogue_query(sql, &words)?;
    }
    arrays.extend(frontend::rewrite_array_comparisons(&mut sql));
    let statement = Statement::Statement(Box::new(frontend::rewrite(sql)));
    Ok(ParsedStatement { text, statement, arrays, oids })
}

fn rewrite_catalogue_query(mut sql: ast::Statement, text: &str) -> PgWireResult<ast::Statement> {
    if let Some(short) = catalogue::short_types_query(&sql) {
        return Ok(catalogue::rewrite(short));
    }
    if let Some(empty) = catalogue::without_rows(&sql) {
        return Ok(empty);
    }
    let failed = |error| problem::error("42601", format!("syntax error: {error}"));
    // The library's parser takes exponential time for nested calls. The queries that it knows by their text are flat.
    if catalogue::rewrite_procedure_names(&mut sql) || nesting(text) > CATALOGUE_NESTING_MAX {
        sql = CATALOGUE_QUERIES.rewrite(sql);
    } else if let [again] = CATALOGUE_QUERIES.parse(text).map_err(failed)?.as_mut_slice() {
        // The library knows some queries by their text, so it is given the text and not the tree.
        sql = again.clone();
    }
    Ok(catalogue::rewrite(sql))
}

impl ParsedStatement {
    /// The SQL statement; `None` for a statement of the engine, such as RESET.
    pub(crate) fn sql(&self) -> Option<&ast::Statement> {
        match &self.statement {
            Statement::Statement(sql) => Some(sql),
            _ => None,
        }
    }

    /// Plans the statement in the planning runtime, so that no other connection waits for it.
    ///
    /// # Errors
    /// If the statement is refused or cannot be planned, or is cancelled meanwhile.
    pub(crate) async fn plan(&self, connection: &Arc<Connection>) -> PgWireResult<PlannedQuery> {
        statement::check_read_only(&self.statement).map_err(|error| problem::of(&error, Some(&self.text)))?;
        let (view, statement, owned) = (connection.view(), self.statement.clone(), Arc::clone(connection));
        let planning = connection.resources.planning().spawn(async move { owned.session.plan(statement, &view).await });
        let planned = connection.unless_cancelled(async {
            AbortOnDropHandle::new(planning).await.map_err(|_| problem::panicked("planning"))
        });
        planned.await?.map_err(|error| problem::of(&error, Some(&self.text)))
    }
}

impl PreparedStatement {
    /// Prepares a statement. `given` are the parameter types that the client declares.
    ///
    /// # Errors
    /// If the statement cannot be planned, or fetches from a cursor that does not exist.
    pub(crate) async fn new(
        parsed: ParsedStatement,
        connection: &Arc<Connection>,
        given: &[Option<Type>],
    ) -> PgWireResult<Self> {
        let no_columns = || Arc::new(Schema::empty());
        let text = |name: &str| Arc::new(Schema::new(vec![Field::new(name, DataType::Utf8, false)]));
        let columns = match (&parsed.statement, parsed.sql()) {
            (_, Some(ast::Statement::ShowVariable { variable })) => text(&variables::shown_name(variable)),
            (_, Some(ast::Statement::Fetch { name, .. })) => connection.cursor_columns(&name.value)?,
            (_, Some(ast::Statement::Declare { stmts })) => {
                let cursor_query = match declared_query(stmts)? {
                    Some(query) => Some(Box::new(PreparedStatement::of_query(query, connection, given).await?)),
                    None => None,
                };
                let parameters = cursor_query.as_ref().map(|query| query.parameters.clone()).unwrap_or_default();
                return Ok(PreparedStatement {
                    parsed,
                    columns: no_columns(),
                    parameters,
                    cursor_query,
                    planned: Mutex::default(),
                });
            }
            (_, Some(sql)) if is_session_command(sql) || CopyOut::of_statement(sql).is_some() => no_columns(),
            (Statement::Reset(_), _) => no_columns(),
            _ => return PreparedStatement::of_query(parsed, connection, given).await,
        };
        Ok(PreparedStatement { parsed, columns, parameters: Vec::new(), cursor_query: None, planned: Mutex::default() })
    }

    /// The query of a DECLARE with one cursor.
    pub(crate) fn cursor_query(&self) -> Option<&PreparedStatement> {
        self.cursor_query.as_deref()
    }

    async fn of_query(
        parsed: ParsedStatement,
        connection: &Arc<Connection>,
        given: &[Option<Type>],
    ) -> PgWireResult<Self> {
        let planned = parsed.plan(connection).await?;
        let parameters = parameter_types(&planned.plan, parsed.sql(), (&parsed.arrays, &parsed.oids), given)?;
        let columns = result_columns(&planned, &parameters, &parsed.arrays);
        let batch = connection.sync_count.load(Ordering::Relaxed);
        Ok(PreparedStatement {
            parsed,
            columns,
            parameters,
            cursor_query: None,
            planned: Mutex::new(Some((batch, planned))),
        })
    }

    /// The plan with the values of the portal's parameters, over the newest state of the lake or the open block's.
    ///
    /// # Errors
    /// If a value does not fit its type, the number of values is wrong, or the result columns have changed.
    pub(crate) async fn bind<S: Clone>(
        &self,
        connection: &Arc<Connection>,
        portal: &Portal<S>,
    ) -> PgWireResult<PlannedQuery> {
        let cached = locked(&self.planned)
            .clone()
            .filter(|(batch, _)| connection.in_block() || *batch == connection.sync_count.load(Ordering::Relaxed));
        let PlannedQuery { plan, state, .. } = match cached {
            Some((_, planned)) => planned,
            None => self.parsed.plan(connection).await?,
        };
        if portal.parameter_len() != self.parameters.len() {
            let message = format!(
                "bind message supplies {} parameters, but prepared statement requires {}",
                portal.parameter_len(),
                self.parameters.len()
            );
            return Err(problem::error("08P01", message));
        }
        let values = self.values(portal, &connection.zone())?;
        let plan = with_values(plan, values, &self.parsed.arrays)?;
        let columns = columns_of(&plan, &state).map_err(problem::of_run)?;
        if types_of(&columns)? != types_of(&self.columns)? {
            return Err(problem::error(NOT_SUPPORTED, "cached plan must not change result type"));
        }
        Ok(PlannedQuery { plan, columns, state })
    }

    fn values<S: Clone>(&self, portal: &Portal<S>, zone: &str) -> PgWireResult<Vec<ScalarValue>> {
        let given = &portal.statement.parameter_types;
        let mut values = Vec::with_capacity(self.parameters.len());
        for (at, parameter) in self.parameters.iter().enumerate() {
            let pg_type = given.get(at).cloned().flatten().unwrap_or_else(|| parameter.clone());
            let binary = portal.parameter_format.is_binary(at);
            values.push(parameters::value(portal.parameters[at].as_deref(), &pg_type, binary, zone)?);
        }
        Ok(values)
    }
}

/// Whether a statement is a command of the session, which needs no plan.
fn is_session_command(sql: &ast::Statement) -> bool {
    matches!(
        sql,
        ast::Statement::StartTransaction { .. }
            | ast::Statement::Commit { .. }
            | ast::Statement::Rollback { .. }
            | ast::Statement::Savepoint { .. }
            | ast::Statement::ReleaseSavepoint { .. }
            | ast::Statement::Set(_)
            | ast::Statement::ShowVariable { .. }
            | ast::Statement::Declare { .. }
            | ast::Statement::Fetch { .. }
            | ast::Statement::Close { .. }
            | ast::Statement::Discard { .. }
            | ast::Statement::Deallocate { .. }
            | ast::Statement::LISTEN { .. }
            | ast::Statement::UNLISTEN { .. }
    )
}

/// The query of a DECLARE with one cursor; `None` with several.
///
/// # Errors
/// If the statement does not declare a cursor.
fn declared_query(stmts: &[ast::Declare]) -> PgWireResult<Option<ParsedStatement>> {
    match stmts {
        [only] => cursor_query(only).map(Some),
        _ => Ok(None),
    }
}

/// The query of a declared cursor.
///
/// # Errors
/// If something else than a cursor is declared, or the query has a syntax error.
pub(crate) fn cursor_query(declare: &ast::Declare) -> PgWireResult<ParsedStatement> {
    match (&declare.declare_type, &declare.names[..], &declare.for_query) {
        (Some(ast::DeclareType::Cursor), [_], Some(query)) => parse_one(&query.to_string()),
        _ => Err(problem::error("42601", "only cursors can be declared: DECLARE name CURSOR FOR query")),
    }
}

fn types_of(columns: &Schema) -> PgWireResult<Vec<Type>> {
    let fields = encode::fields(columns, &Format::UnifiedText)?;
    Ok(fields.iter().map(|field| field.datatype().clone()).collect())
}

/// The result columns that the query has once its parameters have values.
fn result_columns(planned: &PlannedQuery, given: &[Type], arrays: &BTreeSet<String>) -> SchemaRef {
    let plan = &planned.plan;
    let nulls = given.iter().enumerate().map(|(at, pg_type)| match arrays.contains(&format!("${}", at + 1)) {
        true => Ok(ScalarValue::Null),
        false => parameters::value(None, pg_type, false, "UTC"),
    });
    let with_nulls = nulls.collect::<PgWireResult<Vec<_>>>().and_then(|nulls| with_values(plan.clone(), nulls, arrays));
    let plan = with_nulls.as_ref().unwrap_or(plan);
    columns_of(plan, &planned.state).unwrap_or_else(|_| Arc::clone(plan.schema().inner()))
}
