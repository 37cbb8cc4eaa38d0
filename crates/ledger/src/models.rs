//! Models, endpoint configurations and endpoints, as AWS SageMaker has them. Their content is JSON; the ledger does not
//! interpret it.
//!
//! An endpoint has the configuration that it serves, and, while it is created or updated, one that it is to serve. The
//! process that serves endpoints compares both with what it runs, and records the result.

use chrono::{DateTime, Utc};
use rusqlite::{Row, Transaction};
use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Kind};
use crate::rows::json;
use crate::{Ledger, Result, instant};

/// A model, or an endpoint configuration: a name and what it stands for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NamedContent {
    /// Unique among its kind.
    pub name: String,
    /// What was created, as JSON.
    pub content: Value,
    /// When it was created.
    #[serde(serialize_with = "instant::serialize")]
    pub created_at: DateTime<Utc>,
}

/// What a [`NamedContent`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentKind {
    /// A model.
    Model,
    /// An endpoint configuration.
    EndpointConfig,
}

/// The state of an endpoint, by SageMaker's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum EndpointState {
    /// It is started for the first time.
    Creating,
    /// It answers by one configuration, and another is started.
    Updating,
    /// It answers.
    InService,
    /// It could not be created.
    Failed,
    /// It is stopped, and then removed.
    Deleting,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EndpointRow {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: EndpointState,
    /// The configuration that it serves; while it is created, the one that it is to serve.
    pub config: String,
    /// The configuration that replaces it, during an update.
    pub pending_config: Option<String>,
    /// The weights of its variants, where they differ from the configuration's, as JSON.
    pub weights: Value,
    /// Why it could not be created, or why its last update was undone.
    pub failure: Option<String>,
    /// Increases with each change.
    pub revision: i64,
    /// When it was created.
    #[serde(serialize_with = "instant::serialize")]
    pub created_at: DateTime<Utc>,
    /// When it was changed last.
    #[serde(serialize_with = "instant::serialize")]
    pub updated_at: DateTime<Utc>,
}

/// How a change of an endpoint ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointEnd {
    /// It serves the configuration that it was to serve.
    InService,
    /// It could not: a new endpoint has failed, an updated one serves what it served before.
    Failed(String),
    /// It was stopped.
    Deleted,
}

const ENDPOINT_COLUMNS: &str =
    "name, state, config, pending_config, weights, failure, revision, created_at, updated_at";

impl ContentKind {
    fn table(self) -> &'static str {
        match self {
            ContentKind::Model => "models",
            ContentKind::EndpointConfig => "endpoint_configs",
        }
    }

    fn noun(self) -> &'static str {
        match self {
            ContentKind::Model => "model",
            ContentKind::EndpointConfig => "endpoint configuration",
        }
    }
}

impl EndpointState {
    const ALL: [EndpointState; 5] = [
        EndpointState::Creating,
        EndpointState::Updating,
        EndpointState::InService,
        EndpointState::Failed,
        EndpointState::Deleting,
    ];

    /// SageMaker's name.
    pub fn name(self) -> &'static str {
        match self {
            EndpointState::Creating => "Creating",
            EndpointState::Updating => "Updating",
            EndpointState::InService => "InService",
            EndpointState::Failed => "Failed",
            EndpointState::Deleting => "Deleting",
        }
    }

    /// Whether a process still has to do something.
    pub fn is_pending(self) -> bool {
        matches!(self, EndpointState::Creating | EndpointState::Updating | EndpointState::Deleting)
    }
}

impl Ledger {
    /// Creates a model or an endpoint configuration. False where there is one of that name.
    pub fn create_content(&self, kind: ContentKind, name: &str, content: &Value) -> Result<bool> {
        self.write(&format!("create {} {name}", kind.noun()), |tx| {
            let sql = format!(
                "insert into {} (name, content, created_at) values (?, ?, ?) on conflict (name) do nothing",
                kind.table()
            );
            Ok(tx.execute(&sql, (name, content.to_string(), instant::to_text(instant::now())))? == 1)
        })
    }

    /// Looks up a model or an endpoint configuration.
    pub fn content(&self, kind: ContentKind, name: &str) -> Result<Option<NamedContent>> {
        let sql = format!("select name, content, created_at from {} where name = ?", kind.table());
        Ok(self.list(&format!("look up {}", kind.noun()), &sql, [name], read_content)?.into_iter().next())
    }

    /// Lists the models or the endpoint configurations, by name.
    pub fn contents(&self, kind: ContentKind) -> Result<Vec<NamedContent>> {
        let sql = format!("select name, content, created_at from {} order by name", kind.table());
        self.list(&format!("list {}s", kind.noun()), &sql, [], read_content)
    }

    /// Deletes a model or an endpoint configuration. False where there is none of that name. Endpoints keep what they have
    /// started.
    pub fn delete_content(&self, kind: ContentKind, name: &str) -> Result<bool> {
        self.write(&format!("delete {} {name}", kind.noun()), |tx| {
            Ok(tx.execute(&format!("delete from {} where name = ?", kind.table()), [name])? == 1)
        })
    }

    /// Creates an endpoint. False where there is one of that name.
    pub fn create_endpoint(&self, name: &str, config: &str) -> Result<bool> {
        self.write(&format!("create endpoint {name}"), |tx| {
            let now = instant::to_text(instant::now());
            let revision = next_revision(tx)?;
            let sql = "insert into endpoints (name, state, config, weights, revision, created_at, updated_at)
                       values (?1, 'Creating', ?2, '{}', ?3, ?4, ?4) on conflict (name) do nothing";
            Ok(tx.execute(sql, (name, config, revision, now))? == 1)
        })
    }

    /// Begins an update of an endpoint that is in service or has failed. False where it is in another state, or does not
    /// exist.
    pub fn update_endpoint(&self, name: &str, config: &str) -> Result<bool> {
        self.write(&format!("update endpoint {name}"), |tx| {
            let revision = next_revision(tx)?;
            // One that has failed serves nothing, so that it is created again.
            let sql = "update endpoints set
                           config = iif(state = 'Failed', ?2, config),
                           pending_config = iif(state = 'Failed', null, ?2),
                           state = iif(state = 'Failed', 'Creating', 'Updating'),
                           failure = null, revision = ?3, updated_at = ?4
                       where name = ?1 and state in ('InService', 'Failed')";
            Ok(tx.execute(sql, (name, config, revision, instant::to_text(instant::now())))? == 1)
        })
    }

    /// Sets the weights of an endpoint's variants. False where it is not in service.
    pub fn set_endpoint_weights(&self, name: &str, weights: &Value) -> Result<bool> {
        self.write(&format!("set the weights of endpoint {name}"), |tx| {
            let revision = next_revision(tx)?;
            let sql = "update endpoints set weights = ?2, revision = ?3, updated_at = ?4
                       where name = ?1 and state = 'InService'";
            let now = instant::to_text(instant::now());
            Ok(tx.execute(sql, (name, weights.to_string(), revision, now))? == 1)
        })
    }

    /// Begins the deletion of an endpoint. False where there is none of that name.
    pub fn delete_endpoint(&self, name: &str) -> Result<bool> {
        self.write(&format!("delete endpoint {name}"), |tx| {
            let revision = next_revision(tx)?;
            let sql = "update endpoints set state = 'Deleting', pending_config = null, revision = ?2, updated_at = ?3
                       where name = ?1";
            Ok(tx.execute(sql, (name, revision, instant::to_text(instant::now())))? == 1)
        })
    }

    /// Records how a change of an endpoint ended. Nothing happens where the endpoint was changed again meanwhile: its
    /// revision is another then.
    pub fn end_endpoint_change(&self, row: &EndpointRow, end: &EndpointEnd) -> Result<bool> {
        self.write(&format!("record the state of endpoint {}", row.name), |tx| {
            let revision = next_revision(tx)?;
            let now = instant::to_text(instant::now());
            let same = "name = ?1 and revision = ?2";
            let changed = match end {
                EndpointEnd::Deleted => {
                    tx.execute(&format!("delete from endpoints where {same}"), (&row.name, row.revision))?
                }
                EndpointEnd::InService => {
                    let sql = format!(
                        "update endpoints set state = 'InService', config = coalesce(pending_config, config),
                             weights = iif(pending_config is null, weights, '{{}}'), pending_config = null,
                             failure = null, revision = ?3, updated_at = ?4 where {same}"
                    );
                    tx.execute(&sql, (&row.name, row.revision, revision, now))?
                }
                EndpointEnd::Failed(why) => {
                    let sql = format!(
                        "update endpoints set state = iif(state = 'Updating', 'InService', 'Failed'),
                             pending_config = null, failure = ?5, revision = ?3, updated_at = ?4 where {same}"
                    );
                    tx.execute(&sql, (&row.name, row.revision, revision, now, why))?
                }
            };
            Ok(changed == 1)
        })
    }

    /// Looks up an endpoint.
    pub fn endpoint(&self, name: &str) -> Result<Option<EndpointRow>> {
        let sql = format!("select {ENDPOINT_COLUMNS} from endpoints where name = ?");
        Ok(self.list("look up an endpoint", &sql, [name], EndpointRow::read)?.into_iter().next())
    }

    /// Lists the endpoints by name.
    pub fn endpoints(&self) -> Result<Vec<EndpointRow>> {
        let sql = format!("select {ENDPOINT_COLUMNS} from endpoints order by name");
        self.list("list endpoints", &sql, [], EndpointRow::read)
    }

    /// A number that increases with each change of an endpoint.
    pub fn endpoints_revision(&self) -> Result<i64> {
        let reader = self.lock_reader();
        let read = reader
            .prepare_cached("select revision from endpoint_changes")
            .and_then(|mut found| found.query_row([], |row| row.get(0)));
        read.map_err(|error| Error::new(Kind::Retry, "look for changes of endpoints").because(error))
    }
}

/// The next number of all changes of endpoints.
fn next_revision(tx: &Transaction<'_>) -> rusqlite::Result<i64> {
    tx.query_row("update endpoint_changes set revision = revision + 1 returning revision", [], |row| row.get(0))
}

fn read_content(row: &Row<'_>) -> rusqlite::Result<NamedContent> {
    Ok(NamedContent {
        name: row.get(0)?,
        content: json(row, 1)?,
        created_at: instant::from_text(2, &row.get::<_, String>(2)?)?,
    })
}

impl EndpointRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let state: String = row.get(1)?;
        let state = EndpointState::ALL.into_iter().find(|known| known.name() == state);
        Ok(EndpointRow {
            name: row.get(0)?,
            // The table has a check of its states.
            state: state.unwrap_or(EndpointState::Failed),
            config: row.get(2)?,
            pending_config: row.get(3)?,
            weights: json(row, 4)?,
            failure: row.get(5)?,
            revision: row.get(6)?,
            created_at: instant::from_text(7, &row.get::<_, String>(7)?)?,
            updated_at: instant::from_text(8, &row.get::<_, String>(8)?)?,
        })
    }
}
