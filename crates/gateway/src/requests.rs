//! What was asked of the APIs: requests by minute, key and resource, counted. Secrets and bodies are never part of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Timelike, Utc};

/// How many different rows wait at most: names of resources come from callers, who could send any number of them.
const ROWS_MAX: usize = 10_000;
/// The resource of requests beyond that.
const OTHERS: &str = "others";

/// What is known of a request, filled in while it is answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct RequestNote {
    /// The id of the caller's key; empty where it has none, or is unknown.
    pub key: String,
    /// The operation, such as `InvokeEndpoint`; empty where there is none of that name.
    pub operation: String,
    /// The resource, such as `endpoint:hydro`.
    pub resource: String,
}

/// Requests of one minute that are equal in all of this.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestRow {
    /// The minute's begin.
    pub minute: DateTime<Utc>,
    /// What they were.
    pub note: RequestNote,
    /// The status of the answers.
    pub status: u16,
    /// AWS's name of the error; empty for successes.
    pub error: String,
    /// How many.
    pub requests: u64,
    /// How long all of them took.
    pub seconds: f64,
    /// How long the longest took.
    pub seconds_max: f64,
}

type Key = (DateTime<Utc>, RequestNote, u16, String);

/// Counts requests until someone takes the rows. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct RequestLog {
    rows: Arc<Mutex<HashMap<Key, RequestRow>>>,
}

impl RequestLog {
    /// Counts a request that was answered.
    pub fn add(&self, now: DateTime<Utc>, note: RequestNote, status: u16, error: &str, took: Duration) {
        let minute = now.trunc_subsecs(0) - TimeDelta::seconds(i64::from(now.second()));
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = (minute, note, status, error.to_owned());
        if rows.len() >= ROWS_MAX && !rows.contains_key(&key) {
            OTHERS.clone_into(&mut key.1.resource);
        }
        let row = rows.entry(key.clone()).or_insert_with(|| RequestRow {
            minute,
            note: key.1,
            status,
            error: key.3,
            requests: 0,
            seconds: 0.0,
            seconds_max: 0.0,
        });
        row.requests += 1;
        row.seconds += took.as_secs_f64();
        row.seconds_max = row.seconds_max.max(took.as_secs_f64());
    }

    /// Takes what was counted since the last call.
    pub fn take(&self) -> Vec<RequestRow> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *rows).into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_requests_of_a_minute_are_one_row() {
        let log = RequestLog::default();
        let at = |text: &str| DateTime::parse_from_rfc3339(text).expect("a time").to_utc();
        let note = |resource: &str| RequestNote {
            key: "dispatch".to_owned(),
            operation: "InvokeEndpoint".to_owned(),
            resource: resource.to_owned(),
        };
        let add = |time: &str, resource: &str, millis: u64| {
            log.add(at(time), note(resource), 200, "", Duration::from_millis(millis));
        };
        add("2026-11-30T08:00:01.5Z", "endpoint:hydro", 10);
        add("2026-11-30T08:00:59Z", "endpoint:hydro", 30);
        add("2026-11-30T08:01:00Z", "endpoint:hydro", 20);
        let mut rows = log.take();
        rows.sort_by_key(|row| row.minute);
        assert_eq!(rows.iter().map(|row| row.requests).collect::<Vec<_>>(), [2, 1]);
        assert_eq!((rows[0].minute, rows[0].seconds_max), (at("2026-11-30T08:00:00Z"), 0.03));
        assert!(log.take().is_empty());
        for number in 0..ROWS_MAX + 50 {
            add("2026-11-30T08:00:00Z", &format!("endpoint:{number}"), 1);
        }
        let rows = log.take();
        assert_eq!(rows.len(), ROWS_MAX + 1);
        assert_eq!(rows.iter().map(|row| row.requests).sum::<u64>(), (ROWS_MAX + 50) as u64);
    }
}
