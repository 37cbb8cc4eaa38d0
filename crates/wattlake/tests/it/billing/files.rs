//! Files whose layout changes after they were accepted, that tell what they are about, that are rewritten without a trace in
//! their size and time, and that are too large.

use std::fs;
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::{Billing, ONE, PRODUCTION};

const INGEST: [&str; 2] = ["run", "ingest:production"];

#[test]
fn an_accepted_file_is_read_again_where_its_layout_has_another_meaning() {
    let it = Billing::new();
    let wrong = PRODUCTION.replace("factor = 1000", "factor = 1").replace("\"integer\"", "\"decimal(12,3)\"");
    it.warehouse.write("layouts/production.toml", &wrong);
    it.files_in();
    let energies = || {
        let query = "select energy_wh::text as wh from billing.declared where file_version =
                     (select max(file_version) from billing.declared) order by file_row";
        it.warehouse.sql(query).iter().map(|row| row["wh"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(energies(), ["216.500", "0.250"]);
    // A comment changes nothing, and no file is reported.
    it.warehouse.write("layouts/production.toml", &format!("# A comment.\n{wrong}"));
    it.warehouse.ok(&INGEST).has("0 files arrived");
    it.warehouse.write("layouts/production.toml", &wrong.replace("factor = 1\n", "factor = 1000\n"));
    it.warehouse.ok(&INGEST).has("accepted    PRD0001_2026-03.csv").has("read again, since its layout has changed");
    it.warehouse.ok(&["run", "load:declared"]).has("2 rows of 1 files");
    assert_eq!(energies(), ["216500.000", "250.000"]);
    it.warehouse.ok(&INGEST).has("0 files arrived");
    it.warehouse.ok(&["run", "load:declared"]).has("0 rows of 0 files");
    // What comes next under the name is the version after it.
    it.comes("PRD0001_2026-03.csv", ONE.replace("216,5\r", "216,6\r").replace("216,75", "216,85").as_bytes());
    it.warehouse.ok(&INGEST);
    let versions = it.warehouse.sql("select version from ingest.files order by recorded_at");
    assert_eq!(versions.last().unwrap(), &json!({"version": 3}));
}

#[test]
fn files_tell_what_they_are_about() {
    let it = Billing::new();
    it.warehouse.write("layouts/production.toml", &format!("subject = [\"prm\"]\n{PRODUCTION}"));
    it.comes("good.csv", ONE.as_bytes());
    it.comes("bad.csv", ONE.replace("216,5", "216.5").replace("30000000000001", "30000000000002").as_bytes());
    it.comes("other.csv", b"x;y\r\n1;2\r\n");
    it.warehouse.ok(&INGEST).has("1 accepted, 2 quarantined");
    let subjects = it.warehouse.sql("select name, subject ->> 'prm' as prm from ingest.subjects order by name");
    assert_eq!(
        subjects,
        [json!({"name": "bad.csv", "prm": "30000000000002"}), json!({"name": "good.csv", "prm": "30000000000001"})]
    );
}

#[test]
fn a_file_is_noticed_that_was_rewritten_with_its_size_and_time() {
    let it = Billing::new();
    let path = it.warehouse.path().join("inbox/PRD0001_2026-03.csv");
    let old = SystemTime::now() - Duration::from_secs(86_400);
    let write = |text: &str| {
        fs::write(&path, text).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
    };
    write(ONE);
    it.warehouse.ok(&INGEST).has("1 accepted");
    it.warehouse.ok(&INGEST).has("0 files arrived");
    write(&ONE.replace("216,5\r", "216,6\r").replace("216,75", "216,85"));
    it.warehouse.ok(&INGEST).has("1 accepted");
}

#[test]
fn a_file_is_tried_by_the_layout_that_fits() {
    let it = Billing::new();
    it.warehouse.write(
        "layouts/other.toml",
        "format = \"csv\"\n[columns.x]\ntype = \"integer\"\n[columns.y]\ntype = \"text\"\noptional = true\n",
    );
    it.warehouse.write("ingests/other.toml", "layout = 'layouts/other.toml'\n[source]\nfolder = 'other'\n");
    it.warehouse.ok(&["layout", "list"]).has("layouts/other.toml").has("ingest:production");
    it.comes("a.csv", ONE.as_bytes());
    let file = it.warehouse.path().join("inbox/a.csv");
    let file = file.to_str().unwrap();
    let tried = it.warehouse.ok(&["layout", "try", file, "--rows", "1"]);
    tried.has("accepted").has("by layouts/production.toml: 2 rows").has("2026-03-28 23:00:00+00").has("216500");
    assert!(!tried.text().contains("2026-03-29 00:00:00"), "{}", tried.text());
    it.comes("b.csv", ONE.replace("216,5", "216.5").as_bytes());
    let wrong = it.warehouse.path().join("inbox/b.csv");
    let tried = it.warehouse.run(&["layout", "try", wrong.to_str().unwrap(), "--json"]);
    assert_eq!(tried.code, 3, "{}", tried.text());
    assert_eq!(tried.objects()[0]["layout"], "layouts/production.toml");
    it.comes("c.csv", b"x\n1\n");
    let third = it.warehouse.path().join("inbox/c.csv");
    it.warehouse.ok(&["layout", "try", third.to_str().unwrap()]).has("by layouts/other.toml: 1 row");
    it.warehouse
        .run(&["layout", "try", file, "--layout", "layouts/othr.toml"])
        .has("nearest layout: \"layouts/other.toml\"");
}

/// A zip of these files.
fn zipped(files: &[(&str, &str)]) -> Vec<u8> {
    use std::io::{Cursor, Write};
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in files {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(text.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[test]
fn files_of_an_archive_have_verdicts_of_their_own() {
    let it = Billing::new();
    let bad = ONE.replace("216,5", "216.5").replace("30000000000001", "30000000000002");
    it.comes("mars.zip", &zipped(&[("PRD1.csv", ONE), ("b/PRD2.csv", &bad)]));
    it.warehouse
        .ok(&INGEST)
        .has("unpacked    mars.zip")
        .has("accepted    mars.zip/PRD1.csv")
        .has("quarantined mars.zip/b/PRD2.csv")
        .has("3 files arrived: 1 accepted, 1 quarantined, 0 duplicates, 1 unpacked");
    it.warehouse.ok(&INGEST).has("0 files arrived");
    it.warehouse.ok(&["run", "load:declared"]).has("2 rows of 1 files");
    let rows = it.warehouse.sql("select distinct file_name from billing.declared");
    assert_eq!(rows, [json!({"file_name": "mars.zip/PRD1.csv"})]);

    // Tomorrow's archive has the corrected file, and the same other one.
    let good = bad.replace("216.5", "216,5");
    it.comes("mars.zip", &zipped(&[("PRD1.csv", ONE), ("b/PRD2.csv", &good)]));
    it.warehouse.ok(&INGEST).has("accepted    mars.zip/b/PRD2.csv").has("2 files arrived: 1 accepted");
    it.warehouse.ok(&["run", "load:declared"]).has("2 rows of 1 files");
    // The same file by itself is a duplicate, and a damaged archive says what is wrong.
    it.comes("PRD1.csv", ONE.as_bytes());
    let archive = zipped(&[("x.csv", &good.repeat(20))]);
    it.comes("cut.zip", &archive[..archive.len() / 2]);
    it.warehouse.ok(&INGEST).has("the same bytes as mars.zip/PRD1.csv").has("the archive can't be read");
    let archived = it.warehouse.path().join("inbox/mars.zip");
    it.warehouse.ok(&["layout", "try", archived.to_str().unwrap()]).has("mars.zip/PRD1.csv by layouts/production.toml");
}

#[test]
fn two_plants_with_the_same_night_are_not_duplicates() {
    let it = Billing::new();
    let layout =
        PRODUCTION.replace("[columns.prm]\n", "[columns.prm]\nsource = \"file-name\"\nextract = '(\\d{14})'\n");
    it.warehouse.write("layouts/production.toml", &layout);
    let night = "horodate_debut;energie_kwh\r\n2026-03-01T00:00:00+01:00;0\r\n#TOTAL;1;0\r\n";
    it.comes("PRM_30000000000001.csv", night.as_bytes());
    it.comes("PRM_30000000000002.csv", night.as_bytes());
    it.comes("copie_30000000000002.csv", night.as_bytes());
    it.warehouse.ok(&INGEST).has("3 files arrived: 2 accepted, 0 quarantined, 1 duplicates");
    it.warehouse.ok(&["run", "load:declared"]).has("2 rows of 2 files");
    let rows = it.warehouse.sql("select prm from billing.declared order by prm");
    assert_eq!(rows, [json!({"prm": "30000000000001"}), json!({"prm": "30000000000002"})]);

    // The same where the layout takes the values from the names only afterwards: of the duplicates, one of each plant is read.
    let it = Billing::new();
    let named = "prm;horodate_debut;energie_kwh\r\n30000000000009;2026-03-01T00:00:00+01:00;0\r\n#TOTAL;1;0\r\n";
    for name in ["PRM_30000000000001.csv", "PRM_30000000000002.csv", "copie_30000000000002.csv"] {
        it.comes(name, named.as_bytes());
    }
    it.warehouse.ok(&INGEST).has("1 accepted, 0 quarantined, 2 duplicates");
    let ignores = "format = \"csv\"\nextra_columns = \"ignore\"";
    it.warehouse.write("layouts/production.toml", &layout.replace("format = \"csv\"", ignores));
    it.warehouse.ok(&INGEST).has("30000000000002.csv");
    it.warehouse.ok(&["run", "load:declared"]);
    let rows = it
        .warehouse
        .sql("select prm, count(distinct file_name) as files from billing.declared group by prm order by prm");
    assert_eq!(rows.last().unwrap(), &json!({"prm": "30000000000002", "files": 1}), "{rows:?}");
}

#[test]
fn a_layout_is_guessed_and_ready_made_ones_are_shown() {
    let it = Billing::new();
    it.comes(
        "inconnu.csv",
        "Point;Date;Heure;Puissance (kW)\n30000000000001;01/07/2026;00:00;12,5\n30000000000001;13/07/2026;00:15;3\n"
            .as_bytes(),
    );
    let path = it.warehouse.path().join("inbox/inconnu.csv");
    let guessed = it.warehouse.ok(&["layout", "guess", path.to_str().unwrap()]);
    guessed
        .has("time_header = \"Heure\"")
        .has("decimal = \",\"")
        .has("by this layout: accepted, 2 rows")
        .has("A power?");
    // What is printed is a layout.
    it.warehouse.write("layouts/production.toml", &guessed.out);
    it.warehouse.ok(&["layout", "try", path.to_str().unwrap(), "--layout", "layouts/production.toml"]).has("accepted");
    let json = it.warehouse.json(&["layout", "guess", path.to_str().unwrap(), "--json"]).remove(0);
    assert_eq!((&json["verdict"], &json["rows"]), (&json!("accepted"), &json!(2)));

    it.warehouse.ok(&["layout", "list"]).has("enedis-r63-csv").has("layouts/production.toml");
    let shown = it.warehouse.ok(&["layout", "show", "enedis-r63-csv"]);
    it.warehouse.write("layouts/production.toml", &shown.out);
    it.warehouse.ok(&["layout", "list"]);
    it.warehouse.run(&["layout", "show", "enedis-r63-cvs"]).has("enedis-r63-csv");
}

#[test]
fn rows_of_files_that_are_loaded_together_are_recorded_in_the_order_of_their_arrival() {
    let it = Billing::new();
    // The order of their writing is neither that of their names nor that of their hashes.
    let names = ["n.csv", "a.csv", "z.csv", "k.csv", "b.csv"];
    for (at, name) in names.iter().enumerate() {
        let text = ONE.replace("216,5\r", &format!("216,{at}\r")).replace("216,75", &format!("216,{}", at * 10 + 25));
        let path = it.warehouse.path().join("inbox").join(name);
        fs::write(&path, text).unwrap();
        let written = SystemTime::now() - Duration::from_secs(86_400) + Duration::from_secs(at as u64);
        fs::File::options().write(true).open(&path).unwrap().set_modified(written).unwrap();
    }
    it.warehouse.ok(&INGEST).has("5 accepted");
    it.warehouse.ok(&["run", "load:declared"]).has("of 5 files");
    let query = "select file_name, count(distinct recorded_at) as n from billing.declared group by file_name order by min(recorded_at)";
    let expected: Vec<_> = names.iter().map(|name| json!({"file_name": name, "n": 1})).collect();
    assert_eq!(it.warehouse.sql(query), expected);
}
