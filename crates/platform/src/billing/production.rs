//! Writes the monthly file of a producer, whose layout is in docs/billing.md. [`super::faults`] adds its faults.

use std::fmt::Write;

use super::faults::{Version, versions};
use super::month::{Month, QUARTER_S};
use super::portfolio::{FileFormat, Producer};
use super::production_row::{COLUMNS, Row, starts_at, step};
use super::{BillingData, File, instant, sheet};
use crate::Result;

/// The files of all producers and months, in all their versions.
pub(crate) fn files(data: &BillingData) -> Result<Vec<File>> {
    let mut files = Vec::new();
    let mut producers: Vec<&'static Producer> = data.agreements.iter().map(|one| one.producer).collect();
    producers.dedup();
    for producer in producers {
        for month in &data.months {
            for version in versions(producer, month, rows(data, producer, month)) {
                let bytes = match producer.format {
                    FileFormat::Workbook => sheet::workbook_bytes(producer, month, &version)?,
                    form => encoded(&text(producer, month, &version), form),
                };
                let ending = if producer.format == FileFormat::Workbook { "xlsx" } else { "csv" };
                let name = format!("production/{}-{}{}.{ending}", producer.id, month.name, version.suffix);
                files.push(File { name, bytes, available_at: instant(version.at) });
            }
        }
    }
    Ok(files)
}

/// The correct rows of a producer's file: what its meters have measured.
fn rows(data: &BillingData, producer: &Producer, month: &Month) -> Vec<Row> {
    let mut rows = Vec::new();
    for (agreement, energies) in data.agreements.iter().zip(&data.energies) {
        if agreement.producer != producer {
            continue;
        }
        let steps = (month.to - month.from) / producer.step_s;
        rows.extend((0..steps).map(|step| {
            let at = month.from + step * producer.step_s;
            let availability_pct = energies.availability(at);
            let (event, comment) = match (energies.is_stopped(at), availability_pct) {
                (true, _) => ("ECRETEMENT", ""),
                (false, 100) => ("", ""),
                (false, 0) => ("INDISPO", "arrêt complet"),
                (false, _) => ("INDISPO", "puissance réduite, matériel commandé"),
            };
            Row {
                contract: agreement.contract.clone(),
                site: agreement.site_code.clone(),
                prm: agreement.prm.clone(),
                at,
                written_at: None,
                step_s: producer.step_s,
                energy_wh: energies.sum_wh(at, producer.step_s),
                auxiliaries_wh: energies.withdrawn_wh * producer.step_s / QUARTER_S,
                availability_pct,
                event,
                source: "COMPTEUR",
                status: "DEFINITIF",
                comment,
            }
        }));
    }
    rows
}

fn text(producer: &Producer, month: &Month, version: &Version) -> String {
    let end = if producer.format == FileFormat::Latin1 { "\r\n" } else { "\n" };
    let mut text = format!("{}{end}", COLUMNS.join(";"));
    for row in &version.rows {
        let _ = write!(
            text,
            "1;{};{};{};{};{};{};{};{};{};{},0;{};{};{};{}{end}",
            producer.id,
            row.contract,
            row.site,
            row.prm,
            month.name,
            starts_at(row),
            step(row.step_s),
            kwh(row.energy_wh, version.decimal),
            kwh(row.auxiliaries_wh, version.decimal),
            row.availability_pct,
            row.event,
            row.source,
            row.status,
            row.comment
        );
    }
    let _ = write!(text, "#TOTAL;{};{}{end}", version.rows.len(), kwh(version.total_wh, version.decimal));
    text
}

/// 216500 as "216,5".
fn kwh(wh: i64, decimal: char) -> String {
    let (whole, rest) = (wh / 1_000, wh % 1_000);
    if rest == 0 {
        return whole.to_string();
    }
    let fraction = format!("{rest:03}");
    format!("{whole}{decimal}{}", fraction.trim_end_matches('0'))
}

fn encoded(text: &str, format: FileFormat) -> Vec<u8> {
    match format {
        FileFormat::Utf8WithMark => [&[0xEF, 0xBB, 0xBF], text.as_bytes()].concat(),
        // The texts of this file contain only the first 256 characters.
        FileFormat::Latin1 => text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect(),
        FileFormat::Utf8 | FileFormat::Workbook => text.as_bytes().to_vec(),
    }
}
