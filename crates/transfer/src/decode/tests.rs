use arrow::array::{Array, AsArray};
use arrow::datatypes::{Date32Type, Decimal128Type, Int32Type, TimestampMicrosecondType};
use proptest::prelude::*;

use super::*;

mod wire;
use wire::{array, field, header, lengths, numeric, row, trailer};

fn decoder(columns: &[(&str, ColumnKind)]) -> Decoder {
    let columns: Vec<(String, ColumnKind)> =
        columns.iter().map(|(name, kind)| ((*name).to_owned(), kind.clone())).collect();
    Decoder::new("grid.measures", &columns, &[0])
}

/// One column, one row a value.
fn decode(kind: ColumnKind, values: &[Option<Vec<u8>>]) -> Result<arrow::array::ArrayRef> {
    let mut decoder = decoder(&[("v", kind)]);
    let mut message = header();
    for value in values {
        message.extend(row(&[value.as_deref()]));
    }
    message.extend(trailer());
    decoder.push(&message)?;
    Ok(Arc::clone(decoder.take()?.column(0)))
}

fn text_of(kind: ColumnKind, value: &[u8]) -> String {
    decode(kind, &[Some(value.to_vec())]).unwrap().as_string::<i32>().value(0).to_owned()
}

/// The error for a value that can't be decoded.
fn refusal(kind: ColumnKind, value: &[u8]) -> Error {
    let columns = [("id", ColumnKind::I32), ("reading", kind)];
    let mut message = header();
    message.extend(row(&[Some(&7i32.to_be_bytes()), Some(value)]));
    decoder(&columns).push(&message).unwrap_err()
}

#[test]
fn numerics_as_text_keep_every_digit() {
    let texts = [
        "0",
        "0.00",
        "1",
        "-1",
        "10",
        "9999",
        "10000",
        "10001",
        "100000000",
        "-100000000",
        "0.1",
        "0.0001",
        "0.00001",
        "-0.0100",
        "1234567890.0987654321",
        "10000.0001",
        "99999999999999999999999999999999999999999999999999",
        "0.00000000000000000000000000000000000000000000001",
        "1000000000000000000000.5000",
        "120.00",
        "-0.5",
    ];
    for text in texts {
        assert_eq!(text_of(ColumnKind::NumericText, &numeric(text)), text);
    }
    for (sign, text) in [(0xC000u16, "NaN"), (0xD000, "Infinity"), (0xF000, "-Infinity")] {
        let mut bytes = vec![0, 0, 0, 0];
        bytes.extend(sign.to_be_bytes());
        bytes.extend([0, 0]);
        assert_eq!(text_of(ColumnKind::NumericText, &bytes), text);
    }
}

#[test]
fn decimals_are_exact_up_to_38_digits() {
    let nines = "9".repeat(38);
    let widest = 10i128.pow(38) - 1;
    let cases: Vec<(String, u8, i8, i128)> = vec![
        ("0".into(), 10, 2, 0),
        ("0.00".into(), 10, 2, 0),
        ("1".into(), 10, 2, 100),
        ("-1.5".into(), 10, 2, -150),
        ("12345678.90".into(), 10, 2, 1_234_567_890),
        ("0.0001".into(), 4, 4, 1),
        ("0.00010".into(), 5, 5, 10),
        ("120000".into(), 8, 0, 120_000),
        ("99999000".into(), 8, 0, 99_999_000),
        (nines.clone(), 38, 0, widest),
        (format!("-{nines}"), 38, 0, -widest),
        (format!("0.{nines}"), 38, 38, widest),
        // A point inside PostgreSQL's groups of four digits: the last group is cut.
        (format!("{}.{}", &nines[1..], "9"), 38, 1, widest),
        (format!("{}.{}", &nines[2..], "99"), 38, 2, widest),
        (format!("{}.{}", &nines[3..], "999"), 38, 3, widest),
        (format!("9.{}", &nines[1..]), 38, 37, widest),
        (format!("-99.{}", &nines[2..]), 38, 36, -widest),
        ("10000000000000000000000000000000000000".into(), 38, 0, 10i128.pow(37)),
        // Zeros at the end, stored or not.
        ("1000000000000.0000".into(), 17, 4, 10i128.pow(16)),
    ];
    for (text, precision, scale, expected) in cases {
        let kind = ColumnKind::Decimal { precision, scale };
        let array = decode(kind, &[Some(numeric(&text))]).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(array.as_primitive::<Decimal128Type>().value(0), expected, "{text}");
    }
}

#[test]
fn a_decimal_that_would_be_rounded_or_cut_is_refused() {
    let refused = [("1000", 3, 0), ("0.001", 10, 2), ("9.995", 3, 2), ("100000000000000000000", 38, 19)];
    for (text, precision, scale) in &refused {
        let error = refusal(ColumnKind::Decimal { precision: *precision, scale: *scale }, &numeric(text));
        assert_eq!(error.kind, crate::Kind::FixInput);
        assert!(error.context.starts_with("grid.measures, column \"reading\", row id=7: a numeric that"), "{error}");
        assert!(error.hint.unwrap().contains("as = \"text\""));
    }
    let huge = "9".repeat(60);
    refusal(ColumnKind::Decimal { precision: 38, scale: 0 }, &numeric(&huge));
    let error = refusal(ColumnKind::Decimal { precision: 10, scale: 2 }, &[0, 0, 0, 0, 0xC0, 0, 0, 0]);
    assert!(error.context.contains("NaN"), "{error}");
    let error = refusal(ColumnKind::Decimal { precision: 10, scale: 2 }, &[0, 0, 0, 0, 0xD0, 0, 0, 0]);
    assert!(error.context.contains("infinity"), "{error}");
}

#[test]
fn times_of_day() {
    let time = |micros: i64| text_of(ColumnKind::Time, &micros.to_be_bytes());
    assert_eq!(time(0), "00:00:00");
    assert_eq!(time(86_400_000_000), "24:00:00");
    assert_eq!(time(45_296_000_000), "12:34:56");
    assert_eq!(time(45_296_120_000), "12:34:56.12");
    assert_eq!(time(86_399_999_999), "23:59:59.999999");
    assert_eq!(time(1), "00:00:00.000001");
    let time_tz = |west: i32| {
        let mut bytes = 3_600_000_000i64.to_be_bytes().to_vec();
        bytes.extend(west.to_be_bytes());
        text_of(ColumnKind::TimeTz, &bytes)
    };
    assert_eq!(time_tz(0), "01:00:00+00");
    assert_eq!(time_tz(-7200), "01:00:00+02");
    assert_eq!(time_tz(18_000), "01:00:00-05");
    assert_eq!(time_tz(-20_700), "01:00:00+05:45");
    assert_eq!(time_tz(30), "01:00:00-00:00:30");
    assert_eq!(time_tz(-57_599), "01:00:00+15:59:59");
}

#[test]
fn intervals_are_written_in_iso_8601() {
    let interval = |months: i32, days: i32, micros: i64| {
        let mut bytes = micros.to_be_bytes().to_vec();
        bytes.extend(days.to_be_bytes());
        bytes.extend(months.to_be_bytes());
        text_of(ColumnKind::Interval, &bytes)
    };
    assert_eq!(interval(0, 0, 0), "PT0S");
    assert_eq!(interval(14, 3, 0), "P1Y2M3D");
    assert_eq!(interval(-14, 3, 0), "P-1Y-2M3D");
    assert_eq!(interval(0, -1, 7_384_000_000), "P-1DT2H3M4S");
    assert_eq!(interval(0, 0, -500_000), "PT-0.5S");
    assert_eq!(interval(0, 0, -3_600_000_001), "PT-1H-0.000001S");
    assert_eq!(interval(0, 0, 1_500_000), "PT1.5S");
    assert_eq!(interval(0, 0, i64::MIN), "PT-2562047788H-54.775808S");
    assert_eq!(interval(i32::MAX, i32::MIN, 0), "P178956970Y7M-2147483648D");
    assert_eq!(interval(i32::MAX, i32::MAX, i64::MAX), "infinity");
}

#[test]
fn network_addresses() {
    let v4 = |bits, is_cidr, a: [u8; 4]| {
        let mut bytes = vec![2, bits, is_cidr, 4];
        bytes.extend(a);
        text_of(ColumnKind::Inet, &bytes)
    };
    assert_eq!(v4(32, 0, [10, 0, 0, 1]), "10.0.0.1");
    assert_eq!(v4(24, 0, [10, 0, 0, 1]), "10.0.0.1/24");
    assert_eq!(v4(32, 1, [10, 0, 0, 1]), "10.0.0.1/32");
    let v6 = |bits, is_cidr, address: &str| {
        let mut bytes = vec![3, bits, is_cidr, 16];
        bytes.extend(address.parse::<std::net::Ipv6Addr>().unwrap().octets());
        text_of(ColumnKind::Inet, &bytes)
    };
    for text in
        ["::", "::1", "::2", "1::", "0:0:1::", "2001:db8::8:800:200c:417a", "::ffff:1.2.3.4", "::ffff:0:102:304"]
    {
        assert_eq!(v6(128, 0, text), text);
    }
    // PostgreSQL's own format of IPv4-compatible addresses.
    assert_eq!(v6(128, 0, "::102:304"), "::1.2.3.4");
    assert_eq!(v6(128, 0, "::1:0"), "::0.1.0.0");
    assert_eq!(v6(64, 1, "2001:db8::"), "2001:db8::/64");
    assert_eq!(text_of(ColumnKind::MacAddress, &[8, 0, 0x2b, 1, 2, 3]), "08:00:2b:01:02:03");
    assert_eq!(text_of(ColumnKind::MacAddress, &[8, 0, 0x2b, 1, 2, 3, 4, 0xff]), "08:00:2b:01:02:03:04:ff");
}

#[test]
fn infinite_times_are_the_first_and_the_last() {
    let micros = [i64::MIN, i64::MAX, 0].map(|v| Some(v.to_be_bytes().to_vec()));
    let array = decode(ColumnKind::Timestamp { utc: true }, &micros).unwrap();
    let array = array.as_primitive::<TimestampMicrosecondType>();
    assert_eq!(array.values(), &[INFINITE_MICROS[0], INFINITE_MICROS[1], 946_684_800_000_000]);
    let days = [i32::MIN, i32::MAX, 0].map(|v| Some(v.to_be_bytes().to_vec()));
    let array = decode(ColumnKind::Date, &days).unwrap();
    let array = array.as_primitive::<Date32Type>();
    let shown: Vec<String> = (0..3).map(|at| array.value_as_date(at).unwrap().to_string()).collect();
    assert_eq!(shown, ["0001-01-01", "9999-12-31", "2000-01-01"]);
    for days in [2_932_897 - 10_957, -719_163 - 10_957] {
        let error = refusal(ColumnKind::Date, &i32::to_be_bytes(days));
        assert!(error.context.contains("outside the years 1 to 9999"), "{error}");
    }
}

#[test]
fn lists_have_nulls_and_one_dimension() {
    let kind = ColumnKind::List(Box::new(ColumnKind::I32));
    let value = array(&[(3, 1)], &[field(Some(&1i32.to_be_bytes())), field(None), field(Some(&3i32.to_be_bytes()))]);
    let empty = array(&[], &[]);
    let lists = decode(kind.clone(), &[Some(value), None, Some(empty)]).unwrap();
    let lists = lists.as_list::<i32>();
    let first = lists.value(0);
    assert_eq!(first.as_primitive::<Int32Type>().iter().collect::<Vec<_>>(), [Some(1), None, Some(3)]);
    assert!(lists.is_null(1) && lists.is_valid(2) && lists.value(2).is_empty());

    let one = field(Some(&1i32.to_be_bytes()));
    let error = refusal(kind.clone(), &array(&[(1, 1), (1, 1)], std::slice::from_ref(&one)));
    assert_eq!(
        error.context,
        "grid.measures, column \"reading\", row id=7: an array of 2 dimensions, where a list has one"
    );
    assert!(error.hint.unwrap().contains("as = \"text\""));
    let error = refusal(kind, &array(&[(1, 0)], &[one]));
    assert!(error.context.contains("column \"reading\", row id=7: an array that starts at 0"), "{error}");
}

#[test]
fn messages_may_hold_any_number_of_rows_and_batches_follow_one_another() {
    let mut decoder = decoder(&[("id", ColumnKind::I32), ("name", ColumnKind::Text)]);
    decoder.push(&header()).unwrap();
    for id in 0..3i32 {
        decoder.push(&row(&[Some(&id.to_be_bytes()), (id != 1).then_some(b"x".as_slice())])).unwrap();
    }
    assert_eq!((decoder.rows(), decoder.bytes()), (3, 3 * (2 + 4 + 4 + 4) + 2));
    let batch = decoder.take().unwrap();
    assert_eq!((batch.num_rows(), batch.column(1).null_count()), (3, 1));
    assert_eq!((decoder.rows(), decoder.bytes()), (0, 0));
    // The NULLs of one batch don't affect the next.
    decoder.push(&row(&[Some(&9i32.to_be_bytes()), Some(b"y")])).unwrap();
    decoder.push(&trailer()).unwrap();
    decoder.restart();
    decoder.push(&[header(), row(&[None, Some(b"z")])].concat()).unwrap();
    let batch = decoder.take().unwrap();
    assert_eq!((batch.num_rows(), batch.column(0).null_count(), batch.column(1).null_count()), (2, 1, 0));
}

#[test]
fn bytes_that_are_no_copy_are_a_bug_and_an_invalid_text_is_named() {
    let mut other = decoder(&[("id", ColumnKind::I32)]);
    assert_eq!(other.push(b"not a copy at all, and long enough").unwrap_err().kind, crate::Kind::Bug);
    let mut narrow = decoder(&[("id", ColumnKind::I32)]);
    let error = narrow.push(&[header(), row(&[None, None])].concat()).unwrap_err();
    assert!(error.context.contains("Some(2) fields, not 1"), "{error}");
    let error = decode(ColumnKind::Text, &[Some(vec![0xff])]).unwrap_err();
    assert_eq!(error.context, "decode column \"v\" of grid.measures");
}

fn kinds() -> Vec<(&'static str, ColumnKind)> {
    let composite = ColumnKind::Struct(vec![
        ("a".into(), ColumnKind::I64),
        ("b".into(), ColumnKind::List(Box::new(ColumnKind::Struct(vec![("c".into(), ColumnKind::Text)])))),
    ]);
    vec![
        ("id", ColumnKind::I32),
        ("decimal", ColumnKind::Decimal { precision: 38, scale: 3 }),
        ("numeric", ColumnKind::NumericText),
        ("jsonb", ColumnKind::Jsonb),
        ("bytes", ColumnKind::Bytes),
        ("uuid", ColumnKind::Uuid),
        ("timetz", ColumnKind::TimeTz),
        ("interval", ColumnKind::Interval),
        ("inet", ColumnKind::Inet),
        ("mac", ColumnKind::MacAddress),
        ("at", ColumnKind::Timestamp { utc: false }),
        ("list", ColumnKind::List(Box::new(ColumnKind::NumericText))),
        ("struct", composite),
        ("range", ColumnKind::Range(Box::new(ColumnKind::Date))),
        ("multirange", ColumnKind::Multirange(Box::new(ColumnKind::I32))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic(values in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..48)), 15)) {
        let values: Vec<Option<&[u8]>> = values.iter().map(Option::as_deref).collect();
        let mut whole = decoder(&kinds());
        if whole.push(&[header(), row(&values)].concat()).is_ok() {
            let _ = whole.take();
        }
        // Each kind by itself, so that an error of an earlier column does not hide it.
        for ((name, kind), value) in kinds().into_iter().zip(values) {
            let mut one = decoder(&[(name, kind)]);
            if one.push(&[header(), row(&[value])].concat()).is_ok() {
                let _ = one.take();
            }
        }
    }

    #[test]
    fn no_cut_or_changed_message_panics(cut in 0usize..400, at in 0usize..400, to in any::<u8>()) {
        let list = array(&[(2, 1)], &[field(Some(&numeric("1.5"))), field(None)]);
        let inner = [2i32.to_be_bytes().as_slice(), &lengths(20, &7i64.to_be_bytes()), &lengths(1, &array(&[], &[]))].concat();
        let range = [&[0x02u8][..], &field(Some(&1i32.to_be_bytes())), &field(Some(&9i32.to_be_bytes()))].concat();
        let values: [&[u8]; 15] = [
            &1i32.to_be_bytes(), &numeric("12.345"), &numeric("-1e0"), b"\x01{}", b"ab", &[7; 16], &[0; 12], &[0; 16],
            &[2, 32, 0, 4, 1, 2, 3, 4], &[1; 6], &0i64.to_be_bytes(), &list, &inner, &range,
            &[1i32.to_be_bytes().as_slice(), &field(Some(&range))].concat(),
        ];
        let values: Vec<Option<&[u8]>> = values.iter().map(|v| Some(*v)).collect();
        let mut message = [header(), row(&values)].concat();
        let mut sound = decoder(&kinds());
        sound.push(&message).unwrap();
        prop_assert_eq!(sound.take().unwrap().num_rows(), 1);
        let length = message.len();
        message[at % length] = to;
        message.truncate(cut.min(length));
        let mut broken = decoder(&kinds());
        if broken.push(&message).is_ok() {
            let _ = broken.take();
        }
    }
}

/// A column of each kind.
fn all_kinds() -> Vec<(String, ColumnKind)> {
    use ColumnKind as K;
    let kinds = [
        K::Bool,
        K::I16,
        K::I32,
        K::I64,
        K::U32,
        K::F32,
        K::F64,
        K::Decimal { precision: 12, scale: 3 },
        K::NumericText,
        K::Text,
        K::Jsonb,
        K::Bytes,
        K::Uuid,
        K::Date,
        K::Timestamp { utc: true },
        K::Time,
        K::TimeTz,
        K::Interval,
        K::Inet,
        K::MacAddress,
        K::List(Box::new(K::I32)),
        K::Struct(vec![("a".to_owned(), K::I32), ("b".to_owned(), K::Text)]),
        K::Range(Box::new(K::I32)),
        K::Multirange(Box::new(K::I32)),
    ];
    kinds.into_iter().enumerate().map(|(at, kind)| (format!("c{at}"), kind)).collect()
}

#[test]
fn random_bytes_are_rows_or_an_error() {
    let columns = all_kinds();
    let number = numeric("1.234");
    let values: Vec<Vec<u8>> = columns
        .iter()
        .map(|(_, kind)| match kind {
            ColumnKind::Decimal { .. } | ColumnKind::NumericText => number.clone(),
            ColumnKind::Bool => vec![1],
            ColumnKind::I16 => vec![0, 7],
            ColumnKind::I64 | ColumnKind::F64 | ColumnKind::Timestamp { .. } | ColumnKind::Time => vec![0; 8],
            ColumnKind::TimeTz => vec![0; 12],
            ColumnKind::Uuid | ColumnKind::Interval => vec![0; 16],
            ColumnKind::Text | ColumnKind::Bytes => "watt".as_bytes().to_vec(),
            ColumnKind::Jsonb => [&[1][..], b"{}"].concat(),
            ColumnKind::Inet => vec![2, 32, 0, 4, 10, 0, 0, 1],
            ColumnKind::MacAddress => vec![0; 6],
            ColumnKind::List(_) => array(&[(2, 1)], &[field(Some(&7_i32.to_be_bytes())), field(None)]),
            ColumnKind::Struct(_) => {
                [&2_i32.to_be_bytes()[..], &lengths(23, &[0, 0, 0, 1]), &lengths(25, b"x")].concat()
            }
            ColumnKind::Range(_) => {
                [&[2][..], &4_i32.to_be_bytes(), &[0, 0, 0, 1], &4_i32.to_be_bytes(), &[0, 0, 0, 9]].concat()
            }
            ColumnKind::Multirange(_) => vec![0, 0, 0, 0],
            _ => vec![0, 0, 0, 7],
        })
        .collect();
    let values: Vec<Option<&[u8]>> = values.iter().map(|value| Some(value.as_slice())).collect();
    let valid = [header(), row(&values), row(&vec![None; values.len()]), trailer()].concat();
    let whole = Decoder::new("grid.measures", &columns, &[0]).push(&valid);
    assert!(whole.is_ok(), "{whole:?}");
    testkit::read_changed_bytes(&[&valid], |bytes| {
        let mut decoder = Decoder::new("grid.measures", &columns, &[0]);
        if decoder.push(bytes).is_ok() {
            let _ = decoder.take();
        }
    });
}
