//! Adds faults to the producers' files, each kind once or twice in the six months. A wrong file is corrected some days
//! later by a new version of the same name.

use super::month::Month;
use super::portfolio::Producer;
use super::production_row::{Row, local_text};
use crate::calendar::DAY_S;

/// One version of a producer's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// A suffix of the file's name.
    pub suffix: &'static str,
    /// Its rows.
    pub rows: Vec<Row>,
    /// The declared total.
    pub total_wh: i64,
    /// The decimal separator.
    pub decimal: char,
    /// The instant from which it can be fetched.
    pub at: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The file comes after the month was billed, and is the only source of the energy.
    LateFile,
    /// A point instead of a comma: read as a thousands separator, it makes values a thousand times as large.
    DecimalPoint,
    /// The same bytes come again under another name.
    SentTwice,
    /// The file has the hour that the clock skips, so that the next row is of the same instant.
    ClockChange,
    /// The total is not the sum of the rows.
    WrongTotal,
    /// The first version has no energy for three hours, and is billed before the second comes.
    MissingHours,
    /// The energy is one percent more than the meter's.
    TooMuchEnergy,
    /// The producer has estimated forty hours.
    EstimatedHours,
}

const FAULTS: [(&str, &str, Fault); 8] = [
    ("PRD0001", "2026-01", Fault::DecimalPoint),
    ("PRD0002", "2026-02", Fault::SentTwice),
    ("PRD0003", "2026-02", Fault::MissingHours),
    ("PRD0003", "2026-05", Fault::EstimatedHours),
    ("PRD0005", "2026-03", Fault::ClockChange),
    ("PRD0005", "2026-04", Fault::TooMuchEnergy),
    ("PRD0006", "2026-04", Fault::WrongTotal),
    ("PRD0007", "2026-01", Fault::LateFile),
];

/// The versions of a producer's file for a month, with its faults.
pub(crate) fn versions(producer: &Producer, month: &Month, rows: Vec<Row>) -> Vec<Version> {
    let number: i64 = producer.id.trim_start_matches("PRD").parse().unwrap_or_default();
    let fault = FAULTS.iter().find(|(id, name, _)| *id == producer.id && *name == month.name).map(|(.., fault)| *fault);
    let right = Version { suffix: "", total_wh: sum(&rows), rows, decimal: ',', at: month.later(0, 4 + number) };
    let later = |days: i64, hours: i64| Version { at: month.later(days, hours), ..right.clone() };
    match fault {
        None => vec![right],
        Some(Fault::LateFile) => vec![later(5, 9)],
        Some(Fault::DecimalPoint) => vec![Version { decimal: '.', ..right.clone() }, later(2, 14)],
        Some(Fault::SentTwice) => vec![right.clone(), Version { suffix: " (1)", ..later(0, 11) }],
        Some(Fault::ClockChange) => vec![with_change(&right, clock_change), later(1, 15)],
        Some(Fault::WrongTotal) => vec![Version { total_wh: right.total_wh + 1_000_000, ..right.clone() }, later(1, 8)],
        Some(Fault::MissingHours) => {
            let mut second = later(11, 10);
            add_comment(&mut second.rows, "corrigé après relève du compteur");
            vec![with_change(&right, |rows| clear_hours(rows)), second]
        }
        Some(Fault::TooMuchEnergy) => {
            vec![with_change(&right, |rows| rows.iter_mut().for_each(|row| row.energy_wh += row.energy_wh / 100))]
        }
        Some(Fault::EstimatedHours) => vec![with_change(&right, |rows| mark_estimated(rows))],
    }
}

fn sum(rows: &[Row]) -> i64 {
    rows.iter().map(|row| row.energy_wh).sum()
}

fn with_change(version: &Version, change: impl Fn(&mut Vec<Row>)) -> Version {
    let mut changed = version.clone();
    change(&mut changed.rows);
    changed.total_wh = sum(&changed.rows);
    changed
}

/// Whether a row is of the three hours from noon of the tenth day on. `first` is the instant of the file's first row.
fn is_missing_hour(row: &Row, first: i64) -> bool {
    let noon = first + 9 * DAY_S + 12 * 3_600;
    (noon..noon + 3 * 3_600).contains(&row.at)
}

fn clear_hours(rows: &mut [Row]) {
    let Some(first) = rows.first().map(|row| row.at) else { return };
    for row in rows.iter_mut().filter(|row| is_missing_hour(row, first)) {
        row.energy_wh = 0;
        row.availability_pct = 0;
        row.event = "INDISPO";
    }
}

fn add_comment(rows: &mut [Row], comment: &'static str) {
    let Some(first) = rows.first().map(|row| row.at) else { return };
    for row in rows.iter_mut().filter(|row| is_missing_hour(row, first)) {
        row.comment = comment;
    }
}

/// Adds the hour that the clock skips, by winter time: "02:00+01:00" is the same instant as "03:00+02:00", the next
/// row.
fn clock_change(rows: &mut Vec<Row>) {
    let offset = |row: &Row| crate::calendar::paris(row.at) - row.at;
    let Some(place) = (1..rows.len()).find(|place| offset(&rows[*place]) > offset(&rows[place - 1])) else { return };
    let mut extra = rows[place].clone();
    extra.energy_wh = rows[place - 1].energy_wh;
    let winter = local_text(extra.at - extra.step_s);
    extra.written_at = Some(winter.replacen("T01:", "T02:", 1));
    rows.insert(place, extra);
}

fn mark_estimated(rows: &mut [Row]) {
    const HOURS: usize = 40;
    for row in rows.iter_mut().skip(200).take(HOURS) {
        row.source = "ESTIME";
        row.status = "PROVISOIRE";
        row.comment = "compteur en panne";
    }
}
