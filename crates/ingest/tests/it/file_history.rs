//! A producer's file in the course of a month: delivered, delivered again, corrected, damaged.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::Int64Type;
use chrono::{DateTime, TimeDelta, Utc};
use ingest::arrivals::{Arrival, ArrivalHistory, ArrivalKind};
use ingest::fetch::{Retries, fetch, list};
use ingest::layout::Layout;
use ingest::load::{ColumnRoles, Document, LoadCounts, LoadPlan, entries_schema, plan};
use ingest::objects::{Hash, Objects};
use ingest::read::{ReadReport, Verdict, read};
use ingest::source::Folder;

use crate::server::{DATE, objects, templates};

const LAYOUT: &str = r##"
format = "csv"
separator = ";"
decimal = ","
key = ["prm", "debut"]
zone = "Europe/Paris"
[columns.prm]
type = "text"
[columns.debut]
type = "timestamp"
[columns.energie_wh]
header = "energie_kwh"
type = "integer"
factor = 1000
required = true
[[trailers]]
starts_with = "#TOTAL"
count = 2
sums = [{ field = 3, column = "energie_wh" }]
"##;

/// What a warehouse keeps from one day to the next.
struct Warehouse {
    inbox: Folder,
    objects: Objects,
    past: Vec<Arrival>,
    now: DateTime<Utc>,
    entries: Vec<RecordBatch>,
}

fn rows_of(file: File, layout: &Layout) -> (Vec<RecordBatch>, ReadReport) {
    let mut rows = Vec::new();
    let report = read(file, "", layout, &mut |one| {
        rows.push(one.batch);
        Ok(())
    });
    (rows, report.unwrap())
}

impl Warehouse {
    /// Fetches what arrived since the last call.
    async fn ingest(&mut self) -> Vec<(String, ArrivalKind, Hash)> {
        self.now += TimeDelta::days(1);
        let retries = Retries::default();
        let listing = list(&self.inbox, DATE, Duration::ZERO, &retries).await.unwrap();
        let mut came = Vec::new();
        let todo = ArrivalHistory::new(&self.past).plan("inbox", &listing.files).fetch;
        for (file, _) in todo {
            let object = fetch(&self.inbox, &file, &self.objects, &retries).await.unwrap();
            came.push((
                file.name.clone(),
                ArrivalHistory::new(&self.past).classify("inbox", &file.name, object.sha256),
                object.sha256,
            ));
            self.past.push(Arrival { source: "inbox".to_owned(), file, sha256: object.sha256, at: self.now });
        }
        came
    }

    async fn load(&mut self, name: &str, sha256: Hash) -> Result<LoadPlan, String> {
        let layout = Layout::parse(LAYOUT).unwrap();
        let (rows, report) = rows_of(self.objects.get(&sha256).await.unwrap(), &layout);
        if let Verdict::Quarantine { reason } = report.verdict {
            return Err(reason);
        }
        let document = Document {
            name: name.to_owned(),
            inputs: sha256.to_string(),
            code: Hash::of(LAYOUT.as_bytes()).to_string(),
            recorded_at: self.now,
            again: false,
        };
        let key = ["prm", "debut"].map(str::to_owned).to_vec();
        let roles = ColumnRoles { key, amounts: vec!["energie_wh".to_owned()], carried: Vec::new() };
        let plan = plan(&document, &roles, &layout.schema(), &rows, &self.entries).unwrap();
        self.entries.push(plan.entries.clone());
        Ok(plan)
    }

    fn energy_wh(&self) -> i64 {
        let schema = entries_schema(&Layout::parse(LAYOUT).unwrap().schema()).unwrap();
        let all = concat_batches(&schema, &self.entries).unwrap();
        all["energie_wh"].as_primitive::<Int64Type>().iter().flatten().sum()
    }
}

fn write(folder: &Path, name: &str, rows: &str) {
    let text = format!("prm;debut;energie_kwh\r\n{rows}");
    let (bytes, _, _) = encoding_rs::WINDOWS_1252.encode(&text);
    std::fs::write(folder.join(name), bytes).unwrap();
}

#[tokio::test]
async fn a_file_is_delivered_and_corrected() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, objects) = objects();
    let inbox = Folder::new(folder.path(), templates(&["*_{date:%Y-%m}.csv"]));
    let now = Utc::now();
    let mut warehouse = Warehouse { inbox, objects, past: Vec::new(), now, entries: Vec::new() };
    let name = "été_2026-09.csv";
    let first = "A;2026-09-01 00:00;1,5\r\nA;2026-09-01 01:00;2\r\nB;2026-09-01 00:00;4\r\n#TOTAL;3;7,5\r\n";
    write(folder.path(), name, first);
    write(folder.path(), "other_2026-10.csv", first);
    let came = warehouse.ingest().await;
    assert_eq!((came.len(), came[0].0.as_str(), &came[0].1), (1, name, &ArrivalKind::New));
    let one = came[0].2;
    assert_eq!(warehouse.load(name, one).await.unwrap().counts.new, 3);
    // Again, as after a crash before the result was known.
    assert_eq!(warehouse.load(name, one).await.unwrap().loaded_as, Some(1));
    assert_eq!(warehouse.energy_wh(), 7500);
    assert_eq!(warehouse.ingest().await, []);

    // The same bytes under another name are reported, and are one object.
    std::fs::copy(folder.path().join(name), folder.path().join("copie_2026-09.csv")).unwrap();
    let copy = warehouse.ingest().await;
    assert_eq!(copy[0].1, ArrivalKind::OtherName { names: vec![("inbox".to_owned(), name.to_owned())] });
    assert_eq!(copy[0].2, one);

    write(folder.path(), name, &first.replace("01:00;2", "01:00;3").replace("7,5", "8,5"));
    let corrected = warehouse.ingest().await;
    assert_eq!(corrected[0].1, ArrivalKind::NewVersion { version: 2, before: one });
    let plan = warehouse.load(name, corrected[0].2).await.unwrap();
    assert_eq!((plan.version, plan.counts), (2, LoadCounts { same: 2, changed: 1, ..LoadCounts::default() }));
    assert_eq!((plan.entries.num_rows(), warehouse.energy_wh()), (2, 8500));

    // Truncated: quarantined, and the entries in force stay.
    write(folder.path(), name, &first[..60]);
    let damaged = warehouse.ingest().await;
    let reason = warehouse.load(name, damaged[0].2).await.unwrap_err();
    assert!(reason.contains("expected a line that begins with \"#TOTAL\"; was the file truncated?"), "{reason}");
    assert_eq!(warehouse.energy_wh(), 8500);
}
