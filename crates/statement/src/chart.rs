//! Where the bars of a month's days stand: shapes only, colours and words are the template's.

use serde::Serialize;

use crate::Day;

pub(crate) const WIDTH: f64 = 720.0;
pub(crate) const HEIGHT: f64 = 180.0;
/// Of a day's place, what stays free.
const GAP: f64 = 0.25;

#[derive(Debug, Serialize)]
pub(crate) struct Chart {
    pub width: f64,
    pub height: f64,
    pub bars: Vec<Bar>,
    pub marks: Vec<Mark>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Bar {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
    /// Of the month.
    pub day: u32,
    pub energy_wh: i64,
}

/// A line across, at a round value.
#[derive(Debug, Serialize)]
pub(crate) struct Mark {
    pub y: f64,
    pub energy_wh: i64,
}

pub(crate) fn chart(days: &[Day]) -> Chart {
    let most = days.iter().map(|day| day.energy_wh).max().unwrap_or(0).max(0);
    let step = round_step(most);
    let top = ((most + step - 1) / step * step).max(step);
    let scale = HEIGHT / top as f64;
    let place = WIDTH / days.len().max(1) as f64;
    let bars = days.iter().enumerate().map(|(at, day)| {
        let height = day.energy_wh.max(0) as f64 * scale;
        Bar {
            x: tenths((at as f64 + GAP / 2.0) * place),
            y: tenths(HEIGHT - height),
            width: tenths(place * (1.0 - GAP)),
            height: tenths(height),
            day: chrono::Datelike::day(&day.day),
            energy_wh: day.energy_wh,
        }
    });
    let marks =
        (0..=top / step).map(|at| Mark { y: tenths(HEIGHT - (at * step) as f64 * scale), energy_wh: at * step });
    Chart { width: WIDTH, height: HEIGHT, bars: bars.collect(), marks: marks.collect() }
}

/// 1, 2 or 5 of a power of ten, so that there are two to five of it.
fn round_step(most: i64) -> i64 {
    let mut power = 1_i64;
    loop {
        for part in [1, 2, 5] {
            if part * power * 5 >= most {
                return part * power;
            }
        }
        power *= 10;
    }
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
