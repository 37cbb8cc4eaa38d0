//! A query that is kept as a table: what it reads, at which versions, and how much of its answer
//! may differ once they have changed.
//!
//! A part of an answer is only ever left as it is where that is proven from the plan: see
//! [`local`]. Where it is not, everything counts as affected.

mod local;

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
use lake::{Changes, Table, TableName};

use crate::error::{Context, Error, Kind, Result};
use crate::marts::only_query;
use crate::session::{Planned, Session};
use crate::view::Read;

/// One query, planned and not yet run, with the tables pinned that it reads.
pub struct Query {
    planned: Planned,
    read: Vec<Read>,
    /// Not an answer of the tables alone: the clock, chance or the system's own state is in it.
    is_moving: bool,
}

/// What of a query's answer may differ from an earlier one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Affected {
    /// No input changed.
    Nothing,
    /// Inputs changed, in rows that the answer does not depend on.
    Nowhere,
    /// Rows whose value is this or more: an integer, a day, or an instant in microseconds.
    From(i64),
    /// All of it, and why no less could be proven.
    Everything(String),
}

impl Session {
    /// Plans the one query in the text.
    pub async fn prepare(&self, sql: &str) -> Result<Query> {
        let view = Arc::new(self.view().noting());
        let planned = self.plan(only_query(sql)?, &view).await?;
        let read = view.noted().await;
        let is_moving = moves(&planned.plan, &read)?;
        Ok(Query { planned, read, is_moving })
    }
}

impl Query {
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.planned.columns)
    }

    /// The tables that another run may find changed, each once.
    pub fn inputs(&self) -> Vec<&Table> {
        let newest = self.read.iter().filter(|read| read.is_newest);
        let named: BTreeMap<&TableName, &Table> = newest.map(|read| (read.table.name(), &read.table)).collect();
        named.into_values().collect()
    }

    /// Whether the answer may change without any of its inputs.
    pub fn is_moving(&self) -> bool {
        self.is_moving
    }

    /// The type of a column by whose values an answer can be had in part.
    pub fn check_since(&self, since: &str) -> Result<()> {
        let schema = self.schema();
        let Ok(field) = schema.field_with_name(since) else {
            let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            let context =
                format!("refresh since {since:?}: the SELECT gives no such column, but {}", columns.join(", "));
            return Err(Error::new(Kind::FixInput, context));
        };
        match field.data_type() {
            DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Date32 => Ok(()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => Ok(()),
            other => {
                let context = format!(
                    "refresh since {since:?}: its type is {other}; an integer, a date or a timestamp(6) can be compared"
                );
                Err(Error::new(Kind::FixInput, context))
            }
        }
    }

    /// How far the answer may differ from the one that was given when the inputs had these versions.
    pub async fn affected(&self, since: Option<&str>, before: &BTreeMap<TableName, u64>) -> Result<Affected> {
        let mut changed: BTreeMap<TableName, (Table, Vec<u64>)> = BTreeMap::new();
        for table in self.inputs() {
            let name = table.name();
            let Some(version) = before.get(name) else {
                return Ok(Affected::Everything(format!("{name} was not read before")));
            };
            match table.changes_since(*version).await.context(&format!("compare {name} with version {version}"))? {
                Changes::None => {}
                Changes::Whole => return Ok(Affected::Everything(format!("{name} was replaced"))),
                Changes::In(versions) => drop(changed.insert(name.clone(), (table.clone(), versions))),
            }
        }
        if changed.is_empty() {
            return Ok(Affected::Nothing);
        }
        let Some(since) = since else {
            let names: Vec<String> = changed.keys().map(ToString::to_string).collect();
            return Ok(Affected::Everything(format!("changed: {}", names.join(", "))));
        };
        let plan = self.planned.state.optimize(&self.planned.plan).context("plan the query")?;
        let traced =
            local::trace(&plan, since, &|scanned| self.name_of(scanned).filter(|name| changed.contains_key(name)));
        let traced = match traced.context("plan the query")? {
            Ok(traced) => traced,
            Err(why) => return Ok(Affected::Everything(why)),
        };
        let mut rows: BTreeMap<TableName, Vec<Arc<dyn TableProvider>>> = BTreeMap::new();
        let mut least: Option<i64> = None;
        for local::Traced { scan, table, value } in traced {
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
                        return Ok(Affected::Everything(format!("{since:?} is NULL for a row that changed")));
                    }
                }
            }
        }
        Ok(least.map_or(Affected::Nowhere, Affected::From))
    }

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
        // A day is a number of days, and Arrow takes it for no 64-bit one.
        let least =
            if least.data_type() == &DataType::Date32 { cast(least, &DataType::Int32) } else { Ok(Arc::clone(least)) };
        let least = least.and_then(|least| cast(&least, &DataType::Int64)).context(CONTEXT)?;
        let least = least.as_primitive::<Int64Type>().iter().next().flatten();
        Ok(least.map_or(Least::None, Least::Of))
    }

    /// Runs it: all of its answer, or the rows in which a column is a value or more.
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

/// Whether anything but tables of the lake decides the answer.
fn moves(plan: &LogicalPlan, read: &[Read]) -> Result<bool> {
    let mut moves = false;
    let visited = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let provider = source_as_provider(&scan.source)?;
            moves |= !read.iter().any(|read| is_same(&read.provider, &provider));
        }
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                moves |= match expr {
                    Expr::ScalarFunction(call) => call.func.signature().volatility != Volatility::Immutable,
                    _ => false,
                };
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    visited.context("plan the query")?;
    Ok(moves)
}
