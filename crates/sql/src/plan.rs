//! The plan of one statement over the tables of a snapshot.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement;

use crate::catalog::OtherSchemas;
use crate::error::{Context, Error, Kind, Result};
use crate::snapshot::LakeSnapshot;
use crate::{catalog, statement};

/// What is being done, in errors of planning.
pub(crate) const PLAN: &str = "plan the query";

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

/// Plans a statement over the tables of `snapshot`; `state` gets their catalog.
///
/// # Errors
/// As [`Session::plan`](crate::Session::plan).
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
        && !(role.filters.is_empty() && role.column_filters.is_empty())
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
