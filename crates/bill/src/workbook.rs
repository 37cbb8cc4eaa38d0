//! Writes a statement as a workbook, with numbers as numbers, for further calculation.

use rust_decimal::prelude::ToPrimitive;
use rust_xlsxwriter::{DocProperties, ExcelDateTime, Format, Workbook, Worksheet, XlsxError};

use crate::content::Statement;
use crate::error::ErrorContext;
use crate::labels::Labels;
use crate::{Kind, Result};

/// Writes a workbook of three sheets: whose statement it is with VAT and totals, the lines, and the days. The same statement
/// gives the same bytes.
///
/// # Errors
/// `FixInput` where a label is missing.
pub fn workbook(labels: &Labels, statement: &Statement) -> Result<Vec<u8>> {
    let rows = rows(labels, statement)?;
    let words = Words {
        summary: labels.label("text", "summary")?,
        heads: heads(labels, statement)?,
        totals: totals(labels, statement)?,
        lines: labels.label("text", "lines")?,
        days: labels.label("text", "days")?,
        total: labels.label("text", "total")?,
        day: labels.label("text", "day")?,
        energy: labels.label("text", "energy_mwh")?,
        columns: COLUMNS.map(|name| labels.label("text", name)).into_iter().collect::<Result<_>>()?,
    };
    let what = format!("write the workbook of {} for {}", statement.head.producer_id, statement.head.period);
    write_sheets(statement, &words, &rows).during(Kind::Bug, what)
}

const COLUMNS: [&str; 10] =
    ["contract", "site", "prm", "item", "quantity", "unit", "price", "price_unit", "amount", "vat_amount"];

/// The labels that a workbook uses.
struct Words<'a> {
    summary: &'a str,
    /// Names and values of the statement's header.
    heads: Vec<(&'a str, String)>,
    /// Names and amounts in cents: by rate of VAT, and of all lines.
    totals: Vec<(String, i64)>,
    lines: &'a str,
    days: &'a str,
    total: &'a str,
    day: &'a str,
    energy: &'a str,
    columns: Vec<&'a str>,
}

fn heads<'a>(labels: &'a Labels, statement: &Statement) -> Result<Vec<(&'a str, String)>> {
    let head = &statement.head;
    let texts = [
        ("number", Some(head.number.clone())),
        ("producer", Some(format!("{} ({})", head.producer, head.producer_id))),
        ("siret", head.siret.clone()),
        ("period", Some(head.period.clone())),
        ("issued_on", Some(head.issued_on.format(&labels.date).to_string())),
        ("replaces", head.replaces.as_ref().map(|before| before.number.clone())),
    ];
    let given = texts.into_iter().filter_map(|(name, text)| Some((name, text?)));
    given.map(|(name, text)| Ok((labels.label("text", name)?, text))).collect()
}

fn totals(labels: &Labels, statement: &Statement) -> Result<Vec<(String, i64)>> {
    let text = |name: &str| labels.label("text", name);
    let mut totals = vec![(text("total")?.to_owned(), statement.cents)];
    for vat in &statement.vat {
        let (name, base) = (text("vat_amount")?, text("vat_base")?);
        totals.push((format!("{name} {} % {base}", vat.rate_pct), vat.base_cents));
        totals.push((format!("{name} {} %", vat.rate_pct), vat.cents));
    }
    let due = if statement.is_credit_note() { "due_back" } else { "due" };
    totals.push((text(due)?.to_owned(), statement.due_cents()));
    Ok(totals)
}

/// A row of the sheet of lines.
struct Row<'a> {
    texts: [&'a str; 4],
    quantity: i64,
    unit: &'a str,
    price: Option<f64>,
    price_unit: &'a str,
    cents: i64,
    vat_cents: i64,
}

fn rows<'a>(labels: &'a Labels, statement: &'a Statement) -> Result<Vec<Row<'a>>> {
    let rows = statement.lines.iter().map(|counted| {
        let line = &counted.line;
        let item = labels.label("rule", &line.rule)?;
        Ok(Row {
            texts: [&line.contract_id, &line.site_id, &line.prm, item],
            quantity: line.quantity,
            unit: &line.unit,
            price: counted.price.and_then(|price| price.to_f64()),
            price_unit: line.price_unit.as_deref().map_or(Ok(""), |unit| labels.label("unit", unit))?,
            cents: counted.cents,
            vat_cents: counted.vat_cents,
        })
    });
    rows.collect()
}

fn write_sheets(statement: &Statement, words: &Words<'_>, rows: &[Row<'_>]) -> Result<Vec<u8>, XlsxError> {
    let mut workbook = Workbook::new();
    let created = ExcelDateTime::from_timestamp(statement.head.issued_at.timestamp())?;
    workbook.set_properties(&DocProperties::new().set_creation_datetime(&created));
    let money = Format::new().set_num_format("#,##0.00\\ \"€\"");
    let bold = Format::new().set_bold();
    let bold_money = Format::new().set_bold().set_num_format("#,##0.00\\ \"€\"");
    summary(workbook.add_worksheet(), words, &bold, &money)?;
    let sheet = workbook.add_worksheet();
    sheet.set_name(words.lines)?;
    head(sheet, &words.columns, &bold)?;
    let mut line = 0;
    for row in rows {
        line += 1;
        for (column, text) in (0..).zip(row.texts) {
            sheet.write_string(line, column, text)?;
        }
        sheet.write_number(line, 4, row.quantity as f64)?;
        sheet.write_string(line, 5, row.unit)?;
        if let Some(price) = row.price {
            sheet.write_number(line, 6, price)?;
        }
        sheet.write_string(line, 7, row.price_unit)?;
        sheet.write_number_with_format(line, 8, row.cents as f64 / 100.0, &money)?;
        sheet.write_number_with_format(line, 9, row.vat_cents as f64 / 100.0, &money)?;
    }
    sheet.write_string_with_format(line + 1, 0, words.total, &bold)?;
    sheet.write_number_with_format(line + 1, 8, statement.cents as f64 / 100.0, &bold_money)?;
    sheet.write_number_with_format(line + 1, 9, statement.vat_cents as f64 / 100.0, &bold_money)?;
    days(workbook.add_worksheet(), statement, words, &bold)?;
    workbook.save_to_buffer()
}

fn summary(sheet: &mut Worksheet, words: &Words<'_>, bold: &Format, money: &Format) -> Result<(), XlsxError> {
    sheet.set_name(words.summary)?;
    sheet.set_column_width(0, 40)?;
    sheet.set_column_width(1, 40)?;
    let mut line = 0;
    for (name, text) in &words.heads {
        sheet.write_string_with_format(line, 0, *name, bold)?;
        sheet.write_string(line, 1, text)?;
        line += 1;
    }
    for (name, cents) in &words.totals {
        line += 1;
        sheet.write_string_with_format(line, 0, name, bold)?;
        sheet.write_number_with_format(line, 1, *cents as f64 / 100.0, money)?;
    }
    Ok(())
}

fn head(sheet: &mut Worksheet, names: &[&str], bold: &Format) -> Result<(), XlsxError> {
    for (column, name) in (0..).zip(names) {
        sheet.write_string_with_format(0, column, *name, bold)?;
        sheet.set_column_width(column, 16)?;
    }
    sheet.set_freeze_panes(1, 0)?;
    Ok(())
}

fn days(sheet: &mut Worksheet, statement: &Statement, words: &Words<'_>, bold: &Format) -> Result<(), XlsxError> {
    sheet.set_name(words.days)?;
    head(sheet, &[words.day, words.energy], bold)?;
    let (date, energy) = (Format::new().set_num_format("yyyy-mm-dd"), Format::new().set_num_format("#,##0.000"));
    for (line, day) in (1..).zip(&statement.days) {
        let text = day.day.to_string();
        sheet.write_datetime_with_format(line, 0, &ExcelDateTime::parse_from_str(&text)?, &date)?;
        sheet.write_number_with_format(line, 1, day.energy_wh as f64 / 1_000_000.0, &energy)?;
    }
    Ok(())
}
