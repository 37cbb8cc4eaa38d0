//! DataFusion as sessions use it: its settings, functions, rules and operators, and the limits of its resources.

use std::num::NonZeroUsize;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::config::Dialect;
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::error::{Context, Result};
use crate::schemas::{CATALOG, DEFAULT_SCHEMA};
use crate::semantics;

/// How many operators an out-of-memory error names.
const CONSUMERS_NAMED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(2);

/// See [`rows_collected_max`].
const ROWS_COLLECTED_MAX: usize = 8_000_000;
/// By which rows are estimated where statistics have only bytes.
const BYTES_COLLECTED_PER_ROW: usize = 32;
/// The largest array of a join's keys that is used in place of a hash table.
const KEYS_BYTES_MAX: usize = 64 << 20;
const BYTES_PER_KEY: usize = 4;
/// Such an array takes at most this fraction, 1/64, of the session's memory.
const MEMORY_SHARE_OF_KEYS: usize = 64;

/// Limits on the resources of a session. All its queries share them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// The most memory, without limit by default. Beyond it, sorts, joins and aggregates spill to disk, and what can't
    /// spill fails.
    pub memory_bytes_max: Option<usize>,
    /// Threads that a query runs on; as many as there are cores by default.
    pub partitions: Option<usize>,
}

/// A context without tables.
///
/// # Errors
/// Where DataFusion's runtime can't be built.
pub(crate) fn context(limits: Limits) -> Result<SessionContext> {
    let mut runtime = RuntimeEnvBuilder::new();
    if let Some(bytes) = limits.memory_bytes_max {
        let pool = TrackConsumersPool::new(FairSpillPool::new(bytes), CONSUMERS_NAMED);
        runtime = runtime.with_memory_pool(Arc::new(pool));
    }
    let state = SessionStateBuilder::new()
        .with_default_features()
        .with_config(config(limits))
        .with_runtime_env(runtime.build_arc().context("start a SQL session")?)
        .with_analyzer_rules(semantics::rules());
    let state = series::first_row::with_rules(series::with_functions(with_planners(state)));
    let state = optimizer::with_rules(state).with_query_planner(Arc::new(Operators)).build();
    Ok(with_functions(SessionContext::new_with_state(state)))
}

/// Plans physical operators, those of this project too.
#[derive(Debug)]
struct Operators;

#[async_trait]
impl QueryPlanner for Operators {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn datafusion::catalog::Session,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        let shared = optimizer::mark_shared_aggregates(plan)?;
        let operators = vec![series::extension_planner(), Arc::new(optimizer::SharedAggregatePlanner::default()) as _];
        let planner = DefaultPhysicalPlanner::with_extension_planners(operators);
        planner.create_physical_plan(shared.as_ref().unwrap_or(plan), session).await
    }
}

fn with_planners(mut state: SessionStateBuilder) -> SessionStateBuilder {
    let planners = state.expr_planners().get_or_insert_default();
    planners.splice(0..0, semantics::planners());
    state
}

fn with_functions(context: SessionContext) -> SessionContext {
    semantics::functions().into_iter().for_each(|function| context.register_udf(function));
    semantics::aggregates().into_iter().for_each(|function| context.register_udaf(function));
    context
}

/// A state without a lake, by which a condition such as a role's row filter is planned.
pub(crate) fn bare_state() -> SessionState {
    let state = SessionStateBuilder::new()
        .with_default_features()
        .with_config(config(Limits::default()))
        .with_analyzer_rules(semantics::rules());
    with_functions(SessionContext::new_with_state(series::with_functions(with_planners(state)).build())).state()
}

/// DataFusion's settings of a session.
fn config(limits: Limits) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_information_schema(true)
        .with_default_catalog_and_schema(CATALOG, DEFAULT_SCHEMA)
        .with_create_default_catalog_and_schema(false);
    if let Some(partitions) = limits.partitions {
        config = config.with_target_partitions(partitions.max(1));
    }
    let rows_collected = rows_collected_max(config.target_partitions());
    let options = config.options_mut();
    let optimizer = &mut options.optimizer;
    optimizer.hash_join_single_partition_threshold_rows =
        optimizer.hash_join_single_partition_threshold_rows.max(rows_collected);
    optimizer.hash_join_single_partition_threshold =
        optimizer.hash_join_single_partition_threshold.max(rows_collected * BYTES_COLLECTED_PER_ROW);
    let memory = limits.memory_bytes_max.unwrap_or(usize::MAX);
    let execution = &mut options.execution;
    // A join whose keys lie within a range of so many integers uses an array in place of a hash table.
    execution.perfect_hash_join_small_build_threshold =
        (memory / MEMORY_SHARE_OF_KEYS).min(KEYS_BYTES_MAX) / BYTES_PER_KEY;
    execution.time_zone = Some("UTC".to_owned());
    options.sql_parser.dialect = Dialect::PostgreSQL;
    options.sql_parser.collect_spans = true;
    // In PostgreSQL, 1.1 is an exact numeric, and so are its sums and products with decimal columns.
    options.sql_parser.parse_float_as_decimal = true;
    config
}

/// The most rows of a join's smaller side for which one thread builds the hash table alone, so that the larger side is
/// not repartitioned by its keys. The more threads there are, the more time they would lose by waiting for that one.
fn rows_collected_max(partitions: usize) -> usize {
    ROWS_COLLECTED_MAX / partitions.saturating_mul(partitions).max(1)
}
