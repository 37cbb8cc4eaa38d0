//! Sessions that read what was known at an instant: of each table whose rows have one from which they were known, also
//! through views, only the rows that were known then. Such tables are told by the columns that runs add to them, so
//! those of a job whose file has changed or is gone are filtered too. What a model is trained on or asked with can't
//! have come later, whatever its query says.

use std::sync::Arc;

use anyhow::Result;
use chrono::{DateTime, Utc};
use lake::Lake;
use sql::{ColumnFilter, Role, Session};

use super::moment::instant_text;
use super::rows;
use crate::warehouse::Warehouse;

/// The name of the session's role in messages.
const ROLE: &str = "as known";

/// By a column that tells who writes a table, the column with the instant from which a row was known.
const KNOWN_FROM: [(&str, &str); 5] = [
    // Collects, and loads of files with the column.
    ("answer_sha256", "known_at"),
    ("file_sha256", "known_at"),
    // Predictions, trainings, and what runs record of answers, files and controls.
    ("input_sha256", "issued_at"),
    ("training_job", "recorded_at"),
    ("run_id", "recorded_at"),
];

/// A session that reads what was known at an instant. System tables can't be read in it.
pub fn session(warehouse: &Warehouse, lake: &Lake, at: DateTime<Utc>) -> Result<Session> {
    let instant = instant_text(at);
    let filter = |(column, timestamp): (&str, &str)| ColumnFilter {
        column: column.to_owned(),
        timestamp: timestamp.to_owned(),
        condition: format!("{timestamp} <= TIMESTAMPTZ '{instant}'"),
    };
    let column_filters = KNOWN_FROM.into_iter().map(filter).collect();
    let role = Role { name: ROLE.to_owned(), column_filters, ..Role::default() };
    Ok(rows::session(warehouse, lake)?.with_role(Arc::new(role)))
}
