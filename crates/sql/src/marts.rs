//! Views: named queries, which are planned in each query that names them. A view reads tables with its author's rights;
//! the role's row filters apply in it too.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::datasource::ViewTable;
use datafusion::execution::SessionState;
use datafusion::sql::parser::Statement;
use datafusion::sql::resolve::resolve_table_references;
use futures::FutureExt;
use futures::future::BoxFuture;
use lake::{AsOf, TableName};

use crate::error::{Context, Error, Kind, Result};
use crate::plan::plan_statement;
use crate::snapshot::{LakeSnapshot, SnapshotViews};
use crate::statement;

/// The SQL of views, by the views' names.
pub type Views = BTreeMap<TableName, String>;

/// The views of a session, and what it takes to plan them.
#[derive(Clone)]
pub struct ViewContext {
    /// All views.
    pub views: Arc<Views>,
    /// The session's state, by which they are planned.
    pub state: SessionState,
    /// The views that are being planned, the outermost first.
    pub path: Vec<TableName>,
}

/// A table as a query names it, without the version or the instant after its `@`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// The schema, where the query names one.
    pub schema: Option<String>,
    /// The name without its schema.
    pub table: String,
}

/// The tables that a query names, each once and sorted. It does not read the lake: the tables need not exist.
///
/// # Errors
/// Where the text is not exactly one query.
pub fn references(sql: &str) -> Result<Vec<Reference>> {
    let statement = only_query(sql)?;
    let (tables, _) = resolve_table_references(&statement, true).context("read the query")?;
    let named = |table: &TableReference| {
        let name = table.table().split_once('@').map_or(table.table(), |(name, _)| name);
        Reference { schema: table.schema().map(str::to_owned), table: name.to_owned() }
    };
    let mut references: Vec<Reference> = tables.iter().map(named).collect();
    references.sort();
    references.dedup();
    Ok(references)
}

/// Parses a text that holds exactly one SELECT.
///
/// # Errors
/// Where the text can't be parsed, or holds anything else.
pub fn only_query(sql: &str) -> Result<Statement> {
    let mut statements = statement::parse(sql)?;
    match (statements.pop(), statements.len()) {
        (Some(only), 0) if is_query(&only) => Ok(only),
        _ => Err(Error::new(Kind::FixInput, "read the query: it must be one SELECT")),
    }
}

fn is_query(statement: &Statement) -> bool {
    let Statement::Statement(sql) = statement else { return false };
    matches!(sql.as_ref(), sqlparser::ast::Statement::Query(_))
}

impl SnapshotViews for ViewContext {
    fn names(&self) -> Vec<TableName> {
        self.views.keys().cloned().collect()
    }

    fn has(&self, name: &TableName) -> bool {
        self.views.contains_key(name)
    }

    fn plan<'a>(
        &'a self,
        name: &'a TableName,
        when: Option<AsOf>,
        snapshot: &'a LakeSnapshot,
    ) -> BoxFuture<'a, Result<Arc<dyn TableProvider>>> {
        async move {
            let Some(sql) = self.views.get(name) else {
                return Err(Error::new(Kind::Bug, format!("plan view {name}: there is none")));
            };
            let context = format!("plan view {name}");
            if let Some(at) = self.path.iter().position(|outer| outer == name) {
                let cycle: Vec<String> = self.path[at..].iter().chain([name]).map(ToString::to_string).collect();
                let what = format!("{context}: it refers to itself: {}", cycle.join(" -> "));
                return Err(Error::new(Kind::FixInput, what));
            }
            if let Some(AsOf::Version(_)) = when {
                let what = format!("{context}: a view has no versions; use an instant: \"{}@2026-01-31\"", name.table);
                return Err(Error::new(Kind::FixInput, what));
            }
            let mut views = self.clone();
            views.path.push(name.clone());
            let inner = Arc::new(snapshot.within(
                Arc::new(views),
                snapshot.role.as_deref().map(|role| Arc::new(role.author())),
                when,
            ));
            let planning = async {
                let planned = plan_statement(self.state.clone(), only_query(sql)?, &inner, None).await?;
                Ok::<_, Error>(planned.plan)
            };
            let plan = planning.await.map_err(|e| Error::new(e.kind, context.clone()).because(e))?;
            let table: Arc<dyn TableProvider> = Arc::new(ViewTable::new(plan, Some(sql.clone())));
            snapshot.for_role(table, name)
        }
        .boxed()
    }
}
