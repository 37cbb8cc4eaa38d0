use roaring::RoaringTreemap;

use super::VisibleRows;

fn runs(hidden: &[u64], rows: usize) -> Vec<(usize, bool)> {
    let visible = VisibleRows::of(&RoaringTreemap::from_iter(hidden), rows);
    visible.selection().selection().iter().map(|run| (run.row_count, run.skip)).collect()
}

#[test]
fn every_row_is_in_one_run() {
    assert_eq!(runs(&[0, 1, 5], 8), [(2, true), (3, false), (1, true), (2, false)]);
    assert_eq!(runs(&[7], 8), [(7, false), (1, true)]);
    assert_eq!(runs(&[0, 1, 2], 3), [(3, true)]);
}
