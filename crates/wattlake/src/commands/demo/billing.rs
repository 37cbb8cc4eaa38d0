//! The second flow: six months of producers' files with the faults that such files have. Each month
//! is closed, controls stop the bills where something is wrong, the fault is corrected, statements go out, and
//! a correction that comes too late becomes a reversal and a new line.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use ledger::schedule::Period;
use platform::billing::{File, MONTHS, files};

use crate::commands::layer;
use crate::commands::sql::print_query;
use crate::config::flow::From;
use crate::flows::control::{Report, State, Verdict};
use crate::flows::{control, function, ingest, load, statement};
use crate::jobs::Asked;
use crate::warehouse::Warehouse;

const SEED: u64 = 42;
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

pub struct Billing<'a> {
    warehouse: &'a Warehouse,
    dir: &'a Path,
    files: std::iter::Peekable<std::vec::IntoIter<File>>,
}

impl<'a> Billing<'a> {
    /// What will come, in its order.
    pub fn of(warehouse: &'a Warehouse, dir: &'a Path) -> Result<Billing<'a>> {
        let files = files(SEED, DateTime::<Utc>::MAX_UTC).context("make up producers' files")?;
        Ok(Billing { warehouse, dir, files: files.into_iter().peekable() })
    }

    /// R and its packages, packed from what this machine has.
    pub fn layers(&self) -> Result<()> {
        layer::build_all(self.warehouse)
    }

    /// Files that are there by an instant, into the lake.
    async fn comes(&mut self, until: DateTime<Utc>) -> Result<()> {
        while let Some(file) = self.files.next_if(|file| file.available_at <= until) {
            let path = self.dir.join("inbox").join(&file.name);
            std::fs::create_dir_all(path.parent().context("a file's folder")?)?;
            // A later state of a name: the ingest has had the former one.
            if std::fs::read(&path).is_ok_and(|there| there != file.bytes) {
                self.bring_in().await?;
            }
            let written = std::fs::write(&path, &file.bytes)
                // As old as it says: nobody has to wait until it has stopped growing.
                .and_then(|()| {
                    std::fs::File::options().write(true).open(&path)?.set_modified(file.available_at.into())
                });
            written.with_context(|| format!("write {}", path.display()))?;
        }
        self.bring_in().await
    }

    async fn bring_in(&self) -> Result<()> {
        for name in self.warehouse.config.ingests.keys() {
            let report = ingest::run(self.warehouse, &Asked::by("demo"), name).await?;
            for file in report.files.iter().filter(|file| file.judged != ingest::Judged::Accepted) {
                println!("  {:<11} {}", file.judged.as_str(), file.name);
                for fault in file.faults.iter().take(2) {
                    println!("              {fault}");
                }
            }
        }
        for load in self.warehouse.config.loads.values().filter(|load| matches!(load.from, From::Ingest(_))) {
            load::run(self.warehouse, &Asked::by("demo"), &load.name).await?;
        }
        Ok(())
    }

    /// The second morning after a month: what is there is billed, and looked at.
    async fn close(&self, month: &str) -> Result<Report> {
        let asked = asked(month)?;
        let ran = function::run(self.warehouse, &asked, FUNCTION).await?;
        let lines = load::run(self.warehouse, &asked, "lines").await?;
        load::run(self.warehouse, &asked, "days").await?;
        let mut told = format!("  {FUNCTION} answered in {} ms", ran["milliseconds"]);
        if let Some(init) = ran["init_milliseconds"].as_u64() {
            let _ = write!(told, ", after a cold start of {init} ms");
        }
        let (new, changed, same) = (&lines["new"], &lines["changed"], &lines["same"]);
        println!("{told}; lines: {new} new, {changed} changed, {same} as they were");
        self.look(month).await
    }

    async fn look(&self, month: &str) -> Result<Report> {
        let report = control::run(self.warehouse, &asked(month)?, CONTROLS).await?;
        let passed = report.verdicts.iter().filter(|verdict| verdict.state == State::Passed).count();
        println!("  {passed} of {} controls passed", report.verdicts.len());
        for verdict in report.verdicts.iter().filter(|verdict| verdict.state != State::Passed) {
            let told = verdict.told();
            // Of those that only warn, the list says what the rows are.
            let shown = if verdict.stops() { told.as_str() } else { told.lines().next().unwrap_or_default() };
            println!("  {}", shown.replace('\n', "\n  "));
        }
        Ok(report)
    }

    async fn month(&mut self, month: &str) -> Result<()> {
        let end = self.end(month)?;
        println!("\n{month}: the second morning after it");
        self.comes(end + TimeDelta::hours(30)).await?;
        let mut report = self.close(month).await?;
        if !report.blocking().is_empty() {
            println!("\n{month}: five days later, after what was asked for has come");
            self.comes(end + TimeDelta::days(6)).await?;
            report = self.close(month).await?;
        }
        let blocking: Vec<&str> = report.blocking().iter().map(|verdict| verdict.control.as_str()).collect();
        ensure!(blocking.is_empty(), "nothing should stop the bills of {month} any more: {blocking:?}");
        self.issue(month).await
    }

    async fn issue(&self, month: &str) -> Result<()> {
        let report = statement::run(self.warehouse, &asked(month)?, STATEMENT).await?;
        println!("  {}", report.told());
        Ok(())
    }

    fn end(&self, month: &str) -> Result<DateTime<Utc>> {
        let zone = self.warehouse.config.serve.timezone.parse().context("the warehouse's time zone")?;
        let bounds: Option<(DateTime<Utc>, DateTime<Utc>)> = period(month)?.bounds(zone);
        Ok(bounds.context("the month's end")?.1)
    }

    /// All months up to the one whose file is corrected after it was billed.
    pub async fn winter(&mut self) -> Result<()> {
        for month in &MONTHS[..3] {
            self.month(month).await?;
        }
        Ok(())
    }

    pub async fn correction(&mut self) -> Result<()> {
        let month = MONTHS[2];
        self.comes(self.end(month)? + TimeDelta::days(12)).await?;
        let report = self.look(month).await?;
        let blocking: Vec<&str> = report.blocking().iter().map(|verdict| verdict.control.as_str()).collect();
        ensure!(blocking == ["corrected_after_billing"], "the correction should stop the bills: {blocking:?}");
        println!("\n{month} again");
        let report = self.close(month).await?;
        ensure!(report.blocking().is_empty(), "nothing should stop the bills any more");
        self.issue(month).await?;
        print_query(self.warehouse, CORRECTION).await
    }

    pub async fn spring(&mut self) -> Result<()> {
        for month in &MONTHS[3..] {
            self.month(month).await?;
        }
        println!("\n2026-01 again: meanwhile the operator has corrected what it had estimated");
        let report = control::run(self.warehouse, &asked("2026-01")?, CONTROLS).await?;
        let revised = report.verdicts.iter().find(|verdict| verdict.control == "revised_after_billing");
        println!("  {}", revised.map(Verdict::told).unwrap_or_default().replace('\n', "\n  "));
        println!("\nlines of 2026-03, in the middle of which a price was indexed");
        print_query(self.warehouse, LINES).await?;
        println!("\nwhat each producer is paid, EUR");
        print_query(self.warehouse, BILLS).await
    }
}

fn period(month: &str) -> Result<Period> {
    month.parse().with_context(|| format!("read the month {month}"))
}

fn asked(month: &str) -> Result<Asked> {
    Ok(Asked { period: Some(period(month)?), ..Asked::by("demo") })
}
