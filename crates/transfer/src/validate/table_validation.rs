//! The result of the comparison of a table.

use std::collections::HashSet;

use crate::error::Error;
use crate::lsn::Lsn;

/// The number of rows of each kind of difference whose keys are reported.
pub const SAMPLES: usize = 10;

/// The number of rows that are lost or differ whose keys are kept to compare them again. With more, the lake is wrong.
const SUSPECTS: u64 = 10_000;

/// A difference of a row between the source and the lake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// At the source and not in the lake, although it is at or before the position.
    Lost,
    /// In both, with different values.
    Differs,
    /// In the lake only.
    Purged,
    /// New or changed at the source since the last run, or changed at the moment that a stream is compared at.
    Pending,
    /// In the lake twice or more, under one key.
    Doubled,
}

impl Difference {
    /// The name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Difference::Lost => "lost",
            Difference::Differs => "differs",
            Difference::Purged => "purged",
            Difference::Pending => "pending",
            Difference::Doubled => "doubled",
        }
    }
}

/// The result of a table.
#[derive(Debug, Default)]
pub struct TableValidation {
    /// The table at the source, as `schema.table`.
    pub source: String,
    /// The table in the lake, as `schema.table`.
    pub target: String,
    /// The number of rows at the source.
    pub source_rows: u64,
    /// The number of rows in the lake.
    pub lake_rows: u64,
    /// The number of ranges of keys.
    pub ranges: usize,
    /// The number of ranges whose count or checksum differs.
    pub ranges_differing: usize,
    /// The number of rows that are [`Difference::Lost`].
    pub lost: u64,
    /// The number of rows that are [`Difference::Differs`].
    pub differs: u64,
    /// The number of rows that are [`Difference::Purged`].
    pub purged: u64,
    /// The number of rows that are [`Difference::Pending`].
    pub pending: u64,
    /// Rows that the source deletes are removed from the lake: none may be in the lake only.
    pub mirrors: bool,
    /// The number of rows that are [`Difference::Doubled`].
    pub doubled: u64,
    /// The first rows of each difference, at most [`SAMPLES`], with their keys.
    pub samples: Vec<(Difference, String)>,
    /// The duration of the comparison.
    pub seconds: f64,
    /// The position in the log at which both sides were compared, where a stream runs.
    pub position: Option<Lsn>,
    /// The compared version of the lake's table may have changes that are later than the source's snapshot.
    pub between_commits: bool,
    /// The keys of the first rows that are lost or differ, by which they are compared again.
    pub suspects: HashSet<Box<[u8]>>,
    /// Why the table could not be compared.
    pub error: Option<Error>,
}

impl TableValidation {
    /// Whether the lake has all rows that it should have, once and with the source's values, and no others.
    pub fn is_ok(&self) -> bool {
        let is_surplus = self.mirrors && self.purged > 0;
        self.error.is_none() && self.lost == 0 && self.differs == 0 && self.doubled == 0 && !is_surplus
    }

    /// `validated`, `differs`, or `failed` where the table could not be compared.
    pub fn state(&self) -> &'static str {
        match &self.error {
            Some(_) => "failed",
            None if self.is_ok() => "validated",
            None => "differs",
        }
    }

    /// Whether rows that are lost or differ may have been inserted and changed again in one commit of the stream: then
    /// neither version of the lake around the snapshot has what the source had.
    pub(super) fn is_uncertain(&self) -> bool {
        self.between_commits && (1..=SUSPECTS).contains(&(self.lost + self.differs))
    }

    /// This result, after an earlier one was uncertain: what is wrong in the lake is wrong in both.
    pub(super) fn confirmed_by(mut self, before: &TableValidation) -> TableValidation {
        self.suspects.retain(|key| before.suspects.contains(key));
        if self.suspects.is_empty() && (self.lost + self.differs) <= SUSPECTS {
            self.pending += self.lost + self.differs;
            (self.lost, self.differs) = (0, 0);
            for (difference, _) in &mut self.samples {
                if matches!(difference, Difference::Lost | Difference::Differs) {
                    *difference = Difference::Pending;
                }
            }
        }
        self
    }

    /// Notes the key of a row that is lost or differs.
    pub(super) fn suspect(&mut self, key: &[u8]) {
        if (self.suspects.len() as u64) < SUSPECTS {
            self.suspects.insert(key.into());
        }
    }

    /// Counts a difference of a row, and keeps its key among the samples while they are few.
    pub(super) fn note(&mut self, difference: Difference, key: impl FnOnce() -> String) {
        let count = match difference {
            Difference::Lost => &mut self.lost,
            Difference::Differs => &mut self.differs,
            Difference::Purged => &mut self.purged,
            Difference::Pending => &mut self.pending,
            Difference::Doubled => &mut self.doubled,
        };
        *count += 1;
        if *count <= SAMPLES as u64 {
            self.samples.push((difference, key()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(keys: &[&str]) -> TableValidation {
        let mut validation = TableValidation { between_commits: true, ..TableValidation::default() };
        for key in keys {
            validation.suspect(key.as_bytes());
            validation.note(Difference::Lost, || (*key).to_owned());
        }
        validation
    }

    #[test]
    fn only_what_is_lost_twice_is_lost() {
        let again = lost(&["c"]).confirmed_by(&lost(&["a", "b"]));
        assert!(again.is_ok() && (again.lost, again.pending) == (0, 1), "{again:?}");
        assert_eq!(again.samples, [(Difference::Pending, "c".to_owned())]);
        let again = lost(&["b", "c"]).confirmed_by(&lost(&["a", "b"]));
        assert!(!again.is_ok() && again.lost == 2, "{again:?}");
        assert!(!lost(&[]).is_uncertain() && lost(&["a"]).is_uncertain());
        let between_none = TableValidation { between_commits: false, ..lost(&["a"]) };
        assert!(!between_none.is_uncertain());
    }
}
