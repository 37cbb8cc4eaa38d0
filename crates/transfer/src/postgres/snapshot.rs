//! A snapshot that is exported once and joined by every stream, so that all tables are read at one moment.

use tokio_postgres::Client;

use super::Endpoint;
use crate::error::{Context, Result};

/// An exported snapshot. Other sessions can join it while this value exists.
pub struct Snapshot {
    client: Client,
    /// The name for `SET TRANSACTION SNAPSHOT`.
    pub name: String,
    /// The oldest transaction that was still running: rows of it and of later ones may be missing.
    pub xmin: i64,
    /// The server's clock when the snapshot was taken, in microseconds since 1970.
    pub at_micros: i64,
}

impl Snapshot {
    /// Exports a snapshot on a connection of its own.
    pub async fn export(endpoint: &Endpoint) -> Result<Snapshot> {
        let client = endpoint.connect().await?;
        client
            .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .await
            .context("open the snapshot's transaction")?;
        let row = client.query_one(EXPORT, &[]).await.context("export a snapshot")?;
        Ok(Snapshot { name: row.get(0), xmin: row.get(1), at_micros: row.get(2), client })
    }

    /// The snapshot with this name, which another session has exported. It stays after that session has ended.
    pub async fn import(endpoint: &Endpoint, name: &str) -> Result<Snapshot> {
        let client = endpoint.connect().await?;
        let join = join(name);
        client.batch_execute(&join).await.context("join the snapshot of the slot")?;
        let row = client.query_one(EXPORT, &[]).await.context("export a snapshot")?;
        Ok(Snapshot { name: row.get(0), xmin: row.get(1), at_micros: row.get(2), client })
    }

    /// Sets a savepoint that [`Snapshot::rollback_to_savepoint`] returns to, also after an error.
    pub async fn set_savepoint(&self) -> Result<()> {
        self.client.batch_execute("SAVEPOINT table_of_validation").await.context("keep the snapshot")
    }

    /// Returns to the savepoint and removes it, so that the snapshot stays usable.
    pub async fn rollback_to_savepoint(&self) -> Result<()> {
        let back = "ROLLBACK TO SAVEPOINT table_of_validation; RELEASE SAVEPOINT table_of_validation";
        self.client.batch_execute(back).await.context("keep the snapshot")
    }

    /// The connection of the snapshot, for queries under it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The SQL with which another session joins the snapshot.
    pub fn join(&self) -> String {
        join(&self.name)
    }
}

fn join(name: &str) -> String {
    format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '{name}'")
}

/// The snapshot's name, its oldest running transaction, and the clock.
const EXPORT: &str = "SELECT pg_export_snapshot(), pg_snapshot_xmin(s)::text::bigint, \
     (extract(epoch FROM clock_timestamp()) * 1000000)::bigint \
     FROM pg_current_snapshot() s";
