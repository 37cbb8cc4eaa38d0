//! Queries about a table's rows under the snapshot, before they are read: its greatest cursor value, whether its order
//! continues, whether a declared key is unique, and how large it is. Each query is short where the cursor has an index.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;

use crate::checkpoint::{Origin, Position};
use crate::cursor::{Cursor, CursorValue};
use crate::decode::Decoder;
use crate::error::{Error, Result};
use crate::late::{self, written_since};
use crate::plan::{PlanColumn, TablePlan};
use crate::postgres::wire::Wire;
use crate::postgres::{Leaf, literal, quote};
use crate::read::Pool;
use crate::resume::{OrderState, rewritten_relations};

/// What [`probe`] needs to know of a table.
pub struct Probe {
    /// Where the connection comes from.
    pub pool: Arc<Pool>,
    /// The table and its columns.
    pub plan: Arc<TablePlan>,
    /// The greatest cursor value before the snapshot.
    pub mark: Option<CursorValue>,
    /// The position that the run continues from.
    pub position: Option<Position>,
    /// The SQL condition for the rows that will be read; `None` is all rows.
    pub condition: Option<String>,
    /// The origin of the target's rows, where rows are added to them.
    pub origin: Option<Origin>,
    /// The columns of the target's table, where rows are added to it.
    pub present: Option<Schema>,
    /// The oldest transaction that was running at the snapshot.
    pub snapshot_xmin: i64,
    /// The table is read whole by page ranges, so the number of its pages must be exact.
    pub counts_pages: bool,
}

/// What [`probe`] has found.
pub struct ProbeResult {
    /// The connection, in the snapshot and with a lock on the table.
    pub wire: Wire,
    /// The plan with the exact page numbers, and for `xmin` with a condition on transactions.
    pub plan: Arc<TablePlan>,
    /// The cursor's bounds; `None` where no row has a cursor value, and for `xmin`.
    pub cursor_state: Option<late::CursorState>,
    /// Whether the order of the rows continues.
    pub order: OrderState,
    /// What to read partitions from that were attached since the last run.
    pub new_leaves: Vec<String>,
    /// Relations with another file node than at the last run that are empty so far: whether they were filled again with
    /// values below the position, a later run finds.
    pub emptied: Vec<u32>,
    /// One row with the default values of new columns, for rows that the target has already.
    pub defaults: Option<RecordBatch>,
}

/// Executes the queries on one connection, which blocks the thread.
///
/// # Errors
/// Where the connection fails, and where rows would be lost or mixed up: an attached partition without a key, a key
/// that is not unique, new columns with values that can't be known.
pub fn probe(probe: Probe) -> Result<ProbeResult> {
    let mut wire = probe.pool.open(&probe.plan)?;
    let mut plan = (*probe.plan).clone();
    if probe.counts_pages {
        count_pages(&mut wire, &mut plan)?;
    }
    let mut cursor_state = None;
    if let Some(cursor) = plan.cursor.clone() {
        if cursor.is_transaction() {
            // All older transactions have ended, so each row version is read once, also where the table has no key.
            let ended = format!("NOT ({})", written_since(probe.snapshot_xmin));
            plan.filter = Some(plan.filter.map_or(ended.clone(), |filter| format!("({filter}) AND {ended}")));
        } else {
            cursor_state = read_cursor(&mut wire, &plan, &cursor, &probe)?;
        }
    }
    let is_behind = cursor_state.as_ref().is_some_and(|state| state.is_behind);
    let files = check_files(&mut wire, &plan, &probe)?;
    let new_leaves = new_leaves(&plan, &probe)?;
    if !plan.key.is_empty() && !plan.is_key_enforced {
        // New partitions are read whole.
        let condition = probe.condition.as_deref().filter(|_| new_leaves.is_empty());
        check_key(&mut wire, &plan, condition)?;
    }
    let defaults = defaults(&mut wire, &plan, probe.present.as_ref())?;
    check_filled(&mut wire, &plan, &probe)?;
    let order = OrderState { is_behind, is_refilled: files.is_refilled };
    Ok(ProbeResult { wire, plan: Arc::new(plan), cursor_state, order, new_leaves, emptied: files.emptied, defaults })
}

/// What a query reads the partitions from that were attached since the last run.
fn new_leaves(plan: &TablePlan, probe: &Probe) -> Result<Vec<String>> {
    let Some(origin) = probe.origin.as_ref().filter(|origin| !origin.storage.is_empty()) else { return Ok(Vec::new()) };
    let mut new = Vec::new();
    for leaf in &plan.source.leaves {
        match origin.file_node(leaf.oid) {
            // It was detached, and attached again.
            Some(0) if leaf.file_node != 0 && plan.key.is_empty() => {
                let table = plan.source.display();
                let context = format!(
                    "continue {table}: its partition {} was detached and attached again; without a key, the rows that the \
                     target has of it can't be told from new ones",
                    leaf.name
                );
                return Err(Error::input(context).state("refilled").hint(format!(
                    "declare [tables.{table:?}] key = [...], or replace the target's table: {}",
                    plan.replace_command
                )));
            }
            None => new.push(plan.source.rows_of(leaf)),
            Some(0) if leaf.file_node != 0 => new.push(plan.source.rows_of(leaf)),
            // It may have been detached and attached again since the last run.
            Some(_) if !plan.key.is_empty() && is_attached_since(leaf, probe.position.as_ref()) => {
                new.push(plan.source.rows_of(leaf));
            }
            Some(_) => {}
        }
    }
    Ok(new)
}

/// Whether a relation may have been attached since the run that reached the position.
pub(crate) fn is_attached_since(leaf: &Leaf, position: Option<&Position>) -> bool {
    position.and_then(|position| position.xmin).is_some_and(|xmin| leaf.attached_by >= xmin)
}

/// Checks that columns which the target lacks have only their constant default in rows that were read before: other
/// values of these rows can't be known without reading them again.
fn check_filled(wire: &mut Wire, plan: &TablePlan, probe: &Probe) -> Result<()> {
    let (Some(present), Some(condition)) = (&probe.present, &probe.condition) else { return Ok(()) };
    let mut differs = Vec::new();
    for column in plan.columns.iter().filter(|column| present.field_with_name(&column.name).is_err()) {
        let Some(source) = &column.source else { continue };
        if plan.source.columns.iter().any(|known| known.number == source.number && known.filled) {
            let default = match &source.missing {
                Some(missing) => format!("CAST({} AS {})::text", literal(missing), source.type_name),
                None => "NULL".to_owned(),
            };
            differs.push((source.name.clone(), format!("{}::text IS DISTINCT FROM {default}", quote(&source.name))));
        }
    }
    if differs.is_empty() {
        return Ok(());
    }
    let any: Vec<&str> = differs.iter().map(|(_, condition)| condition.as_str()).collect();
    let filter = plan.filter.as_ref().map_or_else(String::new, |filter| format!(" AND ({filter})"));
    let rows = plan.source.rows();
    let sql =
        format!("SELECT 1 FROM {rows} WHERE ({condition}) IS NOT TRUE{filter} AND ({}) LIMIT 1", any.join(" OR "));
    let table = plan.source.display();
    if wire.rows(&sql).map_err(|e| e.within(format!("check the new columns of {table}")))?.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = differs.iter().map(|(name, _)| format!("{name:?}")).collect();
    let context = format!(
        "continue {table}: its new column {} has values in rows that were read before, and no constant default gives them",
        names.join(" or ")
    );
    Err(Error::input(context)
        .state("columns-changed")
        .hint(format!("{} reads the table again and keeps the rows of the target", plan.resync_command)))
}

/// What the file nodes of a table's relations show.
#[derive(Debug, Default)]
struct Files {
    /// A relation was emptied and filled again.
    is_refilled: bool,
    /// Relations that were emptied and have no rows below the position so far.
    emptied: Vec<u32>,
}

/// Reads the number of pages of each leaf: that of the statistics may be old.
fn count_pages(wire: &mut Wire, plan: &mut TablePlan) -> Result<()> {
    let leaves = plan.source.leaves.iter().filter(|leaf| leaf.has_pages);
    let oids: Vec<String> = leaves.map(|leaf| format!("({})", leaf.oid)).collect();
    if oids.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "SELECT oid, pg_relation_size(oid::oid::regclass) / current_setting('block_size')::int FROM (VALUES {}) AS l(oid)",
        oids.join(", ")
    );
    let number = |text: &Option<String>| text.as_ref().and_then(|text| text.parse::<u64>().ok());
    let rows = wire.rows(&sql).map_err(|e| e.within(format!("read the size of {}", plan.source.display())))?;
    let pages: BTreeMap<u64, u64> = rows.iter().filter_map(|row| Some((number(&row[0])?, number(&row[1])?))).collect();
    for leaf in &mut plan.source.leaves {
        leaf.pages = pages.get(&u64::from(leaf.oid)).copied().unwrap_or(leaf.pages);
    }
    Ok(())
}

fn read_cursor(wire: &mut Wire, plan: &TablePlan, cursor: &Cursor, probe: &Probe) -> Result<Option<late::CursorState>> {
    let before = probe.position.as_ref().and_then(|position| position.high.as_ref());
    let sql = cursor.bounds_query(&plan.source.rows(), probe.mark.as_ref(), before, plan.overlap);
    let context = || format!("read the cursor of {}", plan.source.display());
    let Some(row) = wire.rows(&sql).map_err(|e| e.within(context()))?.into_iter().next() else { return Ok(None) };
    let count = cursor.columns.len();
    let texts = |from: usize| row[from..from + count].iter().cloned().collect::<Option<Vec<String>>>();
    let Some(high) = texts(0) else { return Ok(None) };
    let low = texts(count).map(|texts| cursor.low_value(texts, plan.overlap)).transpose();
    let low = low.map_err(|e| e.within(context()))?;
    Ok(Some(late::CursorState { high: CursorValue(high), low, is_behind: row[2 * count].as_deref() == Some("t") }))
}

/// Checks that a key which the source does not enforce is unique among the rows that are read: of two rows with one
/// key, the target could keep only one.
fn check_key(wire: &mut Wire, plan: &TablePlan, condition: Option<&str>) -> Result<()> {
    let table = plan.source.display();
    let columns = plan.key.iter().filter_map(|name| plan.columns.iter().find(|column| column.name == *name));
    let expressions: Vec<&str> = columns.map(|column| column.postgres_expression.as_str()).collect();
    let places: Vec<String> = (1..=expressions.len()).map(|at| at.to_string()).collect();
    let conditions: Vec<String> =
        plan.filter.as_deref().into_iter().chain(condition).map(|c| format!("({c})")).collect();
    let filter = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    let sql = format!(
        "SELECT {} FROM {}{filter} GROUP BY {} HAVING count(*) > 1 LIMIT 1",
        expressions.join(", "),
        plan.source.rows(),
        places.join(", ")
    );
    let rows = wire.rows(&sql).map_err(|e| e.within(format!("check the key of {table}")))?;
    let Some(row) = rows.first() else { return Ok(()) };
    let values = row.iter().map(|value| value.as_deref().unwrap_or("NULL"));
    let key: Vec<String> = plan.key.iter().zip(values).map(|(name, value)| format!("{name}={value}")).collect();
    Err(Error::input(format!("carry {table}: two rows have the key {}", key.join(", ")))
        .hint(format!("declare [tables.{table:?}] key = [...] with columns that identify a row")))
}

/// Checks whether the table was emptied and filled again with values below the position: then all rows below it were
/// written since. Queries only relations with another file node than at the last run.
fn check_files(wire: &mut Wire, plan: &TablePlan, probe: &Probe) -> Result<Files> {
    let mut files = Files::default();
    let (Some(origin), Some(position), Some(cursor)) = (&probe.origin, &probe.position, &plan.cursor) else {
        return Ok(files);
    };
    let Some((high, xmin)) = position.high.as_ref().zip(position.xmin) else { return Ok(files) };
    let below = match cursor.is_transaction() {
        // A row that was written again is read again, and replaces its earlier version by its key.
        true if !plan.key.is_empty() => return Ok(files),
        true => "true".to_owned(),
        false => format!("NOT ({})", cursor.rows_from(high, true)),
    };
    for oid in rewritten_relations(plan, origin) {
        let Some(leaf) = plan.source.leaves.iter().find(|leaf| leaf.oid == oid) else { continue };
        let rows = format!("SELECT 1 FROM {} WHERE {below}", plan.source.rows_of(leaf));
        let older = format!("{rows} AND NOT ({}) LIMIT 1", written_since(xmin));
        if wire.rows(&format!("{rows} LIMIT 1"))?.is_empty() {
            files.emptied.push(oid);
        } else if wire.rows(&older)?.is_empty() {
            files.is_refilled = true;
        }
    }
    Ok(files)
}

/// One row with the constant defaults of columns that the target lacks; `None` where no such column has one.
pub(crate) fn defaults(wire: &mut Wire, plan: &TablePlan, present: Option<&Schema>) -> Result<Option<RecordBatch>> {
    let Some(present) = present else { return Ok(None) };
    let lacks = |column: &&PlanColumn| present.field_with_name(&column.name).is_err();
    let mut wanted = Vec::new();
    let mut values = Vec::new();
    for column in plan.columns.iter().filter(lacks) {
        let Some(source) = &column.source else { continue };
        if let Some(missing) = &source.missing {
            values.push(format!("CAST({} AS {}) AS {}", literal(missing), source.type_name, quote(&source.name)));
            wanted.push(column);
        }
    }
    if wanted.is_empty() {
        return Ok(None);
    }
    let expressions: Vec<&str> = wanted.iter().map(|column| column.expression.as_str()).collect();
    let sql = format!(
        "COPY (SELECT {} FROM (SELECT {}) AS missing) TO STDOUT (FORMAT binary)",
        expressions.join(", "),
        values.join(", ")
    );
    let columns: Vec<_> = wanted.iter().map(|column| (column.name.clone(), column.kind.clone())).collect();
    let mut decoder = Decoder::new(&plan.source.display(), &columns, &[]);
    wire.copy_out(&sql, |message| decoder.push(message))?;
    decoder.take().map(Some)
}
