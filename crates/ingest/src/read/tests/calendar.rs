//! The days on which the clocks change, in Paris: 29 March and 25 October 2026.

use super::{Reading, layout, reading};
use crate::read::FaultKind;

fn steps(ambiguous: &str, rows: &str) -> Reading {
    let layout = layout(&format!(
        "format='csv'\nzone='Europe/Paris'\nambiguous='{ambiguous}'\nkey=['prm','at']\n[columns.prm]\ntype='text'\n[columns.at]\n\
         type='timestamp'\n[series]\ntime='at'\nstep='PT60M'\nby='prm'\n"
    ));
    reading(&layout, format!("prm,at\n{rows}").as_bytes())
}

fn hours(prm: &str, day: &str, hours: impl IntoIterator<Item = u32>) -> String {
    hours.into_iter().map(|hour| format!("{prm},{day} {hour:02}:00\n")).collect()
}

#[test]
fn a_day_of_23_hours() {
    let read = steps("refuse", &hours("A", "2026-03-29", (0..24).filter(|hour| *hour != 2)));
    assert!(read.is_accepted(), "{:?}", read.report);
    assert_eq!(read.rows.num_rows(), 23);
    assert_eq!(read.instants("at")[1..3], ["29T00:00Z", "29T01:00Z"]);
}

#[test]
fn a_time_that_the_clocks_skip() {
    let read = steps("refuse", &hours("A", "2026-03-29", 0..24));
    assert_eq!(read.faults(), [(4, FaultKind::SkippedHour)]);
    let fault = read.only_fault();
    assert!(fault.contains("on 2026-03-29 in Europe/Paris the clocks go from 02:00 to 03:00"), "{fault}");
}

#[test]
fn a_day_of_25_hours() {
    let day = |prm| hours(prm, "2026-10-25", [0, 1, 2, 2].into_iter().chain(3..24));
    let read = steps("refuse", &day("A"));
    assert_eq!(read.faults(), [(4, FaultKind::AmbiguousHour), (5, FaultKind::AmbiguousHour)], "one fault each");
    assert!(read.report.faults[0].expected.contains("this one is both 02:00+02:00 and 02:00+01:00"));

    let read = steps("in-order", &(day("A") + &day("B")));
    assert!(read.is_accepted(), "{:?}", read.report);
    assert_eq!(read.rows.num_rows(), 50);
    for series in [0, 25] {
        assert_eq!(read.instants("at")[series + 2..series + 5], ["25T00:00Z", "25T01:00Z", "25T02:00Z"]);
    }
    let latest_first = format!("{}{}", hours("A", "2026-10-25", (3..24).rev()), hours("A", "2026-10-25", [2, 2, 1, 0]));
    let read = steps("in-order", &latest_first);
    assert!(read.is_accepted(), "{:?}", read.report);
    assert_eq!(read.instants("at")[20..24], ["25T02:00Z", "25T01:00Z", "25T00:00Z", "24T23:00Z"]);
    let third = steps("in-order", &(day("A") + "A,2026-10-25 02:00\n"));
    assert_eq!(third.faults(), [(27, FaultKind::AmbiguousHour)]);
}

#[test]
fn the_repeated_hour_only_once() {
    let read = steps("in-order", &hours("A", "2026-10-25", 0..24));
    assert_eq!(read.faults(), [(5, FaultKind::MissingSteps)]);
    let fault = read.only_fault();
    let expected = "line 5: \"2026-10-25T02:00:00+01:00 to 2026-10-25T03:00:00+01:00\": expected 1 more rows of PT60M for prm A; \
                    2026-10-25 has 25 hours in Europe/Paris: request a file with all of them";
    assert_eq!(fault, expected);
}

#[test]
fn gaps_and_overlaps_are_reported_by_series() {
    let whole = hours("A", "2026-09-01", 0..24) + &hours("A", "2026-09-02", 0..24);
    let holed = whole.replace("A,2026-09-01 10:00\nA,2026-09-01 11:00\n", "").replace("A,2026-09-02 23:00\n", "");
    let read = steps("refuse", &(holed + &hours("B", "2026-09-01", 0..24)));
    assert_eq!(read.faults().len(), 2, "{:#?}", read.report.faults);
    assert!(read.report.faults[0].to_string().contains("2 more rows of PT60M for prm A"));
    assert!(read.report.faults[1].text.starts_with("2026-09-02T23:00:00+02:00 to 2026-09-03T00:00:00+02:00"));
    let off = steps("refuse", &whole.replace("2026-09-01 10:00", "2026-09-01 10:20"));
    assert_eq!(off.report.faults[0].kind, FaultKind::OverlappingSteps, "{:#?}", off.report.faults);
}

#[test]
fn months_have_all_their_days() {
    let days: String = (1..30).map(|day| hours("A", &format!("2026-09-{day:02}"), 0..24)).collect();
    assert!(steps("refuse", &days).is_accepted(), "by days, a month may end early");
    let layout = layout(
        "format='csv'\nzone='Europe/Paris'\n[columns.prm]\ntype='text'\n[columns.at]\ntype='timestamp'\n\
         [series]\ntime='at'\nstep='PT60M'\nby='prm'\ncovers='months'",
    );
    let read = reading(&layout, format!("prm,at\n{days}").as_bytes());
    assert!(read.only_fault().contains("24 more rows of PT60M"), "{:#?}", read.report.faults);
}
