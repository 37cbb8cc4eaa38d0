//! **statement**: what each producer is paid for a month, as a page and a workbook. Statements are
//! issued once no control blocks them, and the same content is never issued twice. A changed
//! statement is issued under the next number, and names the one that it replaces. A register in the
//! lake lists them all.
//!
//! A run that is killed can be run again: numbers are given by the commit of the register alone, and
//! files are written again from the objects that it names.

mod content;
mod invoices;
mod printed;
mod register;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base::text;
use bill::{EInvoice, ReplacedStatement, Statement, StatementHeader, page, workbook};
use config::Job;
use ingest::objects::{Hash, Objects};
use lake::TableName;
use ledger::{Outcome, Run};
use serde_json::{Value, json};

use crate::failure;
use crate::flows::control::{self, Held, State, Verdict};
use crate::flows::moment::{AS_OF, Moment, instant_text};
use crate::flows::rows;
use crate::runs::{self, FlowOutcome, RunRequest};
use crate::warehouse::Warehouse;

use content::Content;
pub use register::{Entry, InvoiceFile, entries};

/// The folder of drafts in the statement's folder.
const DRAFTS: &str = "drafts";

/// The statements that a run issued, and what held back others.
#[derive(Debug, Default)]
pub struct StatementReport {
    pub issued: Vec<IssuedStatement>,
    /// How many producers' statements are unchanged, so that nothing was issued for them.
    pub same: usize,
    /// The controls that failed, also those that only warn.
    pub failed: Vec<Verdict>,
    /// The producers whose statements are held back, with the controls that do it.
    pub held: BTreeMap<String, Vec<String>>,
    /// The producers whose invoices can't be issued, with the reason. Their drafts are written.
    pub refused: BTreeMap<String, String>,
    /// What people should know of a run that succeeded.
    pub notice: Option<&'static str>,
}

/// A statement that a run issued.
#[derive(Debug)]
pub struct IssuedStatement {
    /// Its row in the register.
    pub entry: Entry,
    /// The file of the page; the workbook has the same name with another extension.
    pub page: PathBuf,
}

impl StatementReport {
    /// One line for people.
    pub fn summary(&self) -> String {
        let all = text::quantity(self.issued.len() as u64, "statement");
        let again = self.issued.iter().filter(|issued| issued.entry.replaces.is_some()).count();
        let mut text = format!("{all} issued");
        if again > 0 {
            text.push_str(&format!(", {again} of them in place of an earlier one"));
        }
        if !self.held.is_empty() {
            text.push_str(&format!(", {} held back", self.held.len()));
        }
        if !self.refused.is_empty() {
            text.push_str(&format!(", {} refused", self.refused.len()));
        }
        format!("{text}; {} unchanged", self.same)
    }

    /// The controls that hold back statements.
    pub fn blocking(&self) -> Vec<&Verdict> {
        self.failed.iter().filter(|verdict| verdict.stops()).collect()
    }

    /// Finds which of the producers are held back, and who is held back without having a statement.
    fn hold<'a>(&mut self, producers: impl Iterator<Item = &'a str>) {
        let mut held: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let producers: BTreeSet<&str> = producers.collect();
        for verdict in self.blocking() {
            let named = match &verdict.held {
                Held::All => BTreeSet::new(),
                Held::Producers(named) => named.iter().map(String::as_str).collect(),
            };
            for producer in producers.union(&named).filter(|producer| verdict.holds(producer)) {
                held.entry((*producer).to_owned()).or_default().push(verdict.control.clone());
            }
        }
        self.held = held;
    }

    /// Why the run has failed: somebody has to look at what is held back.
    pub fn error(&self) -> Option<String> {
        let blocking = self.blocking();
        let names: Vec<&str> = blocking.iter().map(|verdict| verdict.control.as_str()).collect();
        if let (true, Some((producer, reason))) = (names.is_empty(), self.refused.iter().next()) {
            let refused = text::quantity(self.refused.len() as u64, "statement");
            return Some(format!("{refused} can't be issued, of {producer}: {reason}"));
        }
        match self.issued.len() + self.same {
            _ if names.is_empty() => None,
            0 => Some(format!("no statement is issued: these controls block: {}", names.join(", "))),
            _ if self.held.is_empty() => None,
            _ => {
                let held = text::quantity(self.held.len() as u64, "statement");
                Some(format!("{held} held back by these controls: {}", names.join(", ")))
            }
        }
    }

    fn figures(&self) -> Value {
        let sum = |of: fn(&Entry) -> i64| self.issued.iter().map(|issued| of(&issued.entry)).sum::<i64>();
        json!({
            "issued": self.issued.len(), "same": self.same, "held": self.held.keys().collect::<Vec<_>>(), "blocking": self.blocking().len(),
            "amount_cents": sum(|entry| entry.cents), "vat_cents": sum(|entry| entry.vat_cents),
        })
    }
}

/// Issues the statements of the run's period as a run of `statement:NAME`. A control that blocks holds back the statements
/// of the producers in its findings, or of all; then the run has failed, and the other statements are issued.
pub async fn run(warehouse: &Warehouse, request: &RunRequest, name: &str) -> Result<StatementReport> {
    let config = warehouse.statement(name)?;
    // It would be dated back, and waivers that have ended would count again.
    if request.parameters.get(AS_OF).is_some() {
        let error = base::Error::input("a statement is issued now, and not as of an instant");
        return Err(error
            .hint(format!("wattlake statement draft {name} --as-of shows what it would have been"))
            .into());
    }
    let moment = Moment::of(warehouse, request)?;
    if let Some(ends_at) = moment.to().filter(|to| *to > moment.as_of) {
        let error = base::Error::input(format!("the period is not over before {}", instant_text(ends_at)));
        return Err(error.hint(format!("wattlake statement draft {name} shows its current state")).into());
    }
    let detail = json!({"statement": name, AS_OF: moment.as_of()});
    runs::run(warehouse, Job::Statement(config), request, detail, async |run| {
        let report = issue(warehouse, run, config, &moment).await?;
        let outcome = match report.error() {
            None => Outcome::Succeeded,
            Some(error) => Outcome::Failed { error, retryable: false },
        };
        let figures = report.figures();
        Ok(FlowOutcome { output: report, outcome, figures })
    })
    .await
}

async fn issue(
    warehouse: &Warehouse,
    run: &Run,
    config: &config::Statement,
    moment: &Moment,
) -> Result<StatementReport> {
    let mut report = StatementReport::default();
    if let Some(set) = &config.controls {
        let evaluated = control::evaluate(warehouse, run, warehouse.controls(set)?, moment).await?;
        let is_failed = |verdict: &Verdict| matches!(verdict.state, State::Failed | State::Broken);
        report.failed = evaluated.verdicts.into_iter().filter(is_failed).collect();
    }
    let statements = StatementRun::of(warehouse, config, moment).await?;
    let before = statements.before().await?;
    let contents = statements.contents(&before).await?;
    let mut entries = Vec::new();
    report.hold(contents.iter().map(|content| content.producer_id.as_str()));
    for content in contents.into_iter().filter(|content| !report.held.contains_key(&content.producer_id)) {
        let last = before.own.iter().filter(|entry| entry.producer_id == content.producer_id).max_by_key(|e| e.version);
        match last {
            Some(last) if last.inputs == content.hash && !statements.lacks_invoices(&content, last) => {
                report.same += 1;
                statements.write_files(last).await?;
            }
            _ => {
                let rendered = statements.render(&content, last, false);
                let rendered = rendered.with_context(|| format!("render {}", statements.number(&content)))?;
                let made = match statements.all_invoices(&rendered.0, &content, last).await {
                    Ok(invoices) => {
                        let pdfs = statements.pdfs(&rendered.0, &content, statements.issued_on(), &invoices);
                        pdfs.map(|pdfs| (invoices, pdfs))
                    }
                    Err(error) => Err(error),
                };
                match made {
                    Ok(files) => entries.push(statements.store(run, &content, last, rendered, files).await?),
                    Err(error) => {
                        // Where the draft fails as well, the others are issued all the same.
                        if let Err(also) = statements.draft(&content, last) {
                            tracing::warn!(producer = content.producer_id, error = %also, "no draft is written");
                        }
                        report.refused.insert(content.producer_id, failure::full_text(&error));
                    }
                }
            }
        }
    }
    report.notice = invoices::notice(config.invoice.as_ref());
    #[cfg(feature = "failpoints")]
    fail::fail_point!("statement-before-register");
    register::add(&statements.lake, run, &statements.table(), &statements.position(), &entries).await?;
    #[cfg(feature = "failpoints")]
    fail::fail_point!("statement-after-register");
    for entry in entries {
        let page = statements.write_files(&entry).await?;
        tracing::info!(number = entry.number, "statement issued");
        let files: Vec<&String> = entry.invoices.iter().map(|file| &file.name).collect();
        let fields = json!({
            "job": run.job(), "statement": config.name, "number": entry.number, "folder": config.folder.join(&entry.period),
            "files": files, "producer_id": entry.producer_id, "for": entry.period,
            "replaces": entry.replaces,
        });
        run.event("statement.issued", fields)?;
        report.issued.push(IssuedStatement { entry, page });
    }
    Ok(report)
}

/// Writes pages and workbooks of the current state, marked as drafts, for one producer or for all.
/// Returns the files. Nothing is numbered or registered.
pub async fn drafts(
    warehouse: &Warehouse,
    request: &RunRequest,
    name: &str,
    producer: Option<&str>,
) -> Result<Vec<PathBuf>> {
    let config = warehouse.statement(name)?;
    let moment = Moment::of(warehouse, request)?;
    let statements = StatementRun::of(warehouse, config, &moment).await?;
    let before = statements.before().await?;
    let contents = statements.contents(&before).await?;
    let contents: Vec<&Content> =
        contents.iter().filter(|content| producer.is_none_or(|wanted| content.producer_id == wanted)).collect();
    if contents.is_empty() {
        bail!("there is nothing to draft: {} has no lines in {}", producer.unwrap_or("the query"), statements.period);
    }
    let mut files = Vec::new();
    for content in contents {
        let last = before.own.iter().filter(|entry| entry.producer_id == content.producer_id).max_by_key(|e| e.version);
        files.extend(statements.draft(content, last)?);
    }
    Ok(files)
}

/// What the register has of a period.
#[derive(Default)]
struct RegisteredBefore {
    /// The entries of the statement.
    own: Vec<Entry>,
    /// The last version of each producer, of all statements.
    versions: BTreeMap<String, i64>,
}

/// What the steps of one run share.
struct StatementRun<'a> {
    config: &'a config::Statement,
    moment: &'a Moment,
    period: String,
    lake: lake::Lake,
    objects: Objects,
    session: sql::Session,
    /// Of dates on paper.
    zone: chrono_tz::Tz,
}

impl<'a> StatementRun<'a> {
    async fn of(warehouse: &Warehouse, config: &'a config::Statement, moment: &'a Moment) -> Result<StatementRun<'a>> {
        let period = moment.period.map(|period| period.to_string());
        let period = period.context("a statement needs a month: name one, such as --for 2026-09")?;
        let lake = warehouse.lake().await?;
        let session = rows::session(warehouse, &lake)?;
        let zone = warehouse.config.serve.timezone.parse().context("read the time zone")?;
        Ok(StatementRun { config, moment, period, objects: warehouse.objects(&lake), lake, session, zone })
    }

    fn table(&self) -> TableName {
        TableName::new(&self.config.schema, &self.config.table)
    }

    /// The position that the register's commit advances: of two concurrent runs of a month, one fails, also of other
    /// statements that number the same producers.
    fn position(&self) -> String {
        format!("statement/{}", self.period)
    }

    /// The register's entries of this period, by all statements, since a number is given once.
    async fn before(&self) -> Result<RegisteredBefore> {
        let entries = entries(&self.session, &self.table()).await?;
        let mut before = RegisteredBefore::default();
        for entry in entries.into_iter().filter(|entry| entry.period == self.period) {
            let version = before.versions.entry(entry.producer_id.clone()).or_default();
            *version = entry.version.max(*version);
            if entry.statement == self.config.name {
                before.own.push(entry);
            }
        }
        Ok(before)
    }

    /// The contents of all producers who have lines, or had some in their last statement.
    async fn contents(&self, before: &RegisteredBefore) -> Result<Vec<Content>> {
        let mut contents = content::read(&self.session, self.config, self.moment).await?;
        let had = before.own.iter().map(|e| (e.producer_id.as_str(), e.producer.as_str()));
        let had: BTreeMap<&str, &str> = had.collect();
        for (producer_id, producer) in had {
            if contents.iter().all(|content| content.producer_id != producer_id) {
                contents.push(Content::empty(producer_id, producer)?);
            }
        }
        contents.sort_by(|a, b| a.producer_id.cmp(&b.producer_id));
        for content in &mut contents {
            content.version = before.versions.get(&content.producer_id).map_or(1, |version| version + 1);
        }
        Ok(contents)
    }

    /// The statement, its page and its workbook.
    fn render(&self, content: &Content, last: Option<&Entry>, is_draft: bool) -> Result<(Statement, String, Vec<u8>)> {
        let head = StatementHeader {
            period: self.period.clone(),
            producer_id: content.producer_id.clone(),
            producer: content.producer.clone(),
            siret: content.siret.clone(),
            number: match is_draft {
                true => format!("{}-{}-DRAFT", self.period, content.producer_id),
                false => self.number(content),
            },
            replaces: last.map(|last| ReplacedStatement {
                number: last.number.clone(),
                due_cents: Some(last.cents + last.vat_cents),
            }),
            issued_at: self.moment.as_of,
            issued_on: self.issued_on(),
            is_draft,
        };
        let statement = Statement::new(head, content.lines.clone(), content.days.clone())?;
        let name = self.config.template_file.file_name().unwrap_or_default().to_string_lossy();
        let page = page(&name, &self.config.template, &self.config.labels, &statement)?;
        let workbook = workbook(&self.config.labels, &statement)?;
        Ok((statement, page, workbook))
    }

    /// The local day of the run, which is the one on paper.
    fn issued_on(&self) -> chrono::NaiveDate {
        self.moment.as_of.with_timezone(&self.zone).date_naive()
    }

    /// The next number of the producer's month. These series have no gaps.
    fn number(&self, content: &Content) -> String {
        format!("{}-{}-{}", self.period, content.producer_id, content.version)
    }

    /// Writes the page, the workbook and the e-invoices of a draft. Returns the files.
    fn draft(&self, content: &Content, last: Option<&Entry>) -> Result<Vec<PathBuf>> {
        let (statement, page, workbook) = self.render(content, last, true)?;
        let stem = format!("{}-{}", self.period, content.producer_id);
        let folder = self.config.folder.join(DRAFTS);
        let mut files = vec![
            write(&folder, &format!("{stem}.html"), page.as_bytes())?,
            write(&folder, &format!("{stem}.xlsx"), &workbook)?,
        ];
        for invoice in self.invoices(&statement, content, last, true)? {
            files.push(write(&folder, &file_name(&invoice), invoice.xml.as_bytes())?);
        }
        // A draft is not an e-invoice, so none is in it.
        for pdf in self.pdfs(&statement, content, self.issued_on(), &[])? {
            files.push(write(&folder, &format!("{stem}.pdf"), &pdf.bytes)?);
        }
        Ok(files)
    }

    /// Stores a statement's page, workbook and e-invoices as objects. Returns its entry, not registered yet.
    async fn store(
        &self,
        run: &Run,
        content: &Content,
        last: Option<&Entry>,
        (statement, page, workbook): (Statement, String, Vec<u8>),
        (invoices, pdfs): (Vec<EInvoice>, Vec<printed::PrintedFile>),
    ) -> Result<Entry> {
        let mut files = Vec::new();
        for pdf in pdfs {
            files.push(InvoiceFile { name: pdf.name, sha256: self.put(pdf.bytes).await?.to_string() });
        }
        for invoice in invoices {
            let name = file_name(&invoice);
            files.push(InvoiceFile { name, sha256: self.put(invoice.xml.into_bytes()).await?.to_string() });
        }
        Ok(Entry {
            statement: self.config.name.clone(),
            period: self.period.clone(),
            producer_id: content.producer_id.clone(),
            producer: content.producer.clone(),
            number: self.number(content),
            version: content.version,
            replaces: last.map(|last| last.number.clone()),
            issued_at: self.moment.as_of,
            lines: content.lines.len() as i64,
            cents: statement.cents(),
            vat_cents: statement.vat_cents(),
            inputs: content.hash.clone(),
            page: self.put(page.into_bytes()).await?,
            workbook: self.put(workbook).await?,
            invoices: files,
            run_id: run.id().to_owned(),
        })
    }

    async fn put(&self, bytes: Vec<u8>) -> Result<Hash> {
        let piece = futures::stream::iter([Ok(bytes.into())]);
        Ok(self.objects.put(piece).await?.sha256)
    }

    /// Writes the page, the workbook and the e-invoices to the statement's folder, where they are missing. Returns the page.
    async fn write_files(&self, entry: &Entry) -> Result<PathBuf> {
        let folder = self.config.folder.join(&entry.period);
        let mut files =
            vec![(format!("{}.html", entry.number), entry.page), (format!("{}.xlsx", entry.number), entry.workbook)];
        for invoice in &entry.invoices {
            files.push((invoice.name.clone(), invoice.sha256.parse()?));
        }
        for (name, hash) in files {
            let path = folder.join(&name);
            if !path.exists() {
                let mut bytes = Vec::new();
                std::io::Read::read_to_end(&mut self.objects.get(&hash).await?, &mut bytes)
                    .with_context(|| format!("read {name}"))?;
                write(&folder, &name, &bytes)?;
            }
        }
        Ok(folder.join(format!("{}.html", entry.number)))
    }
}

/// The name of an e-invoice's file: its number and its syntax.
fn file_name(invoice: &EInvoice) -> String {
    format!("{}.{}.xml", invoice.number, invoice.syntax.as_str())
}

/// Writes a file by renaming a temporary one, so that nobody reads a part of it.
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

/// An amount in cents as text in euros: `1234.50`.
pub fn euros(cents: i64) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", text::count(cents.unsigned_abs() / 100), cents.unsigned_abs() % 100)
}
