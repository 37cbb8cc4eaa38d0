//! Rows as CSV: with or without a head, and as French programs write it, with `;` between fields and a comma in numbers.

use lightgbm::Columns;

use super::ServingError;
use super::rows::{Rows, check_once, check_width, described};

pub(super) fn read(text: &str, columns: &Columns) -> Result<Rows, ServingError> {
    let text = text.trim_start_matches('\u{feff}');
    let first = text.lines().next().unwrap_or_default();
    // A single column has neither.
    let is_french = first.contains(';');
    let delimiter = if is_french { b';' } else { b',' };
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(text.as_bytes());
    let mut rows = Rows { values: Vec::new(), count: 0 };
    // By the places of the fields, the columns that they are.
    let mut places: Option<Vec<usize>> = None;
    for (number, record) in reader.records().enumerate() {
        let bad = |message: String| ServingError::answered(400, format!("line {}: {message}", number + 1));
        let record = record.map_err(|error| bad(error.to_string()))?;
        if number == 0 && is_head(&record, columns) {
            let found = record.iter().map(|name| columns.position(name.trim()));
            let found: Vec<usize> = found.collect::<Result<_, _>>().map_err(|error| bad(described(&error)))?;
            check_once(&found, columns).map_err(&bad)?;
            places = Some(found);
            continue;
        }
        match &places {
            None => check_width(record.len(), columns, rows.count)?,
            Some(places) if places.len() != record.len() => {
                return Err(bad(format!("it has {} fields, the head has {}", record.len(), places.len())));
            }
            Some(_) => {}
        }
        let begin = rows.begin_row(columns)?;
        for (at, field) in record.iter().enumerate() {
            let place = places.as_ref().map_or(at, |places| places[at]);
            let field = match is_french && !columns.is_category(place) {
                true => field.replace(',', "."),
                false => field.to_owned(),
            };
            rows.values[begin + place] = columns.value(place, &field).map_err(|error| bad(described(&error)))?;
        }
        rows.count += 1;
    }
    Ok(rows)
}

/// Whether a line names columns: a field is a column's name, and none is a number.
fn is_head(record: &csv::StringRecord, columns: &Columns) -> bool {
    let is_number = |field: &str| field.trim().replace(',', ".").parse::<f64>().is_ok();
    let is_name = |field: &str| columns.names().iter().any(|name| name == field.trim());
    record.iter().any(is_name) && !record.iter().any(is_number)
}
