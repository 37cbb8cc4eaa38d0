//! Views: queries under a name, planned anew inside each query that names them. Inside a view the
//! rights are its author's; what hides rows of a table from a role hides them here too.

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
use lake::{TableName, When};

use crate::error::{Context, Error, Kind, Result};
use crate::roles::Role;
use crate::session::planned;
use crate::statement;
use crate::view::View;

/// Queries by the name that they are known under.
pub type Views = BTreeMap<TableName, String>;

/// How a view of the lake knows its queries under names.
#[derive(Clone)]
pub struct Named {
    pub views: Arc<Views>,
    /// What they are planned in.
    pub state: SessionState,
    /// Those that are being planned, the outermost first.
    pub path: Vec<TableName>,
}

/// A table as a query names it; earlier states of it are the table's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    pub schema: Option<String>,
    pub table: String,
}

/// The tables that a query names, without a look at the lake: each once, in order of names.
///
/// # Errors
/// Where the text is anything but one query.
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

impl View {
    pub fn is_view(&self, name: &TableName) -> bool {
        self.named.as_ref().is_some_and(|named| named.views.contains_key(name))
    }

    /// The query under a name, as a table. `when` is the state of the lake that it reads.
    pub fn planned<'a>(
        &'a self,
        name: &'a TableName,
        when: Option<When>,
    ) -> BoxFuture<'a, Result<Arc<dyn TableProvider>>> {
        async move {
            let Some((named, sql)) = self.named.as_ref().and_then(|named| Some((named, named.views.get(name)?))) else {
                return Err(Error::new(Kind::Bug, format!("plan view {name}: there is none")));
            };
            let context = format!("plan view {name}");
            if let Some(at) = named.path.iter().position(|outer| outer == name) {
                let round: Vec<String> = named.path[at..].iter().chain([name]).map(ToString::to_string).collect();
                let what = format!("{context}: it stands on itself: {}", round.join(" -> "));
                return Err(Error::new(Kind::FixInput, what));
            }
            if let Some(When::Version(_)) = when {
                let what = format!("{context}: a view has no versions; name an instant, \"{}@2026-01-31\"", name.table);
                return Err(Error::new(Kind::FixInput, what));
            }
            let mut within = named.clone();
            within.path.push(name.clone());
            let view = Arc::new(self.within(within, self.role.as_deref().map(author_of), when));
            let inner = async {
                let planned = planned(named.state.clone(), only_query(sql)?, &view, None).await?;
                Ok::<_, Error>(planned.plan)
            };
            let plan = inner.await.map_err(|e| Error::new(e.kind, context.clone()).because(e))?;
            let table: Arc<dyn TableProvider> = Arc::new(ViewTable::new(plan, Some(sql.clone())));
            self.for_role(table, name)
        }
        .boxed()
    }
}

/// Reads every table, as a view's author may, but of each only the rows that the role may see.
fn author_of(role: &Role) -> Arc<Role> {
    Arc::new(Role { name: role.name.clone(), tables: Vec::new(), filters: role.filters.clone(), system: true })
}
