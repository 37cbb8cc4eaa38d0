//! The last changes of a table, by which one that comes twice is known.

use std::collections::{HashSet, VecDeque};

/// Kinesis may store messages of a request again, which has up to 500, and is sent up to ten times.
pub const CHANGES_MAX: usize = 5000;

/// The last changes, by their position in the source's log and their number.
#[derive(Debug, Default)]
pub struct RecentChanges {
    order: VecDeque<(String, u64)>,
    known: HashSet<(String, u64)>,
}

impl RecentChanges {
    /// Adds a change. Returns whether it is not among the last ones.
    pub fn add(&mut self, (position, number): (&str, u64)) -> bool {
        let change = (position.to_owned(), number);
        if !self.known.insert(change.clone()) {
            return false;
        }
        self.order.push_back(change);
        if self.order.len() > CHANGES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{CHANGES_MAX, RecentChanges};

    #[test]
    fn a_change_is_known_for_as_long_as_it_may_come_again() {
        let mut recent = RecentChanges::default();
        assert!(recent.add(("A@s", 2)) && recent.add(("A@s", 4)) && recent.add(("B@s", 2)));
        assert!(!recent.add(("A@s", 2)) && !recent.add(("B@s", 2)));
        for number in 0..CHANGES_MAX as u64 {
            assert!(recent.add(("C@s", number)));
        }
        assert!(recent.add(("A@s", 2)));
    }
}
