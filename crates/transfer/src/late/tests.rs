use super::*;
use crate::cursor::{CursorColumn, CursorKind};

fn mark_without_writers() -> Mark {
    Mark { value: value("90"), writers_ended: true, xmin: 700 }
}

fn value(text: &str) -> Option<CursorValue> {
    Some(CursorValue(vec![text.to_owned()]))
}

fn id() -> Cursor {
    let column = CursorColumn {
        column: "id".into(),
        name: "id".into(),
        kind: CursorKind::Integer,
        type_name: "bigint".into(),
        nullable: false,
        sequence: None,
    };
    Cursor { columns: vec![column], is_key: true }
}

fn state(high: &str, low: &str, is_behind: bool) -> Option<CursorState> {
    Some(CursorState { high: CursorValue(vec![high.to_owned()]), low: value(low), is_behind })
}

#[test]
fn the_position_is_what_the_snapshot_shows() {
    let position = next_position(&mark_without_writers(), state("100", "90", false), None);
    assert_eq!((position.high, position.low, position.xid), (value("100"), value("90"), None));
}

#[test]
fn a_writer_that_does_not_end_is_stored_by_the_oldest_transaction() {
    let mark = Mark { writers_ended: false, ..mark_without_writers() };
    assert_eq!(next_position(&mark, state("100", "90", false), None).xid, Some(700));
    assert_eq!(next_position(&Mark::default(), None, None).xid, Some(0));
}

#[test]
fn what_is_purged_does_not_move_the_position_back() {
    let before = Position { high: value("100"), low: value("95"), top: Some(120), ..Position::default() };
    assert_eq!(next_position(&mark_without_writers(), None, Some(&before)), before);
    let behind = next_position(&mark_without_writers(), state("80", "80", true), Some(&before));
    assert_eq!((behind.high, behind.low, behind.top), (value("100"), value("80"), Some(120)));
}

#[test]
fn the_condition_has_rows_above_and_rows_of_writers_that_had_not_ended() {
    let position = Position { high: value("100"), low: value("90"), ..Position::default() };
    assert_eq!(increment_condition(&position, &id()).unwrap(), "\"id\" > CAST('90' AS bigint)");
    // Of the 64 bits of a transaction's number its rows carry 32.
    let unended = Position { xid: Some((3 << 32) + 700), ..position.clone() };
    assert_eq!(
        increment_condition(&unended, &id()).unwrap(),
        "(\"id\" > CAST('90' AS bigint) OR age(xmin) <= age('700'::xid))"
    );
    // Where the integer is no key, a further row may have the greatest value, or NULL.
    let mut version = id();
    version.is_key = false;
    version.columns[0].nullable = true;
    assert_eq!(increment_condition(&position, &version).unwrap(), "(\"id\" >= CAST('90' AS bigint) OR \"id\" IS NULL)");
    assert_eq!(increment_condition(&Position::default(), &id()), None);
}
