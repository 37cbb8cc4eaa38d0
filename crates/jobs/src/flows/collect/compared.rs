//! Compares the answers to a window with what the table has, and judges what a layout can't see.

use std::collections::BTreeMap;

use anyhow::Result;
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use chrono::{DateTime, TimeDelta, Utc};
use config::Collect;

use super::rows::WindowRows;
use super::versions::{self, Knowledge, NewVersions};
use super::windows::{Window, delta};
use super::{ASKED_TO, CollectRun, checks};

/// The rows of the answers to a window beside those of the table.
pub struct Compared {
    pub rows: WindowRows,
    /// All of them in one batch.
    pub whole: RecordBatch,
    /// From the earliest to the latest of their times.
    pub span: Window,
    /// The latest of their times, in microseconds.
    pub most: Option<i64>,
    pub new: NewVersions,
}

impl CollectRun<'_> {
    /// Compares the rows of a window's answers with those of the table.
    pub(super) async fn compare(&self, item: &str, window: Window, rows: WindowRows) -> Result<Compared> {
        let whole = rows.whole(&self.collect.layout.schema())?;
        let times = self.columns.times(&whole)?;
        let (least, most) = (arrow::compute::min(&times), arrow::compute::max(&times));
        let span =
            match (least.and_then(DateTime::from_timestamp_micros), most.and_then(DateTime::from_timestamp_micros)) {
                (Some(least), Some(most)) => Window { from: least, to: most + TimeDelta::microseconds(1) },
                _ => window,
            };
        let before = self.known().of_window(item, span).await?;
        let knowledge = self.knowledge(item, window).await?;
        let new = versions::compare(&self.columns, &rows, &whole, &before, &knowledge)?;
        Ok(Compared { rows, whole, span, most, new })
    }

    /// Why answers are quarantined for what a layout can't see.
    pub(super) async fn reason(
        &self,
        item: &BTreeMap<String, String>,
        window: Window,
        compared: &Compared,
    ) -> Result<Option<String>> {
        let Compared { rows, whole, new, .. } = compared;
        let name = Collect::item_name(item);
        if rows.len() == 0 {
            return Ok(None);
        }
        let ahead = delta(self.collect.ahead).num_microseconds().unwrap_or(i64::MAX);
        let mut reason = checks::other_item(whole, item)?;
        if reason.is_none() {
            reason = checks::contradiction(&self.columns, whole, new)?;
        }
        if reason.is_none() {
            reason = checks::future(&self.columns, rows, whole, ahead)?;
        }
        if reason.is_none() && self.collect.clock_check {
            let margin = TimeDelta::hours(3);
            let around = Window { from: window.from - margin, to: window.to + margin };
            reason = checks::clock(&self.columns, whole, &self.known().of_window(&name, around).await?)?;
        }
        if let (None, Some(jump_max)) = (&reason, self.collect.jump_max) {
            let changed = take_record_batch(whole, &UInt32Array::from(new.rows.clone()))?;
            reason = checks::unit(&self.columns, &changed, &self.known().newest(&name).await?, jump_max)?;
        }
        Ok(reason)
    }

    /// When the values of an item's window were known.
    async fn knowledge(&self, item: &str, window: Window) -> Result<Knowledge> {
        let state = self.state.items.get(item).cloned().unwrap_or_default();
        let micros = |at: DateTime<Utc>| at.timestamp_micros();
        let asked_to = self.position(ASKED_TO, item).await?.max(state.asked_to.map(micros));
        let asked_from = state.asked_from.filter(|from| self.collect.has_window && window.from < *from);
        Ok(Knowledge {
            asked_at: state.asked_at.map(micros),
            asked_to: asked_to.unwrap_or(i64::MIN),
            asked_from: asked_from.map_or(i64::MIN, micros),
            first_asked_at: state.first_asked_at.map_or(i64::MIN, micros),
            history_known_after: self.collect.history_known_after.and_then(|after| delta(after).num_microseconds()),
            stamp: self.collect.known_at.clone(),
        })
    }
}
