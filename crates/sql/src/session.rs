//! A session: its settings, its memory limit, and one snapshot of the lake per query.

use std::sync::Arc;

use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use lake::{AsOf, Lake};

use crate::catalog::OtherSchemas;
use crate::engine::Limits;
use crate::error::{Context, Error, Kind, Result};
use crate::marts::{ViewContext, Views};
use crate::plan::{PLAN, PlannedQuery, plan_statement};
use crate::roles::Role;
use crate::snapshot::{DeclaredTables, LakeSnapshot, SnapshotViews};
use crate::system::SystemTables;
use crate::{engine, predict, statement};

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
    declared: Arc<DeclaredTables>,
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

    /// Sets tables that are empty where the lake does not have them yet.
    pub fn with_declared(mut self, declared: Arc<DeclaredTables>) -> Session {
        self.declared = declared;
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
        let context = engine::context(limits)?;
        context.register_udf(predict::function(Arc::clone(&system)));
        Ok(Session {
            lake,
            system,
            as_of,
            role: None,
            other_schemas: None,
            views: Arc::default(),
            declared: Arc::default(),
            context,
        })
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
        let views = (!self.views.is_empty()).then(|| -> Arc<dyn SnapshotViews> {
            Arc::new(ViewContext { views: Arc::clone(&self.views), state: self.context.state(), path: Vec::new() })
        });
        LakeSnapshot::new(self.lake.clone(), Arc::clone(&self.system), self.as_of, self.role.clone())
            .with_views(views)
            .with_declared(Arc::clone(&self.declared))
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
