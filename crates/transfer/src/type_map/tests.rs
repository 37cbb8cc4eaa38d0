use arrow::datatypes::{DataType, TimeUnit};

use super::*;

fn builtin_of(name: &str) -> SourceType {
    SourceType::Builtin { name: name.into(), modifier: -1 }
}

/// `atttypmod` as PostgreSQL packs it.
fn numeric_of(precision: i32, scale: i32) -> SourceType {
    SourceType::Builtin { name: "numeric".into(), modifier: ((precision << 16) | (scale & 0x7ff)) + 4 }
}

fn array_of(element: SourceType) -> SourceType {
    SourceType::Array(Box::new(element))
}

#[track_caller]
fn assert_native(source: &SourceType, arrow: &DataType) {
    let carried = map_type(source);
    assert_eq!((&carried.kind.arrow(), carried.cast), (arrow, None), "{source:?}");
}

#[track_caller]
fn assert_text(source: &SourceType) {
    assert_eq!(map_type(source), ColumnMapping { kind: ColumnKind::Text, cast: Some("text") }, "{source:?}");
}

#[test]
fn each_builtin_type_has_its_arrow_type() {
    let instant = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
    let table = [
        ("bool", DataType::Boolean),
        ("int2", DataType::Int16),
        ("int4", DataType::Int32),
        ("int8", DataType::Int64),
        ("oid", DataType::Int64),
        ("xid", DataType::Int64),
        ("cid", DataType::Int64),
        ("float4", DataType::Float32),
        ("float8", DataType::Float64),
        ("numeric", DataType::Utf8),
        ("text", DataType::Utf8),
        ("varchar", DataType::Utf8),
        ("bpchar", DataType::Utf8),
        ("name", DataType::Utf8),
        ("xml", DataType::Utf8),
        ("json", DataType::Utf8),
        ("jsonb", DataType::Utf8),
        ("bytea", DataType::Binary),
        ("uuid", DataType::Utf8),
        ("date", DataType::Date32),
        ("timestamp", instant(None)),
        ("timestamptz", instant(Some("UTC"))),
        ("time", DataType::Utf8),
        ("timetz", DataType::Utf8),
        ("interval", DataType::Utf8),
        ("inet", DataType::Utf8),
        ("cidr", DataType::Utf8),
        ("macaddr", DataType::Utf8),
        ("macaddr8", DataType::Utf8),
    ];
    for (name, arrow) in table {
        assert_native(&builtin_of(name), &arrow);
    }
}

#[test]
fn what_has_no_kind_of_its_own_is_carried_as_its_text() {
    for name in ["char", "bit", "varbit", "tsvector", "point", "box", "pg_lsn", "xid8", "tid", "regclass"] {
        assert_text(&builtin_of(name));
    }
    assert_text(&SourceType::Other("hstore".into()));
    assert_native(&SourceType::Other("citext".into()), &DataType::Utf8);
    assert_native(&SourceType::Other("geometry".into()), &DataType::Binary);
    assert_native(&SourceType::Enum, &DataType::Utf8);
}

#[test]
fn numeric_modifiers() {
    let decimal = |precision, scale| DataType::Decimal128(precision, scale);
    assert_native(&numeric_of(10, 2), &decimal(10, 2));
    assert_native(&numeric_of(38, 0), &decimal(38, 0));
    assert_native(&numeric_of(38, 38), &decimal(38, 38));
    // A negative scale rounds to the left of the point: numeric(5,-3) goes up to 99999000.
    assert_native(&numeric_of(5, -3), &decimal(8, 0));
    assert_native(&numeric_of(20, -18), &decimal(38, 0));
    // A scale beyond the precision: numeric(3,5) goes up to 0.00999.
    assert_native(&numeric_of(3, 5), &decimal(5, 5));
    for (precision, scale) in [(39, 0), (50, 10), (1000, 1000), (20, -19), (2, -1000), (3, 39)] {
        assert_native(&numeric_of(precision, scale), &DataType::Utf8);
    }
}

#[test]
fn money_is_a_decimal_of_cents() {
    let cents = ColumnKind::Decimal { precision: 19, scale: 2 };
    assert_eq!(map_type(&builtin_of("money")), ColumnMapping { kind: cents.clone(), cast: Some("numeric") });
    let many = ColumnMapping { kind: ColumnKind::List(Box::new(cents)), cast: Some("numeric[]") };
    assert_eq!(map_type(&array_of(builtin_of("money"))), many);
}

#[test]
fn arrays_are_lists_and_arrays_of_arrays_text() {
    let field = Field::new(ELEMENT, DataType::Int32, true);
    assert_native(&array_of(builtin_of("int4")), &DataType::List(Arc::new(field)));
    let texts = ColumnMapping { kind: ColumnKind::List(Box::new(ColumnKind::Text)), cast: Some("text[]") };
    assert_eq!(map_type(&array_of(builtin_of("point"))), texts);
    // Possible through a domain over an array.
    assert_text(&array_of(array_of(builtin_of("int4"))));
}

#[test]
fn composites_are_structs_where_all_their_fields_are_native() {
    let fields = vec![("a".to_owned(), builtin_of("int4")), ("b".to_owned(), array_of(numeric_of(4, 1)))];
    let expected = vec![
        ("a".to_owned(), ColumnKind::I32),
        ("b".to_owned(), ColumnKind::List(Box::new(ColumnKind::Decimal { precision: 4, scale: 1 }))),
    ];
    let composite = SourceType::Composite(fields.clone());
    assert_eq!(map_type(&composite).kind, ColumnKind::Struct(expected.clone()));
    let nested = SourceType::Composite(vec![("inner".into(), composite)]);
    assert_eq!(map_type(&nested).kind, ColumnKind::Struct(vec![("inner".into(), ColumnKind::Struct(expected))]));

    let mut with_point = fields;
    with_point.push(("c".into(), builtin_of("point")));
    assert_text(&SourceType::Composite(with_point));
    assert_text(&SourceType::Composite(Vec::new()));
}

#[test]
fn ranges_are_structs_and_multiranges_lists_of_them() {
    let range = SourceType::Range(Box::new(builtin_of("timestamptz")));
    let ColumnKind::Range(bound) = map_type(&range).kind else { panic!("not a range") };
    let names: Vec<String> = range_fields(&bound).iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["lower", "upper", "lower_inclusive", "upper_inclusive", "empty"]);
    assert_eq!(range_fields(&bound)[0].data_type(), &bound.arrow());
    let multirange = SourceType::Multirange(Box::new(builtin_of("int8")));
    let element = DataType::Struct(range_fields(&ColumnKind::I64));
    assert_native(&multirange, &list_of(element));
    assert_text(&SourceType::Range(Box::new(builtin_of("point"))));
}

#[test]
fn integers_and_times_order_an_incremental_transfer() {
    let cursors: Vec<&str> = ["int2", "int4", "int8", "timestamp", "timestamptz", "date", "oid", "numeric", "uuid"]
        .into_iter()
        .filter(|name| map_type(&builtin_of(name)).kind.is_cursor())
        .collect();
    assert_eq!(cursors, ["int2", "int4", "int8", "timestamp", "timestamptz"]);
}
