//! A session: its settings, its memory limit, and one snapshot of the lake per query.

use std::num::NonZeroUsize;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::config::Dialect;
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement;
use lake::{AsOf, Lake};

use crate::catalog::OtherSchemas;
use crate::error::{Context, Error, Kind, Result};
use crate::marts::{ViewContext, Views};
use crate::roles::Role;
use crate::snapshot::{CATALOG, DEFAULT_SCHEMA, LakeSnapshot};
use crate::{catalog, semantics, statement, system::SystemTables};

/// How many operators an out-of-memory error names.
const CONSUMERS_NAMED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(2);

/// Limits on the resources of a session. All its queries share them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// The most memory, without limit by default. Beyond it, sorts, joins and aggregates spill to disk, and what can't
    /// spill fails.
    pub memory_bytes_max: Option<usize>,
    /// Threads that a query runs on; as many as there are cores by default.
    pub partitions: Option<usize>,
}

const PLAN: &str = "plan the query";

/// See [`rows_collected_max`].
const ROWS_COLLECTED_MAX: usize = 8_000_000;
/// By which rows are estimated where statistics have only bytes.
const BYTES_COLLECTED_PER_ROW: usize = 32;
/// The largest array of a join's keys that is used in place of a hash table.
const KEYS_BYTES_MAX: usize = 64 << 20;
const BYTES_PER_KEY: usize = 4;
/// Such an array takes at most this fraction, 1/64, of the session's memory.
const MEMORY_SHARE_OF_KEYS: usize = 64;

/// A query that is ready to run.
#[derive(Debug, Clone)]
pub struct PlannedQuery {
    /// The plan, neither analyzed nor optimized: that is done when it runs.
    pub plan: LogicalPlan,
    /// The columns of the result, with the types that they will have: those of `plan` may change in its analysis.
    pub columns: SchemaRef,
    /// The state that the plan was made in, with the catalog of the tables that it reads.
    pub state: SessionState,
}

/// A SQL session over a lake. Its queries may run concurrently.
pub struct Session {
    /// The lake that queries read.
    pub lake: Lake,
    /// The source of the schema `system`.
    pub system: Arc<dyn SystemTables>,
    as_of: Option<AsOf>,
    role: Option<Arc<Role>>,
    /// Schemas besides those of the lake, such as `pg_catalog`.
    pub other_schemas: Option<Arc<dyn OtherSchemas>>,
    views: Arc<Views>,
    /// DataFusion's session: settings, functions and optimizer rules. It has no tables.
    pub context: SessionContext,
}

impl Session {
    /// A session without limits. `as_of` is the state in which tables are read, unless a query says `AS OF`; without it
    /// their newest versions are read.
    ///
    /// # Errors
    /// Where DataFusion's runtime can't be built.
    pub fn new(lake: Lake, system: Arc<dyn SystemTables>, as_of: Option<AsOf>) -> Result<Session> {
        Session::with_limits(lake, system, as_of, Limits::default())
    }

    /// Restricts the session to what `role` may read.
    pub fn with_role(mut self, role: Arc<Role>) -> Session {
        self.role = Some(role);
        self
    }

    /// Sets the time zone of dates and local times, which is UTC by default.
    pub fn with_time_zone(self, zone: &str) -> Session {
        self.context.state_ref().write().config_mut().options_mut().execution.time_zone = Some(zone.to_owned());
        self
    }

    /// Sets the views that queries can name like tables.
    pub fn with_views(mut self, views: Arc<Views>) -> Session {
        self.views = views;
        self
    }

    /// As [`Session::new`], with limits.
    ///
    /// # Errors
    /// Where DataFusion's runtime can't be built.
    pub fn with_limits(
        lake: Lake,
        system: Arc<dyn SystemTables>,
        as_of: Option<AsOf>,
        limits: Limits,
    ) -> Result<Session> {
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
        let context = with_functions(SessionContext::new_with_state(state));
        Ok(Session { lake, system, as_of, role: None, other_schemas: None, views: Arc::default(), context })
    }

    /// Starts statements that are separated by `;`, and returns a stream of rows for each. All are parsed before the
    /// first one is started; a later one may fail in planning when earlier ones have been started.
    ///
    /// # Errors
    /// Where a statement can't be parsed, would write, or can't be planned.
    pub async fn query(&self, sql: &str) -> Result<Vec<SendableRecordBatchStream>> {
        let mut results = Vec::new();
        for statement in statement::parse(sql)? {
            results.push(self.start(statement).await?);
        }
        Ok(results)
    }

    /// Starts the only statement of a text, and returns its rows.
    ///
    /// # Errors
    /// As [`Session::query`], and where the text is empty or has several statements.
    pub async fn run(&self, sql: &str) -> Result<SendableRecordBatchStream> {
        let mut statements = statement::parse(sql)?;
        match (statements.pop(), statements.len()) {
            (Some(only), 0) => self.start(only).await,
            (None, _) => Err(Error::new(Kind::FixInput, "run the query: the text has no statement")),
            (_, others) => Err(Error::new(
                Kind::FixInput,
                format!("run the query: the text has {} statements, not one", others + 1),
            )),
        }
    }

    /// A new snapshot of the lake, for one query.
    pub fn snapshot(&self) -> LakeSnapshot {
        let views = (!self.views.is_empty()).then(|| ViewContext {
            views: Arc::clone(&self.views),
            state: self.context.state(),
            path: Vec::new(),
        });
        LakeSnapshot::new(self.lake.clone(), Arc::clone(&self.system), self.as_of, self.role.clone()).with_views(views)
    }

    async fn start(&self, statement: Statement) -> Result<SendableRecordBatchStream> {
        let planned = self.plan(statement, &Arc::new(self.snapshot())).await?;
        let frame = match planned.plan {
            // SET changes the session's state, not the state that the statement was planned in.
            LogicalPlan::Statement(_) => self.context.execute_logical_plan(planned.plan).await,
            plan => SessionContext::new_with_state(planned.state).execute_logical_plan(plan).await,
        };
        frame.context(PLAN)?.execute_stream().await.context(PLAN)
    }

    /// Plans a statement over the tables of `snapshot`.
    ///
    /// # Errors
    /// Where it would write, changes a fixed setting, or names a table that is unknown or that the role may not read.
    pub async fn plan(&self, statement: Statement, snapshot: &Arc<LakeSnapshot>) -> Result<PlannedQuery> {
        plan_statement(self.context.state(), statement, snapshot, self.other_schemas.as_deref()).await
    }
}

/// Plans a statement over the tables of `snapshot`; `state` gets their catalog. See [`Session::plan`] for errors.
pub async fn plan_statement(
    mut state: SessionState,
    statement: Statement,
    snapshot: &Arc<LakeSnapshot>,
    others: Option<&dyn OtherSchemas>,
) -> Result<PlannedQuery> {
    let references = state.resolve_table_references(&statement).context(PLAN)?;
    let functions = state.table_functions().keys().cloned().collect();
    let catalogs = catalog::build(snapshot, &references, &functions, others).await?;
    state.register_catalog_list(catalogs);
    let plan = state.statement_to_plan(statement).await.context(PLAN)?;
    statement::check_plan(&plan)?;
    // A plan has figures of rows and files that the role's row filters hide.
    if let (Some(role), LogicalPlan::Explain(_) | LogicalPlan::Analyze(_)) = (&snapshot.role, &plan)
        && !role.filters.is_empty()
    {
        let context = format!("explain the query: role {:?} has row filters, but a plan counts all rows", role.name);
        return Err(Error::new(Kind::FixInput, context));
    }
    let columns = columns_of(&plan, &state).context(PLAN)?;
    Ok(PlannedQuery { plan, columns, state })
}

/// The columns of a plan's result after its analysis, which gives them PostgreSQL's types. For a plan with parameters
/// that have no values yet, its columns before the analysis.
///
/// # Errors
/// Where the plan can't be analyzed.
pub fn columns_of(plan: &LogicalPlan, state: &SessionState) -> datafusion::error::Result<SchemaRef> {
    let is_query = !matches!(plan, LogicalPlan::Statement(_) | LogicalPlan::Explain(_) | LogicalPlan::Analyze(_));
    if !is_query || !plan.get_parameter_types()?.is_empty() {
        return Ok(Arc::clone(plan.schema().inner()));
    }
    let analysed = state.analyzer().execute_and_check(plan.clone(), state.config_options(), |_, _| {})?;
    Ok(Arc::clone(analysed.schema().inner()))
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
pub fn config(limits: Limits) -> SessionConfig {
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
