//! What goes wrong with files from so many hands, each kind once or twice in the six months. What is
//! wrong comes right some days later, as a new version of the same name.

use super::Month;
use super::portfolio::Producer;
use super::production::{Row, local_text};
use crate::calendar::DAY_S;

/// One state of a producer's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// Of its name.
    pub suffix: &'static str,
    pub rows: Vec<Row>,
    pub total_wh: i64,
    pub decimal: char,
    pub at: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// After the month was billed, where nothing but the file tells the energy.
    Late,
    /// A point for a comma: a thousand times as much to a careless reader.
    DecimalPoint,
    /// The same bytes under a second name.
    Twice,
    /// The hour that the clock passes over is there, and the next one is the same instant again.
    ClockChange,
    WrongTotal,
    /// Three hours are missing from the first state; it is billed before the second comes.
    Corrected,
    /// By one percent more than the meter says.
    TooMuch,
    /// Forty hours that the producer guessed.
    Estimated,
}

const FAULTS: [(&str, &str, Fault); 8] = [
    ("PRD0001", "2026-01", Fault::DecimalPoint),
    ("PRD0002", "2026-02", Fault::Twice),
    ("PRD0003", "2026-02", Fault::Corrected),
    ("PRD0003", "2026-05", Fault::Estimated),
    ("PRD0005", "2026-03", Fault::ClockChange),
    ("PRD0005", "2026-04", Fault::TooMuch),
    ("PRD0006", "2026-04", Fault::WrongTotal),
    ("PRD0007", "2026-01", Fault::Late),
];

pub(crate) fn versions(producer: &Producer, month: &Month, rows: Vec<Row>) -> Vec<Version> {
    let number: i64 = producer.id.trim_start_matches("PRD").parse().unwrap_or_default();
    let fault = FAULTS.iter().find(|(id, name, _)| *id == producer.id && *name == month.name).map(|(.., fault)| *fault);
    let right = Version { suffix: "", total_wh: sum(&rows), rows, decimal: ',', at: month.later(0, 4 + number) };
    let later = |days: i64, hours: i64| Version { at: month.later(days, hours), ..right.clone() };
    match fault {
        None => vec![right],
        Some(Fault::Late) => vec![later(5, 9)],
        Some(Fault::DecimalPoint) => vec![Version { decimal: '.', ..right.clone() }, later(2, 14)],
        Some(Fault::Twice) => vec![right.clone(), Version { suffix: " (1)", ..later(0, 11) }],
        Some(Fault::ClockChange) => vec![changed(&right, clock_change), later(1, 15)],
        Some(Fault::WrongTotal) => vec![Version { total_wh: right.total_wh + 1_000_000, ..right.clone() }, later(1, 8)],
        Some(Fault::Corrected) => {
            let mut second = later(11, 10);
            mark(&mut second.rows, "corrigé après relève du compteur");
            vec![changed(&right, |rows| forgotten(rows)), second]
        }
        Some(Fault::TooMuch) => {
            vec![changed(&right, |rows| rows.iter_mut().for_each(|row| row.energy_wh += row.energy_wh / 100))]
        }
        Some(Fault::Estimated) => vec![changed(&right, |rows| estimated(rows))],
    }
}

fn sum(rows: &[Row]) -> i64 {
    rows.iter().map(|row| row.energy_wh).sum()
}

fn changed(version: &Version, change: impl Fn(&mut Vec<Row>)) -> Version {
    let mut changed = version.clone();
    change(&mut changed.rows);
    changed.total_wh = sum(&changed.rows);
    changed
}

/// Noon of the tenth day and the two hours that follow.
fn is_forgotten(row: &Row, first: i64) -> bool {
    let noon = first + 9 * DAY_S + 12 * 3_600;
    (noon..noon + 3 * 3_600).contains(&row.at)
}

fn forgotten(rows: &mut [Row]) {
    let Some(first) = rows.first().map(|row| row.at) else { return };
    for row in rows.iter_mut().filter(|row| is_forgotten(row, first)) {
        row.energy_wh = 0;
        row.availability_pct = 0;
        row.event = "INDISPO";
    }
}

fn mark(rows: &mut [Row], comment: &'static str) {
    let Some(first) = rows.first().map(|row| row.at) else { return };
    for row in rows.iter_mut().filter(|row| is_forgotten(row, first)) {
        row.comment = comment;
    }
}

/// From two o'clock on the clock of winter: "02:00+01:00" is three o'clock, which comes next.
fn clock_change(rows: &mut Vec<Row>) {
    let offset = |row: &Row| crate::calendar::paris(row.at) - row.at;
    let Some(place) = (1..rows.len()).find(|place| offset(&rows[*place]) > offset(&rows[place - 1])) else { return };
    let mut extra = rows[place].clone();
    extra.energy_wh = rows[place - 1].energy_wh;
    let winter = local_text(extra.at - extra.step_s);
    extra.written_at = Some(winter.replacen("T01:", "T02:", 1));
    rows.insert(place, extra);
}

fn estimated(rows: &mut [Row]) {
    const HOURS: usize = 40;
    for row in rows.iter_mut().skip(200).take(HOURS) {
        row.source = "ESTIME";
        row.status = "PROVISOIRE";
        row.comment = "compteur en panne";
    }
}
