use super::decimal;

#[test]
fn decimals_keep_every_digit() {
    assert_eq!(decimal(12_345, 2).as_deref(), Some("123.45"));
    assert_eq!(decimal(-5, 3).as_deref(), Some("-0.005"));
    assert_eq!(decimal(0, 0).as_deref(), Some("0"));
    let widest = 10i128.pow(38) - 1;
    assert_eq!(decimal(widest, 18).as_deref(), Some("99999999999999999999.999999999999999999"));
}
