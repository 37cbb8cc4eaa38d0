//! Bodies of requests to models that are predicted in this process, and of their answers: CSV, JSON and lines of JSON, in
//! the shapes that SageMaker's built-in algorithms and MLflow have.

use bytes::Bytes;
use lightgbm::Columns;
use serde::Deserialize;
use serde_json::Value;

use super::csv_rows;
use super::rows::{Rows, check_once, check_width, described};
use super::{Prediction, ServingError};

/// A format of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Csv,
    Json,
    JsonLines,
}

impl Format {
    /// The format of a content type, without its parameters.
    pub fn of(content_type: &str) -> Option<Format> {
        match content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "text/csv" => Some(Format::Csv),
            "application/json" => Some(Format::Json),
            "application/jsonlines" | "application/x-jsonlines" => Some(Format::JsonLines),
            _ => None,
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Format::Csv => "text/csv",
            Format::Json => "application/json",
            Format::JsonLines => "application/jsonlines",
        }
    }
}

/// The format of the answer: the first that the caller accepts, or that of the request.
pub(super) fn answer_format(accept: Option<&str>, request: Format) -> Result<Format, ServingError> {
    let Some(accept) = accept.filter(|accept| !accept.trim().is_empty()) else { return Ok(request) };
    for accepted in accept.split(',') {
        let kind = accepted.split(';').next().unwrap_or_default().trim();
        if matches!(kind, "*/*" | "application/*") {
            return Ok(request);
        }
        if let Some(format) = Format::of(kind) {
            return Ok(format);
        }
    }
    let message = format!("accept {accept:?}: the answer can be text/csv, application/json or application/jsonlines");
    Err(ServingError::answered(406, message))
}

/// Reads a request's rows.
pub(super) fn rows(body: &Bytes, format: Format, columns: &Columns) -> Result<Rows, ServingError> {
    let bad = |message: String| ServingError::answered(400, message);
    let text = std::str::from_utf8(body).map_err(|error| bad(format!("the body is not UTF-8: {error}")))?;
    let rows = match format {
        Format::Csv => csv_rows::read(text, columns)?,
        Format::Json => json(text, columns)?,
        Format::JsonLines => {
            let mut rows = Rows { values: Vec::new(), count: 0 };
            for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                let parsed: Value =
                    serde_json::from_str(line).map_err(|error| bad(format!("line {}: {error}", number + 1)))?;
                add_row(&parsed, columns, &mut rows)?;
            }
            rows
        }
    };
    match rows.count {
        0 => Err(bad("the request has no rows".to_owned())),
        _ => Ok(rows),
    }
}

/// A request that is only numbers, which needs no tree of values.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Numbers {
    instances: Vec<Vec<Option<f64>>>,
}

fn json(text: &str, columns: &Columns) -> Result<Rows, ServingError> {
    if let Ok(Numbers { instances }) = serde_json::from_str::<Numbers>(text)
        && !columns.has_categories()
    {
        let mut rows = Rows { values: Vec::with_capacity(instances.len() * columns.len()), count: 0 };
        for row in instances {
            check_width(row.len(), columns, rows.count)?;
            rows.values.extend(row.into_iter().map(|value| value.unwrap_or(f64::NAN)));
            rows.count += 1;
        }
        return Ok(rows);
    }
    let shapes = "{\"instances\": [[..], ..]}, {\"instances\": [{\"COLUMN\": .., ..}]}, \
                  {\"dataframe_split\": {\"columns\": [..], \"data\": [[..]]}} or [[..], ..]";
    let parsed: Value = serde_json::from_str(text)
        .map_err(|error| ServingError::answered(400, format!("the body is no JSON: {error}")))?;
    let mut rows = Rows { values: Vec::new(), count: 0 };
    if let Some(split) = parsed.get("dataframe_split") {
        split_frame(split, columns, &mut rows)?;
        return Ok(rows);
    }
    let instances = ["instances", "dataframe_records", "inputs"].iter().find_map(|key| parsed.get(*key));
    let Some(Value::Array(instances)) = instances.or(Some(&parsed)) else {
        return Err(ServingError::answered(400, format!("the body must be {shapes}")));
    };
    // One row alone: [1, 2, 3].
    if instances.first().is_some_and(|first| !first.is_array() && !first.is_object()) {
        add_row(&Value::Array(instances.clone()), columns, &mut rows)?;
        return Ok(rows);
    }
    instances.iter().try_for_each(|row| add_row(row, columns, &mut rows))?;
    Ok(rows)
}

/// MLflow's `dataframe_split`: the names of the columns once, then rows.
fn split_frame(split: &Value, columns: &Columns, rows: &mut Rows) -> Result<(), ServingError> {
    let bad = |message: &str| ServingError::answered(400, format!("dataframe_split: {message}"));
    let names = split["columns"].as_array().ok_or_else(|| bad("it has no columns"))?;
    let data = split["data"].as_array().ok_or_else(|| bad("it has no data"))?;
    let places = names.iter().map(|name| {
        let name = name.as_str().ok_or_else(|| bad("a column's name is no text"))?;
        columns.position(name).map_err(|error| ServingError::answered(400, error.chain()))
    });
    let places = places.collect::<Result<Vec<usize>, _>>()?;
    check_once(&places, columns).map_err(|message| bad(&message))?;
    for row in data {
        let row = row.as_array().filter(|row| row.len() == places.len());
        let row = row.ok_or_else(|| bad(&format!("row {} has not one value a column", rows.count + 1)))?;
        let begin = rows.begin_row(columns)?;
        for (place, value) in places.iter().zip(row) {
            rows.values[begin + place] = number(value, *place, columns, rows.count)?;
        }
        rows.count += 1;
    }
    Ok(())
}

/// A row as a list, as an object by names, or as SageMaker's `{"features": [..]}`.
fn add_row(row: &Value, columns: &Columns, rows: &mut Rows) -> Result<(), ServingError> {
    let features = row.get("features").or_else(|| row.get("data")?.get("features")?.get("values"));
    match features.filter(|features| features.is_array()).unwrap_or(row) {
        Value::Array(values) => {
            check_width(values.len(), columns, rows.count)?;
            let begin = rows.begin_row(columns)?;
            for (place, value) in values.iter().enumerate() {
                rows.values[begin + place] = number(value, place, columns, rows.count)?;
            }
        }
        // What is not named is missing.
        Value::Object(named) => {
            let begin = rows.begin_row(columns)?;
            for (name, value) in named {
                let place = columns.position(name);
                let place = place.map_err(|error| {
                    ServingError::answered(400, format!("row {}: {}", rows.count + 1, described(&error)))
                })?;
                rows.values[begin + place] = number(value, place, columns, rows.count)?;
            }
        }
        _ => {
            let message = format!("row {} is neither a list nor an object", rows.count + 1);
            return Err(ServingError::answered(400, message));
        }
    }
    rows.count += 1;
    Ok(())
}

fn number(value: &Value, place: usize, columns: &Columns, row: usize) -> Result<f64, ServingError> {
    let written = match value {
        Value::Null => return Ok(f64::NAN),
        Value::Number(number) if !columns.is_category(place) => return Ok(number.as_f64().unwrap_or(f64::NAN)),
        Value::Bool(flag) if !columns.is_category(place) => return Ok(f64::from(u8::from(*flag))),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    columns
        .value(place, &written)
        .map_err(|error| ServingError::answered(400, format!("row {}: {}", row + 1, described(&error))))
}

/// The answer with predictions of `outputs` values a row.
pub(super) fn answer(predictions: &[f64], outputs: usize, format: Format) -> Prediction {
    let mut body = Vec::with_capacity(predictions.len() * 20 + 20);
    let rows = predictions.chunks_exact(outputs.max(1));
    match format {
        Format::Csv => rows.for_each(|row| {
            list(row, &mut body);
            body.push(b'\n');
        }),
        Format::JsonLines => rows.for_each(|row| {
            nested(row, &mut body);
            body.push(b'\n');
        }),
        Format::Json => {
            body.extend_from_slice(b"{\"predictions\": [");
            for (at, row) in rows.enumerate() {
                if at > 0 {
                    body.extend_from_slice(b", ");
                }
                nested(row, &mut body);
            }
            body.extend_from_slice(b"]}");
        }
    }
    Prediction { body: body.into(), content_type: format.content_type().to_owned(), custom_attributes: None }
}

/// A row's only value, or a list of them.
fn nested(row: &[f64], into: &mut Vec<u8>) {
    if row.len() == 1 {
        return list(row, into);
    }
    into.push(b'[');
    list(row, into);
    into.push(b']');
}

fn list(row: &[f64], into: &mut Vec<u8>) {
    for (at, value) in row.iter().enumerate() {
        if at > 0 {
            into.push(b',');
        }
        // JSON has no NaN; a prediction is never one but where the model's own leaves are.
        match serde_json::Number::from_f64(*value) {
            Some(number) => into.extend_from_slice(number.to_string().as_bytes()),
            None => into.extend_from_slice(b"null"),
        }
    }
}

#[cfg(test)]
mod tests;
