//! Sessions that read what was known at an instant: of each table whose rows have one from which they were known, also
//! through views, only the rows that were known then. Collects, predictions and trainings write such tables, and loads
//! of files with a column `known_at`. What a model is trained on or asked with can't have come later, whatever
//! its query says.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use chrono::{DateTime, Utc};
use lake::Lake;
use sql::{Role, Session};

use super::moment::instant_text;
use super::rows;
use crate::warehouse::Warehouse;

/// The name of the session's role in messages.
const ROLE: &str = "as known";

/// A session that reads what was known at an instant.
pub fn session(warehouse: &Warehouse, lake: &Lake, at: DateTime<Utc>) -> Result<Session> {
    let instant = instant_text(at);
    let filters: BTreeMap<String, String> = warehouse
        .config
        .known_from()
        .into_iter()
        .map(|(table, column)| (table, format!("{column} <= TIMESTAMPTZ '{instant}'")))
        .collect();
    let role = Role { name: ROLE.to_owned(), tables: Vec::new(), filters, system: true };
    Ok(rows::session(warehouse, lake)?.with_role(Arc::new(role)))
}
