//! **collect**: asks a partner's HTTP API for new and revised values. Each answer is an object, checked against a layout
//! and by what is known; one that does not pass is quarantined, and its window is asked for again by the next run. A
//! value that is other than the table's newest version of it is added as another version, with the instant from which
//! it was known. No row is ever changed.
//!
//! The rows of a window and the newest known time of its item are in one commit: a run that is killed has added a window
//! or not, and the next one asks again and adds what is not there.

mod answers;
mod changes;
mod checks;
mod compared;
mod known_rows;
mod report;
mod rows;
mod versions;
mod windows;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use arrow::array::UInt32Array;
use arrow::compute::take_record_batch;
use chrono::{DateTime, SubsecRound, Utc};
use config::{Collect, Job, UnsetVariables};
use ingest::api::{Answer, Api, ApiSettings, Outcome as ApiOutcome, Paging, RequestWindow};
use ingest::objects::{Hash, Object, Objects};
use ingest::read::{self, Fault, Verdict};
use lake::{Lake, TableName};
use ledger::{Outcome, Run};
use serde_json::json;

use crate::failure;
use crate::flows::moment::instant_text;
use crate::runs::{self, FlowOutcome, RunRequest};
use crate::warehouse::Warehouse;

use answers::{AnswerRow, CollectState, OPERATION, Tag};
use known_rows::KnownRows;
use rows::{Columns, WindowRows};
use windows::{Coverage, Window, delta};

pub use answers::SCHEMA;
pub use report::{CollectReport, ItemReport};

/// The position of the newest time of an item that the table has.
const NEWEST: &str = "collect";
/// The position up to where an item was asked for.
const ASKED_TO: &str = "collect-asked-to";

/// A window with more rows than this is a mistake: they are in memory together.
const WINDOW_ROWS_MAX: usize = 5_000_000;

/// Runs the collect `name` as a run of `collect:NAME`. `on_item` gets each item's report as soon as it is done.
///
/// # Errors
/// Items that could not be asked for are in the report, and the run has failed; an error is one of the whole run.
pub async fn run(
    warehouse: &Warehouse,
    request: &RunRequest,
    name: &str,
    on_item: &mut dyn FnMut(&ItemReport),
) -> Result<CollectReport> {
    let collect = warehouse.collect(name)?;
    let settings = collect.api.clone().map_err(|unset: UnsetVariables| unset)?;
    let detail = json!({"collect": name, "table": format!("{}.{}", collect.schema, collect.table)});
    runs::run(warehouse, Job::Collect(collect), request, detail, async |run| {
        let lake = warehouse.lake().await?;
        let mut collect_run = CollectRun {
            warehouse,
            run,
            collect,
            columns: Columns::of(collect),
            objects: warehouse.objects(&lake),
            layout: Hash::of(&std::fs::read(&collect.layout_file).context("read the layout")?).to_string(),
            state: CollectState::read(&lake, name).await?,
            lake,
        };
        collect_run.note_changes().await?;
        let (mut report, first_error) = collect_run.items(settings, on_item).await?;
        report.is_retryable = first_error.as_ref().is_some_and(failure::is_retryable);
        let figures = report.figures();
        let outcome = match first_error {
            // Nothing could be taken, so that what comes after it is not to run.
            None if report.is_all_quarantined() => {
                let reason = report.items.iter().find_map(|item| item.quarantined.first()).cloned().unwrap_or_default();
                let error = format!("all answers are quarantined; the first: {reason}");
                Outcome::Failed { error, retryable: false }
            }
            None => Outcome::Succeeded,
            Some(error) => {
                Outcome::Failed { error: failure::full_text(&error), retryable: failure::is_retryable(&error) }
            }
        };
        Ok(FlowOutcome { output: report, outcome, figures })
    })
    .await
}

/// What the steps of one run share.
struct CollectRun<'a> {
    warehouse: &'a Warehouse,
    run: &'a Run,
    collect: &'a Collect,
    columns: Columns,
    lake: Lake,
    objects: Objects,
    /// The hash of the layout's file.
    layout: String,
    state: CollectState,
}

/// What became of the answers to one window.
enum WindowEnd {
    /// They were accepted.
    Accepted,
    /// The server has nothing new.
    Unchanged,
    /// One of them was quarantined.
    Quarantined,
    /// The partner is not to be asked any more for now.
    NotBefore(DateTime<Utc>),
}

/// One answer that was read, with its rows already among those of the window.
struct AnswerRead {
    row: AnswerRow,
    etag: Option<String>,
}

impl CollectRun<'_> {
    async fn items(
        &mut self,
        settings: ApiSettings,
        on_item: &mut dyn FnMut(&ItemReport),
    ) -> Result<(CollectReport, Option<anyhow::Error>)> {
        let mut report = CollectReport::default();
        let now = Utc::now();
        if let Some(until) = self.state.not_before.filter(|until| *until > now) {
            report.not_before = Some(until);
            tracing::info!(target: "jobs::collect", "the partner is not to be asked before {}", instant_text(until));
            return Ok((report, None));
        }
        let mut api = Api::new(settings)?;
        let mut first_error = None;
        for item in &self.collect.items {
            let mut one = ItemReport { item: Collect::item_name(item), ..ItemReport::default() };
            let done = self.item(&mut api, item, &mut one).await;
            let not_before = match done {
                Ok(not_before) => not_before,
                Err(error) => {
                    one.error = Some(failure::full_text(&error));
                    tracing::error!(target: "jobs::collect", "{}: {}", one.item, failure::full_text(&error));
                    first_error.get_or_insert(error);
                    None
                }
            };
            on_item(&one);
            report.items.push(one);
            if self.state.not_before != not_before {
                self.state.not_before = not_before;
                self.state.write(&self.lake, &self.collect.name).await?;
            }
            if not_before.is_some() {
                report.not_before = not_before;
                break;
            }
        }
        Ok((report, first_error))
    }

    fn target(&self) -> TableName {
        TableName::new(&self.collect.schema, &self.collect.table)
    }

    /// The versions that the table has.
    fn known(&self) -> KnownRows<'_> {
        KnownRows { warehouse: self.warehouse, lake: &self.lake, target: self.target(), columns: &self.columns }
    }

    fn position_name(&self, kind: &str, item: &str) -> String {
        format!("{kind}/{}/{item}", self.collect.name)
    }

    /// An instant in microseconds that the commits of an item's rows have moved on.
    async fn position(&self, kind: &str, item: &str) -> Result<Option<i64>> {
        let Some(table) = self.lake.table(&self.target()).await? else { return Ok(None) };
        Ok(table.position(&self.position_name(kind, item)).await?)
    }

    /// Asks for an item's windows. Returns the instant before which the partner is not to be asked again.
    async fn item(
        &mut self,
        api: &mut Api,
        item: &BTreeMap<String, String>,
        report: &mut ItemReport,
    ) -> Result<Option<DateTime<Utc>>> {
        let now = Utc::now().trunc_subsecs(0);
        let name = Collect::item_name(item);
        let before = self.state.items.entry(name.clone()).or_default().clone();
        if before.first_asked_at.is_none() || before.asked_from.is_none() {
            // Before the first commit, so that a run after a kill knows what is history.
            let state = self.state.items.entry(name.clone()).or_default();
            state.first_asked_at.get_or_insert(now);
            state.asked_from.get_or_insert(self.collect.begins_at(now));
            self.state.write(&self.lake, &self.collect.name).await?;
        }
        let newest = self.position(NEWEST, &name).await?.and_then(DateTime::from_timestamp_micros);
        let coverage = Coverage {
            begin: self.collect.begins_at(now),
            newest,
            overlap: self.collect.overlap,
            end: now + delta(self.collect.ahead),
            longest: self.collect.window,
        };
        let windows = match self.collect.has_window {
            true => coverage.windows(&self.gaps(&name, &coverage).await?),
            false => vec![Window { from: coverage.from(), to: coverage.end }],
        };
        for window in windows {
            match self.window(api, item, window, report).await? {
                WindowEnd::Accepted | WindowEnd::Unchanged => {}
                // A gap is asked for again by the next run.
                WindowEnd::Quarantined if window.to <= coverage.from() => {}
                // The windows after it would move the newest known time beyond it.
                WindowEnd::Quarantined => return Ok(None),
                WindowEnd::NotBefore(until) => return Ok(Some(until)),
            }
        }
        let state = self.state.items.entry(name).or_default();
        state.asked_at = Some(now);
        state.asked_from = state.asked_from.min(Some(coverage.from()));
        if self.state.items.get(&report.item) != Some(&before) {
            self.state.write(&self.lake, &self.collect.name).await?;
        }
        self.earlier_windows(api, item, &coverage, report).await
    }

    /// Asks for what lies before the time that was asked for so far, where `since` is an earlier one now: the latest
    /// windows first, so that each one joins the time that was asked for.
    async fn earlier_windows(
        &mut self,
        api: &mut Api,
        item: &BTreeMap<String, String>,
        coverage: &Coverage,
        report: &mut ItemReport,
    ) -> Result<Option<DateTime<Utc>>> {
        let asked_from = self.state.items.get(&report.item).and_then(|state| state.asked_from);
        if !self.collect.has_window {
            return Ok(None);
        }
        for window in coverage.earlier(asked_from) {
            match self.window(api, item, window, report).await? {
                WindowEnd::Accepted | WindowEnd::Unchanged => {
                    self.state.items.entry(report.item.clone()).or_default().asked_from = Some(window.from);
                    self.state.write(&self.lake, &self.collect.name).await?;
                }
                WindowEnd::Quarantined => return Ok(None),
                WindowEnd::NotBefore(until) => return Ok(Some(until)),
            }
        }
        Ok(None)
    }

    /// Where the table lacks values of the item, before the time that is asked for in any case.
    async fn gaps(&self, item: &str, coverage: &Coverage) -> Result<Vec<Window>> {
        let (Some(step), Some(_)) = (self.collect.step, coverage.newest) else { return Ok(Vec::new()) };
        let asked_from = self.state.items.get(item).and_then(|state| state.asked_from);
        let begin =
            coverage.begin.max(coverage.end - delta(self.collect.gaps)).max(asked_from.unwrap_or(coverage.begin));
        let before =
            self.known().between(item, &[&self.columns.time], Window { from: begin, to: coverage.end }).await?;
        let times = rows::instants(&before, &self.columns.time)?;
        let mut times: Vec<DateTime<Utc>> =
            times.iter().flatten().filter_map(DateTime::from_timestamp_micros).collect();
        times.sort_unstable();
        times.dedup();
        Ok(windows::gaps(begin, &times, step))
    }

    /// Asks for all pages of a window, and commits its new versions.
    async fn window(
        &mut self,
        api: &mut Api,
        item: &BTreeMap<String, String>,
        window: Window,
        report: &mut ItemReport,
    ) -> Result<WindowEnd> {
        let request = RequestWindow { from: window.from, to: window.to, item: item.clone() };
        let etag = self.etag(&report.item).await?;
        let (mut pages, mut rows, mut read) = (api.pages(&request)?, WindowRows::default(), Vec::new());
        while let Some(url) = pages.next_url()? {
            let tag = etag.as_deref().filter(|_| read.is_empty());
            let answer = match api.request(&url, tag).await? {
                ApiOutcome::Answer(answer) => answer,
                ApiOutcome::Unchanged => return Ok(WindowEnd::Unchanged),
                ApiOutcome::NotBefore(until) => return Ok(WindowEnd::NotBefore(until)),
            };
            let one = self.read(&answer, window, &report.item, &mut rows).await?;
            let is_quarantined = one.row.quarantined.is_some();
            let count = one.row.rows;
            read.push(one);
            if is_quarantined {
                break;
            }
            if rows.len() > WINDOW_ROWS_MAX {
                let error = base::Error::setup(format!("a window has more than {WINDOW_ROWS_MAX} rows"));
                bail!(error.hint("ask for less at a time: a smaller `window`"));
            }
            pages.continue_after(&answer, count)?;
        }
        if read.iter().all(|one| one.row.quarantined.is_none()) {
            let compared = self.compare(&report.item, window, rows).await?;
            let reason = self.reason(item, window, &compared).await?;
            if reason.is_none() {
                self.commit(item, window, compared, &read, report).await?;
                self.accepted(&report.item, window, read).await?;
                return Ok(WindowEnd::Accepted);
            }
            if let Some(last) = read.last_mut() {
                last.row.quarantined = reason;
            }
        }
        self.quarantine(read, report).await?;
        Ok(WindowEnd::Quarantined)
    }

    /// The tag of an item's answer, where a request may ask for a newer one: the answer was checked against this layout,
    /// its rows are still there, and no page comes after it.
    async fn etag(&self, item: &str) -> Result<Option<String>> {
        let tag = self.state.items.get(item).and_then(|state| state.tag.clone());
        let Some(tag) = tag.filter(|tag| tag.layout == self.layout && !self.collect.has_window) else {
            return Ok(None);
        };
        Ok(self.lake.table(&self.target()).await?.map(|_| tag.etag))
    }

    /// Remembers the answers to a window that were accepted.
    async fn accepted(&mut self, item: &str, window: Window, read: Vec<AnswerRead>) -> Result<()> {
        let has_pages = self.collect.api.as_ref().is_ok_and(|api| api.paging != Paging::Single);
        let etag = read.into_iter().next().and_then(|one| one.etag);
        let etag = etag.filter(|_| !self.collect.has_window && !has_pages);
        let state = self.state.items.entry(item.to_owned()).or_default();
        state.tag = etag.map(|etag| Tag { etag, layout: self.layout.clone() });
        if state.asked_at.is_none() && state.asked_to < Some(window.to) {
            state.asked_to = Some(window.to);
            self.state.write(&self.lake, &self.collect.name).await?;
        }
        Ok(())
    }

    /// Stores an answer, and reads its rows by the layout.
    async fn read(&self, answer: &Answer, window: Window, item: &str, rows: &mut WindowRows) -> Result<AnswerRead> {
        let sha256 = Hash::of(&answer.bytes);
        let bytes = answer.bytes.len() as u64;
        let mut row = AnswerRow {
            item: item.to_owned(),
            window,
            object: Object { sha256, bytes },
            received_at: answer.received_at,
            rows: 0,
            quarantined: None,
            faults: Vec::new(),
        };
        let is_empty = self.collect.empty.as_ref().is_some_and(|empty| {
            String::from_utf8_lossy(&answer.bytes[..answer.bytes.len().min(64 << 10)])
                .lines()
                .any(|line| empty.is_match(line))
        });
        if !is_empty {
            let (layout, content) = (self.collect.layout.clone(), answer.bytes.clone());
            let read = tokio::task::spawn_blocking(move || -> ingest::Result<_> {
                use std::io::{Seek, Write};
                let spool = |error| {
                    ingest::Error::new(ingest::Kind::Retry, "write an answer to a temporary file").because(error)
                };
                let mut file = tempfile::tempfile().map_err(spool)?;
                file.write_all(&content).and_then(|()| file.rewind()).map_err(spool)?;
                let mut batches = Vec::new();
                let report = read::read(file, "", &layout, &mut |one| {
                    batches.push(one);
                    Ok(())
                })?;
                Ok((batches, report))
            });
            let (batches, report) = read.await.context("read an answer")??;
            row.rows = report.rows;
            row.faults = report.faults;
            match report.verdict {
                Verdict::Quarantine { reason } => row.quarantined = Some(reason),
                Verdict::Accept => {
                    batches.into_iter().for_each(|batch| rows.add(batch, &sha256.to_string(), answer.received_at));
                }
            }
        }
        let mut incoming = self.objects.begin();
        incoming.write(&answer.bytes).await?;
        row.object = incoming.finish().await?;
        Ok(AnswerRead { row, etag: answer.etag.clone() })
    }

    /// Records quarantined answers, unless the same one was recorded before.
    async fn quarantine(&mut self, read: Vec<AnswerRead>, report: &mut ItemReport) -> Result<()> {
        let quarantined = read.into_iter().map(|one| one.row).filter(|row| row.quarantined.is_some());
        for row in quarantined {
            let reason = row.quarantined.clone().unwrap_or_default();
            tracing::warn!(target: "jobs::collect", "{}: an answer is quarantined: {reason}", row.item);
            report.quarantined.push(reason.clone());
            report.quarantined.extend(row.faults.iter().take(5).map(Fault::to_string));
            let state = self.state.items.entry(row.item.clone()).or_default();
            if !state.quarantine(&row.object.sha256.to_string(), &self.layout) {
                continue;
            }
            answers::append(&self.lake, self.run, &self.collect.name, std::slice::from_ref(&row)).await?;
            let fields = json!({
                "collect": self.collect.name, "item": row.item, "sha256": row.object.sha256.to_string(), "reason": reason,
            });
            self.run.event("answer.quarantined", fields)?;
            self.state.write(&self.lake, &self.collect.name).await?;
        }
        Ok(())
    }

    /// Commits the versions that a window's answers add, with the newest known time of the item, and up to where it was
    /// asked for.
    async fn commit(
        &mut self,
        item: &BTreeMap<String, String>,
        window: Window,
        compared: compared::Compared,
        read: &[AnswerRead],
        report: &mut ItemReport,
    ) -> Result<()> {
        let compared::Compared { rows, whole, span, most, new } = compared;
        let name = report.item.clone();
        let now = Utc::now().trunc_subsecs(6);
        let complete = rows.complete(&self.columns, &whole, item, new.known_at, now)?;
        let complete_schema = complete.schema();
        let added = take_record_batch(&complete, &UInt32Array::from(new.rows)).context("select the new versions")?;
        let count = added.num_rows() as u64;
        if count > 0 {
            let answers: Vec<AnswerRow> = read.iter().map(|one| one.row.clone()).collect();
            answers::append(&self.lake, self.run, &self.collect.name, &answers).await?;
        }
        #[cfg(feature = "failpoints")]
        fail::fail_point!("collect-before-commit");
        // A value of the future does not keep the next run from asking for the time until then.
        let newest = self.position(NEWEST, &name).await?;
        let newest = most.map(|most| most.min(now.timestamp_micros())).max(newest);
        let asked_to = self.position(ASKED_TO, &name).await?.max(Some(window.to.timestamp_micros()));
        let positions = [(NEWEST, newest), (ASKED_TO, asked_to)].into_iter();
        let positions =
            positions.filter_map(|(kind, micros)| Some((self.position_name(kind, &name), micros?))).collect();
        let target = self.target();
        let run = self.run.id();
        crate::flows::rows::append(&self.lake, &target, run, OPERATION, &complete_schema, vec![added], positions)
            .await?;
        #[cfg(feature = "failpoints")]
        fail::fail_point!("collect-after-commit");
        report.new += count - new.revised as u64;
        report.revised += new.revised as u64;
        report.unchanged += rows.len() as u64 - count;
        if count > 0 {
            let fields = json!({
                "collect": self.collect.name, "item": name, "table": target.to_string(), "new": count - new.revised as u64,
                "revised": new.revised, "from": instant_text(span.from), "to": instant_text(span.to),
            });
            self.run.event("values.collected", fields)?;
        }
        Ok(())
    }
}
