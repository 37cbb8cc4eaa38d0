//! Writes a producer's monthly file as an Excel workbook.

use rust_xlsxwriter::{DocProperties, ExcelDateTime, Workbook, XlsxError};

use super::faults::Version;
use super::month::Month;
use super::portfolio::Producer;
use super::production_row::{COLUMNS, starts_at, step};
use crate::{Error, Result};

/// The bytes of the workbook.
pub(crate) fn workbook_bytes(producer: &Producer, month: &Month, version: &Version) -> Result<Vec<u8>> {
    workbook(producer, month, version).map_err(|source| {
        Error::bug(format!("write the workbook of {} for {}", producer.id, month.name)).because(source)
    })
}

fn workbook(producer: &Producer, month: &Month, version: &Version) -> Result<Vec<u8>, XlsxError> {
    let mut workbook = Workbook::new();
    // A fixed time of creation, so that the bytes are always the same.
    let created = ExcelDateTime::from_timestamp(version.at)?;
    workbook.set_properties(&DocProperties::new().set_author(producer.name).set_creation_datetime(&created));
    let sheet = workbook.add_worksheet();
    sheet.set_name("Production")?;
    for (column, name) in (0..).zip(COLUMNS) {
        sheet.write_string(0, column, name)?;
    }
    let mut line = 0;
    for row in &version.rows {
        line += 1;
        let (starts_at, step) = (starts_at(row), step(row.step_s));
        let texts = ["1", producer.id, &row.contract, &row.site, &row.prm, month.name, &starts_at, &step];
        for (column, text) in (0..).zip(texts) {
            sheet.write_string(line, column, text)?;
        }
        let numbers =
            [row.energy_wh as f64 / 1_000.0, row.auxiliaries_wh as f64 / 1_000.0, row.availability_pct as f64];
        for (column, number) in (8..).zip(numbers) {
            sheet.write_number(line, column, number)?;
        }
        for (column, text) in (11..).zip([row.event, row.source, row.status, row.comment]) {
            sheet.write_string(line, column, text)?;
        }
    }
    sheet.write_string(line + 1, 0, "#TOTAL")?;
    sheet.write_number(line + 1, 1, version.rows.len() as f64)?;
    sheet.write_number(line + 1, 2, version.total_wh as f64 / 1_000.0)?;
    workbook.save_to_buffer()
}
