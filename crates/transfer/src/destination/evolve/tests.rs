use arrow::datatypes::{DataType, Field};

use super::*;

fn schema(fields: &[(&str, DataType)]) -> Schema {
    Schema::new(fields.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect::<Vec<_>>())
}

fn names(schema: &Schema) -> Vec<&str> {
    schema.fields().iter().map(|f| f.name().as_str()).collect()
}

#[test]
fn the_same_columns_in_another_order_are_the_same() {
    let present = schema(&[("id", DataType::Int64), ("name", DataType::Utf8)]);
    let source = schema(&[("name", DataType::Utf8), ("id", DataType::Int64)]);
    assert_eq!(evolve("s.t", &present, &source, "replace it").unwrap(), Evolution::Same);
}

#[test]
fn columns_that_came_are_added_and_those_that_went_stay() {
    let present = schema(&[("id", DataType::Int64), ("gone", DataType::Utf8)]);
    let source = schema(&[("id", DataType::Int64), ("new", DataType::Boolean)]);
    let Evolution::Add(added) = evolve("s.t", &present, &source, "replace it").unwrap() else {
        panic!("nothing added")
    };
    assert_eq!(names(&added), ["id", "gone", "new"]);
    let fewer = schema(&[("id", DataType::Int64)]);
    assert_eq!(evolve("s.t", &present, &fewer, "replace it").unwrap(), Evolution::Same);
}

#[test]
fn wider_types_are_taken_over() {
    let pairs = [
        (DataType::Int16, DataType::Int32),
        (DataType::Int32, DataType::Int64),
        (DataType::Float32, DataType::Float64),
        (DataType::Decimal128(10, 2), DataType::Decimal128(12, 2)),
        (DataType::Decimal128(10, 2), DataType::Decimal128(14, 4)),
        (DataType::Int32, DataType::Decimal128(10, 0)),
        (DataType::Decimal128(10, 2), DataType::Utf8),
    ];
    for (was, is) in pairs {
        let present = schema(&[("id", DataType::Int64), ("v", was.clone())]);
        let source = schema(&[("id", DataType::Int64), ("v", is.clone()), ("new", DataType::Utf8)]);
        let Evolution::Rewrite(wider) = evolve("s.t", &present, &source, "replace it").unwrap() else {
            panic!("{was} to {is}")
        };
        assert_eq!(wider.field_with_name("v").unwrap().data_type(), &is);
        assert_eq!(names(&wider), ["id", "v", "new"]);
    }
}

#[test]
fn narrower_types_are_refused_by_name() {
    let pairs = [
        (DataType::Int64, DataType::Int32),
        (DataType::Float64, DataType::Float32),
        (DataType::Int64, DataType::Float64),
        (DataType::Decimal128(10, 2), DataType::Decimal128(11, 4)),
        (DataType::Decimal128(10, 2), DataType::Decimal128(10, 1)),
        (DataType::Int64, DataType::Decimal128(18, 0)),
        (DataType::Utf8, DataType::Int64),
        (DataType::Float64, DataType::Utf8),
    ];
    for (was, is) in pairs {
        let (was_schema, is_schema) = (schema(&[("v", was.clone())]), schema(&[("v", is.clone())]));
        let error = evolve("grid.t", &was_schema, &is_schema, "run x --replace --table grid.t").unwrap_err();
        assert_eq!(error.kind, crate::Kind::FixInput);
        assert_eq!(error.context, format!("carry grid.t: column \"v\" was {was} and is {is} now"));
        assert!(error.hint.unwrap().contains("--replace --table grid.t"));
    }
}
