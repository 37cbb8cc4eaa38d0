//! Clock changes both ways, downtime, patterns, periods.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use super::*;

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

fn paris(spec: &str) -> Cron {
    Cron::parse(spec, "Europe/Paris").unwrap()
}

/// All slots of a local day.
fn slots(cron: &Cron, from: &str, to: &str) -> Vec<String> {
    let (mut place, to) = (at(from) - TimeDelta::seconds(1), at(to));
    let mut found = Vec::new();
    while let Some(slot) = cron.after(place).filter(|slot| slot.at < to) {
        place = slot.at;
        found.push(slot.local);
    }
    found
}

const SPRING: (&str, &str) = ("2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00");
const AUTUMN: (&str, &str) = ("2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00");

#[test]
fn a_slot_in_the_spring_gap_runs_at_its_end() {
    assert_eq!(slots(&paris("30 2 * * *"), SPRING.0, SPRING.1), ["2026-03-29T03:00:00+02:00"]);
    assert_eq!(slots(&paris("0 3 * * *"), SPRING.0, SPRING.1), ["2026-03-29T03:00:00+02:00"]);
}

#[test]
fn a_slot_that_the_autumn_brings_twice_runs_once() {
    assert_eq!(slots(&paris("30 2 * * *"), AUTUMN.0, AUTUMN.1).len(), 1);
    assert_eq!(slots(&paris("0 3 * * *"), AUTUMN.0, AUTUMN.1), ["2026-10-25T03:00:00+01:00"]);
}

#[test]
fn quarter_hours_run_through_days_of_23_and_25_hours() {
    let quarters = paris("*/15 * * * *");
    for (day, expected) in [(SPRING, 92), (AUTUMN, 100)] {
        let found = slots(&quarters, day.0, day.1);
        assert_eq!(found.len(), expected);
        let distinct: std::collections::BTreeSet<_> = found.iter().collect();
        assert_eq!(distinct.len(), expected, "each has a name of its own");
    }
}

#[test]
fn each_listed_time_of_day_runs_once_whatever_the_clock_does() {
    let twice = paris("0 2,14 * * *");
    assert_eq!(slots(&twice, SPRING.0, SPRING.1), ["2026-03-29T03:00:00+02:00", "2026-03-29T14:00:00+02:00"]);
    assert_eq!(slots(&twice, AUTUMN.0, AUTUMN.1), ["2026-10-25T02:00:00+02:00", "2026-10-25T14:00:00+01:00"]);
    let halves = paris("0,30 2 * * *");
    assert_eq!(slots(&halves, SPRING.0, SPRING.1), ["2026-03-29T03:00:00+02:00"], "both meet at the gap's end");
    assert_eq!(slots(&halves, AUTUMN.0, AUTUMN.1), ["2026-10-25T02:00:00+02:00", "2026-10-25T02:30:00+02:00"]);
    let night = paris("10 0 1-4 * * *");
    assert_eq!(slots(&night, AUTUMN.0, AUTUMN.1).len(), 4, "a range is a list, with seconds too");
    // All hours of the day, however they are written, are the hours that pass.
    for hourly in ["30 * * * *", "30 0-23 * * *", "30 */1 * * *"] {
        assert_eq!(slots(&paris(hourly), SPRING.0, SPRING.1).len(), 23, "{hourly}");
        assert_eq!(slots(&paris(hourly), AUTUMN.0, AUTUMN.1).len(), 25, "{hourly}");
    }
    assert_eq!(slots(&paris("0 8,8,18 * * *"), "2026-06-01T00:00:00+02:00", "2026-06-02T00:00:00+02:00").len(), 2);
}

#[test]
fn the_newest_missed_slot_is_the_last_of_all_missed_through_both_clock_changes() {
    for noon in ["2026-03-28T12:00:00.25Z", "2026-10-24T12:00:00.25Z"] {
        for spec in ["30 2 * * *", "0 3 * * *", "0 2,14 * * *", "0,30 2 * * *", "*/15 * * * *", "30 2 * * SUN"] {
            let (cron, seen) = (paris(spec), at(noon));
            for minutes in (60..24 * 60).step_by(7) {
                let now = seen + TimeDelta::minutes(minutes);
                let all = due_slots(&cron, seen, now, Catchup::All).0;
                let one = due_slots(&cron, seen, now, Catchup::One).0;
                assert_eq!(
                    one.iter().collect::<Vec<_>>(),
                    all.last().into_iter().collect::<Vec<_>>(),
                    "{spec} at {now}"
                );
            }
        }
    }
}

#[test]
fn the_last_day_of_the_month() {
    let cron = paris("0 6 L * *");
    assert_eq!(cron.after(at("2028-02-01T00:00:00Z")).unwrap().local, "2028-02-29T06:00:00+01:00");
}

#[test]
fn what_cannot_be_read_says_how_it_is_written() {
    for (spec, zone, says) in [
        ("61 * * * *", "UTC", "read cron pattern \"61 * * * *\""),
        ("every day", "UTC", "read cron pattern \"every day\""),
        ("0 0 31 2 *", "UTC", "no day ever matches"),
        ("0 0 * * *", "Europe/Pari", "read time zone \"Europe/Pari\""),
    ] {
        let error = Cron::parse(spec, zone).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
    let hint = Cron::parse("every day", "UTC").unwrap_err().hint.unwrap_or_default();
    assert!(hint.starts_with("its fields are minute, hour"), "{hint}");
}

#[test]
fn downtime_is_caught_up_with_as_asked() {
    let daily = paris("0 2 * * *");
    let (down, up) = (at("2026-06-01T12:00:00Z"), at("2026-06-05T12:00:00Z"));
    let due = |catchup| due_slots(&daily, down, up, catchup).0.into_iter().map(|s| s.local).collect::<Vec<_>>();
    assert!(due(Catchup::None).is_empty());
    assert_eq!(due(Catchup::One), ["2026-06-05T02:00:00+02:00"]);
    assert_eq!(due(Catchup::All).len(), 4);
    let just = at("2026-06-05T00:00:30Z");
    for catchup in [Catchup::None, Catchup::One, Catchup::All] {
        let (slots, seen) = due_slots(&daily, at("2026-06-04T23:59:00Z"), just, catchup);
        assert_eq!(slots.len(), 1, "half a minute late is on time");
        assert_eq!(seen, just);
        assert!(due_slots(&daily, seen, just + TimeDelta::seconds(5), catchup).0.is_empty(), "and it comes once");
    }
}

#[test]
fn years_of_missed_seconds_come_in_portions() {
    let every_second = Cron::parse("* * * * * *", "UTC").unwrap();
    let (from, now) = (at("2026-01-01T00:00:00Z"), at("2026-01-02T00:00:00Z"));
    let (first, seen) = due_slots(&every_second, from, now, Catchup::All);
    assert_eq!((first.len(), seen), (1000, from + TimeDelta::seconds(1000)));
    let (second, _) = due_slots(&every_second, seen, now, Catchup::All);
    assert_eq!(second[0].at, from + TimeDelta::seconds(1001));
    let one: Vec<_> = due_slots(&every_second, from, now, Catchup::One).0.into_iter().map(|slot| slot.at).collect();
    assert_eq!(one, [now], "one is one");
}

#[test]
fn waiting_doubles_up_to_its_bound() {
    let backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(10) };
    let waits: Vec<u64> = (1..=6).map(|attempt| backoff.delay(attempt).as_secs()).collect();
    assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
    assert_eq!(backoff.delay(u32::MAX), backoff.max);
}

#[test]
fn events_match_by_name_and_fields() {
    let fields = BTreeMap::from([("source".to_owned(), "plat*".to_owned()), ("file.rows".to_owned(), "1?".to_owned())]);
    let pattern = EventPattern { name: "file.*".to_owned(), fields };
    let event = json!({"source": "platform", "file": {"rows": 12}});
    assert!(pattern.matches("file.stored", &event));
    assert!(!pattern.matches("transfer.finished", &event));
    assert!(!pattern.matches("file.stored", &json!({"source": "platform"})), "an absent field matches nothing");
    assert!(!pattern.matches("file.stored", &json!({"source": "other", "file": {"rows": 12}})));
    for (pattern, text, matches) in
        [("*", "", true), ("a*b*c", "axxbyyc", true), ("a*b*c", "axxbyy", false), ("?", "é", true), ("", "a", false)]
    {
        assert_eq!(glob(pattern, text), matches, "{pattern} {text}");
    }
}

#[test]
fn periods_are_read_counted_and_bounded_by_the_local_clock() {
    let names = |text: &str| Period::range(text).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names("2026-11..2027-02"), ["2026-11", "2026-12", "2027-01", "2027-02"]);
    assert_eq!(names("2026-02-27..2026-03-01"), ["2026-02-27", "2026-02-28", "2026-03-01"]);
    assert_eq!(names("2026"), ["2026"]);
    assert_eq!(names("2026-01-01T08:00"), ["2026-01-01T08"]);
    let hours = |text: &str, zone: &str| {
        let (from, to) = text.parse::<Period>().unwrap().bounds(zone.parse().unwrap()).unwrap();
        (to - from).num_hours()
    };
    assert_eq!(hours("2026-03-29", "Europe/Paris"), 23);
    assert_eq!(hours("2026-10-25", "Europe/Paris"), 25);
    assert_eq!(hours("2026-03", "Europe/Paris"), 743);
    assert_eq!(hours("2026-10", "Europe/Paris"), 745);
    // Midnight itself is in the gap: the day begins at one o'clock.
    assert_eq!(hours("2018-11-04", "America/Sao_Paulo"), 23);
    for wrong in ["2026-13", "september", "2026-09..2026-08", "2026..2026-08", "2026-09-14T08:30"] {
        assert!(Period::range(wrong).is_err(), "{wrong}");
    }
}
