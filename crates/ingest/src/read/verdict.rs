//! Decides whether a file is accepted, by its faults and the layout's policy.

use std::collections::BTreeMap;

use super::fault::{Fault, FaultKind, Faults};
use crate::layout::FaultPolicy;

/// The result of reading a file.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadReport {
    /// The number of rows of the file, including quarantined ones.
    pub rows: u64,
    /// The number of rows with faults.
    pub rows_quarantined: u64,
    /// The first faults, in the order of their lines; at most [`super::FAULTS_KEPT_MAX`] of rows.
    pub faults: Vec<Fault>,
    /// How many faults there are of each kind, including those that were not kept.
    pub counts: BTreeMap<FaultKind, u64>,
    /// What the file is about: the different values of the layout's columns of the subject, in their order; at most
    /// [`SUBJECTS_MAX`]. Rows with faults in other columns count too.
    pub subjects: Vec<Vec<String>>,
    /// Whether the rows may be kept.
    pub verdict: Verdict,
}

/// The most subjects that a report has.
pub const SUBJECTS_MAX: usize = 1000;

/// Whether a file is accepted.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The rows that were passed to the sink may be kept.
    Accept,
    /// The file is quarantined: none of its rows may be kept.
    Quarantine {
        /// How many faults of each kind there are, and the first of them.
        reason: String,
    },
}

/// The report of a file that was read to its end.
pub fn verdict(
    faults: Faults,
    rows: u64,
    rows_quarantined: u64,
    subjects: Vec<Vec<String>>,
    policy: FaultPolicy,
) -> ReadReport {
    let total = faults.total();
    let (mut kept, counts) = faults.into_kept();
    // Faults of the whole file, at line 0, come first.
    kept.sort_by_key(|fault| fault.line);
    let of_file = counts.keys().any(|kind| kind.is_of_file());
    let is_accepted = match policy {
        _ if total == 0 => true,
        _ if of_file => false,
        FaultPolicy::QuarantineFile => false,
        // Numbers of rows are far below 2^53, beyond which doubles are not exact.
        FaultPolicy::QuarantineRows { share_max } => rows_quarantined as f64 <= share_max * rows as f64,
    };
    let verdict =
        if is_accepted { Verdict::Accept } else { Verdict::Quarantine { reason: reason(&kept, &counts, policy) } };
    ReadReport { rows, rows_quarantined, faults: kept, counts, subjects, verdict }
}

fn reason(kept: &[Fault], counts: &BTreeMap<FaultKind, u64>, policy: FaultPolicy) -> String {
    let all: Vec<String> = counts.iter().map(|(kind, count)| format!("{} {count}", kind.as_str())).collect();
    let first = kept.iter().find(|fault| fault.kind.is_of_file()).or(kept.first());
    let first = first.map(|fault| format!("; {fault}")).unwrap_or_default();
    let allowed = match policy {
        FaultPolicy::QuarantineRows { share_max } => {
            format!(" (at most {} % of the rows may be quarantined)", share_max * 100.0)
        }
        FaultPolicy::QuarantineFile => String::new(),
    };
    format!("{}{allowed}{first}", all.join(", "))
}
