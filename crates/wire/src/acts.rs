//! What one statement does: rows to come, or something of the session itself, such as a block, a
//! setting or a cursor.

use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::{ResetStatement, Statement};
use futures::stream;
use pgwire::api::portal::Portal;
use pgwire::error::PgWireResult;
use pgwire::messages::response::TransactionStatus;
use sqlparser::ast::{self, CloseCursor, ContextModifier, DeclareType, FetchDirection, Ident, Set, Statement as Sql};

use super::connection::{Connection, HeldCursor};
use super::copy::{Copy, Writer};
use super::encode::{self, BatchStream, Cursor};
use super::prepared::{Prepared, Spoken, read};
use super::problem::{self, ABORTED, NOT_SUPPORTED};
use super::rows::{Account, Batches};
use super::{locked, variables};
use sql::session::Planned;

pub(crate) enum Outcome {
    Rows {
        columns: SchemaRef,
        batches: BatchStream,
        tag: &'static str,
    },
    Done {
        tag: String,
        told: Option<(String, String)>,
    },
    Begun,
    Ended {
        tag: &'static str,
    },
    Copied {
        writer: Writer,
        batches: BatchStream,
    },
    /// The name of a prepared statement, or all of them.
    Deallocated {
        name: Option<String>,
        tag: &'static str,
    },
}

fn done(tag: &str) -> PgWireResult<Outcome> {
    Ok(Outcome::Done { tag: tag.to_owned(), told: None })
}

/// Whether a statement is about the session, and needs no plan.
pub(crate) fn is_act(sql: &Sql) -> bool {
    matches!(
        sql,
        Sql::StartTransaction { .. }
            | Sql::Commit { .. }
            | Sql::Rollback { .. }
            | Sql::Savepoint { .. }
            | Sql::ReleaseSavepoint { .. }
            | Sql::Set(_)
            | Sql::ShowVariable { .. }
            | Sql::Declare { .. }
            | Sql::Fetch { .. }
            | Sql::Close { .. }
            | Sql::Discard { .. }
            | Sql::Deallocate { .. }
            | Sql::LISTEN { .. }
            | Sql::UNLISTEN { .. }
    )
}

/// A statement of the simple protocol.
pub(crate) async fn perform(
    connection: &Arc<Connection>,
    spoken: &Spoken,
    status: TransactionStatus,
) -> PgWireResult<Outcome> {
    if let Some(act) = act(connection, spoken, status).await? {
        return Ok(act);
    }
    run(connection, spoken.plan(connection)).await
}

/// A statement of the extended protocol, with its parameters.
pub(crate) async fn perform_bound<S: Clone>(
    connection: &Arc<Connection>,
    prepared: &Prepared,
    portal: &Portal<S>,
    status: TransactionStatus,
) -> PgWireResult<Outcome> {
    if let (Some(query), Some(Sql::Declare { stmts })) = (prepared.declared(), prepared.spoken.sql()) {
        refuse_if_aborted(&prepared.spoken, status)?;
        let [declare] = &stmts[..] else { return Err(problem::error("42601", "one cursor is expected")) };
        return declare_cursor(connection, declare, query.bound(connection, portal)).await;
    }
    if let Some(act) = act(connection, &prepared.spoken, status).await? {
        return Ok(act);
    }
    run(connection, prepared.bound(connection, portal)).await
}

async fn run(
    connection: &Arc<Connection>,
    planning: impl Future<Output = PgWireResult<Planned>>,
) -> PgWireResult<Outcome> {
    let (columns, batches, plan) = started(connection, planning).await?;
    let tag = if matches!(plan, LogicalPlan::Explain(_) | LogicalPlan::Analyze(_)) { "EXPLAIN" } else { "SELECT" };
    Ok(Outcome::Rows { columns, batches: encode::all(batches), tag })
}

async fn started(
    connection: &Arc<Connection>,
    planning: impl Future<Output = PgWireResult<Planned>>,
) -> PgWireResult<(SchemaRef, Batches, LogicalPlan)> {
    let account = Account::open(&connection.shared, connection);
    let mut planned = planning.await.inspect_err(|error| account.failed(error))?;
    // A setting of the engine is the session's, not the query's.
    if let LogicalPlan::Statement(_) = planned.plan {
        let set = connection.session.context.execute_logical_plan(planned.plan).await.map_err(problem::of_run)?;
        planned.plan = set.into_unoptimized_plan();
    }
    let plan = planned.plan.clone();
    let columns = match &plan {
        // What a setting has given is no query's.
        LogicalPlan::Statement(_) => Arc::clone(plan.schema().inner()),
        _ => Arc::clone(&planned.columns),
    };
    let batches = Batches::start(&connection.shared, connection, planned, account)?;
    Ok((columns, batches, plan))
}

/// True in a block that has failed and is now ended.
fn refuse_if_aborted(spoken: &Spoken, status: TransactionStatus) -> PgWireResult<bool> {
    let aborted = matches!(status, TransactionStatus::Error);
    if aborted && !matches!(spoken.sql(), Some(Sql::Commit { .. } | Sql::Rollback { .. })) {
        let message = "current transaction is aborted, commands ignored until end of transaction block";
        return Err(problem::error(ABORTED, message));
    }
    Ok(aborted)
}

async fn act(
    connection: &Arc<Connection>,
    spoken: &Spoken,
    status: TransactionStatus,
) -> PgWireResult<Option<Outcome>> {
    let aborted = refuse_if_aborted(spoken, status)?;
    if let Statement::Reset(ResetStatement::Variable(name)) = &spoken.statement {
        return reset(connection, &name.to_string()).map(Some);
    }
    let Some(sql) = spoken.sql() else { return Ok(None) };
    if let Some(copy) = Copy::of(sql) {
        return copied(connection, &copy?).await.map(Some);
    }
    let outcome = match sql {
        Sql::StartTransaction { .. } => {
            connection.begin();
            Ok(Outcome::Begun)
        }
        Sql::Commit { .. } => {
            connection.end_block(!aborted);
            Ok(Outcome::Ended { tag: if aborted { "ROLLBACK" } else { "COMMIT" } })
        }
        // Nothing was written: the state after a savepoint is the one before it.
        Sql::Rollback { savepoint: Some(_), .. } if aborted => Ok(Outcome::Begun),
        Sql::Rollback { savepoint: Some(_), .. } => done("ROLLBACK"),
        Sql::Rollback { .. } => {
            connection.end_block(false);
            Ok(Outcome::Ended { tag: "ROLLBACK" })
        }
        Sql::Savepoint { .. } => done("SAVEPOINT"),
        Sql::ReleaseSavepoint { .. } => done("RELEASE"),
        Sql::LISTEN { .. } => done("LISTEN"),
        Sql::UNLISTEN { .. } => done("UNLISTEN"),
        Sql::Set(set) => return set_or_pass(connection, set),
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
            let hint = "prepare by the protocol, as every driver does";
            Err(problem::with_hint(NOT_SUPPORTED, "PREPARE and EXECUTE as statements are not supported", hint))
        }
        _ => return Ok(None),
    };
    outcome.map(Some)
}

/// `None` for the engine's own settings.
fn set_or_pass(connection: &Connection, set: &Set) -> PgWireResult<Option<Outcome>> {
    let assign = |name: &str, value: Option<String>, local: bool| -> PgWireResult<Option<Outcome>> {
        let now = connection.set(name, value, local)?;
        let told = variables::reported_name(name).map(|name| (name.to_owned(), now));
        Ok(Some(Outcome::Done { tag: "SET".to_owned(), told }))
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

/// A value as it is meant: without its quotes, an interval as the offset it is.
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
        return Err(problem::error(NOT_SUPPORTED, "the engine's own settings are set, not reset"));
    }
    let now = connection.set(name, None, false)?;
    Ok(Outcome::Done {
        tag: "RESET".to_owned(),
        told: variables::reported_name(name).map(|name| (name.to_owned(), now)),
    })
}

/// The variable that SHOW names, in one word: `SHOW TIME ZONE`, `SHOW TRANSACTION ISOLATION LEVEL`.
pub(crate) fn shown_name(variable: &[Ident]) -> String {
    let words: Vec<String> = variable.iter().map(|word| word.value.to_lowercase()).collect();
    match words.join(" ").as_str() {
        "time zone" => "TimeZone".to_owned(),
        "transaction isolation level" => "transaction_isolation".to_owned(),
        "session authorization" => "session_authorization".to_owned(),
        _ => words.join("."),
    }
}

fn show(connection: &Connection, variable: &[Ident]) -> PgWireResult<Outcome> {
    let name = shown_name(variable);
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
        let spoken = query_of(declare)?;
        outcome = declare_cursor(connection, declare, spoken.plan(connection)).await;
    }
    outcome
}

/// The query of a statement that declares one cursor.
pub(crate) fn declared(stmts: &[ast::Declare]) -> PgWireResult<Option<Spoken>> {
    match stmts {
        [only] => query_of(only).map(Some),
        _ => Ok(None),
    }
}

fn query_of(declare: &ast::Declare) -> PgWireResult<Spoken> {
    match (&declare.declare_type, &declare.names[..], &declare.for_query) {
        (Some(DeclareType::Cursor), [_], Some(query)) => only(&query.to_string()),
        _ => Err(problem::error("42601", "DECLARE is for cursors: DECLARE name CURSOR FOR query")),
    }
}

async fn declare_cursor(
    connection: &Arc<Connection>,
    declare: &ast::Declare,
    planning: impl Future<Output = PgWireResult<Planned>>,
) -> PgWireResult<Outcome> {
    let Some(name) = declare.names.first() else {
        return Err(problem::error("42601", "DECLARE is for cursors: DECLARE name CURSOR FOR query"));
    };
    let held = declare.hold == Some(true);
    if !held && !connection.in_block() {
        let message = "DECLARE CURSOR can only be used in transaction blocks";
        return Err(problem::with_hint("25P01", message, "begin a block, or declare the cursor WITH HOLD"));
    }
    if declare.scroll == Some(true) {
        return Err(problem::error(NOT_SUPPORTED, "cursors only go forward: SCROLL is not supported"));
    }
    if locked(&connection.cursors).contains_key(&name.value) {
        return Err(problem::error("42P03", format!("cursor \"{}\" already exists", name.value)));
    }
    let (columns, batches, _) = started(connection, planning).await?;
    let cursor = Arc::new(tokio::sync::Mutex::new(Cursor::new(batches)));
    locked(&connection.cursors).insert(name.value.clone(), HeldCursor { held, columns, cursor });
    done("DECLARE CURSOR")
}

fn only(query: &str) -> PgWireResult<Spoken> {
    let mut statements = read(query)?;
    match (statements.pop(), statements.len()) {
        (Some(only), 0) => Ok(only),
        _ => Err(problem::error("42601", "one query is expected")),
    }
}

pub(crate) fn cursor_columns(connection: &Connection, name: &str) -> PgWireResult<SchemaRef> {
    match locked(&connection.cursors).get(name) {
        Some(cursor) => Ok(Arc::clone(&cursor.columns)),
        None => Err(problem::error("34000", format!("cursor \"{name}\" does not exist"))),
    }
}

async fn fetch(connection: &Connection, name: &str, direction: &FetchDirection) -> PgWireResult<Outcome> {
    let rows = match direction {
        FetchDirection::Next | FetchDirection::Forward { limit: None } => 1,
        FetchDirection::Count { limit } | FetchDirection::Forward { limit: Some(limit) } => {
            let number = plain(&ast::Expr::Value(limit.clone()));
            number
                .parse()
                .map_err(|_| problem::error("42601", format!("FETCH takes a number of rows, not {number}")))?
        }
        FetchDirection::All | FetchDirection::ForwardAll => usize::MAX,
        _ => {
            let hint = "FETCH NEXT, FETCH n, FETCH FORWARD n, FETCH ALL";
            return Err(problem::with_hint("55000", "cursor can only scan forward", hint));
        }
    };
    let columns = cursor_columns(connection, name)?;
    let cursor = locked(&connection.cursors).get(name).map(|held| Arc::clone(&held.cursor));
    let cursor = cursor.ok_or_else(|| problem::error("34000", format!("cursor \"{name}\" does not exist")))?;
    let batches = encode::fetched(cursor.lock_owned().await, rows);
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

async fn copied(connection: &Arc<Connection>, copy: &Copy) -> PgWireResult<Outcome> {
    let spoken = only(&copy.query)?;
    let (columns, batches, _) = started(connection, spoken.plan(connection)).await?;
    let writer = Writer::new(copy, &columns, connection.zone())?;
    Ok(Outcome::Copied { writer, batches: encode::all(batches) })
}
