//! **ingest**: files from elsewhere into the lake's objects, by their hash; each is held against a
//! layout and accepted, or set aside with its reasons. Nothing is lost: the object stays as it came.
//!
//! `ingest.files` has a row for each arrival and each verdict, `ingest.faults` what is wrong with
//! the files that were set aside. A run that is killed has noted an arrival or not; the next one
//! goes on from there, and the same bytes are the same object.

mod source;
mod tables;

use anyhow::{Context, Result};
use chrono::{DateTime, NaiveDate, Utc};
use ingest::arrivals::{Came, Known};
use ingest::fetch::{self, Retries};
use ingest::objects::{Hash, Objects};
use ingest::read::{self, Fault, Verdict};
use ingest::source::Listed;
use ledger::Run;
use serde_json::{Value, json};

use crate::config::Ingest;
use crate::flows::moment::{AS_OF, Moment};
use crate::flows::rows;
use crate::jobs::{self, Asked, Ended};
use crate::warehouse::Warehouse;

pub use tables::{Arrived, Judged, current, read as arrivals};

/// So many are noted in one commit.
const NOTED_TOGETHER: usize = 100;
const FAULTS_TOLD: usize = 5;

/// A file and what became of it.
#[derive(Debug, Clone)]
pub struct Told {
    pub name: String,
    pub judged: Judged,
    /// The first of them.
    pub faults: Vec<String>,
}

#[derive(Debug, Default)]
pub struct Report {
    pub files: Vec<Told>,
    pub unchanged: usize,
    /// Seen, and left for the next run, with why.
    pub left: Vec<(String, &'static str)>,
}

impl Report {
    fn count(&self, judged: Judged) -> usize {
        self.files.iter().filter(|file| file.judged == judged).count()
    }

    pub fn figures(&self) -> Value {
        json!({
            "files": self.files.len(), "accepted": self.count(Judged::Accepted),
            "quarantined": self.count(Judged::Quarantined), "duplicates": self.count(Judged::Duplicate),
            "unchanged": self.unchanged, "left": self.left.len(),
        })
    }
}

pub async fn run(warehouse: &Warehouse, asked: &Asked, name: &str) -> Result<Report> {
    let ingest = warehouse.ingest(name)?;
    let moment = Moment::of(warehouse, asked)?;
    let detail = json!({"ingest": name, AS_OF: moment.as_of()});
    jobs::run(warehouse, &format!("ingest:{name}"), asked, detail, async |run| {
        let report = carry(warehouse, run, ingest, &moment).await?;
        let figures = report.figures();
        Ok(Ended::well(report, figures))
    })
    .await
}

async fn carry(warehouse: &Warehouse, run: &Run, ingest: &Ingest, moment: &Moment) -> Result<Report> {
    let lake = warehouse.lake().await?;
    let bench = Bench {
        run,
        ingest,
        lake: &lake,
        objects: warehouse.objects(&lake),
        layout: Hash::of(&std::fs::read(&ingest.layout_file).context("read the layout")?),
    };
    let past = tables::read(&rows::session(warehouse, &lake)?, &ingest.name).await?;
    let mut report = Report::default();
    bench.judge_again(&past, &mut report).await?;
    let date = date(warehouse, moment)?;
    let source = source::open(ingest)?;
    let retries = Retries::default();
    let listing = fetch::list(source.as_ref(), date, ingest.settle, &retries).await?;
    report.left.extend(listing.left.into_iter().map(|left| (left.name, left.why.as_str())));
    let mut arrivals: Vec<_> = past.iter().map(Arrived::arrival).collect();
    let plan = Known::new(&arrivals).plan(&ingest.name, &listing.files);
    report.unchanged = plan.unchanged.len();
    let mut noted = Vec::new();
    for (file, _) in plan.fetch {
        let listed_at = Utc::now();
        let object = fetch::fetch(source.as_ref(), &file, &bench.objects, &retries).await;
        let object = object.with_context(|| format!("fetch {}", file.name))?;
        let came = Known::new(&arrivals).came(&ingest.name, &file.name, object.sha256);
        let arrived = bench.judge(&file, object.sha256, object.bytes, &came, listed_at).await?;
        arrivals.push(arrived.0.arrival());
        tell(run, &arrived, &mut report)?;
        noted.push(arrived);
        if noted.len() == NOTED_TOGETHER {
            tables::note(&lake, run, std::mem::take(&mut noted)).await?;
        }
    }
    #[cfg(feature = "failpoints")]
    fail::fail_point!("ingest-before-note");
    tables::note(&lake, run, noted).await?;
    Ok(report)
}

/// The logical date: the period's first day, or the day of the run.
fn date(warehouse: &Warehouse, moment: &Moment) -> Result<NaiveDate> {
    let zone: chrono_tz::Tz = warehouse.config.serve.timezone.parse().context("read the time zone")?;
    Ok(moment.from().unwrap_or(moment.as_of).with_timezone(&zone).date_naive())
}

fn tell(run: &Run, (arrived, faults): &(Arrived, Vec<Fault>), report: &mut Report) -> Result<()> {
    if arrived.judged == Judged::Same {
        report.unchanged += 1;
        return Ok(());
    }
    let name = format!("file.{}", arrived.judged.as_str());
    let fields = json!({
        "ingest": arrived.ingest, "file": arrived.name, "sha256": arrived.sha256.to_string(),
        "version": arrived.version, "reason": arrived.reason, "rows": arrived.rows,
    });
    run.event(&name, fields)?;
    let faults = faults.iter().take(FAULTS_TOLD).map(ToString::to_string);
    let faults = arrived.reason.clone().into_iter().chain(faults).collect();
    report.files.push(Told { name: arrived.name.clone(), judged: arrived.judged, faults });
    Ok(())
}

/// What a run works with.
struct Bench<'a> {
    run: &'a Run,
    ingest: &'a Ingest,
    lake: &'a lake::Lake,
    objects: Objects,
    /// The layout's own hash: a verdict holds for it.
    layout: Hash,
}

impl Bench<'_> {
    async fn judge(
        &self,
        file: &Listed,
        sha256: Hash,
        bytes: u64,
        came: &Came,
        listed_at: DateTime<Utc>,
    ) -> Result<(Arrived, Vec<Fault>)> {
        let mut arrived = Arrived {
            ingest: self.ingest.name.clone(),
            name: file.name.clone(),
            file: file.clone(),
            sha256,
            bytes,
            listed_at,
            version: 1,
            judged: Judged::Accepted,
            reason: None,
            rows: None,
            layout: self.layout,
        };
        match came {
            Came::New => {}
            Came::NewVersion { version, .. } => arrived.version = *version as u64,
            Came::Back { version, same_as, .. } => {
                arrived.version = *version as u64;
                arrived.reason = Some(format!("the same as its version {same_as}"));
            }
            // Noted, so that its new description is known and it is not fetched again.
            Came::Same => arrived.judged = Judged::Same,
            Came::OtherName { names } => {
                let names: Vec<&str> = names.iter().map(|(_, name)| name.as_str()).collect();
                arrived.judged = Judged::Duplicate;
                arrived.reason = Some(format!("the same bytes as {}", names.join(", ")));
            }
        }
        if matches!(arrived.judged, Judged::Same | Judged::Duplicate) {
            return Ok((arrived, Vec::new()));
        }
        let faults = self.hold_against_layout(&mut arrived).await?;
        Ok((arrived, faults))
    }

    async fn hold_against_layout(&self, arrived: &mut Arrived) -> Result<Vec<Fault>> {
        let object = self.objects.get(&arrived.sha256).await?;
        let layout = self.ingest.layout.clone();
        let read = tokio::task::spawn_blocking(move || read::read(object, &layout, &mut |_| Ok(())));
        let read = read.await.context("read a file")?.with_context(|| format!("read {}", arrived.name))?;
        arrived.rows = Some(read.rows);
        (arrived.judged, arrived.layout) = (Judged::Accepted, self.layout);
        if let Verdict::Quarantine { reason } = read.verdict {
            arrived.judged = Judged::Quarantined;
            arrived.reason = Some(reason);
        }
        Ok(read.faults)
    }

    /// What was set aside by another layout.
    async fn judge_again(&self, past: &[Arrived], report: &mut Report) -> Result<()> {
        let mut noted = Vec::new();
        for mut arrived in current(past).into_iter().filter(|arrived| arrived.judged == Judged::Quarantined).cloned() {
            if arrived.layout == self.layout {
                continue;
            }
            arrived.reason = None;
            let faults = self.hold_against_layout(&mut arrived).await?;
            noted.push((arrived, faults));
            if let Some(last) = noted.last() {
                tell(self.run, last, report)?;
            }
        }
        tables::note(self.lake, self.run, noted).await
    }
}
