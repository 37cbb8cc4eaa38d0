//! One cut over all tables: a snapshot that is exported once and read by every stream.

use tokio_postgres::Client;

use super::Endpoint;
use crate::error::{Context, Result};

/// Held open as long as streams may still join it.
pub struct Snapshot {
    client: Client,
    pub name: String,
    /// The oldest transaction that was still running: rows of it and of later ones may be missing.
    pub xmin: i64,
    /// The server's clock at the cut, in microseconds since 1970.
    pub at_micros: i64,
}

impl Snapshot {
    pub async fn export(endpoint: &Endpoint) -> Result<Snapshot> {
        let client = endpoint.connect().await?;
        client
            .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .await
            .context("open the snapshot's transaction")?;
        let row = client.query_one(EXPORT, &[]).await.context("export a snapshot")?;
        Ok(Snapshot { name: row.get(0), xmin: row.get(1), at_micros: row.get(2), client })
    }

    /// Where its transaction goes back to after an error.
    pub async fn mark(&self) -> Result<()> {
        self.client.batch_execute("SAVEPOINT table_of_validation").await.context("keep the snapshot")
    }

    pub async fn back_to_mark(&self) -> Result<()> {
        let back = "ROLLBACK TO SAVEPOINT table_of_validation; RELEASE SAVEPOINT table_of_validation";
        self.client.batch_execute(back).await.context("keep the snapshot")
    }

    /// For questions that must see the same cut.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The statements with which another session joins the cut.
    pub fn join(&self) -> String {
        format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '{}'", self.name)
    }
}

/// The 32-bit transaction id is what rows carry in xmin, and what `age()` compares.
const EXPORT: &str = "SELECT pg_export_snapshot(), pg_snapshot_xmin(s)::text::bigint, \
     (extract(epoch FROM clock_timestamp()) * 1000000)::bigint \
     FROM pg_current_snapshot() s";
