//! **statement**: what each producer is paid for a month, as a page and a workbook. They go out once
//! the controls let them; the same content never twice. What changed since goes out under the next
//! number, which says what it is in place of. A register in the lake has them all.
//!
//! Killed at any instant and run again: numbers are given by the commit of the register alone, and
//! files are made again from the objects that it names.

mod content;
mod register;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ingest::objects::{Hash, Objects};
use lake::TableName;
use ledger::{Outcome, Run};
use serde_json::{Value, json};
use statement::{Before, Head, Statement, page, workbook};

use crate::config;
use crate::flows::control::{self, Verdict};
use crate::flows::moment::{AS_OF, Moment};
use crate::flows::rows;
use crate::jobs::{self, Asked, Ended};
use crate::text;
use crate::warehouse::Warehouse;

use content::Content;
pub use register::{Entry, entries};

const DRAFTS: &str = "drafts";

/// What went out, or why nothing did.
#[derive(Debug, Default)]
pub struct Report {
    pub issued: Vec<Issued>,
    /// So many had gone out as they are.
    pub same: usize,
    /// Controls that keep all back.
    pub blocking: Vec<Verdict>,
}

#[derive(Debug)]
pub struct Issued {
    pub entry: Entry,
    /// The workbook is beside it.
    pub page: PathBuf,
}

impl Report {
    pub fn told(&self) -> String {
        let all = text::of(self.issued.len() as u64, "statement");
        let verb = if self.issued.len() == 1 { "goes" } else { "go" };
        let again = self.issued.iter().filter(|issued| issued.entry.replaces.is_some()).count();
        let mut told = format!("{all} {verb} out");
        if again > 0 {
            told.push_str(&format!(", {again} of them in place of an earlier one"));
        }
        format!("{told}; {} had gone out as they are", self.same)
    }

    fn figures(&self) -> Value {
        let sum = |of: fn(&Entry) -> i64| self.issued.iter().map(|issued| of(&issued.entry)).sum::<i64>();
        json!({
            "issued": self.issued.len(), "same": self.same, "blocking": self.blocking.len(),
            "amount_cents": sum(|entry| entry.cents), "vat_cents": sum(|entry| entry.vat_cents),
        })
    }
}

pub async fn run(warehouse: &Warehouse, asked: &Asked, name: &str) -> Result<Report> {
    let config = warehouse.statement(name)?;
    let moment = Moment::of(warehouse, asked)?;
    let detail = json!({"statement": name, AS_OF: moment.as_of()});
    jobs::run(warehouse, &format!("statement:{name}"), asked, detail, async |run| {
        let report = issue(warehouse, run, config, &moment).await?;
        let outcome = match &report.blocking[..] {
            [] => Outcome::Succeeded,
            blocking => {
                let names: Vec<&str> = blocking.iter().map(|verdict| verdict.control.as_str()).collect();
                Outcome::Failed { error: format!("no statement goes out: controls stop them: {}", names.join(", ")) }
            }
        };
        let figures = report.figures();
        Ok(Ended { shown: report, outcome, figures, may_pass: false })
    })
    .await
}

async fn issue(warehouse: &Warehouse, run: &Run, config: &config::Statement, moment: &Moment) -> Result<Report> {
    if let Some(set) = &config.controls {
        let report = control::judge(warehouse, run, set, moment).await?;
        let blocking: Vec<Verdict> = report.blocking().into_iter().cloned().collect();
        if !blocking.is_empty() {
            return Ok(Report { blocking, ..Report::default() });
        }
    }
    let press = Press::of(warehouse, config, moment).await?;
    let before = press.before().await?;
    let contents = press.contents(&before).await?;
    let (mut report, mut entries) = (Report::default(), Vec::new());
    for content in contents {
        let last = before.iter().filter(|entry| entry.producer_id == content.producer_id).max_by_key(|e| e.version);
        match last {
            Some(last) if last.inputs == content.hash => {
                report.same += 1;
                press.keep_files(last).await?;
            }
            _ => entries.push(press.print(run, &content, last).await?),
        }
    }
    #[cfg(feature = "failpoints")]
    fail::fail_point!("statement-before-register");
    register::add(&press.lake, run, &press.table(), &press.position(), &entries).await?;
    #[cfg(feature = "failpoints")]
    fail::fail_point!("statement-after-register");
    for entry in entries {
        let page = press.keep_files(&entry).await?;
        tracing::info!(number = entry.number, "goes out");
        let fields = json!({
            "statement": config.name, "number": entry.number, "producer_id": entry.producer_id, "for": entry.period,
            "replaces": entry.replaces,
        });
        run.event("statement.issued", fields)?;
        report.issued.push(Issued { entry, page });
    }
    Ok(report)
}

/// Pages and workbooks of the state as it is, marked as drafts: nothing is numbered, noted or sent.
pub async fn drafts(warehouse: &Warehouse, asked: &Asked, name: &str, producer: Option<&str>) -> Result<Vec<PathBuf>> {
    let config = warehouse.statement(name)?;
    let moment = Moment::of(warehouse, asked)?;
    let press = Press::of(warehouse, config, &moment).await?;
    let before = press.before().await?;
    let contents = press.contents(&before).await?;
    let contents: Vec<&Content> =
        contents.iter().filter(|content| producer.is_none_or(|wanted| content.producer_id == wanted)).collect();
    if contents.is_empty() {
        bail!("there is nothing to draft: {} has no lines in {}", producer.unwrap_or("nobody"), press.period);
    }
    let mut files = Vec::new();
    for content in contents {
        let last = before.iter().filter(|entry| entry.producer_id == content.producer_id).max_by_key(|e| e.version);
        let (_, page, workbook) = press.made(content, last, true)?;
        let stem = format!("{}-{}", press.period, content.producer_id);
        let folder = config.folder.join(DRAFTS);
        files.push(write(&folder, &format!("{stem}.html"), page.as_bytes())?);
        files.push(write(&folder, &format!("{stem}.xlsx"), &workbook)?);
    }
    Ok(files)
}

struct Press<'a> {
    config: &'a config::Statement,
    moment: &'a Moment,
    period: String,
    lake: lake::Lake,
    objects: Objects,
    session: sql::Session,
}

impl<'a> Press<'a> {
    async fn of(warehouse: &Warehouse, config: &'a config::Statement, moment: &'a Moment) -> Result<Press<'a>> {
        let period = moment.period.map(|period| period.to_string());
        let period = period.context("a statement is of a month: name it with --for 2026-09")?;
        let lake = warehouse.lake().await?;
        let session = rows::session(warehouse, &lake)?;
        Ok(Press { config, moment, period, objects: warehouse.objects(&lake), lake, session })
    }

    fn table(&self) -> TableName {
        TableName::new(&self.config.schema, &self.config.table)
    }

    /// Of two runs that give numbers of a month at once, one fails.
    fn position(&self) -> String {
        format!("statement/{}/{}", self.config.name, self.period)
    }

    async fn before(&self) -> Result<Vec<Entry>> {
        let entries = entries(&self.session, &self.table()).await?;
        Ok(entries.into_iter().filter(|e| e.statement == self.config.name && e.period == self.period).collect())
    }

    /// Of all who have lines, and of those who had some when their last statement went out.
    async fn contents(&self, before: &[Entry]) -> Result<Vec<Content>> {
        let mut contents = content::read(&self.session, self.config, self.moment).await?;
        let had: BTreeMap<&str, &str> = before.iter().map(|e| (e.producer_id.as_str(), e.producer.as_str())).collect();
        for (producer_id, producer) in had {
            if contents.iter().all(|content| content.producer_id != producer_id) {
                contents.push(Content::nothing(producer_id, producer)?);
            }
        }
        contents.sort_by(|a, b| a.producer_id.cmp(&b.producer_id));
        Ok(contents)
    }

    fn made(&self, content: &Content, last: Option<&Entry>, is_draft: bool) -> Result<(Statement, String, Vec<u8>)> {
        let head = Head {
            period: self.period.clone(),
            producer_id: content.producer_id.clone(),
            producer: content.producer.clone(),
            siret: content.siret.clone(),
            number: self.number(content, last),
            replaces: last.map(|last| Before { number: last.number.clone(), due_cents: last.cents + last.vat_cents }),
            issued_at: self.moment.as_of,
            is_draft,
        };
        let statement = Statement::new(head, content.lines.clone(), content.days.clone())?;
        let name = self.config.template_file.file_name().unwrap_or_default().to_string_lossy();
        let page = page(&name, &self.config.template, &self.config.labels, &statement)?;
        let workbook = workbook(&self.config.labels, &statement)?;
        Ok((statement, page, workbook))
    }

    /// A series for each producer's month: no number is missing in it.
    fn number(&self, content: &Content, last: Option<&Entry>) -> String {
        format!("{}-{}-{}", self.period, content.producer_id, last.map_or(1, |last| last.version + 1))
    }

    async fn print(&self, run: &Run, content: &Content, last: Option<&Entry>) -> Result<Entry> {
        let made = self.made(content, last, false);
        let (statement, page, workbook) = made.with_context(|| format!("make {}", self.number(content, last)))?;
        Ok(Entry {
            statement: self.config.name.clone(),
            period: self.period.clone(),
            producer_id: content.producer_id.clone(),
            producer: content.producer.clone(),
            number: self.number(content, last),
            version: last.map_or(1, |last| last.version + 1),
            replaces: last.map(|last| last.number.clone()),
            issued_at: self.moment.as_of,
            lines: content.lines.len() as i64,
            cents: statement.cents(),
            vat_cents: statement.vat_cents(),
            inputs: content.hash.clone(),
            page: self.put(page.into_bytes()).await?,
            workbook: self.put(workbook).await?,
            run_id: run.id().to_owned(),
        })
    }

    async fn put(&self, bytes: Vec<u8>) -> Result<Hash> {
        let piece = futures::stream::iter([Ok(bytes.into())]);
        Ok(self.objects.put(piece).await?.sha256)
    }

    /// Where people find them: written where they are not there. Returns the page.
    async fn keep_files(&self, entry: &Entry) -> Result<PathBuf> {
        let folder = self.config.folder.join(&entry.period);
        for (hash, extension) in [(&entry.page, "html"), (&entry.workbook, "xlsx")] {
            let name = format!("{}.{extension}", entry.number);
            let path = folder.join(&name);
            if !path.exists() {
                let mut bytes = Vec::new();
                std::io::Read::read_to_end(&mut self.objects.get(hash).await?, &mut bytes)
                    .with_context(|| format!("read {name}"))?;
                write(&folder, &name, &bytes)?;
            }
        }
        Ok(folder.join(format!("{}.html", entry.number)))
    }
}

/// Whole, or not at all.
fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf> {
    let path = folder.join(name);
    let written = std::fs::create_dir_all(folder).and_then(|()| {
        let readable = std::fs::Permissions::from_mode(0o644);
        let mut file = tempfile::Builder::new().prefix(".").permissions(readable).tempfile_in(folder)?;
        std::io::Write::write_all(&mut file, bytes)?;
        file.persist(&path)?;
        Ok(())
    });
    written.with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

/// "1234.50": cents as people and decimals have them.
pub fn euros(cents: i64) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", text::count(cents.unsigned_abs() / 100), cents.unsigned_abs() % 100)
}
