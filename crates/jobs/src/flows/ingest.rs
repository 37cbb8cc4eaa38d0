//! **ingest**: fetches files from a source into the lake's objects, by their hash. Each is checked
//! against a layout, and accepted or quarantined. The object is never changed or removed.
//!
//! `ingest.files` has a row for each arrival and each verdict, `ingest.faults` the faults of the
//! quarantined files. A run that is killed has recorded an arrival or not; the next one fetches what
//! is not recorded, and the same bytes are the same object.

mod archive;
mod recheck;
mod source;
mod tables;

use std::collections::HashMap;
use std::fs::File;

use anyhow::{Context, Result};
use base::text;
use chrono::{DateTime, NaiveDate, Utc};
use config::{Ingest, Job};
use ingest::archive::{Archive, Delivered};
use ingest::arrivals::{Arrival, ArrivalHistory, ArrivalKind};
use ingest::fetch::{self, Retries};
use ingest::objects::{Hash, Object, Objects};
use ingest::read::{self, Fault, ReadReport, Verdict};
use ingest::source::ListedFile;
use ledger::Run;
use serde_json::{Value, json};

use crate::flows::moment::{AS_OF, Moment};
use crate::flows::rows;
use crate::runs::{self, FlowOutcome, RunRequest};
use crate::warehouse::Warehouse;

pub use tables::{ArrivalRow, FileVerdict, current, declared as declared_tables, read as arrivals};

/// How many files are recorded in one commit.
const FILES_PER_COMMIT: usize = 100;
/// How many faults of one file are printed.
const FAULTS_SHOWN: usize = 5;

/// A file that a run fetched, or checked again, and its verdict.
#[derive(Debug, Clone)]
pub struct FileReport {
    /// Its name at the source.
    pub name: String,
    pub verdict: FileVerdict,
    /// The verdict's reason and the first faults.
    pub faults: Vec<String>,
}

#[derive(Debug, Default)]
/// What one run of an ingest did.
pub struct IngestReport {
    pub files: Vec<FileReport>,
    /// How many listed files have not changed since an earlier run.
    pub unchanged: usize,
    /// Files that were listed and not fetched yet, each with the reason; a later run fetches them.
    pub skipped: Vec<(String, &'static str)>,
}

impl IngestReport {
    fn count(&self, verdict: FileVerdict) -> usize {
        self.files.iter().filter(|file| file.verdict == verdict).count()
    }

    /// The run's figures.
    pub fn figures(&self) -> Value {
        json!({
            "files": self.files.len(), "accepted": self.count(FileVerdict::Accepted),
            "quarantined": self.count(FileVerdict::Quarantined), "duplicates": self.count(FileVerdict::Duplicate),
            "unpacked": self.count(FileVerdict::Unpacked), "unchanged": self.unchanged, "left": self.skipped.len(),
        })
    }
}

/// Runs the ingest `name` as a run of `ingest:NAME`.
pub async fn run(warehouse: &Warehouse, request: &RunRequest, name: &str) -> Result<IngestReport> {
    let ingest = warehouse.ingest(name)?;
    let moment = Moment::of(warehouse, request)?;
    let detail = json!({"ingest": name, AS_OF: moment.as_of()});
    runs::run(warehouse, Job::Ingest(ingest), request, detail, async |run| {
        let report = fetch_files(warehouse, run, ingest, &moment).await?;
        let figures = report.figures();
        Ok(FlowOutcome::succeeded(report, figures))
    })
    .await
}

async fn fetch_files(warehouse: &Warehouse, run: &Run, ingest: &Ingest, moment: &Moment) -> Result<IngestReport> {
    let lake = warehouse.lake().await?;
    let layout = std::fs::read(&ingest.layout_file).context("read the layout")?;
    let ingest_run =
        IngestRun { run, ingest, lake: &lake, objects: warehouse.objects(&lake), layout: Hash::of(&layout) };
    let past = tables::read(&rows::session(warehouse, &lake)?, &ingest.name).await?;
    let mut report = IngestReport::default();
    let read_again = ingest_run.recheck(&past, layout, &mut report).await?;
    let mut versions = newest_versions(past.iter().chain(&read_again));
    let date = date(warehouse, moment)?;
    let source = source::open(ingest)?;
    let retries = Retries::default();
    let listing = fetch::list(source.as_ref(), date, ingest.settle, &retries).await?;
    report.skipped.extend(listing.skipped.into_iter().map(|skipped| (skipped.name, skipped.reason.as_str())));
    let mut arrivals: Vec<_> = past.iter().map(ArrivalRow::arrival).collect();
    let mut plan = ArrivalHistory::new(&arrivals).plan(&ingest.name, &listing.files);
    // Of files that are found together, the one that its source has written last arrives last.
    plan.fetch.sort_by(|(a, _), (b, _)| (a.modified, &a.name).cmp(&(b.modified, &b.name)));
    report.unchanged = plan.unchanged.len();
    let mut pending = Vec::new();
    for (file, _) in plan.fetch {
        let listed_at = Utc::now();
        let object = fetch::fetch(source.as_ref(), &file, &ingest_run.objects, &retries).await;
        let object = object.with_context(|| format!("fetch {}", file.name))?;
        let fetched = Fetched { file, object, listed_at };
        for arrived in ingest_run.arrive(fetched, &mut arrivals, &mut versions).await? {
            record(run, &arrived, &mut report)?;
            pending.push(arrived);
        }
        // An archive and its files are recorded in one commit.
        if pending.len() >= FILES_PER_COMMIT {
            tables::append(&lake, run, std::mem::take(&mut pending)).await?;
        }
    }
    #[cfg(feature = "failpoints")]
    fail::fail_point!("ingest-before-note");
    tables::append(&lake, run, pending).await?;
    Ok(report)
}

/// The date that templates of file names are filled with: the period's first day, else the day of `as_of`.
fn date(warehouse: &Warehouse, moment: &Moment) -> Result<NaiveDate> {
    let zone: chrono_tz::Tz = warehouse.config.serve.timezone.parse().context("read the time zone")?;
    Ok(moment.from().unwrap_or(moment.as_of).with_timezone(&zone).date_naive())
}

/// Adds a file to the report, and an event for it to the run.
fn record(run: &Run, (arrived, faults): &(ArrivalRow, Vec<Fault>), report: &mut IngestReport) -> Result<()> {
    if arrived.verdict == FileVerdict::Same {
        report.unchanged += 1;
        return Ok(());
    }
    let name = format!("file.{}", arrived.verdict.as_str());
    let fields = json!({
        "ingest": arrived.ingest, "file": arrived.name, "sha256": arrived.sha256.to_string(),
        "version": arrived.version, "reason": arrived.reason, "rows": arrived.rows,
    });
    run.event(&name, fields)?;
    let faults = faults.iter().take(FAULTS_SHOWN).map(ToString::to_string);
    let faults = arrived.reason.clone().into_iter().chain(faults).collect();
    report.files.push(FileReport { name: arrived.name.clone(), verdict: arrived.verdict, faults });
    Ok(())
}

/// A row of `ingest.files` with the faults of its file.
type Arrived = (ArrivalRow, Vec<Fault>);

/// A file whose bytes are among the objects.
struct Fetched {
    file: ListedFile,
    object: Object,
    listed_at: DateTime<Utc>,
}

/// What the steps of one run share.
struct IngestRun<'a> {
    run: &'a Run,
    ingest: &'a Ingest,
    lake: &'a lake::Lake,
    objects: Objects,
    /// The hash of the layout's file: a verdict is valid for one layout.
    layout: Hash,
}

impl IngestRun<'_> {
    /// The verdicts on a fetched file: one, or those of an archive and of its files. `arrivals` and the newest `versions`
    /// of each name are those before it, and get what it adds.
    async fn arrive(
        &self,
        fetched: Fetched,
        arrivals: &mut Vec<Arrival>,
        versions: &mut HashMap<String, u64>,
    ) -> Result<Vec<Arrived>> {
        let (arrived, packed) = self.verdict(&fetched, true, arrivals, versions).await?;
        let mut all = vec![arrived];
        let mut packed = packed;
        while let Some(archive) = packed {
            let Some((one, rest)) = self.next_of(archive).await? else { break };
            let one = self.store(one, &fetched).await?;
            all.push(self.verdict(&one, false, arrivals, versions).await?.0);
            packed = Some(rest);
        }
        Ok(all)
    }

    /// The verdict on a file, and the archive that it is where it `may_be_archive` and is one.
    async fn verdict(
        &self,
        fetched: &Fetched,
        may_be_archive: bool,
        arrivals: &mut Vec<Arrival>,
        versions: &mut HashMap<String, u64>,
    ) -> Result<(Arrived, Option<Archive>)> {
        let name = &fetched.file.name;
        let kind = ArrivalHistory::new(arrivals).classify(&self.ingest.name, name, fetched.object.sha256);
        let mut arrived = self.classify(fetched, &self.by_name(name, kind));
        let (mut faults, mut packed) = (Vec::new(), None);
        if !matches!(arrived.verdict, FileVerdict::Same | FileVerdict::Duplicate) {
            let object = self.objects.get(&arrived.sha256).await?;
            match self.opened(object, name).await? {
                Delivered::Plain(file) => faults = self.check_against_layout(&mut arrived, file).await?,
                Delivered::Archive(archive) if may_be_archive => {
                    arrived.verdict = FileVerdict::Unpacked;
                    arrived.reason = Some(text::quantity(archive.count() as u64, "file"));
                    packed = Some(archive);
                }
                Delivered::Archive(_) => {
                    arrived.verdict = FileVerdict::Quarantined;
                    arrived.reason = Some("an archive within an archive: have it delivered unpacked".to_owned());
                }
                Delivered::Damaged(why) => {
                    arrived.verdict = FileVerdict::Quarantined;
                    arrived.reason = Some(why);
                }
            }
        }
        if arrived.version > 1 {
            // A version may be one that was read again.
            let newest = versions.entry(name.clone()).or_default();
            arrived.version = arrived.version.max(*newest + 1);
            *newest = arrived.version;
        }
        arrivals.push(arrived.arrival());
        Ok(((arrived, faults), packed))
    }

    /// The same bytes under another name are other rows where the layout takes values from the name.
    fn by_name(&self, name: &str, kind: ArrivalKind) -> ArrivalKind {
        let ArrivalKind::OtherName { mut names } = kind else { return kind };
        let values = self.ingest.layout.values_of_name(name);
        names.retain(|(_, other)| self.ingest.layout.values_of_name(other) == values);
        if names.is_empty() { ArrivalKind::New } else { ArrivalKind::OtherName { names } }
    }

    /// The row of a file before it is read.
    fn classify(&self, fetched: &Fetched, kind: &ArrivalKind) -> ArrivalRow {
        let mut arrived = ArrivalRow {
            ingest: self.ingest.name.clone(),
            name: fetched.file.name.clone(),
            file: fetched.file.clone(),
            sha256: fetched.object.sha256,
            bytes: fetched.object.bytes,
            listed_at: fetched.listed_at,
            version: 1,
            verdict: FileVerdict::Accepted,
            reason: None,
            rows: None,
            layout: self.layout,
            subjects: Vec::new(),
        };
        match kind {
            ArrivalKind::New => {}
            ArrivalKind::NewVersion { version, .. } => arrived.version = *version as u64,
            ArrivalKind::Reverted { version, same_as, .. } => {
                arrived.version = *version as u64;
                arrived.reason = Some(format!("it has the same bytes as its version {same_as}"));
            }
            // Recorded, so that its new description is known and the next run does not fetch it.
            ArrivalKind::Same => arrived.verdict = FileVerdict::Same,
            ArrivalKind::OtherName { names } => {
                let names: Vec<&str> = names.iter().map(|(_, name)| name.as_str()).collect();
                arrived.verdict = FileVerdict::Duplicate;
                arrived.reason = Some(format!("it has the same bytes as {}", names.join(", ")));
            }
        }
        arrived
    }

    /// Checks the content of a file that was read before.
    async fn check_object(&self, arrived: &mut ArrivalRow) -> Result<Vec<Fault>> {
        let object = self.objects.get(&arrived.sha256).await?;
        self.check_against_layout(arrived, object).await
    }

    async fn check_against_layout(&self, arrived: &mut ArrivalRow, file: File) -> Result<Vec<Fault>> {
        let (layout, name) = (self.ingest.layout.clone(), arrived.name.clone());
        let read = tokio::task::spawn_blocking(move || read::read(file, &name, &layout, &mut |_| Ok(())));
        let read = read.await.context("read a file")?.with_context(|| format!("read {}", arrived.name))?;
        arrived.rows = Some(read.rows);
        (arrived.verdict, arrived.layout) = (FileVerdict::Accepted, self.layout);
        arrived.subjects = self.subjects(&read);
        if let Verdict::Quarantine { reason } = read.verdict {
            arrived.verdict = FileVerdict::Quarantined;
            arrived.reason = Some(reason);
        }
        Ok(read.faults)
    }

    /// What a file is about, as JSON objects.
    fn subjects(&self, read: &ReadReport) -> Vec<String> {
        let layout = &self.ingest.layout;
        let names: Vec<&String> = layout.subject.iter().map(|at| &layout.columns[*at].name).collect();
        let object = |values: &Vec<String>| {
            let fields = names.iter().zip(values).map(|(name, value)| ((*name).clone(), json!(value)));
            Value::Object(fields.collect()).to_string()
        };
        read.subjects.iter().map(object).collect()
    }
}

/// The newest version of each name.
fn newest_versions<'a>(past: impl Iterator<Item = &'a ArrivalRow>) -> HashMap<String, u64> {
    let mut newest = HashMap::new();
    for arrived in past {
        let version: &mut u64 = newest.entry(arrived.name.clone()).or_default();
        *version = arrived.version.max(*version);
    }
    newest
}
