//! The layout of a bar chart of a month's days: only positions; the template adds colours and texts.

use serde::Serialize;

use crate::DayEnergy;

/// The width of the chart.
pub(crate) const WIDTH: f64 = 720.0;
/// The height of the chart.
pub(crate) const HEIGHT: f64 = 180.0;
/// The share of a day's width that is left free between bars.
const GAP: f64 = 0.25;

/// A chart, for templates.
#[derive(Debug, Serialize)]
pub(crate) struct Chart {
    /// The width of the chart.
    pub width: f64,
    /// The height of the chart.
    pub height: f64,
    /// A bar for each day.
    pub bars: Vec<Bar>,
    /// The lines of the vertical axis.
    pub marks: Vec<GridLine>,
}

/// The bar of a day.
#[derive(Debug, Serialize)]
pub(crate) struct Bar {
    /// Its left edge.
    pub x: f64,
    /// Its upper edge, from the top.
    pub y: f64,
    /// Its width.
    pub width: f64,
    /// Its height.
    pub height: f64,
    /// The day of the month.
    pub day: u32,
    /// The energy of the day.
    pub energy_wh: i64,
}

/// A horizontal line at a round value.
#[derive(Debug, Serialize)]
pub(crate) struct GridLine {
    /// Its place, from the top.
    pub y: f64,
    /// Its value.
    pub energy_wh: i64,
}

/// The chart of some days; a day without energy has a bar of no height.
pub(crate) fn chart(days: &[DayEnergy]) -> Chart {
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
        (0..=top / step).map(|at| GridLine { y: tenths(HEIGHT - (at * step) as f64 * scale), energy_wh: at * step });
    Chart { width: WIDTH, height: HEIGHT, bars: bars.collect(), marks: marks.collect() }
}

/// The distance of the axis lines: 1, 2 or 5 times a power of ten, so that at most five reach the greatest value.
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
