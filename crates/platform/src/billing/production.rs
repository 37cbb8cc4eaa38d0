//! The file that a producer completes each month: its layout is in docs/billing.md. How well it is
//! written is the matter of [`super::faults`].

use std::fmt::Write;

use super::faults::{Version, versions};
use super::portfolio::{Form, Producer};
use super::{File, Month, World, instant, sheet};
use crate::Result;
use crate::calendar::paris;

/// In the file's own language.
pub(crate) const COLUMNS: [&str; 15] = [
    "schema_version",
    "producteur_id",
    "contrat_id",
    "site_id",
    "prm",
    "mois",
    "horodate_debut",
    "pas",
    "energie_injectee_kwh",
    "energie_soutiree_auxiliaires_kwh",
    "disponibilite_pct",
    "code_evenement",
    "source",
    "statut",
    "commentaire",
];

/// A step of a metering point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub contract: String,
    pub site: String,
    pub prm: String,
    pub at: i64,
    /// As it is written where that is not what `at` is.
    pub written_at: Option<String>,
    pub step_s: i64,
    pub energy_wh: i64,
    pub auxiliaries_wh: i64,
    pub availability_pct: i64,
    pub event: &'static str,
    pub source: &'static str,
    pub status: &'static str,
    pub comment: &'static str,
}

pub(crate) fn files(world: &World) -> Result<Vec<File>> {
    let mut files = Vec::new();
    let mut producers: Vec<&'static Producer> = world.agreements.iter().map(|one| one.producer).collect();
    producers.dedup();
    for producer in producers {
        for month in &world.months {
            for version in versions(producer, month, rows(world, producer, month)) {
                let bytes = match producer.form {
                    Form::Sheet => sheet::written(producer, month, &version)?,
                    form => encoded(&text(producer, month, &version), form),
                };
                let ending = if producer.form == Form::Sheet { "xlsx" } else { "csv" };
                let name = format!("production/{}-{}{}.{ending}", producer.id, month.name, version.suffix);
                files.push(File { name, bytes, available_at: instant(version.at) });
            }
        }
    }
    Ok(files)
}

/// What a producer's meters say of a month: the truth.
fn rows(world: &World, producer: &Producer, month: &Month) -> Vec<Row> {
    let mut rows = Vec::new();
    for (agreement, energies) in world.agreements.iter().zip(&world.energies) {
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
                auxiliaries_wh: energies.withdrawn_wh * producer.step_s / super::QUARTER_S,
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
    let end = if producer.form == Form::Latin1 { "\r\n" } else { "\n" };
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

/// Local time with its offset.
pub(crate) fn starts_at(row: &Row) -> String {
    if let Some(text) = &row.written_at {
        return text.clone();
    }
    local_text(row.at)
}

pub(crate) fn local_text(at: i64) -> String {
    let offset_h = (paris(at) - at) / 3_600;
    format!("{}+{offset_h:02}:00", instant(paris(at)).format("%Y-%m-%dT%H:%M:%S"))
}

pub(crate) fn step(step_s: i64) -> String {
    format!("PT{}M", step_s / 60)
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

fn encoded(text: &str, form: Form) -> Vec<u8> {
    match form {
        Form::Utf8WithMark => [&[0xEF, 0xBB, 0xBF], text.as_bytes()].concat(),
        // All that is written here is in the first 256 characters.
        Form::Latin1 => text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect(),
        Form::Utf8 | Form::Sheet => text.as_bytes().to_vec(),
    }
}
