//! Where a stream keeps its record: beside the tables of its target.

use lake::Lake;

use crate::destination::postgres as to_postgres;
use crate::error::{Context, Result};
use crate::postgres::Endpoint;
use crate::request::{Request, Target};

/// The records of streams into a target.
#[derive(Clone, Copy)]
pub enum StreamStore<'a> {
    /// Objects beside the lake's tables.
    Lake(&'a Lake),
    /// Rows of the schema `wattlake`.
    Postgres(&'a Endpoint),
}

impl<'a> StreamStore<'a> {
    /// The store of a target.
    pub fn of(target: &'a Target) -> StreamStore<'a> {
        match target {
            Target::Lake(lake) => StreamStore::Lake(lake),
            Target::Postgres(endpoint) => StreamStore::Postgres(endpoint),
            Target::Stream(stream) => StreamStore::Lake(&stream.records),
        }
    }

    /// The text of a record; `None` where there is none.
    pub async fn read(self, name: &str) -> Result<Option<Vec<u8>>> {
        match self {
            StreamStore::Lake(lake) => {
                let text = lake.record(&path(name)).await.context("read a record of the stream")?;
                Ok(text.map(|text| text.to_vec()))
            }
            StreamStore::Postgres(endpoint) => to_postgres::record(&endpoint.connect().await?, name).await,
        }
    }

    /// Writes a record.
    pub async fn write(self, name: &str, text: Vec<u8>) -> Result<()> {
        let context = "write a record of the stream";
        match self {
            StreamStore::Lake(lake) => lake.write_record(&path(name), text.into()).await.context(context),
            StreamStore::Postgres(endpoint) => {
                let client = endpoint.connect().await?;
                to_postgres::prepare(&client).await?;
                let sql = to_postgres::record_sql(name, &String::from_utf8_lossy(&text));
                client.batch_execute(&sql).await.context(context)
            }
        }
    }

    /// The records in a folder: the rest of their names, and when they were written by the store's clock, in microseconds
    /// since 1970.
    pub async fn list(self, folder: &str) -> Result<Vec<(String, i64)>> {
        let context = "list the records of the stream";
        let name = |name: String| name.strip_suffix(".json").map(str::to_owned);
        match self {
            StreamStore::Lake(lake) => {
                let records = lake.records(&format!("streams/{folder}")).await.context(context)?;
                Ok(records.into_iter().filter_map(|(record, at)| Some((name(record)?, at))).collect())
            }
            StreamStore::Postgres(_) => Err(crate::error::Error::bug(context)),
        }
    }

    /// Removes a record, where it exists.
    pub async fn remove(self, name: &str) -> Result<()> {
        let context = "remove a record of the stream";
        match self {
            StreamStore::Lake(lake) => lake.remove_record(&path(name)).await.context(context),
            StreamStore::Postgres(endpoint) => {
                let client = endpoint.connect().await?;
                let sql = "DELETE FROM wattlake.records WHERE name = $1";
                client.execute(sql, &[&name]).await.map(drop).context(context)
            }
        }
    }
}

impl Request {
    pub(crate) fn stream_store(&self) -> StreamStore<'_> {
        StreamStore::of(&self.target)
    }
}

fn path(name: &str) -> String {
    format!("streams/{name}.json")
}
