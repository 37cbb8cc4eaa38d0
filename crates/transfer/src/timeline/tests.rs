use super::*;

fn at(timeline: u32, lsn: i64) -> LogPosition {
    LogPosition { timeline, lsn }
}

const HISTORY: &str = "1\t0/3000060\tno recovery target specified\n\n# a comment\n3\t1/A0\tbefore 2026-11-01\n";

#[test]
fn ends_of_timelines() {
    let ends = timeline_ends(HISTORY);
    assert_eq!(ends, [at(1, 0x0300_0060), at(3, (1 << 32) + 0xA0)]);
    assert_eq!(ends[1].to_string(), "1/A0 of timeline 3");
}

#[test]
fn what_is_part_of_a_log() {
    let log = Log { now: at(4, 2 << 32), is_standby: false, ends: Some(timeline_ends(HISTORY)) };
    for (before, continuity) in [
        (at(4, 2 << 32), Continuity::Complete),
        (at(4, (2 << 32) + 1), Continuity::Diverged(log.now)),
        (at(3, (1 << 32) + 0xA0), Continuity::Complete),
        (at(3, (1 << 32) + 0xA1), Continuity::Diverged(at(3, (1 << 32) + 0xA0))),
        (at(1, 0x0300_0060), Continuity::Complete),
        (at(1, 0x0300_0061), Continuity::Diverged(at(1, 0x0300_0060))),
        // Timeline 2 is no ancestor: 4 descends from 3, and 3 from 1.
        (at(2, 0x0300_0070), Continuity::Diverged(at(1, 0x0300_0060))),
        (at(5, 7), Continuity::Diverged(log.now)),
    ] {
        assert_eq!(log.continuity(before), continuity, "{before}");
    }
    let hidden = Log { now: at(2, 9), is_standby: true, ends: None };
    assert_eq!((hidden.continuity(at(1, 3)), hidden.continuity(at(2, 3))), (Continuity::Unknown, Continuity::Complete));
}
