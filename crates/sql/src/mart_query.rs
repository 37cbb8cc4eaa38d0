//! The query of a mart, whose result is stored as a table: which tables it reads, at which versions, and which rows of
//! the result may differ after they have changed.
//!
//! Rows of the result count as unchanged only where that follows from the plan, see [`change_trace`]. Otherwise all
//! rows count as affected.

mod change_trace;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type, SchemaRef, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::functions_aggregate::expr_fn::{count, min};
use datafusion::logical_expr::{Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, Volatility, lit};
use datafusion::prelude::{SessionContext, ident};
use lake::{Table, TableChanges, TableName};

use crate::error::{Context, Error, Kind, Result};
use crate::marts::only_query;
use crate::plan::PlannedQuery;
use crate::session::Session;
use crate::snapshot::TableRead;

/// A query that is planned and not yet run. It reads its tables at the versions that they had when it was planned.
pub struct MartQuery {
    planned: PlannedQuery,
    read: Vec<TableRead>,
    is_volatile: bool,
}

/// Which rows of a query's result may differ from an earlier result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AffectedRows {
    /// None: no input has a new version.
    InputsUnchanged,
    /// None: inputs have new versions, which changed no row that the result depends on.
    None,
    /// Rows whose `since` column is at least this: an integer, days since 1970, or microseconds since 1970.
    From(i64),
    /// All rows, with the reason why they could not be narrowed down.
    All(String),
}

impl Session {
    /// Plans the one query in `sql`, and opens the tables that it reads.
    ///
    /// # Errors
    /// Where the text is not exactly one SELECT, or it can't be planned.
    pub async fn prepare(&self, sql: &str) -> Result<MartQuery> {
        let snapshot = Arc::new(self.snapshot().recording_reads());
        let planned = self.plan(only_query(sql)?, &snapshot).await?;
        let read = snapshot.reads().await;
        let is_volatile = is_volatile(&planned.plan, &read)?;
        Ok(MartQuery { planned, read, is_volatile })
    }
}

impl MartQuery {
    /// The columns of the result.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.planned.columns)
    }

    /// The tables that the query reads at their newest version, each once and sorted by name. Tables that it reads at a
    /// given version or instant are not among them.
    pub fn inputs(&self) -> Vec<&Table> {
        let newest = self.read.iter().filter(|read| read.is_newest);
        let named: BTreeMap<&TableName, &Table> = newest.map(|read| (read.table.name(), &read.table)).collect();
        named.into_values().collect()
    }

    /// Whether the result may change while its inputs do not: it depends on the time, on random values or on system
    /// tables.
    pub fn is_volatile(&self) -> bool {
        self.is_volatile
    }

    /// Checks that the result has a column `since` by which a part of it can be refreshed.
    ///
    /// # Errors
    /// Where there is no such column, or its type is neither an integer, a date nor a timestamp in microseconds.
    pub fn check_since(&self, since: &str) -> Result<()> {
        let schema = self.schema();
        let Ok(field) = schema.field_with_name(since) else {
            let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            let context = format!(
                "refresh since {since:?}: the SELECT returns no such column; it returns {}",
                columns.join(", ")
            );
            return Err(Error::new(Kind::FixInput, context));
        };
        match field.data_type() {
            DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Date32 => Ok(()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => Ok(()),
            other => {
                let context = format!(
                    "refresh since {since:?}: its type is {other}; use an integer, a date or a timestamp(6) column"
                );
                Err(Error::new(Kind::FixInput, context))
            }
        }
    }

    /// Which rows of the result may differ from the result that was computed when the inputs had the versions in
    /// `before`. Without the column `since` that is none or all. It reads the rows that changed, not the whole inputs.
    ///
    /// # Errors
    /// Where the history or the changed rows of an input can't be read.
    pub async fn affected(&self, since: Option<&str>, before: &BTreeMap<TableName, u64>) -> Result<AffectedRows> {
        let mut changed: BTreeMap<TableName, (Table, Vec<u64>)> = BTreeMap::new();
        for table in self.inputs() {
            let name = table.name();
            let Some(version) = before.get(name) else {
                return Ok(AffectedRows::All(format!("{name} was not read before")));
            };
            match table.changes_since(*version).await.context(&format!("compare {name} with version {version}"))? {
                TableChanges::None => {}
                TableChanges::Unknown => return Ok(AffectedRows::All(format!("{name} was replaced"))),
                TableChanges::InVersions(versions) => drop(changed.insert(name.clone(), (table.clone(), versions))),
            }
        }
        if changed.is_empty() {
            return Ok(AffectedRows::InputsUnchanged);
        }
        let Some(since) = since else {
            let names: Vec<String> = changed.keys().map(ToString::to_string).collect();
            return Ok(AffectedRows::All(format!("changed: {}", names.join(", "))));
        };
        let plan = self.planned.state.optimize(&self.planned.plan).context("plan the query")?;
        let traced = change_trace::trace(&plan, since, &|scanned| {
            self.name_of(scanned).filter(|name| changed.contains_key(name))
        });
        let traced = match traced.context("plan the query")? {
            Ok(traced) => traced,
            Err(why) => return Ok(AffectedRows::All(why)),
        };
        let mut rows: BTreeMap<TableName, Vec<Arc<dyn TableProvider>>> = BTreeMap::new();
        let mut least: Option<i64> = None;
        for change_trace::TracedScan { scan, table, value } in traced {
            if let Entry::Vacant(vacant) = rows.entry(table.clone()) {
                let mut all = Vec::new();
                let Some((table, versions)) = changed.get(&table) else { continue };
                for version in versions {
                    let context = format!("read what changed in {} with version {version}", table.name());
                    all.extend(table.rows_changed(*version).await.context(&context)?);
                }
                vacant.insert(all);
            }
            for provider in rows.get(&table).into_iter().flatten() {
                let plan = LogicalPlanBuilder::scan(scan.clone(), provider_as_source(Arc::clone(provider)), None);
                match self.least(plan.context("read what changed")?, &value).await? {
                    Least::None => {}
                    Least::Of(value) => least = Some(least.map_or(value, |least| least.min(value))),
                    Least::Null => {
                        return Ok(AffectedRows::All(format!("{since:?} is NULL for a row that changed")));
                    }
                }
            }
        }
        Ok(least.map_or(AffectedRows::None, AffectedRows::From))
    }

    /// The least of `value` over `rows`.
    async fn least(&self, rows: LogicalPlanBuilder, value: &Expr) -> Result<Least> {
        const CONTEXT: &str = "read what changed";
        let nulls = count(lit(1)).filter(value.clone().is_null()).build().context(CONTEXT)?;
        let no_columns: [Expr; 0] = [];
        let plan = rows.aggregate(no_columns, [min(value.clone()), nulls]).and_then(LogicalPlanBuilder::build);
        let context = SessionContext::new_with_state(self.planned.state.clone());
        let frame = context.execute_logical_plan(plan.context(CONTEXT)?).await.context(CONTEXT)?;
        let batches = frame.collect().await.context(CONTEXT)?;
        let Some(batch) = batches.iter().find(|batch| batch.num_rows() > 0) else { return Ok(Least::None) };
        if batch.column(1).as_primitive::<Int64Type>().value(0) > 0 {
            return Ok(Least::Null);
        }
        let least = batch.column(0);
        // Arrow casts a date to Int32, not to Int64.
        let least =
            if least.data_type() == &DataType::Date32 { cast(least, &DataType::Int32) } else { Ok(Arc::clone(least)) };
        let least = least.and_then(|least| cast(&least, &DataType::Int64)).context(CONTEXT)?;
        let least = least.as_primitive::<Int64Type>().iter().next().flatten();
        Ok(least.map_or(Least::None, Least::Of))
    }

    /// Runs the query. With `part`, a column and a value as in [`AffectedRows::From`], it gives only the rows where the
    /// column is at least the value.
    ///
    /// # Errors
    /// Where the query can't be started; the stream gives the errors of its run.
    pub async fn stream(&self, part: Option<(&str, i64)>) -> Result<SendableRecordBatchStream> {
        const CONTEXT: &str = "run the query";
        let mut plan = self.planned.plan.clone();
        if let Some((since, least)) = part {
            let schema = self.schema();
            let data_type = schema.field_with_name(since).context(CONTEXT)?.data_type();
            let least = value_of(data_type, least).context(CONTEXT)?;
            let rows = LogicalPlanBuilder::from(plan).filter(ident(since).gt_eq(Expr::Literal(least, None)));
            plan = rows.and_then(LogicalPlanBuilder::build).context(CONTEXT)?;
        }
        let context = SessionContext::new_with_state(self.planned.state.clone());
        let frame = context.execute_logical_plan(plan).await.context(CONTEXT)?;
        frame.execute_stream().await.context(CONTEXT)
    }

    fn name_of(&self, scanned: &Arc<dyn TableProvider>) -> Option<TableName> {
        let read = self.read.iter().find(|read| read.is_newest && is_same(&read.provider, scanned));
        read.map(|read| read.table.name().clone())
    }
}

enum Least {
    /// There are no rows.
    None,
    Of(i64),
    Null,
}

fn value_of(data_type: &DataType, value: i64) -> datafusion::error::Result<ScalarValue> {
    match data_type {
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            Ok(ScalarValue::TimestampMicrosecond(Some(value), zone.clone()))
        }
        DataType::Date32 => Ok(ScalarValue::Date32(i32::try_from(value).ok())),
        other => ScalarValue::Int64(Some(value)).cast_to(other),
    }
}

fn is_same(one: &Arc<dyn TableProvider>, other: &Arc<dyn TableProvider>) -> bool {
    std::ptr::eq(Arc::as_ptr(one).cast::<()>(), Arc::as_ptr(other).cast::<()>())
}

/// Whether the result depends on anything but tables of the lake.
fn is_volatile(plan: &LogicalPlan, read: &[TableRead]) -> Result<bool> {
    let mut is_volatile = false;
    let visited = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let provider = source_as_provider(&scan.source)?;
            is_volatile |= !read.iter().any(|read| is_same(&read.provider, &provider));
        }
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                is_volatile |= match expr {
                    Expr::ScalarFunction(call) => call.func.signature().volatility != Volatility::Immutable,
                    _ => false,
                };
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    visited.context("plan the query")?;
    Ok(is_volatile)
}
