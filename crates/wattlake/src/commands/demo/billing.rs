//! The second flow, played on the platform's own sites: files come in, a month is closed, a control
//! stops the bills, is mended, and a late correction becomes a reversal and a new line.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ledger::schedule::Period;

use super::files::{Fault, File, producers};
use crate::commands::layer;
use crate::commands::sql::print_query;
use crate::flows::{control, function, ingest, load};
use crate::jobs::Asked;
use crate::warehouse::Warehouse;

/// With the spring change of clocks in it, and with negative prices.
pub const MONTH: &str = "2025-03";

const BILLS: &str = "SELECT producer_id, max(producer) AS producer, count(*) AS entries, sum(amount) AS eur,
    sum(CASE WHEN reverses IS NULL THEN 0 ELSE 1 END) AS reversals
    FROM billing.lines WHERE period = '2025-03' GROUP BY producer_id ORDER BY producer_id";

const LINES: &str = "SELECT contract, kind, item, quantity_wh / 1000 AS kwh, unit_price, amount
    FROM billing.lines WHERE period = '2025-03' ORDER BY producer_id, contract, line LIMIT 8";

const CORRECTION: &str =
    "SELECT contract, item, version, CASE WHEN reverses IS NULL THEN 'new' ELSE 'reversal' END AS entry,
    quantity_wh / 1000 AS kwh, amount FROM billing.lines
    WHERE period = '2025-03' AND producer_id = 1 ORDER BY contract, line, entry LIMIT 6";

pub struct Billing<'a> {
    warehouse: &'a Warehouse,
    dir: &'a Path,
    files: BTreeMap<u32, File>,
}

impl<'a> Billing<'a> {
    /// What producers will send, made from what was measured.
    pub async fn of(warehouse: &'a Warehouse, dir: &'a Path) -> Result<Billing<'a>> {
        std::fs::create_dir_all(dir.join("inbox/production")).context("make the producers' inbox")?;
        Ok(Billing { warehouse, dir, files: producers(warehouse, MONTH).await? })
    }

    fn send(&self, producer: u32, fault: Fault) -> Result<()> {
        let file = self.files.get(&producer).with_context(|| format!("producer {producer} has no file"))?;
        self.put(&file.name(), &file.bytes(fault))
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.dir.join("inbox/production").join(name);
        std::fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))
    }

    pub async fn files_come(&self) -> Result<()> {
        self.send(1, Fault::None)?;
        self.send(2, Fault::DecimalPoint)?;
        self.send(3, Fault::Latin1)?;
        self.send(4, Fault::None)?;
        // Somebody sends it again, under another name.
        let again = self.files.get(&4).context("producer 4 has no file")?;
        self.put(&format!("copie de {}", again.name()), &again.bytes(Fault::None))?;
        self.ingest().await
    }

    async fn ingest(&self) -> Result<()> {
        let report = ingest::run(self.warehouse, &Asked::by("demo"), "production").await?;
        for file in &report.files {
            println!("{:<11} {}", file.judged.as_str(), file.name);
            for fault in file.faults.iter().take(2) {
                println!("            {fault}");
            }
        }
        let figures = load::run(self.warehouse, &Asked::by("demo"), "declared").await?;
        println!("{} rows into billing.declared", figures["rows"]);
        Ok(())
    }

    /// R and its packages, packed from what this machine has.
    pub fn layers(&self) -> Result<()> {
        layer::build_all(self.warehouse)
    }

    pub async fn month_ends(&self) -> Result<()> {
        let asked = asked()?;
        let figures = function::run(self.warehouse, &asked, "billing-extract").await?;
        let mut told = String::new();
        let _ = write!(told, "billing-extract answered in {} ms", figures["milliseconds"]);
        if let Some(init) = figures["init_milliseconds"].as_u64() {
            let _ = write!(told, ", after a cold start of {init} ms");
        }
        println!("{told}");
        let figures = load::run(self.warehouse, &asked, "lines").await?;
        let (new, changed, same) = (&figures["new"], &figures["changed"], &figures["same"]);
        println!("billing.lines: {new} new, {changed} changed, {same} as they were");
        Ok(())
    }

    /// Returns what stops the bills.
    pub async fn controls(&self) -> Result<Vec<String>> {
        let report = control::run(self.warehouse, &asked()?, "billing").await?;
        for verdict in &report.verdicts {
            println!("{}", verdict.told());
        }
        Ok(report.blocking().into_iter().map(|verdict| verdict.control.clone()).collect())
    }

    pub async fn first_close(&self) -> Result<()> {
        self.month_ends().await?;
        let blocking = self.controls().await?;
        ensure!(blocking == ["files_set_aside"], "the file that was set aside should stop the bills: {blocking:?}");
        Ok(())
    }

    pub async fn mend(&self) -> Result<()> {
        self.send(2, Fault::None)?;
        self.ingest().await?;
        self.month_ends().await?;
        let blocking = self.controls().await?;
        ensure!(blocking.is_empty(), "nothing should stop the bills any more: {blocking:?}");
        print_query(self.warehouse, BILLS).await?;
        print_query(self.warehouse, LINES).await
    }

    pub async fn correction(&self) -> Result<()> {
        self.send(1, Fault::Corrected)?;
        self.ingest().await?;
        let blocking = self.controls().await?;
        ensure!(blocking == ["corrected_after_billing"], "the correction should stop the bills: {blocking:?}");
        self.month_ends().await?;
        ensure!(self.controls().await?.is_empty(), "nothing should stop the bills any more");
        print_query(self.warehouse, CORRECTION).await
    }
}

fn asked() -> Result<Asked> {
    let period: Period = MONTH.parse()?;
    Ok(Asked { period: Some(period), ..Asked::by("demo") })
}
