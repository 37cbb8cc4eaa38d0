use super::*;
use crate::cursor::{CursorColumn, CursorKind};

fn settled() -> Mark {
    Mark { place: place("90"), is_settled: true, xmin: 700 }
}

fn place(text: &str) -> Option<Place> {
    Some(Place(vec![text.to_owned()]))
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

fn cut(high: &str, low: &str, is_behind: bool) -> Option<CursorState> {
    Some(CursorState { high: Place(vec![high.to_owned()]), low: place(low), is_behind })
}

#[test]
fn the_position_is_what_the_cut_shows() {
    let position = next(&settled(), cut("100", "90", false), None);
    assert_eq!((position.high, position.low, position.xid), (place("100"), place("90"), None));
}

#[test]
fn a_writer_that_does_not_end_is_remembered_by_the_oldest_transaction() {
    let mark = Mark { is_settled: false, ..settled() };
    assert_eq!(next(&mark, cut("100", "90", false), None).xid, Some(700));
    assert_eq!(next(&Mark::default(), None, None).xid, Some(0));
}

#[test]
fn what_is_purged_does_not_move_the_position_back() {
    let before = Position { high: place("100"), low: place("95"), top: Some(120), ..Position::default() };
    assert_eq!(next(&settled(), None, Some(&before)), before);
    let behind = next(&settled(), cut("80", "80", true), Some(&before));
    assert_eq!((behind.high, behind.low, behind.top), (place("100"), place("80"), Some(120)));
}

#[test]
fn the_condition_takes_what_lies_above_and_what_an_unended_writer_left() {
    let position = Position { high: place("100"), low: place("90"), ..Position::default() };
    assert_eq!(condition(&position, &id()).unwrap(), "\"id\" > CAST('90' AS bigint)");
    // Of the 64 bits of a transaction's number its rows carry 32.
    let unended = Position { xid: Some((3 << 32) + 700), ..position.clone() };
    assert_eq!(condition(&unended, &id()).unwrap(), "(\"id\" > CAST('90' AS bigint) OR age(xmin) <= age('700'::xid))");
    // An integer that is no key may come again with the greatest value, or without one.
    let mut version = id();
    version.is_key = false;
    version.columns[0].nullable = true;
    assert_eq!(condition(&position, &version).unwrap(), "(\"id\" >= CAST('90' AS bigint) OR \"id\" IS NULL)");
    assert_eq!(condition(&Position::default(), &id()), None);
}
