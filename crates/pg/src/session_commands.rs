//! Executes one statement: a query, or a command of the session itself such as BEGIN, SET, DECLARE
//! or COPY.

use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::{ResetStatement, Statement};
use futures::stream;
use pgwire::api::portal::Portal;
use pgwire::error::PgWireResult;
use pgwire::messages::response::TransactionStatus;
use sqlparser::ast::{self, CloseCursor, ContextModifier, FetchDirection, Ident, Set, Statement as Sql};

use super::connection::{Connection, NamedCursor};
use super::copy::{CopyOut, CopyWriter};
use super::encode::{self, BatchStream, Cursor};
use super::execution::{Batches, QueryRecord};
use super::lock::locked;
use super::prepared::{ParsedStatement, PreparedStatement, cursor_query, parse_one};
use super::problem::{self, ABORTED, NOT_SUPPORTED};
use super::variables;
use sql::plan::PlannedQuery;

/// What the client is sent for one executed statement.
pub(crate) enum Outcome {
    /// A running query.
    Rows { columns: SchemaRef, batches: BatchStream, tag: &'static str },
    /// Only a command tag.
    Done {
        tag: String,
        /// The name and value of a variable whose change is reported to the client.
        parameter_status: Option<(String, String)>,
    },
    /// A transaction block is open.
    BlockBegun,
    /// The transaction block has ended.
    BlockEnded { tag: &'static str },
    /// The rows of a `COPY ... TO STDOUT`.
    CopyOut { writer: CopyWriter, batches: BatchStream },
    /// A prepared statement is to be removed; all of them if `name` is `None`.
    Deallocated { name: Option<String>, tag: &'static str },
}

fn done(tag: &str) -> PgWireResult<Outcome> {
    Ok(Outcome::Done { tag: tag.to_owned(), parameter_status: None })
}

/// Executes a statement of the simple protocol. `status` is the state of the transaction block before it.
///
/// # Errors
/// If the statement is refused, cannot be planned, or the transaction block has failed. Errors of a running query are
/// returned with its batches.
pub(crate) async fn execute(
    connection: &Arc<Connection>,
    parsed: &ParsedStatement,
    status: TransactionStatus,
) -> PgWireResult<Outcome> {
    if let Some(outcome) = session_command(connection, parsed, status).await? {
        return Ok(outcome);
    }
    run(connection, parsed.plan(connection)).await
}

/// Executes a statement of the extended protocol with the portal's parameters; otherwise like [`execute`].
pub(crate) async fn execute_bound<S: Clone>(
    connection: &Arc<Connection>,
    prepared: &PreparedStatement,
    portal: &Portal<S>,
    status: TransactionStatus,
) -> PgWireResult<Outcome> {
    if let (Some(query), Some(Sql::Declare { stmts })) = (prepared.cursor_query(), prepared.parsed.sql()) {
        refuse_if_aborted(&prepared.parsed, status)?;
        let [declare] = &stmts[..] else { return Err(problem::error("42601", "one cursor is expected")) };
        return declare_cursor(connection, declare, query.bind(connection, portal)).await;
    }
    if let Some(outcome) = session_command(connection, &prepared.parsed, status).await? {
        return Ok(outcome);
    }
    run(connection, prepared.bind(connection, portal)).await
}

async fn run(
    connection: &Arc<Connection>,
    planning: impl Future<Output = PgWireResult<PlannedQuery>>,
) -> PgWireResult<Outcome> {
    let (columns, batches, plan) = start_query(connection, planning).await?;
    let tag = if matches!(plan, LogicalPlan::Explain(_) | LogicalPlan::Analyze(_)) { "EXPLAIN" } else { "SELECT" };
    Ok(Outcome::Rows { columns, batches: encode::all_batches(batches), tag })
}

async fn start_query(
    connection: &Arc<Connection>,
    planning: impl Future<Output = PgWireResult<PlannedQuery>>,
) -> PgWireResult<(SchemaRef, Batches, LogicalPlan)> {
    let record = QueryRecord::open(&connection.resources, connection);
    let mut planned = planning.await.inspect_err(|error| record.failed(error))?;
    // SET of an engine setting must change the session's context, not the query's copy of it.
    if let LogicalPlan::Statement(_) = planned.plan {
        let set = connection.session.context.execute_logical_plan(planned.plan).await.map_err(problem::of_run)?;
        planned.plan = set.into_unoptimized_plan();
    }
    let plan = planned.plan.clone();
    let columns = match &plan {
        // The result of SET has other columns than those that were planned.
        LogicalPlan::Statement(_) => Arc::clone(plan.schema().inner()),
        _ => Arc::clone(&planned.columns),
    };
    let batches = Batches::start(&connection.resources, connection, planned, record)?;
    Ok((columns, batches, plan))
}

/// Returns whether the transaction block has failed.
///
/// # Errors
/// If it has failed and the statement is not COMMIT or ROLLBACK.
fn refuse_if_aborted(parsed: &ParsedStatement, status: TransactionStatus) -> PgWireResult<bool> {
    let aborted = matches!(status, TransactionStatus::Error);
    if aborted && !matches!(parsed.sql(), Some(Sql::Commit { .. } | Sql::Rollback { .. })) {
        let message = "current transaction is aborted, commands ignored until end of transaction block";
        return Err(problem::error(ABORTED, message));
    }
    Ok(aborted)
}

async fn session_command(
    connection: &Arc<Connection>,
    parsed: &ParsedStatement,
    status: TransactionStatus,
) -> PgWireResult<Option<Outcome>> {
    let aborted = refuse_if_aborted(parsed, status)?;
    if let Statement::Reset(ResetStatement::Variable(name)) = &parsed.statement {
        return reset(connection, &name.to_string()).map(Some);
    }
    let Some(sql) = parsed.sql() else { return Ok(None) };
    if let Some(copy) = CopyOut::of_statement(sql) {
        return copy_out(connection, &copy?).await.map(Some);
    }
    let outcome = match sql {
        Sql::StartTransaction { .. } => {
            connection.begin();
            Ok(Outcome::BlockBegun)
        }
        Sql::Commit { .. } => {
            connection.end_block(!aborted);
            Ok(Outcome::BlockEnded { tag: if aborted { "ROLLBACK" } else { "COMMIT" } })
        }
        // The session is read-only, so there is nothing to undo: the block continues.
        Sql::Rollback { savepoint: Some(_), .. } if aborted => Ok(Outcome::BlockBegun),
        Sql::Rollback { savepoint: Some(_), .. } => done("ROLLBACK"),
        Sql::Rollback { .. } => {
            connection.end_block(false);
            Ok(Outcome::BlockEnded { tag: "ROLLBACK" })
        }
        Sql::Savepoint { .. } => done("SAVEPOINT"),
        Sql::ReleaseSavepoint { .. } => done("RELEASE"),
        Sql::LISTEN { .. } => done("LISTEN"),
        Sql::UNLISTEN { .. } => done("UNLISTEN"),
        Sql::Set(set) => return set_variable(connection, set),
        Sql::ShowVariable { variable } => show(connection, variable),
        Sql::Declare { stmts } => declare(connection, stmts).await,
        Sql::Fetch { name, direction, .. } => fetch(connection, &name.value, direction).await,
        Sql::Close { cursor } => close(connection, cursor),
        Sql::Discard { .. } => {
            connection.reset_all();
            locked(&connection.cursors).clear();
            Ok(Outcome::Deallocated { name: None, tag: "DISCARD ALL" })
        }
        Sql::Deallocate { name, .. } if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("all") => {
            Ok(Outcome::Deallocated { name: None, tag: "DEALLOCATE ALL" })
        }
        Sql::Deallocate { name, .. } => Ok(Outcome::Deallocated { name: Some(name.value.clone()), tag: "DEALLOCATE" }),
        Sql::Prepare { .. } | Sql::Execute { .. } => {
            let hint = "use the prepared statements of the client library";
            Err(problem::with_hint(NOT_SUPPORTED, "the statements PREPARE and EXECUTE are not supported", hint))
        }
        _ => return Ok(None),
    };
    outcome.map(Some)
}

/// Executes SET. `None` for settings of the engine, which are planned like a query.
fn set_variable(connection: &Connection, set: &Set) -> PgWireResult<Option<Outcome>> {
    let assign = |name: &str, value: Option<String>, local: bool| -> PgWireResult<Option<Outcome>> {
        let now = connection.set(name, value, local)?;
        let parameter_status = variables::reported_name(name).map(|name| (name.to_owned(), now));
        Ok(Some(Outcome::Done { tag: "SET".to_owned(), parameter_status }))
    };
    match set {
        Set::SingleAssignment { scope, variable, values, .. } => {
            let name = variable.0.iter().map(|part| part.to_string().trim_matches('"').to_owned());
            let name = name.collect::<Vec<_>>().join(".");
            if name.to_lowercase().starts_with("datafusion.") {
                return Ok(None);
            }
            let values: Vec<String> = values.iter().map(plain).collect();
            let value = values.join(", ");
            let default = values.len() == 1 && value.eq_ignore_ascii_case("default");
            assign(&name, (!default).then_some(value), *scope == Some(ContextModifier::Local))
        }
        Set::SetTimeZone { local, value } => {
            let value = plain(value);
            let default = ["default", "local"].iter().any(|word| value.eq_ignore_ascii_case(word));
            assign(variables::TIME_ZONE, (!default).then_some(value), *local)
        }
        Set::SetNames { charset_name, .. } => assign("client_encoding", Some(charset_name.value.clone()), false),
        Set::SetTransaction { .. } => done("SET").map(Some),
        Set::SetRole { role_name: None, .. } => done("SET").map(Some),
        Set::SetRole { role_name: Some(role), .. } if role.value == connection.role.name => done("SET").map(Some),
        other => Err(problem::error(NOT_SUPPORTED, format!("SET {other} is not supported"))),
    }
}

/// The text of a SET value: a literal without its quotes, of an interval the text inside.
fn plain(value: &ast::Expr) -> String {
    match value {
        ast::Expr::Value(value) => match &value.value {
            ast::Value::SingleQuotedString(text) | ast::Value::DoubleQuotedString(text) => text.clone(),
            other => other.to_string(),
        },
        ast::Expr::Identifier(name) => name.value.clone(),
        ast::Expr::Interval(interval) => plain(&interval.value),
        other => other.to_string(),
    }
}

fn reset(connection: &Connection, name: &str) -> PgWireResult<Outcome> {
    if name.eq_ignore_ascii_case("all") {
        connection.reset_all();
        return done("RESET");
    }
    if name.to_lowercase().starts_with("datafusion.") {
        return Err(problem::error(
            NOT_SUPPORTED,
            "RESET of a datafusion setting is not supported: SET it to its default",
        ));
    }
    let now = connection.set(name, None, false)?;
    Ok(Outcome::Done {
        tag: "RESET".to_owned(),
        parameter_status: variables::reported_name(name).map(|name| (name.to_owned(), now)),
    })
}

fn show(connection: &Connection, variable: &[Ident]) -> PgWireResult<Outcome> {
    let name = variables::shown_name(variable);
    let variables = locked(&connection.variables);
    let text = |names: &[&str]| {
        Arc::new(Schema::new(names.iter().map(|name| Field::new(*name, DataType::Utf8, false)).collect::<Vec<_>>()))
    };
    let (columns, arrays): (SchemaRef, Vec<Vec<String>>) = if name == "all" {
        let all: Vec<(&str, String)> = variables.all().collect();
        let names = all.iter().map(|(name, _)| (*name).to_owned()).collect();
        (text(&["name", "setting"]), vec![names, all.into_iter().map(|(_, value)| value).collect()])
    } else {
        (text(&[&name]), vec![vec![variables.show(&name)?.to_owned()]])
    };
    let arrays = arrays.into_iter().map(|values| Arc::new(StringArray::from(values)) as _).collect();
    let batch = RecordBatch::try_new(Arc::clone(&columns), arrays);
    let batch = batch.map_err(|error| problem::error("XX000", error.to_string()));
    Ok(Outcome::Rows { columns, batches: Box::pin(stream::iter([batch])), tag: "SHOW" })
}

async fn declare(connection: &Arc<Connection>, stmts: &[ast::Declare]) -> PgWireResult<Outcome> {
    let mut outcome = done("DECLARE CURSOR");
    for declare in stmts {
        let parsed = cursor_query(declare)?;
        outcome = declare_cursor(connection, declare, parsed.plan(connection)).await;
    }
    outcome
}

async fn declare_cursor(
    connection: &Arc<Connection>,
    declare: &ast::Declare,
    planning: impl Future<Output = PgWireResult<PlannedQuery>>,
) -> PgWireResult<Outcome> {
    let Some(name) = declare.names.first() else {
        return Err(problem::error("42601", "only cursors can be declared: DECLARE name CURSOR FOR query"));
    };
    let with_hold = declare.hold == Some(true);
    if !with_hold && !connection.in_block() {
        let message = "DECLARE CURSOR can only be used in transaction blocks";
        return Err(problem::with_hint("25P01", message, "begin a transaction block, or declare the cursor WITH HOLD"));
    }
    if declare.scroll == Some(true) {
        return Err(problem::error(NOT_SUPPORTED, "SCROLL cursors are not supported: cursors can only scan forward"));
    }
    if locked(&connection.cursors).contains_key(&name.value) {
        return Err(problem::error("42P03", format!("cursor \"{}\" already exists", name.value)));
    }
    let (columns, batches, _) = start_query(connection, planning).await?;
    let cursor = Arc::new(tokio::sync::Mutex::new(Cursor::new(batches)));
    locked(&connection.cursors).insert(name.value.clone(), NamedCursor { with_hold, columns, cursor });
    done("DECLARE CURSOR")
}

async fn fetch(connection: &Connection, name: &str, direction: &FetchDirection) -> PgWireResult<Outcome> {
    let rows = match direction {
        FetchDirection::Next | FetchDirection::Forward { limit: None } => 1,
        FetchDirection::Count { limit } | FetchDirection::Forward { limit: Some(limit) } => {
            let number = plain(&ast::Expr::Value(limit.clone()));
            number
                .parse()
                .map_err(|_| problem::error("42601", format!("FETCH needs a number of rows, not {number}")))?
        }
        FetchDirection::All | FetchDirection::ForwardAll => usize::MAX,
        _ => {
            let hint = "use FETCH NEXT, FETCH n, FETCH FORWARD n or FETCH ALL";
            return Err(problem::with_hint("55000", "cursor can only scan forward", hint));
        }
    };
    let columns = connection.cursor_columns(name)?;
    let cursor = locked(&connection.cursors).get(name).map(|named| Arc::clone(&named.cursor));
    let cursor = cursor.ok_or_else(|| problem::error("34000", format!("cursor \"{name}\" does not exist")))?;
    let batches = encode::fetch(cursor.lock_owned().await, rows);
    Ok(Outcome::Rows { columns, batches, tag: "FETCH" })
}

fn close(connection: &Connection, cursor: &CloseCursor) -> PgWireResult<Outcome> {
    let mut cursors = locked(&connection.cursors);
    match cursor {
        CloseCursor::All => cursors.clear(),
        CloseCursor::Specific { name } => {
            if cursors.remove(&name.value).is_none() {
                return Err(problem::error("34000", format!("cursor \"{}\" does not exist", name.value)));
            }
        }
    }
    done("CLOSE CURSOR")
}

async fn copy_out(connection: &Arc<Connection>, copy: &CopyOut) -> PgWireResult<Outcome> {
    let parsed = parse_one(&copy.query)?;
    let (columns, batches, _) = start_query(connection, parsed.plan(connection)).await?;
    let writer = CopyWriter::new(copy, &columns, connection.zone())?;
    Ok(Outcome::CopyOut { writer, batches: encode::all_batches(batches) })
}
