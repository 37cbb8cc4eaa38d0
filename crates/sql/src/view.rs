//! What one query sees of the lake: each table is opened once, at its newest version, so that two
//! references to it agree. A view lives as long as its query is planned, never longer.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::utils::datafusion_strsim::levenshtein;
use datafusion::common::{Column, DFSchema, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, UNNAMED_TABLE};
use futures::{StreamExt, TryStreamExt, stream};
use lake::{Lake, Table, TableName, When};
use sqlparser::ast::ExprWithAlias;
use tokio::sync::{Mutex, OnceCell};

use crate::error::{Context, Error, Kind, Refusal, Result};
use crate::filtered::Filtered;
use crate::instant;
use crate::marts::Named;
use crate::roles::Role;
use crate::statement;
use crate::system::{self, SystemTables};

pub const CATALOG: &str = "wattlake";
/// Searched first for names without a schema.
pub const DEFAULT_SCHEMA: &str = "public";
pub const INFORMATION_SCHEMA: &str = "information_schema";
/// Tables opened at a time, where all of them are asked for.
const OPENED_AT_ONCE: usize = 8;

pub struct View {
    lake: Lake,
    pub system: Arc<dyn SystemTables>,
    as_of: Option<When>,
    /// Whose eyes it is seen with; without one, everything is.
    pub role: Option<Arc<Role>>,
    listed: OnceCell<Vec<TableName>>,
    visible: OnceCell<Vec<TableName>>,
    opened: Arc<Mutex<HashMap<TableName, Option<Table>>>>,
    pub named: Option<Named>,
    /// What was read, where somebody wants to know.
    read: Option<Arc<Mutex<Vec<Read>>>>,
}

/// A table of the lake as a query reads it.
#[derive(Clone)]
pub struct Read {
    pub provider: Arc<dyn TableProvider>,
    pub table: Table,
    /// Another query may read a newer version.
    pub is_newest: bool,
}

enum Found {
    Table(Table),
    View(TableName),
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("lake", &self.lake.url().as_str())
            .field("as_of", &self.as_of)
            .finish_non_exhaustive()
    }
}

impl View {
    pub fn new(lake: Lake, system: Arc<dyn SystemTables>, as_of: Option<When>, role: Option<Arc<Role>>) -> Self {
        let (listed, visible) = (OnceCell::new(), OnceCell::new());
        View { lake, system, as_of, role, listed, visible, opened: Arc::default(), named: None, read: None }
    }

    /// With queries under names.
    pub fn with_named(mut self, named: Option<Named>) -> Self {
        self.named = named;
        self
    }

    /// The same tables at the same versions, for a query inside of a query.
    pub fn within(&self, named: Named, role: Option<Arc<Role>>, when: Option<When>) -> View {
        View {
            opened: Arc::clone(&self.opened),
            read: self.read.clone(),
            ..View::new(self.lake.clone(), Arc::clone(&self.system), when.or(self.as_of), role)
        }
        .with_named(Some(named))
    }

    /// Keeps note of all that is read.
    pub fn noting(mut self) -> Self {
        self.read = Some(Arc::default());
        self
    }

    /// The tables that were read so far.
    pub async fn noted(&self) -> Vec<Read> {
        match &self.read {
            Some(read) => read.lock().await.clone(),
            None => Vec::new(),
        }
    }

    async fn listed(&self) -> Result<&[TableName]> {
        let names = self.listed.get_or_try_init(|| async {
            let mut names = self.lake.tables().await.context("list the lake's tables")?;
            names.extend(self.named.iter().flat_map(|named| named.views.keys().cloned()));
            names.sort();
            names.dedup();
            Ok::<_, Error>(names)
        });
        Ok(names.await?)
    }

    /// All tables and views that may be read, by name.
    pub async fn names(&self) -> Result<&[TableName]> {
        let Some(role) = &self.role else { return self.listed().await };
        let visible = self.visible.get_or_try_init(|| async {
            let listed = self.listed().await?;
            Ok::<_, Error>(listed.iter().filter(|name| role.reads(name)).cloned().collect())
        });
        Ok(visible.await?)
    }

    pub fn sees_system(&self) -> bool {
        self.role.as_ref().is_none_or(|role| role.system)
    }

    /// The table at its newest version, the same for the whole query.
    pub async fn newest(&self, name: &TableName) -> Result<Option<Table>> {
        if let Some(known) = self.opened.lock().await.get(name) {
            return Ok(known.clone());
        }
        // Opened outside the lock, so that tables open side by side; the first to arrive counts.
        let table = self.lake.table(name).await.context(&format!("open {name}"))?;
        Ok(self.opened.lock().await.entry(name.clone()).or_insert(table).clone())
    }

    /// All tables at their newest versions.
    pub async fn all(&self) -> Result<Vec<Table>> {
        let names = self.names().await?;
        let opening: Vec<_> = names.iter().map(|name| self.newest(name)).collect();
        let tables = stream::iter(opening).buffered(OPENED_AT_ONCE);
        tables.try_filter_map(|table| async move { Ok(table) }).try_collect().await
    }

    /// The table in the state that the session reads.
    pub async fn table(&self, name: &TableName) -> Result<Option<Arc<dyn TableProvider>>> {
        if self.is_view(name) {
            return self.planned(name, None).await.map(Some);
        }
        match self.newest(name).await? {
            Some(table) => self.provider(table, None).await.map(Some),
            None => Ok(None),
        }
    }

    async fn provider(&self, table: Table, when: Option<When>) -> Result<Arc<dyn TableProvider>> {
        let context = format!("read {}", table.name());
        let is_newest = when.or(self.as_of).is_none();
        let table = match when.or(self.as_of) {
            Some(When::Version(version)) if version > table.version() => {
                let context = format!("{context} at version {version}: its newest version is {}", table.version());
                return Err(Error::new(Kind::FixInput, context));
            }
            Some(when) => table.at(when).await.context(&context)?,
            None => table,
        };
        let provider = table.provider().await.context(&context)?;
        let name = table.name().clone();
        if let Some(read) = &self.read {
            read.lock().await.push(Read { provider: Arc::clone(&provider), table, is_newest });
        }
        self.for_role(provider, &name)
    }

    /// The one place where rows are hidden from a role.
    pub fn for_role(&self, table: Arc<dyn TableProvider>, name: &TableName) -> Result<Arc<dyn TableProvider>> {
        match self.role.as_ref().and_then(|role| role.filter(name)) {
            Some(filter) => filtered(table, filter).context(&format!("filter the rows of {name}")),
            None => Ok(table),
        }
    }

    async fn found(&self, found: Found, when: Option<When>) -> Result<Arc<dyn TableProvider>> {
        match found {
            Found::Table(table) => self.provider(table, when).await,
            Found::View(name) => self.planned(&name, when).await,
        }
    }

    /// What a query's reference stands for; `None` where it is not the lake's to answer.
    pub async fn find(&self, reference: &TableReference) -> Result<Option<Arc<dyn TableProvider>>> {
        if reference.catalog().is_some_and(|catalog| catalog != CATALOG) {
            return Err(Error::new(Kind::FixInput, format!("find {reference}: the only catalog is {CATALOG}")));
        }
        let (schema, table) = (reference.schema(), reference.table());
        match schema {
            Some(INFORMATION_SCHEMA) => return Ok(None),
            Some(system::SCHEMA) => match &self.role {
                Some(role) if !role.system => return Err(role.denied(reference)),
                _ => return system::table(self, table).await.map(Some),
            },
            _ => {}
        }
        if let Some(found) = self.pick(schema, table).await? {
            return self.found(found, None).await.map(Some);
        }
        if let Some((base, state)) = table.rsplit_once('@')
            && let Some(found) = self.pick(schema, base).await?
        {
            let when = instant::state(state).ok_or_else(|| {
                let context = format!("find {reference}: \"{state}\" is neither a version (v3) nor an instant");
                Error::new(Kind::FixInput, context)
            })?;
            return self.found(found, Some(when)).await.map(Some);
        }
        Ok(None)
    }

    async fn pick(&self, schema: Option<&str>, table: &str) -> Result<Option<Found>> {
        if let Some(schema) = schema {
            let name = TableName::new(schema, table);
            return match (self.known(&name).await?, &self.role) {
                (Some(_), Some(role)) if !role.reads(&name) => Err(role.denied(&name)),
                (found, _) => Ok(found),
            };
        }
        let same: Vec<_> = self.names().await?.iter().filter(|name| name.table == table).collect();
        match same.iter().find(|name| name.schema == DEFAULT_SCHEMA) {
            Some(default) => self.known(default).await,
            None => match same[..] {
                [] => match &self.role {
                    Some(role) if self.listed().await?.iter().any(|name| name.table == table) => {
                        Err(role.denied(table))
                    }
                    _ => Ok(None),
                },
                [only] => self.known(only).await,
                _ => Err(Error::new(Kind::FixInput, format!("find {table}: it may be {}", listed(&same)))),
            },
        }
    }

    async fn known(&self, name: &TableName) -> Result<Option<Found>> {
        if self.is_view(name) {
            return Ok(Some(Found::View(name.clone())));
        }
        Ok(self.newest(name).await?.map(Found::Table))
    }

    /// The error for a name that nothing answers to.
    pub async fn unknown(&self, reference: &TableReference) -> Result<Error> {
        let names = self.names().await?;
        let asked = reference.table().rsplit_once('@').map_or(reference.table(), |(base, _)| base).to_lowercase();
        let limit = (asked.chars().count() / 3).max(2);
        let mut near: Vec<_> = names
            .iter()
            .map(|name| (levenshtein(&asked, &name.table.to_lowercase()), name))
            .filter(|(distance, _)| *distance <= limit)
            .collect();
        near.sort();
        let near: Vec<_> = near.into_iter().take(3).map(|(_, name)| name).collect();
        let hint = match (near.is_empty(), names.is_empty()) {
            (false, _) => format!("the nearest are {}", listed(&near)),
            (true, false) => "no table has a name like it".to_owned(),
            (true, true) => "the lake has no tables yet".to_owned(),
        };
        let what = reference.to_string();
        Ok(Error::new(Kind::FixInput, format!("find table {reference}: {hint}"))
            .because(Refusal::Unknown { what, hint }))
    }
}

/// The predicate in the words of the table's columns, read as a query's condition is; subqueries have no place in it.
pub fn filtered(table: Arc<dyn TableProvider>, filter: &str) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    let state = crate::session::bare_state();
    let schema = DFSchema::try_from(table.schema())?;
    let unread = |error: Error| {
        let why = std::error::Error::source(&error).map_or_else(String::new, |source| format!(": {source}"));
        DataFusionError::Plan(format!("{error}{why}"))
    };
    let expr = statement::condition(filter).map_err(unread)?;
    let predicate = state.create_logical_expr_from_sql_expr(ExprWithAlias { expr, alias: None }, &schema)?;
    if predicate.exists(|expr| Ok(matches!(expr, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_))))? {
        return Err(DataFusionError::Plan("a filter can't hold a subquery".to_owned()));
    }
    let rows = LogicalPlanBuilder::scan(UNNAMED_TABLE, provider_as_source(Arc::clone(&table)), None)?;
    let plan = rows.filter(predicate)?.build()?;
    let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})?;
    let LogicalPlan::Filter(analyzed) = plan else {
        return Err(DataFusionError::Plan("a filter is a condition on a row".to_owned()));
    };
    let unqualified = |expr| match expr {
        Expr::Column(column) => Ok(Transformed::yes(Expr::Column(Column::from_name(column.name)))),
        other => Ok(Transformed::no(other)),
    };
    let predicate = analyzed.predicate.transform(unqualified)?.data;
    match predicate.get_type(&schema)? {
        DataType::Boolean => Ok(Arc::new(Filtered::new(table, predicate))),
        other => Err(DataFusionError::Plan(format!("a filter is true or false for a row, this one is {other}"))),
    }
}

/// Names as a query would have to write them.
fn listed(names: &[&TableName]) -> String {
    let quote = |name: &str| {
        let plain = name.chars().all(|c| c.is_lowercase() || c.is_ascii_digit() || c == '_')
            && !name.starts_with(|c: char| c.is_ascii_digit());
        if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
    };
    let written = names.iter().map(|name| format!("{}.{}", quote(&name.schema), quote(&name.table)));
    written.collect::<Vec<_>>().join(", ")
}
