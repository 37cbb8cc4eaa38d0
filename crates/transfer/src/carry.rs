//! One table from the source into its target: how it is carried is decided by what the target has and by questions
//! about the source's rows under the snapshot; then the rows are read and put in place.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::Schema;
use lake::Lake;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::checkpoint::{LASTING, Origin, Position, Refusal};
use crate::cursor::Place;
use crate::error::{Context, Error, Result};
use crate::late::{self, Mark};
use crate::plan::{Mode, TablePlan};
use crate::postgres::{Endpoint, Identity, Snapshot, TableKind};
use crate::probe::{self, Probe, ProbeResult};
use crate::read::{PIECE_PAGES, Pool, Progress, Reading, whole};
use crate::resume::{
    Action, OrderState, Resumption, TargetState, changed_expressions, column_sequence, keep_names, rewritten,
};
use crate::run::{How, Request};
use crate::target::lake::{Addition, CheckpointUpdate, RowMatching, Written};
use crate::target::{lake as to_lake, postgres as to_postgres};
use crate::timeline::Log;

/// The moment at which all tables are read.
pub struct Cut<'a> {
    pub pool: Arc<Pool>,
    pub snapshot: &'a Snapshot,
    pub version: u32,
    pub marks: &'a HashMap<u32, Mark>,
    pub identity: Identity,
    /// The source's log after the snapshot.
    pub log: Option<Log>,
    /// Of tables whose cursor is their key, by OID: the greatest key.
    pub greatest: HashMap<u32, Option<i64>>,
    /// Turns of tables whose rows take memory: of small ones, several go side by side.
    pub large: Semaphore,
}

/// What became of a table's rows.
pub struct CarryOutcome {
    pub how: How,
    pub written: Written,
    pub bytes_read: u64,
    pub position: Option<Position>,
}

/// How a table is read and what becomes of the target's.
struct ReadPlan {
    plan: Arc<TablePlan>,
    action: Action,
    how: How,
    origin: Option<Origin>,
    /// Of the position that the target has, whether it counts or not.
    top: Option<i64>,
}

pub async fn into_lake(
    request: &Request,
    cut: &Cut<'_>,
    table: &TablePlan,
    lake: &Lake,
    present: Option<lake::Table>,
) -> Result<CarryOutcome> {
    let state = match &present {
        Some(present) => to_lake::target_state(present, &request.settings.name, table).await?,
        None => TargetState::default(),
    };
    let target = present.clone();
    let carried = to_the_lake(request, cut, table, lake, present, &state).await;
    if let (Err(error), Some(target)) = (&carried, target)
        && let Some(position) = refused(error, &state)
    {
        to_lake::keep_position(&target, &request.run, &position).await?;
    }
    carried
}

/// The position with what was found, where that would not be seen for ever.
fn refused(error: &Error, state: &TargetState) -> Option<Position> {
    let found = error.state.filter(|found| LASTING.contains(found))?;
    let position = state.checkpoint.as_ref()?.position.clone().filter(|position| position.refusal.is_none())?;
    let refusal = Refusal { state: found.to_owned(), context: error.context.clone() };
    Some(Position { refusal: Some(refusal), ..position })
}

async fn to_the_lake(
    request: &Request,
    cut: &Cut<'_>,
    table: &TablePlan,
    lake: &Lake,
    present: Option<lake::Table>,
    state: &TargetState,
) -> Result<CarryOutcome> {
    let read_plan = decide(request, cut, table, state)?;
    let schema = match &present {
        Some(present) => Some(present.schema().context("read the table's schema")?.as_ref().clone()),
        None => None,
    };
    let before = read_plan.position().cloned();
    let is_same = schema.as_ref().is_some_and(|schema| has_columns(schema, &read_plan.plan));
    if let Some(before) = before.as_ref().filter(|_| is_same)
        && cut.nothing_new(request, &read_plan, before)?
    {
        return Ok(CarryOutcome::nothing(&read_plan, before));
    }
    let mut turn = cut.turn(read_plan.is_large()).await;
    let probed = cut.probe(request, &read_plan, schema).await?;
    let after = cut.after(&read_plan, probed.cut.clone());
    let update = read_plan.update(request, cut.identity, &probed.unsettled);
    let Some(present) = present.filter(|_| read_plan.action != Action::Replace) else {
        let (queries, streams) = whole(&probed.plan, cut.version, request.settings.streams);
        // The statistics did not know that it is large.
        if turn.is_none() {
            turn = cut.turn(queries.len() > 1).await;
        }
        let reading = Reading::new(&cut.pool, Arc::clone(&probed.plan), queries, request.progress(), Some(probed.wire));
        let written = to_lake::initial(lake, &reading, streams, &update, after.clone()).await?;
        drop(turn);
        return Ok(CarryOutcome { how: read_plan.how, written, bytes_read: reading.bytes(), position: after });
    };
    let (queries, streams) = cut.queries(&read_plan, &probed, TablePlan::select);
    let reading = Reading::new(&cut.pool, Arc::clone(&probed.plan), queries, request.progress(), Some(probed.wire));
    let addition = Addition {
        update: &update,
        matching: row_matching(&read_plan),
        before: before.as_ref(),
        after: after.clone(),
        defaults: probed.defaults,
        cleared: read_plan.cleared(request)?,
        streams,
        operation: if read_plan.how == How::Resync { "resync" } else { "incremental" },
    };
    let written = to_lake::add(present, &reading, addition).await?;
    drop(turn);
    let position = if written.version.is_some() { after } else { before };
    Ok(CarryOutcome { how: read_plan.how, written, bytes_read: reading.bytes(), position })
}

pub async fn into_postgres(
    request: &Request,
    cut: &Cut<'_>,
    table: &TablePlan,
    endpoint: &Endpoint,
) -> Result<CarryOutcome> {
    let client = endpoint.connect().await?;
    let state = to_postgres::target_state(&client, &request.settings.name, table).await?;
    let present = to_postgres::names(&client, table).await?;
    let carried = to_the_database(request, cut, table, endpoint, client, &state, present).await;
    if let Err(error) = &carried
        && let Some(position) = refused(error, &state)
    {
        to_postgres::keep_position(&endpoint.connect().await?, table, &position).await?;
    }
    carried
}

async fn to_the_database(
    request: &Request,
    cut: &Cut<'_>,
    table: &TablePlan,
    endpoint: &Endpoint,
    mut client: tokio_postgres::Client,
    state: &TargetState,
    present: Schema,
) -> Result<CarryOutcome> {
    let read_plan = decide(request, cut, table, state)?;
    let mut turn = cut.turn(read_plan.is_large()).await;
    let probed = cut.probe(request, &read_plan, Some(present)).await?;
    let after = cut.after(&read_plan, probed.cut.clone());
    let update = read_plan.update(request, cut.identity, &probed.unsettled);
    if read_plan.action == Action::Replace {
        let (queries, streams) = to_postgres::whole(&probed.plan, cut.version, request.settings.streams);
        // The statistics did not know that it is large.
        if turn.is_none() {
            turn = cut.turn(queries.len() > 1).await;
        }
        let reading = Reading::new(&cut.pool, Arc::clone(&probed.plan), queries, request.progress(), Some(probed.wire));
        let written = to_postgres::initial(endpoint, &mut client, &reading, streams, &update, after.as_ref()).await?;
        drop(turn);
        return Ok(CarryOutcome { how: read_plan.how, written, bytes_read: reading.bytes(), position: after });
    }
    let (queries, _) = cut.queries(&read_plan, &probed, TablePlan::select_plain);
    let reading = Reading::new(&cut.pool, Arc::clone(&probed.plan), queries, request.progress(), Some(probed.wire));
    let changes = to_postgres::Changes { matching: row_matching(&read_plan), cleared: read_plan.cleared(request)? };
    let written = to_postgres::add(endpoint, &client, &reading, &update, after.as_ref(), &changes).await?;
    drop(turn);
    Ok(CarryOutcome { how: read_plan.how, written, bytes_read: reading.bytes(), position: after })
}

fn decide(request: &Request, cut: &Cut<'_>, table: &TablePlan, state: &TargetState) -> Result<ReadPlan> {
    let resumption = cut.resumption(request);
    let origin = state.checkpoint.as_ref().and_then(|kept| kept.origin.clone());
    let mut plan = table.clone();
    let kept = origin.as_ref().map_or(Ok(()), |origin| keep_names(&mut plan, origin));
    let action = resumption.action(&plan, state)?;
    if action == Action::Replace {
        // What is made anew has the names that its columns have now.
        plan = table.clone();
    } else {
        kept?;
    }
    let how = match (&action, request.settings.mode, &plan.cursor) {
        (Action::Increment(_), ..) => How::Incremental,
        (Action::Merge(_), ..) => How::Resync,
        (Action::Replace, Mode::Incremental, None) => How::Reload,
        (Action::Replace, ..) => How::Initial,
    };
    let top = state.checkpoint.as_ref().and_then(|kept| kept.position.as_ref()?.top);
    Ok(ReadPlan { plan: Arc::new(plan), action, how, origin, top })
}

impl ReadPlan {
    fn position(&self) -> Option<&Position> {
        match &self.action {
            Action::Increment(position) => Some(position),
            Action::Replace | Action::Merge(_) => None,
        }
    }

    /// Columns that become NULL in rows which the source no longer has.
    fn cleared(&self, request: &Request) -> Result<Vec<String>> {
        if !request.clears_changed || self.action == Action::Replace {
            return Ok(Vec::new());
        }
        let Some(origin) = &self.origin else {
            let context = format!("clear columns of {}: how they were carried is not known", self.plan.target);
            return Err(Error::setup(context).hint(
                "an earlier build or another program has filled it: replace what the target has with --replace",
            ));
        };
        Ok(changed_expressions(&self.plan, origin).into_iter().map(|(column, _)| column).collect())
    }

    /// What the target keeps of the table from this run on.
    fn update<'r>(&'r self, request: &'r Request, identity: Identity, unsettled: &[u32]) -> CheckpointUpdate<'r> {
        let origin = Origin::of(&request.settings.name, identity, &self.plan);
        let before = self.origin.as_ref();
        let origin = match before.filter(|_| self.action != Action::Replace && !request.clears_changed) {
            Some(before) => origin.beside(before, &self.plan),
            None => origin,
        };
        let origin = match (before, &self.action) {
            (Some(before), Action::Increment(_)) => origin.with_storage_of(before, unsettled),
            _ => origin,
        };
        CheckpointUpdate { run: &request.run, origin, before }
    }

    /// Its rows take memory: how many an increment brings is not known.
    fn is_large(&self) -> bool {
        self.action != Action::Replace
            || self.plan.source.leaves.iter().map(|leaf| leaf.pages).sum::<u64>() > PIECE_PAGES
    }

    /// The condition that takes what came since; `None` is everything.
    fn condition(&self) -> Option<String> {
        late::condition(self.position()?, self.plan.cursor.as_ref()?)
    }
}

impl Cut<'_> {
    fn resumption<'r>(&'r self, request: &'r Request) -> Resumption<'r> {
        let Request { settings, permission, .. } = request;
        Resumption { settings, permission: *permission, identity: self.identity, log: self.log.as_ref() }
    }

    /// Asks about the table's rows, on the connection that will read them. `present` are the columns that the target has.
    async fn probe(&self, request: &Request, read_plan: &ReadPlan, present: Option<Schema>) -> Result<ProbeResult> {
        let mark = self.marks.get(&read_plan.plan.source.oid).cloned().unwrap_or_default();
        let probe = Probe {
            pool: Arc::clone(&self.pool),
            plan: Arc::clone(&read_plan.plan),
            mark: mark.place,
            position: read_plan.position().cloned(),
            condition: read_plan.condition(),
            origin: read_plan.origin.clone().filter(|_| read_plan.action != Action::Replace),
            present: present.filter(|_| read_plan.action != Action::Replace),
            snapshot_xmin: self.snapshot.xmin,
            measures: read_plan.action == Action::Replace,
        };
        let probed = tokio::task::spawn_blocking(move || probe::probe(probe));
        let probed = probed.await.map_err(|e| Error::bug("ask about a table's rows").because(e))??;
        if let Action::Increment(position) = &read_plan.action {
            self.resumption(request).order_holds(&read_plan.plan, position, &probed.seen)?;
        }
        Ok(probed)
    }

    /// The position that the run leaves.
    fn after(&self, read_plan: &ReadPlan, cut: Option<late::CursorState>) -> Option<Position> {
        let plan = &read_plan.plan;
        let cursor = plan.cursor.as_ref()?;
        let log = self.log.as_ref().map(|log| log.now);
        if cursor.is_transaction() {
            let place = Some(Place(vec![self.snapshot.xmin.to_string()]));
            return Some(Position {
                high: place.clone(),
                low: place,
                xmin: Some(self.snapshot.xmin),
                log,
                ..Position::default()
            });
        }
        let mark = self.marks.get(&plan.source.oid).cloned().unwrap_or_default();
        // The target keeps rows that the source no longer has: what is above the source's greatest may be known there.
        let top = match &read_plan.action {
            Action::Replace => None,
            Action::Increment(position) => position.top,
            Action::Merge(_) => Some(read_plan.top.unwrap_or(i64::MAX)),
        };
        let position = late::next(&mark, cut, read_plan.position());
        let sequence = cursor.integer().and_then(|column| column_sequence(plan, &column.column)).flatten();
        // A view and a foreign table show no transactions: their overlap must do.
        let shows_none = plan.source.is_view() || plan.source.kind == TableKind::Foreign;
        let xid = position.xid.filter(|_| !shows_none);
        Some(Position { top, xid, xmin: Some(self.snapshot.xmin), sequence, log, ..position })
    }

    /// What is read where rows are added, and by how many streams.
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
        // A partition that was attached brings rows from before the position.
        let rest = format!("({condition}) IS NOT TRUE");
        queries.extend(probed.new_leaves.iter().map(|leaf| select(plan, leaf, Some(&rest))));
        (queries, 1)
    }

    /// Where the cursor is a key that the source enforces, the greatest says by itself that no row came.
    fn nothing_new(&self, request: &Request, read_plan: &ReadPlan, before: &Position) -> Result<bool> {
        let plan = &read_plan.plan;
        let Some(greatest) = self.greatest.get(&plan.source.oid) else { return Ok(false) };
        let is_settled = self.marks.get(&plan.source.oid).is_some_and(|mark| mark.is_settled);
        let has_nothing_above = match greatest {
            Some(greatest) => {
                let place = Some(Place(vec![greatest.to_string()]));
                before.high == place && before.low == place
            }
            // It is empty.
            None => true,
        };
        // A value that was drawn since may lie below: the greatest one need not come from the sequence.
        let column = plan.cursor.as_ref().and_then(|cursor| cursor.integer());
        let sequence = column.and_then(|column| column_sequence(plan, &column.column)).flatten();
        let is_same = is_settled && before.xid.is_none() && has_nothing_above && sequence == before.sequence;
        let Some(origin) = read_plan.origin.as_ref().filter(|_| is_same) else { return Ok(false) };
        let has_storage = |oid: u32| origin.file_node(oid).is_some_and(|node| node != 0);
        let is_there = |(oid, node): &(u32, u32)| *node == 0 || plan.source.leaves.iter().any(|leaf| leaf.oid == *oid);
        if !origin.storage.iter().all(is_there)
            || !plan.source.leaves.iter().all(|leaf| has_storage(leaf.oid))
            || !rewritten(plan, origin).is_empty()
        {
            return Ok(false);
        }
        self.resumption(request).order_holds(plan, before, &OrderState::default())?;
        Ok(true)
    }

    /// Waits for the table's turn, where it needs one.
    async fn turn(&self, is_large: bool) -> Option<SemaphorePermit<'_>> {
        match is_large {
            // The semaphore is never closed.
            true => self.large.acquire().await.ok(),
            false => None,
        }
    }
}

impl CarryOutcome {
    fn nothing(read_plan: &ReadPlan, position: &Position) -> CarryOutcome {
        CarryOutcome {
            how: read_plan.how,
            written: Written::default(),
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
            // Rows that are committed late lie below it: those of a table whose ids began again may be known by their key.
            high: read_plan
                .position()
                .filter(|position| position.xid.is_none())
                .and_then(|position| position.high.as_ref()?.0.first()?.parse().ok()),
        },
    }
}

/// The target's table has the plan's columns, in their types.
fn has_columns(schema: &Schema, plan: &TablePlan) -> bool {
    let has =
        |name: &String, data_type| schema.field_with_name(name).is_ok_and(|field| *field.data_type() == data_type);
    plan.columns.iter().all(|column| has(&column.name, column.kind.arrow()))
}

impl Request {
    pub(crate) fn progress(&self) -> Arc<dyn Progress> {
        Arc::clone(&self.progress)
    }
}
