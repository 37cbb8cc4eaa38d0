use super::*;

#[test]
fn a_sequence_below_its_last_value_and_the_position_is_restarted() {
    assert!(is_restarted(Some(Some(50)), Some(100), 100));
    assert!(is_restarted(Some(None), Some(100), 100));
    // Set back to where the rows end.
    assert!(!is_restarted(Some(Some(100)), Some(1000), 100));
    assert!(!is_restarted(Some(Some(101)), Some(100), 100));
    // A sequence that was never used, and no sequence, prove nothing.
    assert!(!is_restarted(Some(None), None, 100));
    assert!(!is_restarted(None, Some(100), 100));
}
