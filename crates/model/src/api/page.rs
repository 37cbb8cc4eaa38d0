//! Lists of the control plane, in pages, and its form of times.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::error::ApiError;
use super::request::Members;

/// The most rows of a page.
const PAGE: usize = 100;

/// A time in the control plane's form: seconds since 1970.
pub(super) fn seconds(at: DateTime<Utc>) -> f64 {
    at.timestamp_millis() as f64 / 1e3
}

/// The answer with a list of rows.
pub(super) fn list(key: &str, rows: Vec<Value>, next: Option<String>) -> Value {
    let mut answer = json!({key: rows});
    if let Some(next) = next {
        answer["NextToken"] = json!(next);
    }
    answer
}

/// The rows that a list asks for, by its filters and its order, where `further` are members that the caller has followed, and the token of the next page: the place of its first
/// row.
pub(super) fn page<T>(
    mut rows: Vec<T>,
    request: &Members,
    further: &[&str],
    of: impl Fn(&T) -> (&String, DateTime<Utc>),
) -> Result<(Vec<T>, Option<String>), ApiError> {
    request.only(&[&["NameContains", "SortBy", "SortOrder", "MaxResults", "NextToken"], further].concat(), &[])?;
    if let Some(part) = request.text("NameContains")? {
        rows.retain(|row| of(row).0.contains(part));
    }
    match request.text("SortBy")?.unwrap_or("CreationTime") {
        "Name" => {}
        "CreationTime" | "Status" => rows.sort_by_key(|row| of(row).1),
        other => {
            return Err(ApiError::validation(format!("SortBy: {other:?} is not one of Name, CreationTime, Status")));
        }
    }
    if request.text("SortOrder")?.unwrap_or("Descending") == "Descending" {
        rows.reverse();
    }
    let begin = match request.text("NextToken")? {
        Some(token) => token.parse().map_err(|_| ApiError::validation("NextToken is not one of a former answer"))?,
        None => 0_usize,
    };
    let most = match request.number("MaxResults")? {
        Some(most) if (1.0..=PAGE as f64).contains(&most) => most as usize,
        Some(_) => return Err(ApiError::validation(format!("MaxResults must be a number from 1 to {PAGE}"))),
        None => 10,
    };
    let next = (begin.saturating_add(most) < rows.len()).then(|| (begin + most).to_string());
    Ok((rows.into_iter().skip(begin).take(most).collect(), next))
}
