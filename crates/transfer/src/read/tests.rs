use super::*;
use crate::postgres::Leaf;
use crate::postgres::TableKind;

const V15: u32 = 150_000;

fn table(leaves: &[u64]) -> Table {
    let leaf = |(at, pages): (usize, &u64)| Leaf {
        oid: at as u32,
        name: format!("\"grid\".\"leaf_{at}\""),
        pages: *pages,
        file_node: 0,
        has_pages: true,
        readable: true,
        attached_by: 0,
    };
    Table {
        oid: 1,
        schema: "grid".into(),
        name: "measures".into(),
        kind: if leaves.is_empty() { TableKind::View } else { TableKind::Table },
        leaves: leaves.iter().enumerate().map(leaf).collect(),
        readable: true,
        replica_identity: 'd',
        ..Table::default()
    }
}

/// The first page of a condition, and the page that it ends before, where it has an end.
fn pages(range: &str) -> (u64, Option<u64>) {
    let at = |text: &str| {
        text.split_once("'(").and_then(|(_, rest)| rest.split_once(",0)'")).map(|(n, _)| n.parse().unwrap())
    };
    let (low, high) = range.split_once(" AND ").map_or((range, None), |(low, high)| (low, Some(high)));
    assert!(low.starts_with("ctid >= '(") && low.ends_with(",0)'::tid"), "{low}");
    assert!(high.is_none_or(|high| high.starts_with("ctid < '(") && high.ends_with(",0)'::tid")), "{range}");
    (at(low).unwrap(), high.and_then(at))
}

#[test]
fn a_view_is_read_by_one_query() {
    assert_eq!(page_ranges(&table(&[]), V15, 4), [("\"grid\".\"measures\"".to_owned(), None)]);
}

#[test]
fn a_small_table_and_an_empty_one_are_read_by_one_query() {
    for leaves in [&[0][..], &[1], &[RANGE_PAGES_MIN]] {
        assert_eq!(page_ranges(&table(leaves), V15, 4), [("ONLY \"grid\".\"leaf_0\"".to_owned(), None)]);
    }
}

#[test]
fn ranges_cover_all_pages_once_and_the_last_has_no_end() {
    for pages_all in [RANGE_PAGES_MIN + 1, 10_000, 100_001, 1_234_567] {
        for streams in [2, 3, 8] {
            let ranges = page_ranges(&table(&[pages_all]), V15, streams);
            assert!(ranges.len() > 1 && ranges.len() as u64 <= streams * RANGES_PER_STREAM + 1, "{}", ranges.len());
            let mut expected = 0;
            for (at, (from, range)) in ranges.iter().enumerate() {
                assert_eq!(from, "ONLY \"grid\".\"leaf_0\"");
                let (low, high) = pages(range.as_deref().unwrap());
                assert_eq!(low, expected);
                match high {
                    Some(high) => expected = high,
                    None => assert_eq!(at, ranges.len() - 1),
                }
            }
            assert!(expected < pages_all && pages(ranges.last().unwrap().1.as_deref().unwrap()).1.is_none());
        }
    }
}

#[test]
fn each_partition_is_read_and_only_large_ones_in_ranges() {
    let ranges = page_ranges(&table(&[10, 20_000, 0]), V15, 2);
    let of = |leaf: &str| ranges.iter().filter(|(from, _)| from.contains(leaf)).count();
    assert_eq!((of("leaf_0"), of("leaf_2")), (1, 1));
    assert!(of("leaf_1") > 1);
}

#[test]
fn without_page_ranges_a_leaf_is_read_by_one_query() {
    let large = table(&[1_000_000]);
    assert_eq!(page_ranges(&large, 130_000, 8).len(), 1);
    assert_eq!(page_ranges(&large, V15, 1).len(), 1);
    let mut foreign = large;
    foreign.leaves[0].has_pages = false;
    assert_eq!(page_ranges(&foreign, V15, 8).len(), 1);
}
