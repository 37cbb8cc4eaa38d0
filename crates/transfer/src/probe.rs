//! Questions about a table's rows under the snapshot, before they are read: the greatest place of its cursor, whether
//! its order goes on, whether a declared key is one, and how large it is. Each question stays short where the cursor
//! has an index.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;

use crate::checkpoint::{Origin, Position};
use crate::cursor::{Cursor, Place};
use crate::decode::Decoder;
use crate::error::{Error, Result};
use crate::late::{self, written_since};
use crate::plan::{PlanColumn, TablePlan};
use crate::postgres::wire::Wire;
use crate::postgres::{literal, quote};
use crate::read::Pool;
use crate::resume::{OrderState, rewritten};

/// What is asked of a table, and by what.
pub struct Probe {
    pub pool: Arc<Pool>,
    pub plan: Arc<TablePlan>,
    /// The greatest place before the snapshot.
    pub mark: Option<Place>,
    pub position: Option<Position>,
    /// What of the table will be read; `None` is everything.
    pub condition: Option<String>,
    /// Where rows are added to a table that the target has.
    pub origin: Option<Origin>,
    pub present: Option<Schema>,
    pub snapshot_xmin: i64,
    /// The table is read whole, by page ranges.
    pub measures: bool,
}

/// The answers.
pub struct ProbeResult {
    /// In the snapshot, the table's lock held.
    pub wire: Wire,
    /// With what was measured.
    pub plan: Arc<TablePlan>,
    pub cut: Option<late::CursorState>,
    pub seen: OrderState,
    /// Of partitions that were attached since the last run.
    pub new_leaves: Vec<String>,
    pub defaults: Option<RecordBatch>,
}

pub fn probe(probe: Probe) -> Result<ProbeResult> {
    let mut wire = probe.pool.open(&probe.plan)?;
    let mut plan = (*probe.plan).clone();
    if probe.measures {
        measure(&mut wire, &mut plan)?;
    }
    let mut cut = None;
    if let Some(cursor) = plan.cursor.clone() {
        if cursor.is_transaction() {
            // What older transactions wrote is final: each row comes once, also where the table has no key.
            let ended = format!("NOT ({})", written_since(probe.snapshot_xmin));
            plan.filter = Some(plan.filter.map_or(ended.clone(), |filter| format!("({filter}) AND {ended}")));
        } else {
            cut = cut_of(&mut wire, &plan, &cursor, &probe)?;
        }
    }
    if !plan.key.is_empty() && !plan.key_holds {
        check_key(&mut wire, &plan, probe.condition.as_deref())?;
    }
    let is_behind = cut.as_ref().is_some_and(|cut| cut.is_behind);
    let is_refilled = refilled(&mut wire, &plan, &probe)?;
    let new_leaves = match &probe.origin {
        Some(origin) if !origin.storage.is_empty() => {
            let leaves = plan.source.leaves.iter().filter(|leaf| origin.file_node(leaf.oid).is_none());
            leaves.map(|leaf| leaf.name.clone()).collect()
        }
        _ => Vec::new(),
    };
    let defaults = defaults(&mut wire, &plan, probe.present.as_ref())?;
    let seen = OrderState { is_behind, is_refilled };
    Ok(ProbeResult { wire, plan: Arc::new(plan), cut, seen, new_leaves, defaults })
}

/// The leaves' pages as they are now: the statistics' may be old.
fn measure(wire: &mut Wire, plan: &mut TablePlan) -> Result<()> {
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
    let rows = wire.rows(&sql).map_err(|e| e.within(format!("measure {}", plan.source.display())))?;
    let pages: BTreeMap<u64, u64> = rows.iter().filter_map(|row| Some((number(&row[0])?, number(&row[1])?))).collect();
    for leaf in &mut plan.source.leaves {
        leaf.pages = pages.get(&u64::from(leaf.oid)).copied().unwrap_or(leaf.pages);
    }
    Ok(())
}

fn cut_of(wire: &mut Wire, plan: &TablePlan, cursor: &Cursor, probe: &Probe) -> Result<Option<late::CursorState>> {
    let before = probe.position.as_ref().and_then(|position| position.high.as_ref());
    let sql = cursor.cut(&plan.source.rows(), probe.mark.as_ref(), before, plan.overlap);
    let context = || format!("read the cursor of {}", plan.source.display());
    let Some(row) = wire.rows(&sql).map_err(|e| e.within(context()))?.into_iter().next() else { return Ok(None) };
    let count = cursor.columns.len();
    let texts = |from: usize| row[from..from + count].iter().cloned().collect::<Option<Vec<String>>>();
    let Some(high) = texts(0) else { return Ok(None) };
    let low = texts(count).map(|texts| cursor.low(texts, plan.overlap)).transpose().map_err(|e| e.within(context()))?;
    Ok(Some(late::CursorState { high: Place(high), low, is_behind: row[2 * count].as_deref() == Some("t") }))
}

/// A key that the source does not enforce must be one among the rows that are read: two rows with one key could not
/// both be kept apart from what the target has.
fn check_key(wire: &mut Wire, plan: &TablePlan, condition: Option<&str>) -> Result<()> {
    let table = plan.source.display();
    let columns = plan.key.iter().filter_map(|name| plan.columns.iter().find(|column| column.name == *name));
    let expressions: Vec<&str> = columns.map(|column| column.plain.as_str()).collect();
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
        .mend(format!("[tables.{table:?}] key = [...] with columns that identify a row")))
}

/// Whether the table was emptied and filled again with values from below the position: all of the rows there were
/// written since. Asked only where a relation has another file than at the last run.
fn refilled(wire: &mut Wire, plan: &TablePlan, probe: &Probe) -> Result<bool> {
    let (Some(origin), Some(position)) = (&probe.origin, &probe.position) else { return Ok(false) };
    let Some(column) = plan.cursor.as_ref().and_then(Cursor::integer) else { return Ok(false) };
    let Some((high, xmin)) = position.high.as_ref().and_then(|high| high.0.first()).zip(position.xmin) else {
        return Ok(false);
    };
    for oid in rewritten(plan, origin) {
        let Some(leaf) = plan.source.leaves.iter().find(|leaf| leaf.oid == oid) else { continue };
        let below = format!(
            "SELECT 1 FROM ONLY {} WHERE {} <= CAST({} AS bigint)",
            leaf.name,
            quote(&column.column),
            literal(high)
        );
        let older = format!("{below} AND NOT ({}) LIMIT 1", written_since(xmin));
        if !wire.rows(&format!("{below} LIMIT 1"))?.is_empty() && wire.rows(&older)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Columns that the target lacks and whose older rows have a value at the source: one row of those values.
fn defaults(wire: &mut Wire, plan: &TablePlan, present: Option<&Schema>) -> Result<Option<RecordBatch>> {
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
