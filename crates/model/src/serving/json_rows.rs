//! Rows as JSON. The body is read row by row, from its text: a tree of all its values would need a hundred times its size,
//! and a number is read exactly, to the last bit, from the text of its field.

use std::fmt;
use std::marker::PhantomData;

use lightgbm::Columns;
use serde::Deserialize;
use serde::de::{Deserializer as _, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::ServingError;
use super::rows::{Rows, check_once, check_width, described};

const SHAPES: &str = "{\"instances\": [[..], ..]}, {\"instances\": [{\"COLUMN\": .., ..}]}, \
                      {\"dataframe_split\": {\"columns\": [..], \"data\": [[..]]}} or [[..], ..]";

/// Reads a body with one of the shapes that SageMaker's, TensorFlow's and MLflow's servers have.
pub(super) fn read(text: &str, columns: &Columns) -> Result<Rows, ServingError> {
    let no_json = |error: serde_json::Error| ServingError::answered(400, format!("the body is no JSON: {error}"));
    let body: &RawValue = serde_json::from_str(text).map_err(no_json)?;
    let mut rows = Rows { values: Vec::new(), count: 0 };
    let list = match Shape::of(body) {
        Shape::List => body,
        Shape::Object => {
            let members = Members::read(body)?;
            if let Some(split) = members.get("dataframe_split") {
                split_frame(split, columns, &mut rows)?;
                return Ok(rows);
            }
            let list = ["instances", "dataframe_records", "inputs"].iter().find_map(|key| members.get(key));
            list.filter(|list| Shape::of(list) == Shape::List).ok_or_else(unknown_shape)?
        }
        Shape::Single => return Err(unknown_shape()),
    };
    let mut is_row = false;
    each(list, |at, row| {
        // One row alone: [1, 2, 3].
        is_row |= at == 0 && Shape::of(row) == Shape::Single;
        if is_row { Ok(()) } else { add_row(row, columns, &mut rows) }
    })?;
    if is_row {
        add_row(list, columns, &mut rows)?;
    }
    Ok(rows)
}

/// Reads a line of JSON Lines.
pub(super) fn read_line(line: &str, columns: &Columns, rows: &mut Rows) -> Result<(), ServingError> {
    let row: &RawValue = serde_json::from_str(line).map_err(|error| ServingError::answered(400, error.to_string()))?;
    add_row(row, columns, rows)
}

fn unknown_shape() -> ServingError {
    ServingError::answered(400, format!("the body must be {SHAPES}"))
}

/// MLflow's `dataframe_split`: the names of the columns once, then rows.
fn split_frame(split: &RawValue, columns: &Columns, rows: &mut Rows) -> Result<(), ServingError> {
    let bad = |message: &str| ServingError::answered(400, format!("dataframe_split: {message}"));
    let members = if Shape::of(split) == Shape::Object { Members::read(split)? } else { Members(Vec::new()) };
    let list = |key: &str| members.get(key).filter(|list| Shape::of(list) == Shape::List);
    let names = list("columns").ok_or_else(|| bad("it has no columns"))?;
    let data = list("data").ok_or_else(|| bad("it has no data"))?;
    let mut places = Vec::new();
    each(names, |_, name| {
        let name: String = serde_json::from_str(name.get()).map_err(|_| bad("a column's name is no text"))?;
        let place = columns.position(&name).map_err(|error| ServingError::answered(400, described(&error)))?;
        // More than there are can't be named once.
        places.push(place);
        if places.len() > columns.len() {
            check_once(&places, columns).map_err(|message| bad(&message))
        } else {
            Ok(())
        }
    })?;
    check_once(&places, columns).map_err(|message| bad(&message))?;
    each(data, |_, row| {
        let begin = rows.begin_row(columns)?;
        let mut count = 0;
        if Shape::of(row) == Shape::List {
            each(row, |at, field| {
                count = at + 1;
                let Some(place) = places.get(at) else { return Ok(()) };
                rows.values[begin + place] = number(field, *place, columns, rows.count)?;
                Ok(())
            })?;
        }
        rows.count += 1;
        match count == places.len() {
            true => Ok(()),
            false => Err(bad(&format!("row {} has not one value a column", rows.count))),
        }
    })
}

/// A row as a list, as an object by names, or as SageMaker's `{"features": [..]}`.
fn add_row(row: &RawValue, columns: &Columns, rows: &mut Rows) -> Result<(), ServingError> {
    match Shape::of(row) {
        Shape::List => add_list(row, columns, rows),
        Shape::Object => {
            let members = Members::read(row)?;
            match features(&members)? {
                Some(features) => add_list(features, columns, rows),
                None => add_named(&members, columns, rows),
            }
        }
        Shape::Single => {
            let message = format!("row {} is neither a list nor an object", rows.count + 1);
            Err(ServingError::answered(400, message))
        }
    }
}

fn add_list(list: &RawValue, columns: &Columns, rows: &mut Rows) -> Result<(), ServingError> {
    let begin = rows.begin_row(columns)?;
    let mut count = 0;
    each(list, |at, field| {
        count = at + 1;
        if at < columns.len() {
            rows.values[begin + at] = number(field, at, columns, rows.count)?;
        }
        Ok(())
    })?;
    check_width(count, columns, rows.count)?;
    rows.count += 1;
    Ok(())
}

/// What is not named is missing.
fn add_named(members: &Members<'_>, columns: &Columns, rows: &mut Rows) -> Result<(), ServingError> {
    let bad = |row: usize, what: String| ServingError::answered(400, format!("row {}: {what}", row + 1));
    let begin = rows.begin_row(columns)?;
    let mut places = Vec::with_capacity(members.0.len());
    for (name, field) in &members.0 {
        let place = columns.position(name).map_err(|error| bad(rows.count, described(&error)))?;
        places.push(place);
        rows.values[begin + place] = number(field, place, columns, rows.count)?;
    }
    check_once(&places, columns).map_err(|message| bad(rows.count, message))?;
    rows.count += 1;
    Ok(())
}

/// The list of `{"features": [..]}`, or of `{"data": {"features": {"values": [..]}}}`.
fn features<'a>(members: &Members<'a>) -> Result<Option<&'a RawValue>, ServingError> {
    let is_list = |list: &&RawValue| Shape::of(list) == Shape::List;
    if let Some(list) = members.get("features").filter(is_list) {
        return Ok(Some(list));
    }
    let mut inner = members.get("data");
    for key in ["features", "values"] {
        inner = match inner.filter(|inner| Shape::of(inner) == Shape::Object) {
            Some(object) => Members::read(object)?.get(key),
            None => None,
        };
    }
    Ok(inner.filter(is_list))
}

fn number(field: &RawValue, place: usize, columns: &Columns, row: usize) -> Result<f64, ServingError> {
    let text = field.get();
    let read = match text.as_bytes().first() {
        _ if text == "null" => return Ok(f64::NAN),
        Some(b'"') => {
            let text: String = serde_json::from_str(text).map_err(|error| syntax(&error))?;
            columns.value(place, &text)
        }
        Some(b'[' | b'{') => {
            let (shown, name) = (text.chars().take(40).collect::<String>(), &columns.names()[place]);
            Err(base::Error::input(format!("the value {shown:?} of column {name:?} is not a number")))
        }
        _ => columns.value(place, text),
    };
    read.map_err(|error| ServingError::answered(400, format!("row {}: {}", row + 1, described(&error))))
}

fn syntax(error: &serde_json::Error) -> ServingError {
    ServingError::answered(400, format!("the body is no JSON: {error}"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    List,
    Object,
    Single,
}

impl Shape {
    fn of(value: &RawValue) -> Shape {
        match value.get().as_bytes().first() {
            Some(b'[') => Shape::List,
            Some(b'{') => Shape::Object,
            _ => Shape::Single,
        }
    }
}

/// The members of an object, in their order.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Members<'a> {
    fn read(object: &'a RawValue) -> Result<Members<'a>, ServingError> {
        serde_json::from_str(object.get()).map_err(|error| syntax(&error))
    }

    fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| *value)
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Members<'de>, D::Error> {
        struct Object<'a>(PhantomData<&'a ()>);
        impl<'de> Visitor<'de> for Object<'de> {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Members<'de>, M::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object(PhantomData))
    }
}

/// Calls `element` with each element of a list and its place, until one is refused.
fn each<'a>(
    list: &'a RawValue,
    element: impl FnMut(usize, &'a RawValue) -> Result<(), ServingError>,
) -> Result<(), ServingError> {
    let mut refused = None;
    let visitor = List { element, refused: &mut refused, lifetime: PhantomData };
    let read = serde_json::Deserializer::from_str(list.get()).deserialize_seq(visitor);
    match (refused, read) {
        (Some(error), _) => Err(error),
        (None, read) => read.map_err(|error| syntax(&error)),
    }
}

struct List<'a, 'r, F> {
    element: F,
    refused: &'r mut Option<ServingError>,
    lifetime: PhantomData<&'a ()>,
}

impl<'de, F: FnMut(usize, &'de RawValue) -> Result<(), ServingError>> Visitor<'de> for List<'de, '_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<S: SeqAccess<'de>>(mut self, mut list: S) -> Result<(), S::Error> {
        let mut at = 0;
        while let Some(element) = list.next_element()? {
            if let Err(error) = (self.element)(at, element) {
                *self.refused = Some(error);
                return Err(S::Error::custom("an element is refused"));
            }
            at += 1;
        }
        Ok(())
    }
}
