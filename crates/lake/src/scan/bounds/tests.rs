use super::units;

#[test]
fn decimals_of_more_than_fifteen_digits_have_no_bound() {
    assert_eq!(units(123.456, 3), Some(123_456));
    assert_eq!(units(-0.001, 3), Some(-1));
    assert_eq!(units(999_999_999_999.999, 3), Some(999_999_999_999_999));
    assert_eq!(units(1_000_000_000_000.0, 3), None);
    assert_eq!(units(f64::NAN, 3), None);
}
