//! Bodies of requests to models that are predicted in this process, and of their answers: CSV, JSON and lines of JSON, in
//! the shapes that SageMaker's built-in algorithms and MLflow have.

use bytes::Bytes;
use lightgbm::Columns;

use super::csv_rows;
use super::json_rows;
use super::rows::Rows;
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
        Format::Json => json_rows::read(text, columns)?,
        Format::JsonLines => {
            let mut rows = Rows { values: Vec::new(), count: 0 };
            for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                json_rows::read_line(line, columns, &mut rows).map_err(|error| match error {
                    ServingError::Model { status, message } if !message.starts_with("row ") => {
                        ServingError::answered(status, format!("line {}: {message}", number + 1))
                    }
                    other => other,
                })?;
            }
            rows
        }
    };
    match rows.count {
        0 => Err(bad("the request has no rows".to_owned())),
        _ => Ok(rows),
    }
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
