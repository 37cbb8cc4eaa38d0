use super::*;

#[test]
fn a_sequence_that_went_back_below_what_was_carried_was_restarted() {
    assert!(restarted(Some(Some(50)), Some(100), 100));
    assert!(restarted(Some(None), Some(100), 100));
    // Set back to where the rows end.
    assert!(!restarted(Some(Some(100)), Some(1000), 100));
    assert!(!restarted(Some(Some(101)), Some(100), 100));
    // One that never gave a value, and no sequence at all, say nothing.
    assert!(!restarted(Some(None), None, 100));
    assert!(!restarted(None, Some(100), 100));
}
