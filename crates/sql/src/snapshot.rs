//! The lake as one query reads it: each table is opened once, at its newest version, so that two references to it read
//! the same rows. A snapshot is made for one query, and dropped once that is planned.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::utils::datafusion_strsim::levenshtein;
use datafusion::common::{Column, DFSchema, TableReference};
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, TableType, UNNAMED_TABLE};
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};
use lake::row_history::RowHistory;
use lake::{AsOf, Lake, Table, TableName};
use sqlparser::ast::ExprWithAlias;
use tokio::sync::{Mutex, OnceCell};

use crate::error::{Context, Error, Kind, Refusal, Result};
use crate::roles::Role;
use crate::row_filter::FilteredTable;
use crate::schemas::{CATALOG, DEFAULT_SCHEMA, INFORMATION_SCHEMA};
use crate::system::{self, SystemTables};
use crate::{engine, instant, statement};

/// How many tables are opened concurrently, where all of them are needed.
const OPENED_AT_ONCE: usize = 8;

/// Views that a query can name like tables.
pub trait SnapshotViews: Send + Sync {
    /// The names of all views.
    fn names(&self) -> Vec<TableName>;

    /// Whether a view has this name.
    fn has(&self, name: &TableName) -> bool;

    /// Plans a view over the tables of `snapshot`, as a table. `when` is the instant at which it reads the lake, in
    /// place of the snapshot's own.
    ///
    /// # Errors
    /// Where the view refers to itself, where `when` is a version, or where the view's query can't be planned.
    fn plan<'a>(
        &'a self,
        name: &'a TableName,
        when: Option<AsOf>,
        snapshot: &'a LakeSnapshot,
    ) -> BoxFuture<'a, Result<Arc<dyn TableProvider>>>;
}

/// The tables of the lake as one query reads them. Concurrent use is safe: each table is still opened at one version.
pub struct LakeSnapshot {
    lake: Lake,
    /// The source of the schema `system`.
    pub system: Arc<dyn SystemTables>,
    as_of: Option<AsOf>,
    /// The role whose rights and row filters apply; without one, everything may be read.
    pub role: Option<Arc<Role>>,
    listed: OnceCell<Vec<TableName>>,
    visible: OnceCell<Vec<TableName>>,
    opened: Arc<Mutex<HashMap<TableName, Option<Table>>>>,
    views: Option<Arc<dyn SnapshotViews>>,
    /// Tables that are empty where the lake does not have them yet, by their columns.
    declared: Arc<DeclaredTables>,
    /// The tables that were read, where that is recorded.
    read: Option<Arc<Mutex<Vec<TableRead>>>>,
}

/// A table of the lake that a query reads.
#[derive(Clone)]
pub struct TableRead {
    /// What the plan scans.
    pub provider: Arc<dyn TableProvider>,
    /// The table, at the version that is read.
    pub table: Table,
    /// Read at its newest version, and not at a given version or instant.
    pub is_newest: bool,
}

/// The columns of tables by their names.
pub type DeclaredTables = BTreeMap<TableName, SchemaRef>;

enum Relation {
    Table(Table),
    Empty(TableName, SchemaRef),
    View(TableName),
}

impl fmt::Debug for LakeSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LakeSnapshot")
            .field("lake", &self.lake.url().as_str())
            .field("as_of", &self.as_of)
            .finish_non_exhaustive()
    }
}

impl LakeSnapshot {
    /// A snapshot without views. Tables are read at `as_of`, unless a query says `AS OF`; see [`LakeSnapshot::table`].
    pub fn new(lake: Lake, system: Arc<dyn SystemTables>, as_of: Option<AsOf>, role: Option<Arc<Role>>) -> Self {
        let (listed, visible) = (OnceCell::new(), OnceCell::new());
        let declared = Arc::default();
        let opened = Arc::default();
        LakeSnapshot { lake, system, as_of, role, listed, visible, opened, views: None, declared, read: None }
    }

    /// Sets the views that a query can name like tables.
    pub fn with_views(mut self, views: Option<Arc<dyn SnapshotViews>>) -> Self {
        self.views = views;
        self
    }

    /// Sets tables that are empty where the lake does not have them yet.
    pub fn with_declared(mut self, declared: Arc<DeclaredTables>) -> Self {
        self.declared = declared;
        self
    }

    /// A snapshot for the query of a view, with the same tables at the same versions. `role` takes the place of this
    /// snapshot's role, and `when`, if given, of its instant.
    pub fn within(&self, views: Arc<dyn SnapshotViews>, role: Option<Arc<Role>>, when: Option<AsOf>) -> LakeSnapshot {
        LakeSnapshot {
            opened: Arc::clone(&self.opened),
            read: self.read.clone(),
            declared: Arc::clone(&self.declared),
            ..LakeSnapshot::new(self.lake.clone(), Arc::clone(&self.system), when.or(self.as_of), role)
        }
        .with_views(Some(views))
    }

    /// Records the tables that are read from now on.
    pub fn recording_reads(mut self) -> Self {
        self.read = Some(Arc::default());
        self
    }

    /// The tables that have been read, since [`LakeSnapshot::recording_reads`]. A table may be among them twice.
    pub async fn reads(&self) -> Vec<TableRead> {
        match &self.read {
            Some(read) => read.lock().await.clone(),
            None => Vec::new(),
        }
    }

    async fn listed(&self) -> Result<&[TableName]> {
        let names = self.listed.get_or_try_init(|| async {
            let mut names = self.lake.tables().await.context("list the lake's tables")?;
            names.extend(self.views.iter().flat_map(|views| views.names()));
            names.sort();
            names.dedup();
            Ok::<_, Error>(names)
        });
        Ok(names.await?)
    }

    /// The names of all tables and views that the role may read, sorted.
    ///
    /// # Errors
    /// Where the lake can't be listed.
    pub async fn names(&self) -> Result<&[TableName]> {
        let Some(role) = &self.role else { return self.listed().await };
        let visible = self.visible.get_or_try_init(|| async {
            let listed = self.listed().await?;
            Ok::<_, Error>(listed.iter().filter(|name| role.may_read(name)).cloned().collect())
        });
        Ok(visible.await?)
    }

    /// Whether a view has this name.
    pub fn is_view(&self, name: &TableName) -> bool {
        self.views.as_ref().is_some_and(|views| views.has(name))
    }

    async fn plan_view(&self, name: &TableName, when: Option<AsOf>) -> Result<Arc<dyn TableProvider>> {
        match &self.views {
            Some(views) => views.plan(name, when, self).await,
            None => Err(Error::new(Kind::Bug, format!("plan view {name}: there is none"))),
        }
    }

    /// Whether the role may read `system.*`.
    pub fn sees_system(&self) -> bool {
        self.role.as_ref().is_none_or(|role| role.system)
    }

    /// The table at its newest version, which is the same for the whole query; `None` where there is no such table. The
    /// role's rights and row filters are not applied.
    ///
    /// # Errors
    /// Where the table can't be opened.
    pub async fn newest(&self, name: &TableName) -> Result<Option<Table>> {
        if let Some(known) = self.opened.lock().await.get(name) {
            return Ok(known.clone());
        }
        // The table is opened without the lock, so that tables are opened concurrently; the first result is kept.
        let table = self.lake.table(name).await.context(&format!("open {name}"))?;
        Ok(self.opened.lock().await.entry(name.clone()).or_insert(table).clone())
    }

    /// All tables that the role may read, at their newest versions.
    ///
    /// # Errors
    /// Where the lake can't be listed, or a table can't be opened.
    pub async fn all(&self) -> Result<Vec<Table>> {
        let names = self.names().await?;
        let opening: Vec<_> = names.iter().map(|name| self.newest(name)).collect();
        let tables = stream::iter(opening).buffered(OPENED_AT_ONCE);
        tables.try_filter_map(|table| async move { Ok(table) }).try_collect().await
    }

    /// The table or view in the state that the session reads, with the role's row filter; `None` where there is none.
    /// The role's right to read it is not checked.
    ///
    /// # Errors
    /// Where the table can't be opened, or has no version at the session's instant.
    pub async fn table(&self, name: &TableName) -> Result<Option<Arc<dyn TableProvider>>> {
        if self.is_view(name) {
            return self.plan_view(name, None).await.map(Some);
        }
        match self.newest(name).await? {
            Some(table) => self.provider(table, None).await.map(Some),
            None => match self.declared.get(name) {
                Some(schema) => self.empty(name, schema).map(Some),
                None => Ok(None),
            },
        }
    }

    /// A declared table that the lake does not have yet.
    fn empty(&self, name: &TableName, schema: &SchemaRef) -> Result<Arc<dyn TableProvider>> {
        self.for_role(Arc::new(EmptyTable::new(Arc::clone(schema))), name)
    }

    async fn provider(&self, table: Table, when: Option<AsOf>) -> Result<Arc<dyn TableProvider>> {
        let context = format!("read {}", table.name());
        if let Some(AsOf::Instant(at)) = when.or(self.as_of)
            && let Some(span) = table.history_span(at).context(&context)?
        {
            // By the snapshot: two references to the table read the same entries.
            let name = table.name().history();
            let Some(entries) = self.newest(&name).await? else {
                return Err(Error::new(Kind::FixInput, format!("{context}: its history {name} does not exist")));
            };
            let history = RowHistory { table: entries, span };
            let provider = history.rows_at(&table, at).await.context(&context)?;
            if let Some(read) = &self.read {
                let (provider, table) = (Arc::clone(&provider), history.table);
                read.lock().await.push(TableRead { provider, table, is_newest: false });
            }
            return self.for_role(provider, table.name());
        }
        let is_newest = when.or(self.as_of).is_none();
        let table = match when.or(self.as_of) {
            Some(AsOf::Version(version)) if version > table.version() => {
                let context = format!("{context} at version {version}: its newest version is {}", table.version());
                return Err(Error::new(Kind::FixInput, context));
            }
            Some(when) => table.at(when).await.context(&context)?,
            None => table,
        };
        let provider = table.provider().await.context(&context)?;
        let name = table.name().clone();
        if let Some(read) = &self.read {
            read.lock().await.push(TableRead { provider: Arc::clone(&provider), table, is_newest });
        }
        self.for_role(provider, &name)
    }

    /// The table with the row filter that the role has for it. All tables pass here before a query reads them.
    ///
    /// # Errors
    /// Where the filter is no condition on the table's columns.
    pub fn for_role(&self, table: Arc<dyn TableProvider>, name: &TableName) -> Result<Arc<dyn TableProvider>> {
        let schema = (table.table_type() != TableType::View).then(|| table.schema());
        match self.role.as_ref().and_then(|role| role.row_filter(name, schema.as_deref())) {
            Some(filter) => with_row_filter(table, filter).context(&format!("filter the rows of {name}")),
            None => Ok(table),
        }
    }

    async fn open(&self, relation: Relation, when: Option<AsOf>) -> Result<Arc<dyn TableProvider>> {
        match relation {
            Relation::Table(table) => self.provider(table, when).await,
            Relation::Empty(name, schema) => self.empty(&name, &schema),
            Relation::View(name) => self.plan_view(&name, when).await,
        }
    }

    /// The table or view that a query names, `name@state` included; `None` where the lake has none, or the name is of
    /// `information_schema`.
    ///
    /// # Errors
    /// Where the role may not read it, the name is ambiguous, or the table can't be read in the given state.
    pub async fn find(&self, reference: &TableReference) -> Result<Option<Arc<dyn TableProvider>>> {
        if reference.catalog().is_some_and(|catalog| catalog != CATALOG) {
            return Err(Error::new(Kind::FixInput, format!("find {reference}: the only catalog is {CATALOG}")));
        }
        let (schema, table) = (reference.schema(), reference.table());
        match schema {
            Some(INFORMATION_SCHEMA) => return Ok(None),
            Some(system::SCHEMA) => match &self.role {
                Some(role) if !role.system => return Err(role.denied_error(reference)),
                _ => return system::table(table, self.all(), &self.system).await.map(Some),
            },
            _ => {}
        }
        if let Some(relation) = self.pick(schema, table).await? {
            return self.open(relation, None).await.map(Some);
        }
        if let Some((base, state)) = table.rsplit_once('@')
            && let Some(relation) = self.pick(schema, base).await?
        {
            let when = instant::parse_as_of(state).ok_or_else(|| {
                let context = format!("find {reference}: \"{state}\" is neither a version (v3) nor an instant");
                Error::new(Kind::FixInput, context)
            })?;
            return self.open(relation, Some(when)).await.map(Some);
        }
        Ok(None)
    }

    async fn pick(&self, schema: Option<&str>, table: &str) -> Result<Option<Relation>> {
        if let Some(schema) = schema {
            let name = TableName::new(schema, table);
            return match (self.known(&name).await?, &self.role) {
                (Some(_), Some(role)) if !role.may_read(&name) => Err(role.denied_error(&name)),
                (found, _) => Ok(found),
            };
        }
        let same: Vec<_> = self.names().await?.iter().filter(|name| name.table == table).collect();
        match same.iter().find(|name| name.schema == DEFAULT_SCHEMA) {
            Some(default) => self.known(default).await,
            None => match same[..] {
                [] => match &self.role {
                    Some(role) if self.listed().await?.iter().any(|name| name.table == table) => {
                        Err(role.denied_error(table))
                    }
                    _ => Ok(None),
                },
                [only] => self.known(only).await,
                _ => {
                    let context = format!("find {table}: several tables have this name: {}", listed(&same));
                    Err(Error::new(Kind::FixInput, context))
                }
            },
        }
    }

    async fn known(&self, name: &TableName) -> Result<Option<Relation>> {
        if self.is_view(name) {
            return Ok(Some(Relation::View(name.clone())));
        }
        let table = self.newest(name).await?.map(Relation::Table);
        Ok(table.or_else(|| Some(Relation::Empty(name.clone(), Arc::clone(self.declared.get(name)?)))))
    }

    /// The error for a name of no table, with the nearest names as a hint.
    ///
    /// # Errors
    /// Where the lake can't be listed.
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
            (true, false) => "no table has a similar name".to_owned(),
            (true, true) => "the lake has no tables yet".to_owned(),
        };
        let what = reference.to_string();
        Ok(Error::new(Kind::FixInput, format!("find table {reference}: {hint}"))
            .because(Refusal::Unknown { what, hint }))
    }
}

/// The rows of `table` that meet `filter`, a SQL condition on the table's columns without subqueries.
///
/// # Errors
/// Where `filter` can't be parsed or planned, has a subquery, or is not boolean.
pub fn with_row_filter(table: Arc<dyn TableProvider>, filter: &str) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    let state = engine::bare_state();
    let schema = DFSchema::try_from(table.schema())?;
    let unread = |error: Error| {
        let why = std::error::Error::source(&error).map_or_else(String::new, |source| format!(": {source}"));
        DataFusionError::Plan(format!("{error}{why}"))
    };
    let expr = statement::condition(filter).map_err(unread)?;
    let predicate = state.create_logical_expr_from_sql_expr(ExprWithAlias { expr, alias: None }, &schema)?;
    if predicate.exists(|expr| Ok(matches!(expr, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_))))? {
        return Err(DataFusionError::Plan("a row filter can't have a subquery".to_owned()));
    }
    let rows = LogicalPlanBuilder::scan(UNNAMED_TABLE, provider_as_source(Arc::clone(&table)), None)?;
    let plan = rows.filter(predicate)?.build()?;
    let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})?;
    let LogicalPlan::Filter(analyzed) = plan else {
        return Err(DataFusionError::Plan("a row filter must be a condition on a row".to_owned()));
    };
    let unqualified = |expr| match expr {
        Expr::Column(column) => Ok(Transformed::yes(Expr::Column(Column::from_name(column.name)))),
        other => Ok(Transformed::no(other)),
    };
    let predicate = analyzed.predicate.transform(unqualified)?.data;
    match predicate.get_type(&schema)? {
        DataType::Boolean => Ok(Arc::new(FilteredTable::new(table, predicate))),
        other => Err(DataFusionError::Plan(format!("a row filter must be boolean; this one is {other}"))),
    }
}

/// Names as a query must write them, separated by commas.
fn listed(names: &[&TableName]) -> String {
    let quote = |name: &str| {
        let plain = name.chars().all(|c| c.is_lowercase() || c.is_ascii_digit() || c == '_')
            && !name.starts_with(|c: char| c.is_ascii_digit());
        if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
    };
    let written = names.iter().map(|name| format!("{}.{}", quote(&name.schema), quote(&name.table)));
    written.collect::<Vec<_>>().join(", ")
}
