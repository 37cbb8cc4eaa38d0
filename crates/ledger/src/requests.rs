//! Requests to the APIs, counted by minute.

use chrono::{DateTime, Utc};
use rusqlite::Row;
use serde::Serialize;

use crate::rows::count;
use crate::{Ledger, Result, instant};

/// Requests of one minute that are equal in all but their times.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RequestCount {
    /// The minute's begin.
    #[serde(serialize_with = "instant::serialize")]
    pub minute: DateTime<Utc>,
    /// `lambda` or `sagemaker`.
    pub api: String,
    /// The id of the caller's key; empty without one.
    pub key: String,
    /// The operation, such as `InvokeEndpoint`.
    pub operation: String,
    /// The resource, such as `endpoint:hydro`.
    pub resource: String,
    /// The status of the answers.
    pub status: u64,
    /// The name of the error; empty for successes.
    pub error: String,
    /// How many requests.
    pub requests: u64,
    /// How long all of them took.
    pub seconds: f64,
    /// How long the longest took.
    pub seconds_max: f64,
}

impl Ledger {
    /// Adds requests to the counts of their minutes.
    pub fn add_requests(&self, rows: &[RequestCount]) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        self.write("record requests", |tx| {
            let sql = "insert into requests
                           (minute, api, key, operation, resource, status, error, requests, seconds, seconds_max)
                       values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                       on conflict (minute, api, key, operation, resource, status, error) do update set
                           requests = requests + excluded.requests, seconds = seconds + excluded.seconds,
                           seconds_max = max(seconds_max, excluded.seconds_max)";
            let mut insert = tx.prepare_cached(sql)?;
            for row in rows {
                let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
                insert.execute((
                    instant::to_text(row.minute),
                    &row.api,
                    &row.key,
                    &row.operation,
                    &row.resource,
                    number(row.status),
                    &row.error,
                    number(row.requests),
                    row.seconds,
                    row.seconds_max,
                ))?;
            }
            Ok(())
        })
    }

    /// Lists counts of requests, the newest minute first.
    pub fn requests(&self, limit: usize) -> Result<Vec<RequestCount>> {
        let sql = "select minute, api, key, operation, resource, status, error, requests, seconds, seconds_max
                   from requests order by minute desc, api, key, operation, resource limit ?";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.list("list requests", sql, [limit], RequestCount::read)
    }
}

impl RequestCount {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(RequestCount {
            minute: instant::from_text(0, &row.get::<_, String>(0)?)?,
            api: row.get(1)?,
            key: row.get(2)?,
            operation: row.get(3)?,
            resource: row.get(4)?,
            status: count(row, 5)?,
            error: row.get(6)?,
            requests: count(row, 7)?,
            seconds: row.get(8)?,
            seconds_max: row.get(9)?,
        })
    }
}
