//! Tests of the curves, and of the tables in a real PostgreSQL.

use chrono::NaiveDate;

use crate::calendar::{DAY_S, STEP_S, STEPS_PER_DAY, is_weekend, paris, unix_midnight};
use crate::fleet::{Technology, round_to};
use crate::market::{ZONES, prices};
use crate::output::Output;
use crate::readings::{Quality, SiteDay};
use crate::*;

mod rows;

fn at(y: i32, m: u32, d: u32, hour: i64) -> i64 {
    unix_midnight(NaiveDate::from_ymd_opt(y, m, d).unwrap()) + hour * 3_600
}

fn degrees(sine: f64) -> f64 {
    sine.asin().to_degrees()
}

#[test]
fn the_position_of_the_sun_is_that_of_almanacs() {
    // Paris: culmination at solstices and equinox, 90 - latitude + declination.
    for ((m, d), expected) in [((6, 21), 64.6), ((12, 21), 17.7), ((3, 20), 41.1)] {
        let highest = (0..DAY_S / 60).map(|i| sun::sine_of_elevation(at(2025, m, d, 0) + i * 60, 48.85, 2.35));
        let highest = degrees(highest.fold(-1.0, f64::max));
        assert!((highest - expected).abs() < 0.7, "{m}-{d}: {highest}");
    }
    // Solar noon in Brest comes 47 minutes after Strasbourg's.
    let noon = |longitude| {
        let minutes = (0..DAY_S / 60).map(|i| (i, sun::sine_of_elevation(at(2025, 6, 1, 0) + i * 60, 48.5, longitude)));
        minutes.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap().0
    };
    assert!((noon(-4.49) - noon(7.75) - 49).abs() <= 1);
}

#[test]
fn nights_have_no_output_and_clouds_reduce_it() {
    for i in 0..365 * STEPS_PER_DAY {
        let at = at(2025, 1, 1, 0) + i as i64 * STEP_S;
        let sine = sun::sine_of_elevation(at, 46.0, 2.0);
        let (clear, cloudy) = (sun::power_share(at, 46.0, 2.0, -3.0), sun::power_share(at, 46.0, 2.0, 3.0));
        if sine <= 0.0 {
            assert_eq!((clear, cloudy), (0.0, 0.0));
        } else {
            assert!(cloudy <= clear && clear <= 1.0);
        }
    }
}

#[test]
fn the_power_curve_starts_rises_holds_and_cuts_out() {
    assert_eq!(wind::power_share(2.99), 0.0);
    assert_eq!(wind::power_share(12.0), 1.0);
    assert_eq!(wind::power_share(24.9), 1.0);
    assert_eq!(wind::power_share(25.0), 0.0);
    let curve: Vec<_> = (30..=120).map(|v| wind::power_share(f64::from(v) / 10.0)).collect();
    assert!(curve.windows(2).all(|w| w[0] < w[1]) && curve[0] < 0.001);
}

#[test]
fn rivers_rise_with_rain_and_recede_without() {
    let mut rain_mm = vec![0.0; 40 * STEPS_PER_DAY];
    rain_mm[10 * STEPS_PER_DAY..11 * STEPS_PER_DAY].fill(40.0 / STEPS_PER_DAY as f32);
    let flow = hydro::flow(&rain_mm, at(2025, 1, 10, 0));
    let day = |d: usize| flow[d * STEPS_PER_DAY];
    assert!(day(9) < day(1) && day(11) > 2.0 * day(9));
    assert!((12..40).all(|d| day(d) < day(d - 1)));
    assert_eq!(hydro::power_share(0.2), 0.0);
    assert_eq!(hydro::power_share(9.0), 1.0);
}

#[test]
fn capacity_factors_are_those_of_france() {
    let output = Output::new(&Scale { days: 365, sites: 40, ..Scale::tiny() }, 0);
    let factor = |technology| {
        let plants: Vec<_> = output.plants.iter().filter(|p| p.site.technology == technology).collect();
        let of = |p: &&output::Plant| {
            p.power_kw.iter().map(|v| f64::from(*v)).sum::<f64>() / p.power_kw.len() as f64 / p.site.pmax_kw
        };
        plants.iter().map(of).sum::<f64>() / plants.len() as f64
    };
    let all = [Technology::Wind, Technology::Solar, Technology::Hydro].map(factor);
    assert!((0.2..0.36).contains(&all[0]), "{all:?}");
    assert!((0.11..0.2).contains(&all[1]), "{all:?}");
    assert!((0.25..0.6).contains(&all[2]), "{all:?}");
    let bounded = |p: &output::Plant| p.power_kw.iter().all(|v| (0.0..=p.site.pmax_kw as f32).contains(v));
    assert!(output.plants.iter().all(bounded));
}

#[test]
fn the_same_seed_gives_the_same_and_a_longer_history_begins_with_the_shorter() {
    let scale = Scale::tiny();
    let (short, long) = (Output::new(&scale, 0), Output::new(&scale, 20));
    let other = Output::new(&Scale { seed: 7, ..scale.clone() }, 0);
    for ((s, l), o) in short.plants.iter().zip(&long.plants).zip(&other.plants) {
        assert_eq!(s.power_kw[..], l.power_kw[..s.power_kw.len()]);
        assert_ne!(s.power_kw, o.power_kw);
        assert!(s.outages.iter().zip(&l.outages).all(|(a, b)| a == b));
    }
}

#[test]
fn energy_is_the_integral_of_power() {
    let scale = Scale { sites: 10, days: 30, ..Scale::tiny() };
    let output = Output::new(&scale, 0);
    let mut checked = 0;
    for (plant, day) in output.plants.iter().flat_map(|p| (0..30).map(move |d| (p, d))) {
        let (readings, corrected_on) = SiteDay::new(&scale, &output, plant, day).readings_on(99);
        assert!(corrected_on.is_some());
        let power: f64 = readings.iter().map(|r| r.power_kw.unwrap()).sum();
        let energy: i64 = readings.iter().map(|r| r.energy_wh.unwrap()).sum();
        assert!((power * 1_000.0 / 6.0 - energy as f64).abs() <= 1.0);
        checked += energy;
    }
    assert!(checked > 0);
}

#[test]
fn only_bad_readings_are_corrected_and_once() {
    let scale = Scale::tiny();
    let output = Output::new(&scale, 0);
    let plant = &output.plants[0];
    for day in 0..14 {
        let before = SiteDay::new(&scale, &output, plant, day).readings_on(day + 1).0;
        let fixed: Vec<_> =
            (day + 1..day + 9).flat_map(|today| SiteDay::new(&scale, &output, plant, day).corrections(today)).collect();
        let bad = |q| matches!(q, Quality::Estimated | Quality::Invalid | Quality::Missing);
        let bad: Vec<_> = before.iter().filter(|r| bad(r.quality)).map(|r| r.at).collect();
        assert!(!bad.is_empty());
        assert_eq!(bad, fixed.iter().map(|r| r.at).collect::<Vec<_>>());
        let after = SiteDay::new(&scale, &output, plant, day).readings_on(day + 9).0;
        assert!(fixed.iter().all(|f| after.contains(f) && !before.contains(f)));
    }
}

#[test]
fn forecasts_worsen_with_the_horizon_and_are_calibrated() {
    let scale = Scale { days: 120, sites: 5, ..Scale::tiny() };
    let output = Output::new(&scale, 0);
    let (mut near, mut far, mut covered, mut count) = (0.0, 0.0, 0, 0);
    for plant in &output.plants {
        for issue_at in (0..120).flat_map(|day| forecasts::issue_times(&scale, day)) {
            for (k, f) in forecasts::forecasts_of(&scale, &output, plant, issue_at).iter().enumerate() {
                let step = output.step_of(f.valid_at);
                let truth = (0..3).map(|i| plant.at(step + i)).sum::<f64>() / 3.0;
                assert!(0.0 <= f.p10_kw && f.p10_kw <= f.power_kw && f.power_kw <= f.p90_kw);
                assert!(f.p90_kw <= plant.site.pmax_kw);
                let error = (f.power_kw - truth).abs() / plant.site.pmax_kw;
                match k {
                    0..12 => near += error,
                    84.. => far += error,
                    _ => {}
                }
                // At standstill (night, calm) the interval is a point.
                if f.p90_kw - f.p10_kw > 1.0 {
                    count += 1;
                    covered += usize::from((f.p10_kw - 0.1..=f.p90_kw + 0.1).contains(&truth));
                }
            }
        }
    }
    assert!(far > 1.5 * near && near > 0.0, "{near} {far}");
    let coverage = f64::from(covered as u32) / f64::from(count as u32);
    assert!((0.77..0.87).contains(&coverage), "{coverage}");
}

#[test]
fn prices_go_negative_seldom_and_when_the_sun_shines() {
    let scale = Scale { sites: 1, ..Scale::demo() };
    let output = Output::new(&scale, 0);
    let all: Vec<_> = (0..scale.days).flat_map(|day| prices(&scale, &output, &ZONES[0], day)).collect();
    let hours: f64 = all.iter().map(|p| f64::from(p.step_min) / 60.0).sum();
    assert_eq!(hours, f64::from(scale.days) * 24.0);
    let negative: Vec<_> = all.iter().filter(|p| p.cents < 0).collect();
    let share = negative.len() as f64 / all.len() as f64;
    assert!((0.02..0.12).contains(&share), "{share}");
    let noon = |p: &&&market::Price| (8..16).contains(&(p.delivery_start % DAY_S / 3_600));
    assert!(negative.iter().filter(noon).count() * 2 > negative.len());
    let weekend = |p: &&&market::Price| is_weekend(paris(p.delivery_start));
    assert!(negative.iter().filter(weekend).count() as f64 > 0.35 * negative.len() as f64);
    let mean = all.iter().map(|p| p.cents as f64 / 100.0).sum::<f64>() / all.len() as f64;
    assert!((40.0..85.0).contains(&mean), "{mean}");
    let mean_of = |hour: i64| {
        let of: Vec<_> = all.iter().filter(|p| paris(p.delivery_start) % DAY_S / 3_600 == hour).collect();
        of.iter().map(|p| p.cents as f64).sum::<f64>() / of.len() as f64
    };
    assert!(mean_of(19) > mean_of(13) && mean_of(8) > mean_of(13) && mean_of(19) > mean_of(4));
}

#[test]
fn prices_turn_quarter_hourly_on_the_local_first_of_october() {
    let scale = Scale { start: NaiveDate::from_ymd_opt(2025, 9, 30).unwrap(), ..Scale::tiny() };
    let output = Output::new(&scale, 0);
    let day = prices(&scale, &output, &ZONES[0], 0);
    assert_eq!(day.len(), 22 + 8);
    assert!(day.iter().all(|p| (p.step_min == 15) == (p.delivery_start >= at(2025, 9, 30, 22))));
}

#[test]
fn summer_time_in_paris() {
    assert_eq!(paris(at(2025, 3, 30, 0) + 3_599), at(2025, 3, 30, 1) + 3_599);
    assert_eq!(paris(at(2025, 3, 30, 1)), at(2025, 3, 30, 3));
    assert_eq!(paris(at(2025, 10, 26, 0)), at(2025, 10, 26, 2));
    assert_eq!(paris(at(2025, 10, 26, 1)), at(2025, 10, 26, 2));
}

#[test]
fn values_have_a_meters_resolution() {
    assert_eq!(round_to(1_234.567, 0.1), 1_234.6);
    assert_eq!(round_to(1_234.567, 1.0), 1_235.0);
}

#[test]
fn identifiers_have_their_check_digits() {
    assert_eq!(registry::siret(732_829_320)[..9], *"732829320", "a SIREN known to be valid");
    assert_eq!(registry::eic_check_character("10YFR-RTE------"), 'C', "the French bidding zone");
    assert_eq!(registry::eic_check_character("10Y1001A1001A83"), 'F', "Germany");
    assert!((1..200).all(|site| registry::eic(site).len() == 16 && !registry::eic(site).ends_with('-')));
}

#[test]
fn decimals_become_digits_of_base_10000() {
    assert_eq!(copy::base_10000(12_345_678, 2), (vec![12, 3456, 7800], 1));
    assert_eq!(copy::base_10000(500, 6), (vec![5], -1));
    assert_eq!(copy::base_10000(90_000_000, 2), (vec![90], 1));
    assert_eq!(copy::base_10000(0, 2), (vec![], 0));
}
