//! Creates the platform's schema: the objects of schema.sql, and a partition of the 10-minute series for each month.

use tokio_postgres::Client;

use crate::calendar::{DAY_S, months};
use crate::error::ErrorContext;
use crate::{Result, Scale};

/// How many days after the history have partitions from the beginning.
const DAYS_AHEAD: i64 = 62;

/// Creates the schema `platform` with types, empty tables, keys and indexes, in one transaction.
///
/// # Errors
/// Where the schema exists.
pub async fn create(client: &Client, scale: &Scale) -> Result<()> {
    let partitions = partitions(scale.day_start(0), scale.end() + DAYS_AHEAD * DAY_S);
    // Statements that are sent as one message are one transaction.
    let statements = format!("{}{partitions}", include_str!("schema.sql"));
    client.batch_execute(&statements).await.during("create schema platform")
}

/// Creates the partitions for the months of these instants that do not exist yet.
pub(crate) async fn extend(client: &Client, start: i64, end: i64) -> Result<()> {
    client.batch_execute(&partitions(start, end)).await.during("add partitions to platform.measurements_10min")
}

fn partitions(start: i64, end: i64) -> String {
    let months = months(start, end);
    let each = months.windows(2).map(|pair| {
        format!(
            "create table if not exists platform.measurements_10min_{} partition of platform.measurements_10min \
             for values from ('{} 00:00:00+00') to ('{} 00:00:00+00');\n",
            pair[0].format("%Y_%m"),
            pair[0],
            pair[1]
        )
    });
    // IF NOT EXISTS would send a notice for each existing partition.
    std::iter::once("set client_min_messages = warning;\n".to_owned())
        .chain(each)
        .chain(std::iter::once("reset client_min_messages;\n".to_owned()))
        .collect()
}
