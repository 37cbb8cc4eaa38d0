//! Series functions: cases around clock changes, and comparisons with PostgreSQL.

mod asof;
mod buckets;
mod energy;
mod examples;
mod gapfill;
mod points;
mod postgres;

use arrow::array::{Array, AsArray};
use futures::TryStreamExt;

use super::{TestLake, failure, rows};
use crate::session::Session;

/// The result as text: values joined by commas, rows by `;`.
async fn shown(session: &Session, sql: &str) -> String {
    rows(session, sql).await
}

/// The first column, cast to text by the query itself.
async fn texts(session: &Session, sql: &str) -> Vec<Option<String>> {
    let batches: Vec<_> = session.run(sql).await.unwrap().try_collect().await.unwrap();
    let mut all = Vec::new();
    for batch in batches {
        let column = arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Utf8).unwrap();
        let column = column.as_string::<i32>();
        all.extend((0..column.len()).map(|row| column.is_valid(row).then(|| column.value(row).to_owned())));
    }
    all
}
