//! Which windows of time a run asks for: from a little before the newest known value on, and where values are missing.

use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

/// How many gaps a run asks for again; the newest ones.
const GAPS_MAX: usize = 20;

/// A window of time: its first instant, and the first one after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
}

/// What is known when the windows of an item are chosen.
pub struct Coverage {
    /// The first instant that may be asked for.
    pub begin: DateTime<Utc>,
    /// The time of the newest known value.
    pub newest: Option<DateTime<Utc>>,
    /// How far before it a run asks again.
    pub overlap: Duration,
    /// The first instant that is not asked for.
    pub end: DateTime<Utc>,
    /// The longest window.
    pub longest: Duration,
}

impl Coverage {
    /// Where values are asked for in any case.
    pub fn from(&self) -> DateTime<Utc> {
        let again = self.newest.map(|newest| newest - delta(self.overlap));
        again.map_or(self.begin, |again| again.max(self.begin)).trunc_subsecs(0)
    }

    /// The windows from the beginning to where it was before, the latest first.
    pub fn earlier(&self, asked_from: Option<DateTime<Utc>>) -> Vec<Window> {
        let Some(to) = asked_from else { return Vec::new() };
        let mut windows = parts(Window { from: self.begin.trunc_subsecs(0), to: to.min(self.from()) }, self.longest);
        windows.reverse();
        windows
    }

    /// The windows to ask for, the earliest first: gaps before the time that is asked for in any case, then that time.
    pub fn windows(&self, gaps: &[Window]) -> Vec<Window> {
        let from = self.from();
        let mut gaps: Vec<Window> =
            gaps.iter().map(|gap| Window { to: gap.to.min(from), ..*gap }).filter(|gap| gap.from < gap.to).collect();
        gaps.drain(..gaps.len().saturating_sub(GAPS_MAX));
        gaps.push(Window { from, to: self.end });
        gaps.into_iter().flat_map(|window| parts(window, self.longest)).collect()
    }
}

/// The gaps of a series between an instant and its newest value. `times` are distinct and rise; they are a whole number
/// of steps apart, or the gap ends at a time that is not.
pub fn gaps(begin: DateTime<Utc>, times: &[DateTime<Utc>], step: Duration) -> Vec<Window> {
    let step = delta(step);
    let mut gaps = Vec::new();
    let Some(first) = times.first() else { return gaps };
    if *first - begin >= step {
        gaps.push(Window { from: begin, to: *first });
    }
    for pair in times.windows(2) {
        if pair[1] - pair[0] > step {
            gaps.push(Window { from: pair[0] + step, to: pair[1] });
        }
    }
    gaps
}

fn parts(window: Window, longest: Duration) -> Vec<Window> {
    let longest = delta(longest).max(TimeDelta::seconds(1));
    let (mut parts, mut from) = (Vec::new(), window.from);
    while from < window.to {
        let to = (from + longest).min(window.to);
        parts.push(Window { from, to });
        from = to;
    }
    parts
}

/// A duration of the configuration, which is far below the range of times.
pub fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::days(36_500))
}

#[cfg(test)]
mod tests {
    use super::{Coverage, Window, gaps};
    use chrono::{DateTime, Utc};
    use std::time::Duration;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(hour: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000 / 3600 * 3600 + hour * 3600, 0).expect("an instant")
    }

    fn window(from: i64, to: i64) -> Window {
        Window { from: at(from), to: at(to) }
    }

    fn coverage(newest: Option<i64>, end: i64) -> Coverage {
        Coverage { begin: at(0), newest: newest.map(at), overlap: 2 * HOUR, end: at(end), longest: 10 * HOUR }
    }

    #[test]
    fn the_first_run_asks_for_everything_in_parts() {
        assert_eq!(coverage(None, 25).windows(&[]), [window(0, 10), window(10, 20), window(20, 25)]);
        assert_eq!(coverage(None, 0).windows(&[]), []);
    }

    #[test]
    fn later_runs_ask_again_from_before_the_newest_value() {
        assert_eq!(coverage(Some(20), 24).windows(&[]), [window(18, 24)]);
        assert_eq!(coverage(Some(1), 4).windows(&[]), [window(0, 4)]);
    }

    #[test]
    fn an_earlier_beginning_is_asked_for() {
        assert_eq!(coverage(Some(20), 24).earlier(Some(at(5))), [window(0, 5)]);
        assert_eq!(coverage(Some(20), 24).earlier(Some(at(30))), [window(10, 18), window(0, 10)]);
        assert_eq!(coverage(Some(20), 24).earlier(Some(at(0))), []);
        assert_eq!(coverage(Some(20), 24).earlier(None), []);
        // The first run has no newest value.
        assert_eq!(coverage(None, 24).earlier(Some(at(0))), []);
    }

    #[test]
    fn gaps_are_asked_for_up_to_the_time_that_is_asked_for_anyway() {
        let found = gaps(at(0), &[at(1), at(2), at(5), at(17), at(20)], HOUR);
        assert_eq!(found, [window(0, 1), window(3, 5), window(6, 17), window(18, 20)]);
        assert_eq!(
            coverage(Some(20), 24).windows(&found),
            [window(0, 1), window(3, 5), window(6, 16), window(16, 17), window(18, 24)]
        );
        assert_eq!(gaps(at(0), &[], HOUR), []);
        assert_eq!(gaps(at(1), &[at(1), at(2)], HOUR), []);
    }
}
