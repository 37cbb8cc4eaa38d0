//! Ready-made layouts read files in the shapes of those who deliver them: `tests/layouts/expected.toml` has what each
//! sample must become.

use std::fs::File;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use ingest::archive::{Delivered, PackedFile, open};
use ingest::layout::{Layout, library};
use ingest::read::{ReadReport, Verdict, read};
use serde::Deserialize;
use toml::Table;

#[derive(Deserialize)]
struct Expected {
    sample: Vec<Sample>,
}

/// A file, and what it becomes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    layout: String,
    file: String,
    rows: usize,
    #[serde(default)]
    first: Table,
    #[serde(default)]
    last: Table,
    /// What the reason of a file that the layout refuses contains.
    quarantined: Option<String>,
}

/// The file, or the one that it has as an archive.
fn only_file(file: File, name: &str, layout: &Layout) -> PackedFile {
    match open(file, name, &layout.format).unwrap() {
        Delivered::Plain(content) => PackedFile { name: name.to_owned(), place: 0, content },
        Delivered::Archive(mut archive) => {
            assert_eq!(archive.count(), 1, "{name}");
            archive.next(&std::env::temp_dir()).unwrap().unwrap()
        }
        Delivered::Damaged(why) => panic!("{name}: {why}"),
    }
}

fn read_sample(sample: &Sample, layout: &Layout, samples: &Path) -> (RecordBatch, ReadReport) {
    let path = samples.join(&sample.file);
    let file = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let one = only_file(file, &sample.file, layout);
    let mut batches = Vec::new();
    let report = read(one.content, &one.name, layout, &mut |rows| {
        batches.push(rows.batch);
        Ok(())
    });
    (concat_batches(&layout.schema(), &batches).unwrap(), report.unwrap())
}

/// Compares some values of a row, as texts.
fn compare(sample: &Sample, rows: &RecordBatch, row: usize, expected: &Table) {
    let options = FormatOptions::default().with_timestamp_tz_format(Some("%Y-%m-%dT%H:%M:%S%.fZ")).with_null("null");
    for (column, value) in expected {
        let array = rows.column_by_name(column).unwrap_or_else(|| panic!("{} has no column {column}", sample.layout));
        let found = ArrayFormatter::try_new(array.as_ref(), &options).unwrap().value(row).to_string();
        let wanted = match value {
            toml::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let is_same_number = found.parse::<f64>().ok().zip(wanted.parse::<f64>().ok()).is_some_and(|(a, b)| a == b);
        assert!(found == wanted || is_same_number, "{}, row {row}, {column}: {found}, not {wanted}", sample.file);
    }
}

#[test]
fn samples_become_what_they_mean() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/layouts");
    let text = std::fs::read_to_string(samples.join("expected.toml")).unwrap();
    let expected: Expected = toml::from_str(&text).unwrap();
    for one in library::all() {
        assert!(expected.sample.iter().any(|sample| sample.layout == one.name), "{} has no sample", one.name);
    }
    for sample in &expected.sample {
        let one = library::all().iter().find(|one| one.name == sample.layout);
        let one = one.unwrap_or_else(|| panic!("there is no layout {}", sample.layout));
        let layout = Layout::parse(one.text).unwrap_or_else(|problems| panic!("{}: {problems:#?}", one.name));
        let (rows, report) = read_sample(sample, &layout, &samples);
        match (&report.verdict, &sample.quarantined) {
            (Verdict::Accept, None) => {}
            (Verdict::Quarantine { reason }, Some(says)) if reason.contains(says.as_str()) => continue,
            (verdict, _) => panic!("{}: {verdict:?} {:#?}", sample.file, report.faults),
        }
        assert_eq!(rows.num_rows(), sample.rows, "{}", sample.file);
        compare(sample, &rows, 0, &sample.first);
        compare(sample, &rows, rows.num_rows() - 1, &sample.last);
    }
}

/// A proposal for a sample can be read by itself: not always right, but a layout that the file fits.
#[test]
fn a_layout_is_proposed_for_each_sample() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/layouts");
    let text = std::fs::read_to_string(samples.join("expected.toml")).unwrap();
    let expected: Expected = toml::from_str(&text).unwrap();
    let (mut accepted, mut tried) = (0, 0);
    for sample in expected.sample.iter().filter(|sample| sample.quarantined.is_none()) {
        let one = library::all().iter().find(|one| one.name == sample.layout).unwrap();
        let ready_made = Layout::parse(one.text).unwrap();
        let open = || only_file(File::open(samples.join(&sample.file)).unwrap(), &sample.file, &ready_made).content;
        let proposal = ingest::guess::propose(open(), &sample.file).unwrap();
        let layout = Layout::parse(&proposal.layout);
        let layout = layout.unwrap_or_else(|problems| panic!("{}\n{}\n{problems:#?}", sample.file, proposal.layout));
        let report = read(open(), &sample.file, &layout, &mut |_| Ok(())).unwrap();
        tried += 1;
        accepted += usize::from(report.verdict == Verdict::Accept);
    }
    assert!(accepted * 2 >= tried, "only {accepted} of {tried} proposals accept their file");
}
