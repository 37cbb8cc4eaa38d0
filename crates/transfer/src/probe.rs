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
    /// Relations with other files than at the last run, and no row yet by which to tell whether they were filled again.
    pub unsettled: Vec<u32>,
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
    let is_behind = cut.as_ref().is_some_and(|cut| cut.is_behind);
    let files = files(&mut wire, &plan, &probe)?;
    let new_leaves = new_leaves(&plan, &probe)?;
    if !plan.key.is_empty() && !plan.key_holds {
        // A partition that is new is read whole.
        let condition = probe.condition.as_deref().filter(|_| new_leaves.is_empty());
        check_key(&mut wire, &plan, condition)?;
    }
    let defaults = defaults(&mut wire, &plan, probe.present.as_ref())?;
    check_filled(&mut wire, &plan, &probe)?;
    let seen = OrderState { is_behind, is_refilled: files.is_refilled };
    Ok(ProbeResult { wire, plan: Arc::new(plan), cut, seen, new_leaves, unsettled: files.unsettled, defaults })
}

/// Of partitions that were attached since the last run: what a query reads their rows from.
fn new_leaves(plan: &TablePlan, probe: &Probe) -> Result<Vec<String>> {
    let Some(origin) = probe.origin.as_ref().filter(|origin| !origin.storage.is_empty()) else { return Ok(Vec::new()) };
    let mut new = Vec::new();
    for leaf in &plan.source.leaves {
        match origin.file_node(leaf.oid) {
            // It was detached and is there again.
            Some(0) if leaf.file_node != 0 && plan.key.is_empty() => {
                let table = plan.source.display();
                let context = format!(
                    "go on with {table}: its part {} was detached and attached again, and without a key the rows that the \
                     target has of it can't be told from new ones",
                    leaf.name
                );
                return Err(Error::input(context).state("refilled").hint(format!(
                    "[tables.{table:?}] key = [...], or replace what the target has: {}",
                    plan.replace
                )));
            }
            None => new.push(plan.source.rows_of(leaf)),
            Some(0) if leaf.file_node != 0 => new.push(plan.source.rows_of(leaf)),
            Some(_) => {}
        }
    }
    Ok(new)
}

/// Columns that the target lacks may have values in rows that were carried before: all but the constant default that
/// they came with can't be known here.
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
    if wire.rows(&sql).map_err(|e| e.within(format!("look at the new columns of {table}")))?.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = differs.iter().map(|(name, _)| format!("{name:?}")).collect();
    let context = format!(
        "go on with {table}: its new column {} has values in rows that were carried before, and no constant default says which",
        names.join(" or ")
    );
    Err(Error::input(context)
        .state("columns-changed")
        .hint(format!("{} reads the table again and keeps what the target has", plan.resync)))
}

/// What the relations' files say of the rows.
#[derive(Debug, Default)]
struct Files {
    is_refilled: bool,
    unsettled: Vec<u32>,
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
        .hint(format!("[tables.{table:?}] key = [...] with columns that identify a row")))
}

/// Whether the table was emptied and filled again with values from below the position: all of the rows there were
/// written since. Asked only where a relation has another file than at the last run.
fn files(wire: &mut Wire, plan: &TablePlan, probe: &Probe) -> Result<Files> {
    let mut files = Files::default();
    let (Some(origin), Some(position), Some(cursor)) = (&probe.origin, &probe.position, &plan.cursor) else {
        return Ok(files);
    };
    let Some((high, xmin)) = position.high.as_ref().zip(position.xmin) else { return Ok(files) };
    let below = match cursor.is_transaction() {
        // Each row that was written anew comes again, and takes the place of its earlier version by its key.
        true if !plan.key.is_empty() => return Ok(files),
        true => "true".to_owned(),
        false => format!("NOT ({})", cursor.from(high, true)),
    };
    for oid in rewritten(plan, origin) {
        let Some(leaf) = plan.source.leaves.iter().find(|leaf| leaf.oid == oid) else { continue };
        let rows = format!("SELECT 1 FROM {} WHERE {below}", plan.source.rows_of(leaf));
        let older = format!("{rows} AND NOT ({}) LIMIT 1", written_since(xmin));
        if wire.rows(&format!("{rows} LIMIT 1"))?.is_empty() {
            files.unsettled.push(oid);
        } else if wire.rows(&older)?.is_empty() {
            files.is_refilled = true;
        }
    }
    Ok(files)
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
