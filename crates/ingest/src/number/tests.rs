use proptest::prelude::*;

use super::{Number, NumberError, NumberFormat, PLAIN};

const FRENCH: NumberFormat = NumberFormat { decimal: ',', thousands: Some(' ') };

fn french(text: &str) -> Result<String, NumberError> {
    Number::parse(text, FRENCH).map(|number| number.to_string())
}

#[test]
fn numbers_as_people_write_them() {
    for (text, number) in [
        ("0", "0"),
        ("100,0", "100.0"),
        ("-12,50", "-12.50"),
        ("\u{2212}3", "-3"),
        ("+3", "3"),
        ("1 234,5", "1234.5"),
        ("12\u{a0}345\u{202f}678", "12345678"),
        (",5", "0.5"),
        ("5,", "5"),
        ("007", "7"),
    ] {
        assert_eq!(french(text), Ok(number.to_owned()), "{text}");
    }
}

#[test]
fn what_is_no_number_says_why() {
    for (text, why) in [
        ("1.5", NumberError::OtherMark('.')),
        ("1'000", NumberError::OtherMark('\'')),
        ("1 23,5", NumberError::Groups),
        ("1234 567", NumberError::Groups),
        ("", NumberError::NotANumber),
        (",", NumberError::NotANumber),
        ("-", NumberError::NotANumber),
        ("--1", NumberError::NotANumber),
        ("1,2,3", NumberError::NotANumber),
        ("12a", NumberError::NotANumber),
        ("\u{661}", NumberError::NotANumber),
        ("1e3", NumberError::NotANumber),
    ] {
        assert_eq!(french(text), Err(why), "{text}");
    }
    assert_eq!(Number::parse(&"9".repeat(39), PLAIN).unwrap_err(), NumberError::TooLong);
    assert_eq!(Number::parse("1 000", PLAIN).unwrap_err(), NumberError::OtherMark(' '));
}

#[test]
fn numbers_as_programs_write_them() {
    for (text, number) in [("1e3", "1000"), ("-12.5e-3", "-0.0125"), ("1E+2", "100"), ("0e99", "0")] {
        assert_eq!(Number::parse_plain(text).unwrap().to_string(), number);
    }
    for text in ["1e", "e3", "1e1.5", "1e99", "1e-9999999999"] {
        assert!(Number::parse_plain(text).is_err(), "{text}");
    }
}

#[test]
fn nothing_is_rounded() {
    let number = Number::parse_plain("216.5").unwrap();
    assert_eq!((number.at_scale(3), number.at_scale(1), number.at_scale(0)), (Some(216_500), Some(2165), None));
    let wh = number.times(Number::whole(1000)).unwrap();
    assert_eq!((wh.at_scale(0), wh.to_string().as_str()), (Some(216_500), "216500"));
    assert_eq!(Number::whole(i128::MAX).times(Number::whole(2)), None);
}

proptest! {
    #[test]
    fn what_is_shown_is_what_is_read(mantissa in any::<i64>(), scale in 0_u32..20) {
        let number = Number { mantissa: i128::from(mantissa), scale };
        let read = Number::parse_plain(&number.to_string()).unwrap();
        prop_assert_eq!((read.mantissa, read.scale), (number.mantissa, number.scale));
    }

    #[test]
    fn order_and_sum_are_those_of_whole_numbers(a in any::<i32>(), b in any::<i32>(), at in 0_u32..6, other in 0_u32..6) {
        let number = |n: i32, scale| Number { mantissa: i128::from(n), scale };
        let (x, y) = (number(a, at), number(b, other));
        let (p, q) = (x.at_scale(6).unwrap(), y.at_scale(6).unwrap());
        prop_assert_eq!(x.cmp(&y), p.cmp(&q));
        prop_assert_eq!(x.plus(y).unwrap().at_scale(6), Some(p + q));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC*") {
        let _ = Number::parse(&text, FRENCH);
        let _ = Number::parse_plain(&text);
    }
}
