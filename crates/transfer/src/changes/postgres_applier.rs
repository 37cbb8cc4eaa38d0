//! Applies changes to the tables of another PostgreSQL: the transactions of the source in their order, some of them in
//! one transaction of the target, with the position in the log.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::applier::{Applier, Received, SessionEnd};
use super::mapping::tuple_mapping;
use super::pgoutput::{Message, Relation, Transaction};
use super::projection::Projector;
use super::schema::{self, SchemaChange};
use super::session::SessionOptions;
use super::status::TableStatus;
use super::stream_record::StreamRecord;
use super::target_table::{TargetTable, WaitingChange};
use crate::destination::postgres as to_postgres;
use crate::destination::postgres::columns::{alter, present_columns_sql};
use crate::error::{Error, Kind, Result};
use crate::lsn::Lsn;
use crate::plan::{Deletes, TablePlan};
use crate::postgres::wire::Wire;
use crate::postgres::{Endpoint, Identity};
use crate::resume::{Permission, Resumption};

/// The changes that are sent together.
const WAITING_CHANGES: usize = 1000;
const WAITING_BYTES: usize = 1 << 20;
/// Between two writes of the record where nothing was changed.
const RECORD_INTERVAL: Duration = Duration::from_secs(2);

/// States of a table that reading it again corrects.
const REREAD_STATES: [&str; 3] = ["columns-changed", "row-missing", "value-missing"];

/// The tables of a session in another PostgreSQL.
pub struct PostgresApplier<'a> {
    options: SessionOptions<'a>,
    wire: Wire,
    tables: HashMap<u32, TargetTable>,
    record: StreamRecord,
    projector: Projector,
    waiting: Vec<WaitingChange>,
    waiting_bytes: usize,
    /// A transaction of the target is open.
    is_open: bool,
    /// The position from which on there are changes that are not committed.
    uncommitted_from: Option<Lsn>,
    /// When the oldest of these was committed at the source, in microseconds since 1970.
    oldest: Option<i64>,
    committed_at: Option<Instant>,
    recorded_at: Instant,
    end: Option<SessionEnd>,
}

impl<'a> PostgresApplier<'a> {
    /// An applier for these tables, by their OIDs.
    pub fn new(
        options: SessionOptions<'a>,
        target: &Endpoint,
        tables: HashMap<u32, TargetTable>,
        record: StreamRecord,
    ) -> Result<Self> {
        Ok(PostgresApplier {
            wire: Wire::connect(target)?,
            projector: Projector::new(&options.request.source),
            options,
            tables,
            record,
            waiting: Vec::new(),
            waiting_bytes: 0,
            is_open: false,
            uncommitted_from: None,
            oldest: None,
            committed_at: None,
            recorded_at: Instant::now(),
            end: None,
        })
    }

    fn begin(&mut self) -> Result<()> {
        if !self.is_open {
            self.wire.batch("BEGIN")?;
            self.is_open = true;
        }
        Ok(())
    }

    /// Sends the changes that wait.
    fn flush(&mut self) -> Result<()> {
        if self.waiting.is_empty() || self.end.is_some() {
            return Ok(());
        }
        self.begin()?;
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let oids: BTreeSet<u32> = waiting.iter().map(|change| change.table).collect();
        for oid in &oids {
            let Some(table) = self.tables.get_mut(oid) else { continue };
            if let Err(error) = table.compute(&self.projector) {
                return self.fail(*oid, error);
            }
        }
        let executed = self.send(&waiting)?;
        let outcome = self.wire.pipeline_finish()?;
        for oid in &oids {
            if let Some(table) = self.tables.get_mut(oid) {
                table.clear();
            }
        }
        let counts = match outcome {
            Ok(counts) => counts,
            Err(failed) => {
                let oid = executed.get(failed.index).map_or(0, |(oid, _)| *oid);
                let name = self.tables.get(&oid).map(TargetTable::name).unwrap_or_default();
                return self.fail(oid, failed.error.within(format!("apply changes to {name} in the target")));
            }
        };
        for ((oid, must_match), count) in executed.iter().zip(&counts) {
            if *must_match && *count == 0 {
                let name = self.tables.get(oid).map(TargetTable::name).unwrap_or_default();
                let what = format!("apply an update to {name}: the target does not have the row");
                return self.fail(*oid, Error::input(what).state("row-missing"));
            }
            if let Some(table) = self.tables.get_mut(oid) {
                table.counts.added += count;
            }
        }
        Ok(())
    }

    /// Puts changes into the pipeline. Returns for each execution its table, and whether it must change a row.
    fn send(&mut self, changes: &[WaitingChange]) -> Result<Vec<(u32, bool)>> {
        let keeps = self.options.request.settings.changes.deletes == Deletes::Keep;
        let mut executed = Vec::with_capacity(changes.len());
        for change in changes {
            let Some(table) = self.tables.get(&change.table) else { continue };
            for execution in table.executions(change, keeps)? {
                let (name, sql) = table.prepared(&execution.statement)?;
                if let Some(sql) = sql {
                    self.wire.pipeline_prepare(&name, &sql)?;
                }
                self.wire.pipeline_execute(&name, &execution.parameters)?;
                executed.push((change.table, execution.must_match));
            }
        }
        Ok(executed)
    }

    /// Commits what was received, with the position.
    fn commit(&mut self, received: Received) -> Result<()> {
        self.flush()?;
        if self.end.is_some() {
            return Ok(());
        }
        self.begin()?;
        fail::fail_point!("before-commit");
        let record = StreamRecord { confirmed: Some(received.position), ..self.record.clone() };
        let sql = self.record_sql(&record)?;
        self.wire.batch(&format!("{sql}; COMMIT"))?;
        fail::fail_point!("after-commit");
        self.record = record;
        self.is_open = false;
        (self.uncommitted_from, self.oldest) = (None, None);
        self.committed_at = Some(Instant::now());
        self.recorded_at = Instant::now();
        for table in self.tables.values_mut() {
            table.counts.commits += 1;
        }
        Ok(())
    }

    fn record_sql(&self, record: &StreamRecord) -> Result<String> {
        let text = record.text()?;
        Ok(to_postgres::record_sql(&self.options.request.settings.name, &String::from_utf8_lossy(&text)))
    }

    /// Follows the columns of a table.
    fn follow(&mut self, relation: Relation, transaction: Option<Transaction>, before: Lsn) -> Result<()> {
        let oid = relation.id;
        if self.tables.get(&oid).is_none_or(|table| !table.has_changed(&relation)) {
            return Ok(());
        }
        self.flush()?;
        if self.end.is_some() {
            return Ok(());
        }
        match self.adapt(relation, transaction, before) {
            Ok(()) => Ok(()),
            Err(error) => self.fail(oid, error),
        }
    }

    fn adapt(&mut self, relation: Relation, transaction: Option<Transaction>, before: Lsn) -> Result<()> {
        let Some(table) = self.tables.get(&relation.id) else { return Ok(()) };
        let request = self.options.request;
        let xid = transaction.map_or(0, |transaction| transaction.xid);
        let change = SchemaChange { request, form: self.options.form, xid };
        let plan = match table.needs_plan(&relation) {
            true => self.options.runtime.block_on(schema::plan_again(&change, &table.plan, &table.origin))?.0,
            false => table.plan.clone(),
        };
        let identity = Identity { system: table.origin.system, database: table.origin.database };
        let resumption =
            Resumption { settings: &request.settings, permission: Permission::AsConfigured, identity, log: None };
        resumption.check_same_columns(&plan, &table.origin)?;
        // Values may be texts: the target reads both forms.
        let mapping = tuple_mapping(&by_target_expressions(&plan), &table.known, &relation, true)?;
        let mut available = plan.clone();
        available.columns.retain(|column| mapping.columns.iter().any(|(name, _)| *name == column.name));
        let rows = self.wire.rows(&present_columns_sql(&plan))?;
        let present: Vec<(String, String)> = rows.into_iter().filter_map(pair).collect();
        let is_added = |name: &&str| !present.iter().any(|(present, _)| present == name);
        let added: Vec<&str> = available.columns.iter().map(|column| column.name.as_str()).filter(is_added).collect();
        let known = table.origin.columns.iter().filter(|column| !column.absent);
        if let Some(lost) = known.map(|column| &column.target).find(|name| added.contains(&name.as_str())) {
            let what =
                format!("apply changes to {}: column {lost:?} was removed from the target's table", table.name());
            return Err(Error::input(what).state("columns-changed"));
        }
        schema::check_values(&available, &added)?;
        let altered = alter(&present, &available)?;
        let origin = schema::described_origin(request, &table.origin, &plan, &relation, &mapping);
        if !altered.is_empty() || origin != table.origin {
            let sql = format!("{altered}{}", to_postgres::origin_sql(&plan, &origin)?);
            self.begin()?;
            self.wire.batch(&sql)?;
            self.uncommitted_from.get_or_insert(before);
        }
        if let Some(table) = self.tables.get_mut(&relation.id) {
            table.describe(relation, plan, mapping, origin);
        }
        Ok(())
    }

    /// Ends the session where an error of a table will not pass: nothing of the open transaction is committed, and the
    /// next session goes on without the table, or reads it again.
    fn fail(&mut self, oid: u32, error: Error) -> Result<()> {
        let Some(table) = self.tables.get(&oid).filter(|_| error.kind != Kind::Retry) else { return Err(error) };
        let name = table.name();
        if error.state.is_some_and(|state| REREAD_STATES.contains(&state)) && !self.options.reread.contains(&name) {
            tracing::warn!(table = name, "the table is read again: {}", base::chain(&error));
            self.end = Some(SessionEnd::Reread(name));
        } else {
            let error = match &error.hint {
                Some(_) => error,
                None => error.hint(format!(
                    "correct what the target's error names, then read the table again: {}",
                    table.plan.resync_command
                )),
            };
            tracing::error!(table = name, "{}", base::chain(&error));
            self.end = Some(SessionEnd::Replan);
            // Its lock on the table would block the refusal.
            self.wire.batch("ROLLBACK")?;
            let storing = schema::store_refusal(self.options.request, &table.plan, &error, None);
            self.options.runtime.block_on(storing)?;
        }
        self.waiting.clear();
        Ok(())
    }
}

impl Applier for PostgresApplier<'_> {
    fn describe(&mut self, relation: Relation, transaction: Option<Transaction>, before: Lsn) -> Result<()> {
        let Some(table) = self.tables.get_mut(&relation.id).filter(|_| self.end.is_none()) else { return Ok(()) };
        if transaction.is_none_or(|transaction| transaction.commit < table.durable) {
            // The columns from before the table was read: only those of the first change that is applied count.
            table.later = Some(relation);
            return Ok(());
        }
        table.later = None;
        self.follow(relation, transaction, before)
    }

    fn describe_later(&mut self, relation: Relation) {
        if let Some(table) = self.tables.get_mut(&relation.id) {
            table.later = Some(relation);
        }
    }

    fn collect(&mut self, relation: u32, change: &Message<'_>, transaction: Transaction, before: Lsn) -> Result<()> {
        let Some(table) = self.tables.get_mut(&relation).filter(|_| self.end.is_none()) else { return Ok(()) };
        if transaction.commit < table.durable {
            return Ok(());
        }
        if let Some(relation) = table.later.take() {
            self.follow(relation, Some(transaction), before)?;
        }
        let Some(table) = self.tables.get_mut(&relation).filter(|_| self.end.is_none()) else { return Ok(()) };
        match table.collect(relation, change) {
            Ok(Some(change)) => {
                self.waiting_bytes += change.bytes;
                self.waiting.push(change);
            }
            Ok(None) => return Ok(()),
            Err(error) => return self.fail(relation, error),
        }
        self.uncommitted_from.get_or_insert(before);
        self.oldest.get_or_insert(transaction.at_micros);
        let is_full = self.waiting.len() >= WAITING_CHANGES || self.waiting_bytes >= WAITING_BYTES;
        if is_full { self.flush() } else { Ok(()) }
    }

    fn commit_due(&mut self, received: Received, all: bool) -> Result<()> {
        let interval = self.options.request.settings.changes.commit_interval;
        let is_due = all || self.committed_at.is_none_or(|at| at.elapsed() >= interval);
        if is_due && self.uncommitted_from.is_some() && self.end.is_none() { self.commit(received) } else { Ok(()) }
    }

    fn poll(&mut self) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self, received: Option<Received>) -> Result<()> {
        match received {
            Some(received) => self.commit_due(received, true),
            None => Ok(()),
        }
    }

    fn durable(&self, received: Lsn) -> Lsn {
        self.uncommitted_from.unwrap_or(received).min(received)
    }

    fn is_busy(&self) -> bool {
        false
    }

    fn confirm(&mut self, received: Received, now: bool) -> Result<Lsn> {
        let is_new = self.uncommitted_from.is_none() && received.position > self.record.confirmed();
        if is_new && self.end.is_none() && (now || self.recorded_at.elapsed() >= RECORD_INTERVAL) {
            let record = StreamRecord { confirmed: Some(received.position), ..self.record.clone() };
            let sql = self.record_sql(&record)?;
            self.wire.batch(&sql)?;
            self.record = record;
            self.recorded_at = Instant::now();
        }
        Ok(self.record.confirmed())
    }

    fn end(&mut self) -> Option<SessionEnd> {
        self.end.clone()
    }

    fn tables(&self, received: Lsn, now: i64) -> Vec<TableStatus> {
        let lag_seconds = self.oldest.map_or(0.0, |at| (now - at).max(0) as f64 / 1e6);
        let durable = self.durable(received);
        let status = |table: &TargetTable| TableStatus {
            source: table.name(),
            target: table.plan.target.to_string(),
            counts: table.counts,
            durable,
            lag_seconds,
            error: None,
        };
        self.tables.values().map(status).collect()
    }
}

/// The plan, with the expressions of a target in PostgreSQL.
fn by_target_expressions(plan: &TablePlan) -> TablePlan {
    let mut plan = plan.clone();
    for column in &mut plan.columns {
        column.expression.clone_from(&column.postgres_expression);
    }
    plan
}

fn pair(row: Vec<Option<String>>) -> Option<(String, String)> {
    let mut fields = row.into_iter();
    Some((fields.next()??, fields.next()??))
}
