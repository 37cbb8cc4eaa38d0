//! Whether a file may be accepted, by its faults and the layout's policy.

use std::collections::BTreeMap;

use super::fault::{Fault, Faults, What};
use crate::layout::Policy;

/// What a reading found.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Of the file; those set aside are among them.
    pub rows: u64,
    pub rows_aside: u64,
    /// The first of them, in the order of their lines; at most [`super::FAULTS_KEPT_MAX`] of rows.
    pub faults: Vec<Fault>,
    /// All of them.
    pub counts: BTreeMap<What, u64>,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The rows that were handed over may be kept.
    Accept,
    /// None of them may.
    Quarantine { reason: String },
}

pub fn verdict(faults: Faults, rows: u64, rows_aside: u64, policy: Policy) -> Report {
    let total = faults.total();
    let (mut kept, counts) = faults.into_kept();
    // What concerns the whole file, at line 0, comes first.
    kept.sort_by_key(|fault| fault.line);
    let of_file = counts.keys().any(|what| what.is_of_file());
    let is_accepted = match policy {
        _ if total == 0 => true,
        _ if of_file => false,
        Policy::Quarantine => false,
        // Few rows of many: both are far below where a double would round.
        Policy::Aside { share_max } => rows_aside as f64 <= share_max * rows as f64,
    };
    let verdict =
        if is_accepted { Verdict::Accept } else { Verdict::Quarantine { reason: reason(&kept, &counts, policy) } };
    Report { rows, rows_aside, faults: kept, counts, verdict }
}

fn reason(kept: &[Fault], counts: &BTreeMap<What, u64>, policy: Policy) -> String {
    let all: Vec<String> = counts.iter().map(|(what, count)| format!("{} {count}", what.as_str())).collect();
    let first = kept.iter().find(|fault| fault.what.is_of_file()).or(kept.first());
    let first = first.map(|fault| format!("; {fault}")).unwrap_or_default();
    let allowed = match policy {
        Policy::Aside { share_max } => format!(" (rows set aside may be {} %)", share_max * 100.0),
        Policy::Quarantine => String::new(),
    };
    format!("{}{allowed}{first}", all.join(", "))
}
