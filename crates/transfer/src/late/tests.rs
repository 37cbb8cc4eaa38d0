use super::*;
use crate::plan::CursorKind;

const SETTLED: Mark = Mark { cursor: Some(90), is_settled: true, xmin: 700 };

fn id() -> Cursor {
    Cursor { column: "id".into(), name: "id".into(), kind: CursorKind::Integer }
}

#[test]
fn whoever_wrote_at_the_cut_began_after_the_mark() {
    assert_eq!(next(SETTLED, 100, 0), Position { high: 100, low: 90, xid: None });
    assert_eq!(next(SETTLED, 90, 0), Position { high: 90, low: 90, xid: None });
    // A table that was empty at the mark: everything may have come late.
    let empty = Mark { cursor: None, ..SETTLED };
    assert_eq!(next(empty, 100, 0).low, i64::MIN);
    // Rows deleted between the mark and the cut can't move the mark above the greatest.
    assert_eq!(next(SETTLED, 80, 0).low, 80);
}

#[test]
fn a_writer_that_does_not_end_is_remembered_by_the_oldest_transaction() {
    let mark = Mark { is_settled: false, ..SETTLED };
    assert_eq!(next(mark, 100, 0), Position { high: 100, low: 90, xid: Some(700) });
}

#[test]
fn the_overlap_is_read_again_on_top() {
    assert_eq!(next(SETTLED, 100, 30).low, 70);
    assert_eq!(next(SETTLED, 100, 5).low, 90);
    assert_eq!(next(SETTLED, i64::MIN, 5).low, i64::MIN);
    assert_eq!(next(SETTLED, -100, i64::MAX).low, i64::MIN);
}

#[test]
fn a_table_that_was_not_marked_is_read_from_its_beginning() {
    let position = next(Mark::default(), 100, 0);
    assert_eq!((position.low, position.xid), (i64::MIN, Some(0)));
}

#[test]
fn the_condition_takes_what_lies_above_and_what_an_unended_writer_left() {
    let position = Position { high: 100, low: 90, xid: None };
    assert_eq!(condition(position, &id()), "\"id\" > '90'::bigint");
    // Of the 64 bits of a transaction's number its rows carry 32.
    let position = Position { xid: Some((3 << 32) + 700), ..position };
    assert_eq!(condition(position, &id()), "(\"id\" > '90'::bigint OR age(xmin) <= age('700'::xid))");
}
