//! Transfers one table into its target. What the target has, and queries about the source's rows under the snapshot,
//! decide how the table is read; then its rows are read and written.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::Schema;
use lake::Lake;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::changes::ReachedTimes;
use crate::checkpoint::{LASTING_STATES, Origin, Position, Refusal};
use crate::cursor::CursorValue;
use crate::destination::history::HistoryUpdate;
use crate::destination::increment::RowMatching;
use crate::destination::lake::{Addition, CheckpointUpdate, WriteSummary};
use crate::destination::{lake as to_lake, postgres as to_postgres};
use crate::error::{Context, Error, Result};
use crate::late::{self, Mark};
use crate::lsn::Lsn;
use crate::plan::{Mode, TablePlan};
use crate::postgres::{Endpoint, Identity, Snapshot, TableKind};
use crate::probe::{self, Probe, ProbeResult};
use crate::read::{Pool, RANGE_PAGES_MIN, TableReader, whole_table_queries};
use crate::request::Request;
use crate::resume::{Action, OrderState, Resumption, TargetState, column_sequence, keep_names, rewritten_relations};
use crate::timeline::Log;

/// What the tables of a run have in common: the snapshot under which they are read, and what was read before it.
pub struct ReadContext<'a> {
    /// Connections to the source, or to the copy of it that rows are read from.
    pub pool: Arc<Pool>,
    /// The snapshot that all tables are read under.
    pub snapshot: &'a Snapshot,
    /// `server_version_num` of that server, such as 150014.
    pub version: u32,
    /// The marks that were read before the snapshot, by the table's OID.
    pub marks: &'a HashMap<u32, Mark>,
    /// The source's identity.
    pub identity: Identity,
    /// The state of the source's log after the snapshot; `None` where the server does not report it.
    pub log: Option<Log>,
    /// The greatest key of tables whose cursor is their key, by OID; `None` of an empty table.
    pub greatest: HashMap<u32, Option<i64>>,
    /// The position in the log that the snapshot shows; only for a transfer that continues with the log.
    pub stream: Option<StreamStart>,
    /// Limits how many tables whose rows may take much memory are transferred at a time. Small ones need no permit.
    pub large: Semaphore,
}

/// Where a stream continues with a table that is read.
#[derive(Debug, Clone)]
pub struct StreamStart {
    /// The id of the stream's record.
    pub id: String,
    /// The position in the log that the snapshot shows.
    pub position: Lsn,
    /// Up to which times the tables had all changes before they are read.
    pub reached: ReachedTimes,
}

/// How a table was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableMode {
    /// Whole, in place of the target's rows.
    Initial,
    /// What is new or changed since the position.
    Incremental,
    /// Whole, because it has no cursor.
    Reload,
    /// Whole, and the rows that the source no longer has are kept.
    Resync,
}

impl TableMode {
    /// The name in reports and in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            TableMode::Initial => "initial",
            TableMode::Incremental => "incremental",
            TableMode::Reload => "reload",
            TableMode::Resync => "resync",
        }
    }
}

/// What the transfer of a table has read and written.
pub struct TransferOutcome {
    /// How the table was read.
    pub mode: TableMode,
    /// What was written to the target.
    pub written: WriteSummary,
    /// The bytes that the source has sent.
    pub bytes_read: u64,
    /// The position that the next run continues from; `None` where the table is read whole each time.
    pub position: Option<Position>,
}

/// How a table is read, and what happens to the target's table.
struct ReadPlan {
    plan: Arc<TablePlan>,
    action: Action,
    mode: TableMode,
    origin: Option<Origin>,
    /// [`Position::top`] of the target's position, also where the run does not continue from it.
    top: Option<i64>,
}

/// Transfers a table into the lake, with the position in the commit of the rows. `present` is the lake's table, where
/// there is one.
///
/// # Errors
/// Where the table may not continue, or reading or writing it fails. A reason to refuse further increments is stored in
/// the target's position.
pub async fn into_lake(
    request: &Request,
    context: &ReadContext<'_>,
    table: &TablePlan,
    lake: &Lake,
    present: Option<lake::Table>,
) -> Result<TransferOutcome> {
    let state = match &present {
        Some(present) => to_lake::target_state(present, &request.settings.name, table).await?,
        None => TargetState::default(),
    };
    let target = present.clone();
    let outcome = transfer_to_lake(request, context, table, lake, present, &state).await;
    if let (Err(error), Some(target)) = (&outcome, target)
        && let Some(position) = refused_position(error, &state)
    {
        to_lake::write_position(&target, &request.run, &position).await?;
    }
    outcome
}

/// The target's position with the error as its refusal, where a later run may not find the error again.
fn refused_position(error: &Error, state: &TargetState) -> Option<Position> {
    let state_name = error.state.filter(|name| LASTING_STATES.contains(name))?;
    let position = state.checkpoint.as_ref()?.position.clone().filter(|position| position.refusal.is_none())?;
    let refusal = Refusal { state: state_name.to_owned(), context: error.context.clone() };
    Some(Position { refusal: Some(refusal), ..position })
}

async fn transfer_to_lake(
    request: &Request,
    context: &ReadContext<'_>,
    table: &TablePlan,
    lake: &Lake,
    present: Option<lake::Table>,
    state: &TargetState,
) -> Result<TransferOutcome> {
    let read_plan = decide(request, context, table, state)?;
    let schema = match &present {
        Some(present) => Some(present.schema().context("read the table's schema")?.as_ref().clone()),
        None => None,
    };
    let before = read_plan.position().cloned();
    let is_same = schema.as_ref().is_some_and(|schema| has_columns(schema, &read_plan.plan));
    if let Some(before) = before.as_ref().filter(|_| is_same)
        && context.has_no_new_rows(request, &read_plan, before)?
    {
        return Ok(TransferOutcome::nothing(&read_plan, before));
    }
    let mut permit = context.permit(read_plan.is_large()).await;
    let probed = context.probe(request, &read_plan, schema).await?;
    let after = context.after(&read_plan, probed.cursor_state.clone());
    let stream = context.stream.as_ref().map(|stream| (stream.position, &stream.reached));
    let origin = read_plan.origin.as_ref();
    let history = HistoryUpdate::of(request, lake, &probed.plan, origin, context.snapshot.at_micros, stream).await?;
    let update = read_plan.update(request, context, &probed.emptied, &history);
    let Some(present) = present.filter(|_| read_plan.action != Action::Replace) else {
        let (queries, streams) = whole_table_queries(&probed.plan, context.version, request.settings.streams);
        // The statistics did not know that it is large.
        if permit.is_none() {
            permit = context.permit(queries.len() > 1).await;
        }
        let reader =
            TableReader::new(&context.pool, Arc::clone(&probed.plan), queries, request.progress(), Some(probed.wire));
        let written = to_lake::replace(lake, &reader, streams, &update, after.clone()).await?;
        drop(permit);
        return Ok(TransferOutcome { mode: read_plan.mode, written, bytes_read: reader.bytes(), position: after });
    };
    let (queries, streams) = context.queries(&read_plan, &probed, TablePlan::select);
    let reader =
        TableReader::new(&context.pool, Arc::clone(&probed.plan), queries, request.progress(), Some(probed.wire));
    let addition = Addition {
        update: &update,
        matching: row_matching(&read_plan),
        before: before.as_ref(),
        after: after.clone(),
        defaults: probed.defaults,
        cleared: read_plan.cleared(request)?,
        marked_at: request.settings.marks_deleted().then_some(context.snapshot.at_micros),
        streams,
        operation: if read_plan.mode == TableMode::Resync { "resync" } else { "incremental" },
    };
    let written = to_lake::add(present, &reader, addition).await?;
    drop(permit);
    let position = if written.version.is_some() { after } else { before };
    Ok(TransferOutcome { mode: read_plan.mode, written, bytes_read: reader.bytes(), position })
}

/// Transfers a table into a PostgreSQL target. Rows and position are written in one transaction.
///
/// # Errors
/// As for [`into_lake`].
pub async fn into_postgres(
    request: &Request,
    context: &ReadContext<'_>,
    table: &TablePlan,
    endpoint: &Endpoint,
) -> Result<TransferOutcome> {
    let client = endpoint.connect().await?;
    let state = to_postgres::target_state(&client, &request.settings.name, table).await?;
    let present = to_postgres::name_schema(&client, table).await?;
    let outcome = transfer_to_postgres(request, context, table, endpoint, client, &state, present).await;
    if let Err(error) = &outcome
        && let Some(position) = refused_position(error, &state)
    {
        to_postgres::write_position(&endpoint.connect().await?, table, &position).await?;
    }
    outcome
}

async fn transfer_to_postgres(
    request: &Request,
    context: &ReadContext<'_>,
    table: &TablePlan,
    endpoint: &Endpoint,
    mut client: tokio_postgres::Client,
    state: &TargetState,
    present: Schema,
) -> Result<TransferOutcome> {
    let read_plan = decide(request, context, table, state)?;
    let mut permit = context.permit(read_plan.is_large()).await;
    let probed = context.probe(request, &read_plan, Some(present)).await?;
    let after = context.after(&read_plan, probed.cursor_state.clone());
    let history = HistoryUpdate::default();
    let update = read_plan.update(request, context, &probed.emptied, &history);
    if read_plan.action == Action::Replace {
        let (queries, streams) = to_postgres::read_queries(&probed.plan, context.version, request.settings.streams);
        // The statistics did not know that it is large.
        if permit.is_none() {
            permit = context.permit(queries.len() > 1).await;
        }
        let reader =
            TableReader::new(&context.pool, Arc::clone(&probed.plan), queries, request.progress(), Some(probed.wire));
        let written = to_postgres::replace(endpoint, &mut client, &reader, streams, &update, after.as_ref()).await?;
        drop(permit);
        return Ok(TransferOutcome { mode: read_plan.mode, written, bytes_read: reader.bytes(), position: after });
    }
    let (queries, _) = context.queries(&read_plan, &probed, TablePlan::select_for_postgres);
    let reader =
        TableReader::new(&context.pool, Arc::clone(&probed.plan), queries, request.progress(), Some(probed.wire));
    let changes = to_postgres::RowChanges { matching: row_matching(&read_plan), cleared: read_plan.cleared(request)? };
    let written = to_postgres::add(endpoint, &client, &reader, &update, after.as_ref(), &changes).await?;
    drop(permit);
    Ok(TransferOutcome { mode: read_plan.mode, written, bytes_read: reader.bytes(), position: after })
}

fn decide(request: &Request, context: &ReadContext<'_>, table: &TablePlan, state: &TargetState) -> Result<ReadPlan> {
    let resumption = context.resumption(request);
    let origin = state.checkpoint.as_ref().and_then(|kept| kept.origin.clone());
    let mut plan = table.clone();
    let kept = origin.as_ref().map_or(Ok(()), |origin| keep_names(&mut plan, origin));
    let action = resumption.action(&plan, state)?;
    if action == Action::Replace {
        // A table that is replaced gets the current names of the source's columns.
        plan = table.clone();
    } else {
        kept?;
    }
    let mode = match (&action, request.settings.mode, &plan.cursor) {
        (Action::Increment(_), ..) => TableMode::Incremental,
        (Action::Merge(_), ..) => TableMode::Resync,
        (Action::Replace, Mode::Incremental, None) => TableMode::Reload,
        (Action::Replace, ..) => TableMode::Initial,
    };
    let top = state.checkpoint.as_ref().and_then(|kept| kept.position.as_ref()?.top);
    Ok(ReadPlan { plan: Arc::new(plan), action, mode, origin, top })
}

impl ReadPlan {
    fn position(&self) -> Option<&Position> {
        match &self.action {
            Action::Increment(position) => Some(position),
            Action::Replace | Action::Merge(_) => None,
        }
    }

    /// The columns to set to NULL in rows that the source no longer has.
    fn cleared(&self, request: &Request) -> Result<Vec<String>> {
        if !request.clears_changed || self.action == Action::Replace {
            return Ok(Vec::new());
        }
        let Some(origin) = &self.origin else {
            let context = format!("clear columns of {}: it is not known how their values were read", self.plan.target);
            return Err(Error::setup(context)
                .hint("an earlier build or another program has filled it: replace the target's table with --replace"));
        };
        Ok(origin.changed_expressions(&self.plan).into_iter().map(|(column, _)| column).collect())
    }

    /// What the target stores about the table from this run on.
    fn update<'r>(
        &'r self,
        request: &'r Request,
        context: &ReadContext<'_>,
        emptied: &[u32],
        history: &'r HistoryUpdate,
    ) -> CheckpointUpdate<'r> {
        let identity = context.identity;
        let origin = Origin::of(&request.settings.name, identity, &self.plan);
        let before = self.origin.as_ref();
        let origin = match before.filter(|_| self.action != Action::Replace && !request.clears_changed) {
            Some(before) => origin.with_earlier_columns(before, &self.plan),
            None => origin,
        };
        let origin = match (before, &self.action) {
            (Some(before), Action::Increment(_)) => origin.with_earlier_storage(before, emptied),
            _ => origin,
        };
        let has_deletes = request.settings.has_deletes();
        let stream = context.stream.as_ref();
        let origin = Origin {
            mirrors: has_deletes && self.action == Action::Replace,
            marks: request.settings.marks_deleted(),
            stream: stream.map(|stream| stream.id.clone()),
            history: history.state(before, &origin),
            ..origin
        };
        let stream = stream.map(|stream| stream.position);
        CheckpointUpdate { run: &request.run, origin, before, stream, history: history.load.as_ref() }
    }

    /// Whether its rows may take much memory: the number of rows of an increment is not known beforehand.
    fn is_large(&self) -> bool {
        self.action != Action::Replace
            || self.plan.source.leaves.iter().map(|leaf| leaf.pages).sum::<u64>() > RANGE_PAGES_MIN
    }

    /// The SQL condition for the rows to read; `None` is all rows.
    fn condition(&self) -> Option<String> {
        late::increment_condition(self.position()?, self.plan.cursor.as_ref()?)
    }
}

impl ReadContext<'_> {
    fn resumption<'r>(&'r self, request: &'r Request) -> Resumption<'r> {
        let Request { settings, permission, .. } = request;
        Resumption { settings, permission: *permission, identity: self.identity, log: self.log.as_ref() }
    }

    /// Executes the queries of [`probe`] on the connection that will read the rows. `present` is the target's schema.
    async fn probe(&self, request: &Request, read_plan: &ReadPlan, present: Option<Schema>) -> Result<ProbeResult> {
        let mark = self.marks.get(&read_plan.plan.source.oid).cloned().unwrap_or_default();
        let probe = Probe {
            pool: Arc::clone(&self.pool),
            plan: Arc::clone(&read_plan.plan),
            mark: mark.value,
            position: read_plan.position().cloned(),
            condition: read_plan.condition(),
            origin: read_plan.origin.clone().filter(|_| read_plan.action != Action::Replace),
            present: present.filter(|_| read_plan.action != Action::Replace),
            snapshot_xmin: self.snapshot.xmin,
            counts_pages: read_plan.action == Action::Replace,
        };
        let probed = tokio::task::spawn_blocking(move || probe::probe(probe));
        let probed = probed.await.map_err(|e| Error::bug("query a table's rows before they are read").because(e))??;
        if let Action::Increment(position) = &read_plan.action {
            self.resumption(request).check_order(&read_plan.plan, position, &probed.order)?;
        }
        Ok(probed)
    }

    /// The position after the run.
    fn after(&self, read_plan: &ReadPlan, state: Option<late::CursorState>) -> Option<Position> {
        let plan = &read_plan.plan;
        let cursor = plan.cursor.as_ref()?;
        let log = self.log.as_ref().map(|log| log.now);
        if cursor.is_transaction() {
            let value = Some(CursorValue(vec![self.snapshot.xmin.to_string()]));
            return Some(Position {
                high: value.clone(),
                low: value,
                xmin: Some(self.snapshot.xmin),
                log,
                ..Position::default()
            });
        }
        let mark = self.marks.get(&plan.source.oid).cloned().unwrap_or_default();
        // The target keeps rows that the source no longer has, which may be above the source's greatest value.
        let top = match &read_plan.action {
            Action::Replace => None,
            Action::Increment(position) => position.top,
            Action::Merge(_) => Some(read_plan.top.unwrap_or(i64::MAX)),
        };
        let position = late::next_position(&mark, state, read_plan.position());
        let sequence = cursor.integer().and_then(|column| column_sequence(plan, &column.column)).flatten();
        // A view and a foreign table do not show transactions: their late rows are found by the overlap only.
        let shows_none = plan.source.is_view() || plan.source.kind == TableKind::Foreign;
        let xid = position.xid.filter(|_| !shows_none);
        Some(Position { top, xid, xmin: Some(self.snapshot.xmin), sequence, log, ..position })
    }

    /// The queries where rows are added to a table, and the number of streams to execute them with.
    fn queries(
        &self,
        read_plan: &ReadPlan,
        probed: &ProbeResult,
        select: fn(&TablePlan, &str, Option<&str>) -> String,
    ) -> (Vec<String>, usize) {
        let plan = &probed.plan;
        let Some(condition) = read_plan.condition() else {
            return (vec![select(plan, &plan.source.rows(), None)], 1);
        };
        let mut queries = vec![select(plan, &plan.source.rows(), Some(&condition))];
        // A partition that was attached has rows below the position.
        let rest = format!("({condition}) IS NOT TRUE");
        queries.extend(probed.new_leaves.iter().map(|leaf| select(plan, leaf, Some(&rest))));
        (queries, 1)
    }

    /// Whether there are no new rows, known from the greatest key alone: where the cursor is a key that the source
    /// enforces, nothing needs to be read.
    fn has_no_new_rows(&self, request: &Request, read_plan: &ReadPlan, before: &Position) -> Result<bool> {
        let plan = &read_plan.plan;
        let Some(greatest) = self.greatest.get(&plan.source.oid) else { return Ok(false) };
        let writers_ended = self.marks.get(&plan.source.oid).is_some_and(|mark| mark.writers_ended);
        let has_no_greater = match greatest {
            Some(greatest) => {
                let value = Some(CursorValue(vec![greatest.to_string()]));
                before.high == value && before.low == value
            }
            // The source's table is empty.
            None => true,
        };
        // The greatest value need not come from the sequence: a value taken since may be below it.
        let column = plan.cursor.as_ref().and_then(|cursor| cursor.integer());
        let sequence = column.and_then(|column| column_sequence(plan, &column.column)).flatten();
        let is_same = writers_ended && before.xid.is_none() && has_no_greater && sequence == before.sequence;
        let Some(origin) = read_plan.origin.as_ref().filter(|_| is_same) else { return Ok(false) };
        let has_storage = |oid: u32| origin.file_node(oid).is_some_and(|node| node != 0);
        let is_there = |(oid, node): &(u32, u32)| *node == 0 || plan.source.leaves.iter().any(|leaf| leaf.oid == *oid);
        if !origin.storage.iter().all(is_there)
            || !plan.source.leaves.iter().all(|leaf| has_storage(leaf.oid))
            || !rewritten_relations(plan, origin).is_empty()
            || plan.source.leaves.iter().any(|leaf| probe::is_attached_since(leaf, Some(before)))
        {
            return Ok(false);
        }
        self.resumption(request).check_order(plan, before, &OrderState::default())?;
        Ok(true)
    }

    /// Waits for a permit of [`ReadContext::large`], where the table needs one.
    async fn permit(&self, is_large: bool) -> Option<SemaphorePermit<'_>> {
        match is_large {
            // The semaphore is never closed.
            true => self.large.acquire().await.ok(),
            false => None,
        }
    }
}

impl TransferOutcome {
    fn nothing(read_plan: &ReadPlan, position: &Position) -> TransferOutcome {
        TransferOutcome {
            mode: read_plan.mode,
            written: WriteSummary::default(),
            bytes_read: 0,
            position: Some(position.clone()),
        }
    }
}

fn row_matching(read_plan: &ReadPlan) -> RowMatching {
    match &read_plan.action {
        Action::Merge(key) => RowMatching { key: key.clone(), cursor: None, top: None, high: None },
        Action::Replace | Action::Increment(_) => RowMatching {
            key: read_plan.plan.key.clone(),
            cursor: read_plan.plan.cursor.clone().filter(|cursor| !cursor.is_transaction()),
            top: read_plan.position().and_then(|position| position.top),
            // Not where late rows are possible: they are below it.
            high: read_plan
                .position()
                .filter(|position| position.xid.is_none())
                .and_then(|position| position.high.as_ref()?.0.first()?.parse().ok()),
        },
    }
}

/// Whether the target's table has all columns of the plan with their types.
fn has_columns(schema: &Schema, plan: &TablePlan) -> bool {
    let has =
        |name: &String, data_type| schema.field_with_name(name).is_ok_and(|field| *field.data_type() == data_type);
    plan.columns.iter().all(|column| has(&column.name, column.kind.arrow()))
}
