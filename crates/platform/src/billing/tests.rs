//! Tests of the content of the files, and of their consistency.

use std::collections::BTreeMap;

use calamine::{Data, Reader, Xlsx};

use super::month::QUARTER_S;
use super::*;

const SEED: u64 = 20_251_201;

fn all() -> Vec<File> {
    files(SEED, DateTime::<Utc>::MAX_UTC).unwrap()
}

fn states<'a>(files: &'a [File], name: &str) -> Vec<&'a File> {
    let found: Vec<_> = files.iter().filter(|file| file.name == name).collect();
    assert!(!found.is_empty(), "{name}");
    found
}

fn text(file: &File) -> String {
    String::from_utf8(file.bytes.clone()).unwrap()
}

/// The lines of a producer's file without its header, split into fields; the total is the last one.
fn fields(file: &File) -> Vec<Vec<String>> {
    let text = text(file);
    text.trim_start_matches('\u{feff}')
        .lines()
        .skip(1)
        .map(|line| line.split(';').map(str::to_owned).collect())
        .collect()
}

fn wh(kwh: &str) -> i64 {
    let (whole, rest) = kwh.split_once(',').unwrap_or((kwh, ""));
    whole.parse::<i64>().unwrap() * 1_000 + format!("{rest:0<3}").parse::<i64>().unwrap()
}

/// The energy of one source, by metering point and instant.
fn readings(file: &File, source: &str) -> BTreeMap<(String, String), i64> {
    let text = text(file);
    let rows = text.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
    let rows = rows.filter(|fields| fields[1] == source);
    rows.map(|fields| ((fields[0].to_owned(), fields[2].to_owned()), fields[4].parse().unwrap())).collect()
}

#[test]
fn a_seed_gives_the_same_files_and_they_come_one_after_the_other() {
    let first = all();
    assert_eq!(first, all());
    assert_ne!(first, files(7, DateTime::<Utc>::MAX_UTC).unwrap());
    let until = instant(1_774_000_000);
    let earlier = files(SEED, until).unwrap();
    assert_eq!(earlier, first[..earlier.len()]);
    assert!(earlier.last().unwrap().available_at < until && first[earlier.len()].available_at >= until);
    let of = |folder: &str| first.iter().filter(|file| file.name.starts_with(folder)).count();
    // Seven producers and six months, five files in two versions; three tables for each month, and four for all of
    // them.
    let corrections = first.iter().filter(|file| file.name.contains("corrected")).count();
    assert_eq!((of("production/"), of("reference/")), (7 * 6 + 5, 3 * 6 + 5 + corrections));
    assert!((1..6).contains(&corrections), "some months have no failure of telemetry");
}

#[test]
fn a_month_is_there_by_local_time_and_adds_up() {
    let files = all();
    for (month, quarters) in [("2025-12", 2_976), ("2026-02", 2_688), ("2026-03", 2_972)] {
        let file = states(&files, &format!("production/PRD0001-{month}.csv"))[0];
        let mut rows = fields(file);
        let total = rows.pop().unwrap();
        assert_eq!(rows.len(), quarters, "{month}");
        assert_eq!(total[..2], ["#TOTAL".to_owned(), quarters.to_string()]);
        assert_eq!(wh(&total[2]), rows.iter().map(|row| wh(&row[8])).sum::<i64>());
        assert!(rows.iter().all(|row| row.len() == production_row::COLUMNS.len()));
    }
    let march = text(states(&files, "production/PRD0001-2026-03.csv")[0]);
    let night: Vec<&str> = march.lines().filter(|line| line.contains(";2026-03-29T0")).collect();
    assert!(night[7].contains(";2026-03-29T01:45:00+01:00;PT15M;"), "{}", night[7]);
    assert!(night[8].contains(";2026-03-29T03:00:00+02:00;PT15M;"), "{}", night[8]);
}

#[test]
fn declared_energy_is_the_metered_energy() {
    let files = all();
    for month in ["2025-12", "2026-03"] {
        let mut metered = readings(states(&files, &format!("reference/meters-{month}.csv"))[0], "DSO_RAW");
        let corrected =
            readings(states(&files, &format!("reference/meters-{month}-corrected.csv"))[0], "DSO_CORRECTED");
        assert!(corrected.iter().any(|(at, wh)| metered[at] != *wh), "{month}: nothing was corrected");
        metered.extend(corrected);
        let mut rows = fields(states(&files, &format!("production/PRD0006-{month}.csv"))[0]);
        rows.pop();
        assert_eq!(rows.iter().map(|row| row[4].as_str()).collect::<std::collections::BTreeSet<_>>().len(), 2);
        for row in &rows {
            let at = DateTime::parse_from_rfc3339(&row[6]).unwrap().to_utc();
            let key = (row[4].clone(), instant_text(at.timestamp()));
            assert_eq!(metered[&key], wh(&row[8]), "{key:?}");
        }
    }
}

#[test]
fn forms() {
    let files = all();
    let first = |name: &str| states(&files, name)[0].bytes.clone();
    assert!(first("production/PRD0002-2026-04.csv").starts_with(&[0xEF, 0xBB, 0xBF]));
    let latin: Vec<Vec<u8>> = MONTHS.iter().map(|month| first(&format!("production/PRD0004-{month}.csv"))).collect();
    let accented: Vec<_> = latin.iter().filter(|bytes| String::from_utf8((*bytes).clone()).is_err()).collect();
    assert!(!accented.is_empty(), "an accent, and none of them is UTF-8");
    assert!(
        accented.iter().all(|bytes| bytes.iter().any(|byte| [0xE9, 0xEA].contains(byte)) && bytes.ends_with(b"\r\n"))
    );
    let mut book: Xlsx<_> = Xlsx::new(std::io::Cursor::new(first("production/PRD0003-2026-03.xlsx"))).unwrap();
    let sheet = book.worksheet_range("Production").unwrap();
    let rows: Vec<_> = sheet.rows().collect();
    assert_eq!(rows.len(), 743 + 2, "a local month of hours, the head and the total");
    assert_eq!(rows[1][6], Data::String("2026-03-01T00:00:00+01:00".into()));
    let sum: f64 = rows[1..744]
        .iter()
        .filter_map(|row| match row[8] {
            Data::Float(kwh) => Some(kwh),
            _ => None,
        })
        .sum();
    assert!(matches!(rows[744][2], Data::Float(total) if (total - sum).abs() < 1e-6), "{sum}");
}

#[test]
fn each_fault_occurs_and_is_corrected() {
    let files = all();
    let two = |name: &str| -> [File; 2] {
        states(&files, name).into_iter().cloned().collect::<Vec<_>>().try_into().unwrap_or_else(|_| panic!("{name}"))
    };
    let [wrong, right] = two("production/PRD0001-2026-01.csv");
    assert!(text(&wrong).lines().nth(1).unwrap().contains('.') && text(&wrong).replace('.', ",") == text(&right));
    let [wrong, right] = two("production/PRD0006-2026-04.csv");
    let total = |file: &File| wh(&fields(file).pop().unwrap()[2]);
    assert_eq!(total(&wrong) - total(&right), 1_000_000);
    let [wrong, right] = two("production/PRD0005-2026-03.csv");
    assert_eq!((fields(&wrong).len(), fields(&right).len()), (745, 744));
    let instants = |file: &File| -> Vec<_> {
        let rows = fields(file).into_iter().filter_map(|row| row.get(6).cloned());
        rows.map(|at| DateTime::parse_from_rfc3339(&at).unwrap()).collect()
    };
    assert!(instants(&right).is_sorted_by(|a, b| a < b));
    assert_eq!(instants(&wrong).windows(2).filter(|pair| pair[0] == pair[1]).count(), 1);
    assert!(text(&wrong).contains(";2026-03-29T02:00:00+01:00;"));
    let once = states(&files, "production/PRD0002-2026-02.csv")[0];
    assert_eq!(once.bytes, states(&files, "production/PRD0002-2026-02 (1).csv")[0].bytes);
    let [first, second] = two("production/PRD0003-2026-02.xlsx");
    assert_ne!(first.bytes, second.bytes);
    // The month is billed on the second.
    let billed_at = DateTime::parse_from_rfc3339("2026-03-02T05:00:00Z").unwrap();
    assert!(first.available_at < billed_at && second.available_at > billed_at);
    let late = states(&files, "production/PRD0007-2026-01.csv")[0];
    assert_eq!(late.available_at.to_rfc3339(), "2026-02-06T08:00:00+00:00");
    let estimated = states(&files, "production/PRD0003-2026-05.xlsx");
    assert_eq!(estimated.len(), 1);
}

#[test]
fn plants_stop_by_orders_at_negative_prices() {
    let data = BillingData::new(SEED);
    let is_negative = |at: &i64| data.prices.day_ahead(*at) < 0;
    let hours = |name: &str| {
        let month = data.months.iter().find(|month| month.name == name).unwrap();
        month.quarters().filter(is_negative).count() as f64 / 4.0
    };
    let spring: f64 = ["2026-01", "2026-02", "2026-03", "2026-04", "2026-05"].iter().map(|name| hours(name)).sum();
    assert!(spring > 15.0, "enough for a premium: {spring} hours");
    let solar = &data.energies[1];
    let quarters = |order: &energy::CurtailmentOrder| {
        let (from, to) = (order.from, order.to);
        (from..to).step_by(QUARTER_S as usize).map(|at| solar.injected_wh(at)).sum::<i64>()
    };
    let (followed, not): (Vec<_>, Vec<_>) = solar.orders.iter().partition(|order| order.is_followed);
    assert!(followed.len() > 3 && followed.iter().all(|order| quarters(order) == 0));
    assert!(not.iter().any(|order| quarters(order) > 0), "one goes on in the sun");
    for month in &data.months {
        for technology in
            [crate::fleet::Technology::Wind, crate::fleet::Technology::Solar, crate::fleet::Technology::Hydro]
        {
            let reference = data.prices.reference(month, technology);
            assert!((1_000..12_000).contains(&reference), "{} {technology:?}: {reference}", month.name);
        }
    }
}

#[test]
fn rows_are_known_before_their_file_is_available() {
    for file in all().iter().filter(|file| file.name.starts_with("reference/")) {
        let available_at = instant_text(file.available_at.timestamp());
        let text = text(file);
        let last = text.lines().next().unwrap().split(',').count();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split(',').collect();
            assert_eq!(fields.len(), last, "{}: {line}", file.name);
            assert!(fields[last - 1] <= available_at.as_str(), "{}: {line}", file.name);
        }
    }
}
