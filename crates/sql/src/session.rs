//! A session: settings, bounds of memory, and one view of the lake for each query.

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
use lake::{Lake, When};

use crate::catalog::OtherSchemas;
use crate::error::{Context, Error, Kind, Result};
use crate::marts::{Named, Views};
use crate::roles::Role;
use crate::view::{CATALOG, DEFAULT_SCHEMA, View};
use crate::{catalog, semantics, statement, system::SystemTables};

/// Operators that an error about memory names.
const CONSUMERS_NAMED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(2);

/// What the queries of a session may take up together.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// Beyond it sorts, joins and aggregates go to disk, and what can't fails.
    pub memory_bytes_max: Option<usize>,
    /// As many as there are cores, unless given.
    pub partitions: Option<usize>,
}

const PLAN: &str = "plan the query";

/// By one thread, without others that could help.
const ROWS_COLLECTED_MAX: usize = 8_000_000;
/// Where sizes are estimated in bytes.
const BYTES_COLLECTED_PER_ROW: usize = 32;
/// Of an array of a join's keys.
const KEYS_BYTES_MAX: usize = 64 << 20;
const BYTES_PER_KEY: usize = 4;
/// One in so many bytes of the session's memory may be such an array.
const MEMORY_SHARE_OF_KEYS: usize = 64;

/// A query that is ready to run: its plan, and the state that the plan was made in.
#[derive(Debug, Clone)]
pub struct Planned {
    pub plan: LogicalPlan,
    /// As they will be sent: the plan has the engine's types until it is analysed, which it is when it runs.
    pub columns: SchemaRef,
    pub state: SessionState,
}

pub struct Session {
    pub lake: Lake,
    pub system: Arc<dyn SystemTables>,
    as_of: Option<When>,
    role: Option<Arc<Role>>,
    pub others: Option<Arc<dyn OtherSchemas>>,
    views: Arc<Views>,
    pub context: SessionContext,
}

impl Session {
    /// `as_of` is the state of every table that a query does not ask for in another one.
    pub fn new(lake: Lake, system: Arc<dyn SystemTables>, as_of: Option<When>) -> Result<Session> {
        Session::with_limits(lake, system, as_of, Limits::default())
    }

    /// A session of a role: it sees what the role may read, and nothing else.
    pub fn of_role(mut self, role: Arc<Role>) -> Session {
        self.role = Some(role);
        self
    }

    /// A session whose days and local times are of this zone, UTC otherwise.
    pub fn in_zone(self, zone: &str) -> Session {
        self.context.state_ref().write().config_mut().options_mut().execution.time_zone = Some(zone.to_owned());
        self
    }

    /// Queries that answer under names as tables do.
    pub fn with_views(mut self, views: Arc<Views>) -> Session {
        self.views = views;
        self
    }

    pub fn with_limits(
        lake: Lake,
        system: Arc<dyn SystemTables>,
        as_of: Option<When>,
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
        let state = series::faster::planned(series::registered(with_planners(state)));
        let state = optimizer::planned(state).with_query_planner(Arc::new(Operators)).build();
        let context = with_functions(SessionContext::new_with_state(state));
        Ok(Session { lake, system, as_of, role: None, others: None, views: Arc::default(), context })
    }

    /// Runs statements separated by `;`, one stream of results for each. All are read before the
    /// first is run; a later one may fail in its planning when earlier ones have run.
    pub async fn query(&self, sql: &str) -> Result<Vec<SendableRecordBatchStream>> {
        let mut results = Vec::new();
        for statement in statement::parse(sql)? {
            results.push(self.start(statement).await?);
        }
        Ok(results)
    }

    /// Runs one statement.
    pub async fn run(&self, sql: &str) -> Result<SendableRecordBatchStream> {
        let mut statements = statement::parse(sql)?;
        match (statements.pop(), statements.len()) {
            (Some(only), 0) => self.start(only).await,
            (None, _) => Err(Error::new(Kind::FixInput, "run the query: it is empty")),
            (_, others) => Err(Error::new(Kind::FixInput, format!("run one statement: there are {}", others + 1))),
        }
    }

    pub fn view(&self) -> View {
        let named = (!self.views.is_empty()).then(|| Named {
            views: Arc::clone(&self.views),
            state: self.context.state(),
            path: Vec::new(),
        });
        View::new(self.lake.clone(), Arc::clone(&self.system), self.as_of, self.role.clone()).with_named(named)
    }

    async fn start(&self, statement: Statement) -> Result<SendableRecordBatchStream> {
        let planned = self.plan(statement, &Arc::new(self.view())).await?;
        let frame = match planned.plan {
            // Settings are the session's, not the query's.
            LogicalPlan::Statement(_) => self.context.execute_logical_plan(planned.plan).await,
            plan => SessionContext::new_with_state(planned.state).execute_logical_plan(plan).await,
        };
        frame.context(PLAN)?.execute_stream().await.context(PLAN)
    }

    /// What `view` answers to the statement, not yet run.
    pub async fn plan(&self, statement: Statement, view: &Arc<View>) -> Result<Planned> {
        planned(self.context.state(), statement, view, self.others.as_deref()).await
    }
}

/// The statement planned in a state of its own, by what `view` answers to its names.
pub async fn planned(
    mut state: SessionState,
    statement: Statement,
    view: &Arc<View>,
    others: Option<&dyn OtherSchemas>,
) -> Result<Planned> {
    let references = state.resolve_table_references(&statement).context(PLAN)?;
    let functions = state.table_functions().keys().cloned().collect();
    let catalogs = catalog::of(view, &references, &functions, others).await?;
    state.register_catalog_list(catalogs);
    let plan = state.statement_to_plan(statement).await.context(PLAN)?;
    statement::check(&plan)?;
    // A plan tells of rows and files that the role's filters hide.
    if let (Some(role), LogicalPlan::Explain(_) | LogicalPlan::Analyze(_)) = (&view.role, &plan)
        && !role.filters.is_empty()
    {
        let context = format!("explain the query: role {:?} sees only some rows of its tables", role.name);
        return Err(Error::new(Kind::FixInput, context));
    }
    let columns = columns_of(&plan, &state).context(PLAN)?;
    Ok(Planned { plan, columns, state })
}

/// The columns with the types that they will have: those of the engine are not all PostgreSQL's. A plan with parameters
/// has them when these have values.
pub fn columns_of(plan: &LogicalPlan, state: &SessionState) -> datafusion::error::Result<SchemaRef> {
    let is_query = !matches!(plan, LogicalPlan::Statement(_) | LogicalPlan::Explain(_) | LogicalPlan::Analyze(_));
    if !is_query || !plan.get_parameter_types()?.is_empty() {
        return Ok(Arc::clone(plan.schema().inner()));
    }
    let analysed = state.analyzer().execute_and_check(plan.clone(), state.config_options(), |_, _| {})?;
    Ok(Arc::clone(analysed.schema().inner()))
}

/// From logical operators to those that run.
#[derive(Debug)]
struct Operators;

#[async_trait]
impl QueryPlanner for Operators {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn datafusion::catalog::Session,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        let shared = optimizer::shared(plan)?;
        let operators = vec![series::operators(), Arc::new(optimizer::SharedPlanner::default()) as _];
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

/// For what is read on its own, such as a role's filter.
pub(crate) fn bare_state() -> SessionState {
    let state = SessionStateBuilder::new()
        .with_default_features()
        .with_config(config(Limits::default()))
        .with_analyzer_rules(semantics::rules());
    with_functions(SessionContext::new_with_state(series::registered(with_planners(state)).build())).state()
}

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
    // Where the keys of a join's smaller side lie within so many, an array of them takes the place of a hash table.
    execution.perfect_hash_join_small_build_threshold =
        (memory / MEMORY_SHARE_OF_KEYS).min(KEYS_BYTES_MAX) / BYTES_PER_KEY;
    execution.time_zone = Some("UTC".to_owned());
    options.sql_parser.dialect = Dialect::PostgreSQL;
    options.sql_parser.collect_spans = true;
    // PostgreSQL's 1.1 is a numeric, exact, and so are sums and products with decimal columns.
    options.sql_parser.parse_float_as_decimal = true;
    config
}

/// Up to so many rows one thread hashes the smaller side of a join alone: the larger side then need not be distributed
/// by its keys. With more threads, that one would keep the others waiting for longer than the distribution takes.
fn rows_collected_max(partitions: usize) -> usize {
    ROWS_COLLECTED_MAX / partitions.saturating_mul(partitions).max(1)
}
