//! Shapes of files that meters, portals and inverters write: stamps at the end of a step, dates and times apart, texts
//! before the header and in the file's name, power, a field for each hour.

use super::{layout, reading, reading_of};
use crate::layout::Layout;
use crate::read::FaultKind;

#[test]
fn a_stamp_at_the_end_of_a_step_becomes_its_beginning() {
    let text = "format='csv'\nzone='Europe/Paris'\nambiguous='in-order'\n
        [columns.starts_at]\ntype='timestamp'\nformat='%d/%m/%Y %H:%M'\nstamp='end'\nstep='PT30M'\n
        [columns.wh]\ntype='integer'\n[series]\ntime='starts_at'\nstep='PT30M'";
    let mut file = "starts_at,wh\n".to_owned();
    for half in 1..=48 {
        let (day, hour, minute) = (1 + half / 48, half % 48 / 2, half % 2 * 30);
        // The last one as 24:00 of the same day.
        let stamp =
            if half == 48 { "01/10/2026 24:00".to_owned() } else { format!("{day:02}/10/2026 {hour:02}:{minute:02}") };
        file.push_str(&format!("{stamp},{half}\n"));
    }
    let read = reading(&layout(text), file.as_bytes());
    assert!(read.report.faults.is_empty(), "{:#?}", read.report.faults);
    let starts = read.instants("starts_at");
    assert_eq!((starts[0].as_str(), starts[47].as_str()), ("30T22:00Z", "01T21:30Z"));

    // On the day when the clocks go back, 02:00 and 02:30 end a step before the change and one after it.
    let mut file = "starts_at,wh\n".to_owned();
    let mut stamps: Vec<String> = (1..=6).map(|half| format!("{:02}:{:02}", half / 2, half % 2 * 30)).collect();
    stamps.splice(5.., ["02:30", "02:00", "02:30", "03:00"].map(str::to_owned).into_iter().skip(1));
    stamps.extend((7..48).map(|half| format!("{:02}:{:02}", half / 2, half % 2 * 30)));
    stamps.push("24:00".to_owned());
    stamps.iter().for_each(|stamp| file.push_str(&format!("25/10/2026 {stamp},1\n")));
    let read = reading(&layout(text), file.as_bytes());
    assert!(read.report.faults.is_empty(), "{:#?}", read.report.faults);
    assert_eq!(read.rows.num_rows(), 50);
}

#[test]
fn date_and_time_are_joined_from_two_fields() {
    let text = "format='csv'\nseparator=';'\nzone='Europe/Paris'\n
        [columns.at]\nheader='Date'\ntime_header='Heure'\ntype='timestamp'\nformat='%d/%m/%Y %H:%M'\nrequired=true\n
        [columns.wh]\ntype='integer'";
    let read = reading(&layout(text), b"Date;Heure;wh\n01/07/2026;00:15;5\n01/07/2026;;6\n");
    assert_eq!(read.instants("at"), ["30T22:15Z"]);
    assert_eq!(read.faults(), [(3, FaultKind::Form)]);
    let read = reading(&layout(text), b"Date;wh\n01/07/2026;5\n");
    assert!(read.report.faults[0].to_string().contains("\"Heure\""), "{:?}", read.report.faults);
}

#[test]
fn texts_come_from_lines_before_the_header_and_from_the_file_name() {
    let text = "format='csv'\nseparator=';'\nskip_to='Horodate'\nskip_after_header=1\n
        [columns.prm]\nsource='preamble'\nextract='PRM : (\\d{14})'\ntype='text'\n
        [columns.plant]\nsource='file-name'\nextract='^([A-Z]+-\\d+)_'\ntype='text'\nrequired=true\n
        [columns.at]\nheader='Horodate'\ntype='timestamp'\n[columns.wh]\ntype='integer'";
    let file = "sep=;\nIdentifiant PRM : 30000000000001\n\nPeriode;juillet\n\"Horodate\";wh\n;Wh\n2026-07-01T00:00:00+02:00;5\n";
    let read = reading_of("inbox/PV-042_juillet.csv", &layout(text), file.as_bytes());
    assert!(read.report.faults.is_empty(), "{:#?}", read.report.faults);
    assert_eq!((read.texts("prm"), read.texts("plant")), (vec![Some("30000000000001")], vec![Some("PV-042")]));
    assert_eq!(read.lines, [7]);

    let read = reading_of("juillet.csv", &layout(text), file.as_bytes());
    assert_eq!(read.faults(), [(7, FaultKind::Form)]);
    // Two values are not one, and a row is not the line of units.
    let two = file.replace("\n\nPeriode", "\nAncien PRM : 33333333333333\nPeriode");
    let read = reading_of("PV-042_juillet.csv", &layout(text), two.as_bytes());
    assert!(
        read.report.faults[0].to_string().contains("30000000000001 and 33333333333333"),
        "{:?}",
        read.report.faults
    );
    let read = reading_of("PV-042_juillet.csv", &layout(text), file.replace(";Wh\n", "").as_bytes());
    assert!(read.report.faults[0].to_string().contains("lack the line with units"), "{:?}", read.report.faults);
    let read = reading_of("PV-042_juillet.csv", &layout(text), file.replace("PRM", "PDL").as_bytes());
    assert!(read.report.faults[0].to_string().contains("a line before the header"), "{:?}", read.report.faults);
    let read = reading_of("PV-042_juillet.csv", &layout(text), file.replace("Horodate", "Date").as_bytes());
    assert!(read.report.faults[0].to_string().contains("begins with \"Horodate\""), "{:?}", read.report.faults);
}

#[test]
fn an_interval_is_read_by_a_part_of_its_text() {
    let text = "format='csv'\nzone='Europe/Paris'\n[columns.at]\nheader='MTU'\nextract='^(.+?) - '\ntype='timestamp'\nformat='%d.%m.%Y %H:%M'\n
        [columns.until]\nheader='MTU'\nextract=' - (.+)$'\ntype='timestamp'\nformat='%d.%m.%Y %H:%M'";
    let read = reading(&layout(text), b"MTU\n01.01.2026 00:00 - 01.01.2026 01:00\nnever\n");
    assert_eq!(
        (read.instants("at"), read.instants("until")),
        (vec!["31T23:00Z".to_owned()], vec!["01T00:00Z".to_owned()])
    );
    assert_eq!(read.faults(), [(3, FaultKind::Form), (3, FaultKind::Form)]);
}

#[test]
fn the_repeated_hour_may_be_named() {
    let text = "format='csv'\nzone='Europe/Paris'\n[columns.at]\ntype='timestamp'\nformat='%d/%m/%Y %H:%M:%S'";
    let file = "at\n26/10/2025 02:00:00 (CEST)\n26/10/2025 02:00:00 (CET)\n26/10/2025 04:00:00\n26/10/2025 04:00:00 (CEST)\n26/10/2025 02:00:00\n";
    let read = reading(&layout(text), file.as_bytes());
    assert_eq!(read.instants("at"), ["26T00:00Z", "26T01:00Z", "26T03:00Z"]);
    assert_eq!(read.faults(), [(5, FaultKind::Form), (6, FaultKind::AmbiguousHour)]);
}

#[test]
fn power_becomes_the_energy_of_the_step() {
    let text = |more: &str| {
        format!(
            "format='csv'\ndecimal=','\nseparator=';'\n[columns.step]\ntype='duration'\n
            [columns.wh]\nheader='kW'\ntype='integer'\nfactor=1000\npower_over='step'\nmax=500000\n{more}"
        )
    };
    let exact = layout(&text(""));
    let read = reading(&exact, b"kW;step\n12,5;PT30M\n0,001;PT30M\n-6;PT10M\n5;\n2000;PT30M\n");
    assert_eq!(read.whole("wh"), [Some(6250), Some(-1000)]);
    assert_eq!(read.faults(), [(3, FaultKind::Digits), (5, FaultKind::Missing), (6, FaultKind::Range)]);
    // A step is more than nothing, and at most a day.
    let read = reading(&exact, b"kW;step\n1;-PT30M\n1;PT0S\n1;PT25H\n");
    assert_eq!(read.faults(), [(2, FaultKind::Missing), (3, FaultKind::Missing), (4, FaultKind::Missing)]);
    let rounded = layout(&text("round=true"));
    let read = reading(&rounded, b"kW;step\n0,001;PT30M\n-0,001;PT30M\n1;PT10M\n2;PT10M\n");
    assert_eq!(read.whole("wh"), [Some(1), Some(-1), Some(167), Some(333)]);
}

/// A field for each hour, by its number in the day.
const BY_POSITION: &str = "format='csv'\nseparator=';'\nzone='Europe/Paris'\nkey=['at']\n
    [columns.at]\nheader='Jour'\ntype='timestamp'\nrequired=true\n[columns.wh]\ntype='integer'\nrequired=true\n
    [wide]\nheaders='^H(\\d+)$'\nvalue='wh'\ntime='at'\nshows='position'\nday='%d/%m/%Y'\nstep='PT1H'\n
    [series]\ntime='at'\nstep='PT1H'";

/// By its time of day.
const BY_CLOCK: &str = "format='csv'\nseparator=';'\nzone='Europe/Paris'\nambiguous='in-order'\n
    [columns.at]\nheader='Jour'\ntype='timestamp'\nformat='%d/%m/%Y %H:%M'\nrequired=true\n
    [columns.wh]\ntype='integer'\nrequired=true\n
    [wide]\nheaders='^(\\d\\d:\\d\\d)$'\nvalue='wh'\ntime='at'\n[series]\ntime='at'\nstep='PT1H'";

fn line(first: &str, values: impl Iterator<Item = String>) -> String {
    std::iter::once(first.to_owned()).chain(values).collect::<Vec<_>>().join(";") + "\n"
}

#[test]
fn a_field_for_each_hour_becomes_a_row() {
    let header = line("Jour", (1..=25).map(|hour| format!("H{hour}")));
    let day = |date: &str, hours: usize| {
        line(date, (1..=25).map(|hour| if hour <= hours { hour.to_string() } else { String::new() }))
    };
    let file = [header.clone(), day("29/03/2026", 23), day("25/10/2026", 25), day("26/10/2026", 24)].concat();
    let by_position = layout(BY_POSITION);
    let read = reading(&by_position, file.as_bytes());
    // The two parts of the year are not one series.
    assert_eq!(read.rows.num_rows(), 72);
    assert_eq!(read.instants("at")[22..25], ["29T21:00Z", "24T22:00Z", "24T23:00Z"]);
    assert!(read.report.faults.iter().all(|fault| fault.kind == FaultKind::MissingSteps), "{:?}", read.report.faults);

    let wrong = [header.clone(), day("29/03/2026", 24)].concat();
    assert!(reading(&by_position, wrong.as_bytes()).faults().contains(&(2, FaultKind::Form)), "a day of 23 hours");
    let missing = [header, day("26/10/2026", 23)].concat();
    assert_eq!(reading(&by_position, missing.as_bytes()).faults()[0], (2, FaultKind::Missing));
    let none = reading(&by_position, b"Jour;A\n26/10/2026;1\n");
    assert!(none.report.faults[0].to_string().contains("^H"), "{:?}", none.report.faults);
}

#[test]
fn hours_by_their_time_of_day_may_have_the_repeated_one_twice() {
    let clocks = |repeated: bool| {
        let mut clocks: Vec<String> = (0..24).map(|hour| format!("{hour:02}:00")).collect();
        if repeated {
            clocks.insert(3, "02:00".to_owned());
        }
        clocks
    };
    let day = |date: &str, empty: &[usize]| {
        line(date, (0..25).map(|at| if empty.contains(&at) { String::new() } else { at.to_string() }))
    };
    let by_clock = layout(BY_CLOCK);
    let header = line("Jour", clocks(true).into_iter());
    let read = reading(&by_clock, [header.clone(), day("25/10/2026", &[])].concat().as_bytes());
    assert!(read.report.faults.is_empty(), "{:#?}", read.report.faults);
    assert_eq!(
        (read.rows.num_rows(), &read.instants("at")[2..4]),
        (25, &["25T00:00Z".to_owned(), "25T01:00Z".to_owned()][..])
    );
    let read = reading(&by_clock, [header.clone(), day("26/10/2026", &[3])].concat().as_bytes());
    assert!(read.report.faults.is_empty() && read.rows.num_rows() == 24, "{:#?}", read.report.faults);
    let read = reading(&by_clock, [header, day("29/03/2026", &[2, 3])].concat().as_bytes());
    assert!(read.report.faults.is_empty() && read.rows.num_rows() == 23, "{:#?}", read.report.faults);
}

#[test]
fn durations_as_numbers_nameless_fields_and_separators_at_the_end() {
    let text = "format='csv'\nseparator=';'\n[columns.device]\nheader=''\ntype='text'\n
        [columns.step]\ntype='duration'\nunit='min'\n
        [columns.index]\ntype='integer'\nextract='(\\d+)'\nempty=['', 'null']";
    let read = reading(&layout(text), b"step;;index\n15;A;7 kWh;\n0.5;B;null\n0.001;C;1;\n1;D;2;x\n");
    assert_eq!(read.whole("step"), [Some(900), Some(30)]);
    assert_eq!((read.whole("index"), read.texts("device")), (vec![Some(7), None], vec![Some("A"), Some("B")]));
    assert_eq!(read.faults(), [(4, FaultKind::Form), (5, FaultKind::Fields)]);
}

#[test]
fn wrong_settings_are_named() {
    let problems = |text: &str| {
        let text = format!("format='csv'\n{text}");
        let problems = Layout::parse(&text).unwrap_err();
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    for (text, says) in [
        ("[columns.a]\ntype='text'\nsource='file-name'", "a \"source\" without \"extract\""),
        ("[columns.a]\ntype='text'\nextract='\\d+'", "\"extract\" does not have one group"),
        ("[columns.a]\ntype='text'\nstamp='end'", "\"stamp\" of [columns.a] is for columns of timestamps"),
        ("[columns.a]\ntype='timestamp'\nstamp='end'", "\"step\" need each other"),
        ("[columns.a]\ntype='integer'\npower_over='b'", "there is no column \"b\""),
        ("skip_to='x'\nheader=false\n[columns.a]\ntype='text'", "\"skip_to\" says what the header begins with"),
        ("[columns.a]\ntype='integer'\n[wide]\nheaders='H'\nvalue='a'\ntime='a'", "\"headers\" has no group"),
        ("[columns.a]\ntype='integer'\n[wide]\nheaders='(H)'\nvalue='a'\ntime='a'", "\"a\" is not a timestamp"),
        (
            "[columns.a]\ntype='integer'\n[columns.t]\ntype='timestamp'\nzone='UTC'\nstamp='end'\nstep='PT1H'\n
             [wide]\nheaders='(H)'\nvalue='a'\ntime='t'\nshows='position'\nstep='PT1H'",
            "[wide] counts the steps of a day",
        ),
    ] {
        let problems = problems(text);
        assert!(problems.contains(says), "{says} is not in {problems}");
    }
}
