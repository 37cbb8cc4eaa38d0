//! The billing part of the demo: six months of producers' files with typical faults. Each month is billed, controls
//! block the bills where something is wrong, the fault is corrected, statements are issued, and a correction after
//! billing becomes a reversal and a new line.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use config::flow::LoadSource;
use jobs::flows::control::{ControlReport, State, Verdict};
use jobs::flows::{control, function, ingest, load, statement};
use jobs::runs::RunRequest;
use jobs::warehouse::Warehouse;
use platform::billing::{File, MONTHS, files};
use schedule::Period;

use crate::commands::layer;
use crate::commands::query_output::print_query;

const SEED: u64 = 42;
/// The layers of R.
const LAYERS: [&str; 3] = ["r", "r-data-table", "r-jsonlite"];
const FUNCTION: &str = "billing-extract";
const CONTROLS: &str = "billing";
const STATEMENT: &str = "producers";

const LINES: &str = "SELECT contract_id, kind, valid_from, rule, quantity, unit, price, amount FROM billing.bills
    WHERE period = '2026-03' ORDER BY contract_id, line LIMIT 12";

const CORRECTION: &str =
    "SELECT contract_id, rule, version, CASE WHEN reverses IS NULL THEN 'entry' ELSE 'reversal' END AS what,
    quantity, amount, recorded_at FROM billing.lines WHERE document = (SELECT min(document) FROM billing.lines
    WHERE period = '2026-02' AND reverses IS NOT NULL) ORDER BY entry";

const BILLS: &str = "SELECT producer_id, max(producer) AS producer,
    sum(amount) FILTER (WHERE period = '2025-12') AS \"2025-12\", sum(amount) FILTER (WHERE period = '2026-01') AS \"2026-01\",
    sum(amount) FILTER (WHERE period = '2026-02') AS \"2026-02\", sum(amount) FILTER (WHERE period = '2026-03') AS \"2026-03\",
    sum(amount) FILTER (WHERE period = '2026-04') AS \"2026-04\", sum(amount) FILTER (WHERE period = '2026-05') AS \"2026-05\"
    FROM billing.lines GROUP BY producer_id ORDER BY producer_id";

/// The billing flow of the demo's warehouse, with the generated files that have not arrived yet.
pub struct Billing<'a> {
    warehouse: &'a Warehouse,
    dir: &'a Path,
    files: std::iter::Peekable<std::vec::IntoIter<File>>,
}

impl<'a> Billing<'a> {
    /// Generates the files of all months, in the order of their arrival.
    pub fn of(warehouse: &'a Warehouse, dir: &'a Path) -> Result<Billing<'a>> {
        let files = files(SEED, DateTime::<Utc>::MAX_UTC).context("generate the producers' files")?;
        Ok(Billing { warehouse, dir, files: files.into_iter().peekable() })
    }

    /// Builds the layers of R and its packages from what this machine has.
    pub fn layers(&self) -> Result<()> {
        layer::build_named(self.warehouse, &LAYERS)
    }

    /// Writes the files that arrive until an instant into the inbox, and loads them into the lake.
    async fn deliver_files(&mut self, until: DateTime<Utc>) -> Result<()> {
        while let Some(file) = self.files.next_if(|file| file.available_at <= until) {
            let path = self.dir.join("inbox").join(&file.name);
            std::fs::create_dir_all(path.parent().context("a file's folder")?)?;
            // A new content under an old name: the old one must have been ingested first.
            if std::fs::read(&path).is_ok_and(|present| present != file.bytes) {
                self.ingest_and_load().await?;
            }
            let written = std::fs::write(&path, &file.bytes)
                // With its time of arrival: the ingest leaves a file that changed just now to the next run.
                .and_then(|()| {
                    std::fs::File::options().write(true).open(&path)?.set_modified(file.available_at.into())
                });
            written.with_context(|| format!("write {}", path.display()))?;
        }
        self.ingest_and_load().await
    }

    async fn ingest_and_load(&self) -> Result<()> {
        for name in self.warehouse.config.ingests.keys() {
            let report = ingest::run(self.warehouse, &RunRequest::by("demo"), name).await?;
            for file in report.files.iter().filter(|file| file.verdict != ingest::FileVerdict::Accepted) {
                println!("  {:<11} {}", file.verdict.as_str(), file.name);
                for fault in file.faults.iter().take(2) {
                    println!("              {fault}");
                }
            }
        }
        for load in self.warehouse.config.loads.values().filter(|load| matches!(load.from, LoadSource::Ingest(_))) {
            load::run(self.warehouse, &RunRequest::by("demo"), &load.name).await?;
        }
        Ok(())
    }

    /// Bills a month from the files that have arrived, and runs its controls.
    async fn bill(&self, month: &str) -> Result<ControlReport> {
        let request = request(month)?;
        let result = function::run(self.warehouse, &request, FUNCTION).await?;
        let lines = load::run(self.warehouse, &request, "lines").await?;
        load::run(self.warehouse, &request, "days").await?;
        let mut text = format!("  {FUNCTION} answered in {} ms", result["milliseconds"]);
        if let Some(init) = result["init_milliseconds"].as_u64() {
            let _ = write!(text, ", after a cold start of {init} ms");
        }
        let (new, changed, same) = (&lines["new"], &lines["changed"], &lines["same"]);
        println!("{text}; lines: {new} new, {changed} changed, {same} unchanged");
        self.run_controls(month).await
    }

    async fn run_controls(&self, month: &str) -> Result<ControlReport> {
        let report = control::run(self.warehouse, &request(month)?, CONTROLS).await?;
        let passed = report.verdicts.iter().filter(|verdict| verdict.state == State::Passed).count();
        println!("  {passed} of {} controls passed", report.verdicts.len());
        for verdict in report.verdicts.iter().filter(|verdict| verdict.state != State::Passed) {
            let summary = verdict.summary();
            // The rows are shown only where they block the bills.
            let shown = if verdict.stops() { summary.as_str() } else { summary.lines().next().unwrap_or_default() };
            println!("  {}", shown.replace('\n', "\n  "));
        }
        Ok(report)
    }

    async fn bill_and_issue(&mut self, month: &str) -> Result<()> {
        let end = self.end(month)?;
        println!("\n{month}: the second morning after it");
        self.deliver_files(end + TimeDelta::hours(30)).await?;
        let mut report = self.bill(month).await?;
        if !report.blocking().is_empty() {
            println!("\n{month}: five days later, with the corrected files");
            self.deliver_files(end + TimeDelta::days(6)).await?;
            report = self.bill(month).await?;
        }
        let blocking: Vec<&str> = report.blocking().iter().map(|verdict| verdict.control.as_str()).collect();
        ensure!(blocking.is_empty(), "controls still block the bills of {month}: {blocking:?}");
        self.issue(month).await
    }

    async fn issue(&self, month: &str) -> Result<()> {
        let report = statement::run(self.warehouse, &request(month)?, STATEMENT).await?;
        println!("  {}", report.summary());
        Ok(())
    }

    fn end(&self, month: &str) -> Result<DateTime<Utc>> {
        let zone = self.warehouse.config.serve.timezone.parse().context("the warehouse's time zone")?;
        let bounds: Option<(DateTime<Utc>, DateTime<Utc>)> = period(month)?.bounds(zone);
        Ok(bounds.context("the month's end")?.1)
    }

    /// Bills the months up to the one whose file is corrected after it was billed.
    pub async fn bill_first_months(&mut self) -> Result<()> {
        for month in &MONTHS[..3] {
            self.bill_and_issue(month).await?;
        }
        Ok(())
    }

    /// Bills the last of the first months again, after the correction of one of its files.
    pub async fn correct(&mut self) -> Result<()> {
        let month = MONTHS[2];
        self.deliver_files(self.end(month)? + TimeDelta::days(12)).await?;
        let report = self.run_controls(month).await?;
        let blocking: Vec<&str> = report.blocking().iter().map(|verdict| verdict.control.as_str()).collect();
        ensure!(blocking == ["inputs_changed"], "the correction should block the bills: {blocking:?}");
        println!("\n{month} again");
        let report = self.bill(month).await?;
        ensure!(report.blocking().is_empty(), "controls still block the bills of {month}");
        self.issue(month).await?;
        print_query(self.warehouse, CORRECTION).await
    }

    /// Bills the other months, and shows a correction of an old month and all bills.
    pub async fn bill_last_months(&mut self) -> Result<()> {
        for month in &MONTHS[3..] {
            self.bill_and_issue(month).await?;
        }
        println!("\n2026-01 again: the operator has corrected its estimates since");
        let report = control::run(self.warehouse, &request("2026-01")?, CONTROLS).await?;
        let revised = report.verdicts.iter().find(|verdict| verdict.control == "inputs_changed");
        println!("  {}", revised.map(Verdict::summary).unwrap_or_default().replace('\n', "\n  "));
        println!("\nlines of 2026-03, in which a price was indexed in the middle of the month");
        print_query(self.warehouse, LINES).await?;
        println!("\nwhat each producer is paid, EUR");
        print_query(self.warehouse, BILLS).await
    }
}

fn period(month: &str) -> Result<Period> {
    month.parse().with_context(|| format!("read the month {month}"))
}

fn request(month: &str) -> Result<RunRequest> {
    Ok(RunRequest { period: Some(period(month)?), ..RunRequest::by("demo") })
}
