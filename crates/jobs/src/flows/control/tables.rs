//! `controls.results` and `controls.findings`: the results of every run of the controls. Rows are
//! added, and never changed.

use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use chrono::{DateTime, Utc};
use lake::{Lake, TableName};
use ledger::Run;

use super::ControlReport;
use crate::flows::moment::Moment;
use crate::flows::rows;

/// The schema of the lake that holds the tables of controls.
pub const SCHEMA: &str = "controls";
const OPERATION: &str = "control";

/// Adds a run's findings and results. The findings are committed first, so that a result that is
/// there always has all of its findings.
pub async fn append(lake: &Lake, run: &Run, set: &str, moment: &Moment, report: &ControlReport) -> Result<()> {
    let now = Utc::now();
    let findings = findings(run, set, moment, report, now)?;
    append_batch(lake, run, "findings", findings).await?;
    #[cfg(feature = "failpoints")]
    fail::fail_point!("control-before-results");
    append_batch(lake, run, "results", results(run, set, moment, report, now)?).await
}

async fn append_batch(lake: &Lake, run: &Run, table: &str, batch: RecordBatch) -> Result<()> {
    let (name, schema) = (TableName::new(SCHEMA, table), batch.schema());
    rows::append(lake, &name, run.id(), OPERATION, &schema, vec![batch], Vec::new()).await.map(drop)
}

/// A column of texts.
pub fn texts<T: Into<Option<String>>>(values: impl Iterator<Item = T>) -> ArrayRef {
    Arc::new(values.map(Into::into).collect::<StringArray>())
}

/// A column of instants, in microseconds and UTC.
pub fn instants(values: impl Iterator<Item = Option<DateTime<Utc>>>) -> ArrayRef {
    let micros = values.map(|at| at.map(|at| at.timestamp_micros()));
    Arc::new(micros.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

fn results(run: &Run, set: &str, moment: &Moment, report: &ControlReport, now: DateTime<Utc>) -> Result<RecordBatch> {
    let verdicts = &report.verdicts;
    let all = |text: Option<String>| texts(verdicts.iter().map(move |_| text.clone()));
    let numbers = |number: fn(&super::Verdict) -> u64| -> ArrayRef {
        Arc::new(verdicts.iter().map(|verdict| number(verdict).cast_signed()).collect::<Int64Array>())
    };
    let columns: [(&str, ArrayRef); 12] = [
        ("run_id", all(Some(run.id().to_owned()))),
        ("control_set", all(Some(set.to_owned()))),
        ("control", texts(verdicts.iter().map(|verdict| verdict.control.clone()))),
        ("period", all(moment.period.map(|period| period.to_string()))),
        ("as_of", instants(verdicts.iter().map(|_| Some(moment.as_of)))),
        ("severity", texts(verdicts.iter().map(|verdict| verdict.severity().to_owned()))),
        ("state", texts(verdicts.iter().map(|verdict| verdict.state.as_str().to_owned()))),
        ("rows", numbers(|verdict| verdict.rows)),
        ("waived_rows", numbers(|verdict| verdict.waived)),
        ("text", texts(verdicts.iter().map(|verdict| verdict.text.clone()))),
        ("error", texts(verdicts.iter().map(|verdict| verdict.error.clone()))),
        ("recorded_at", instants(verdicts.iter().map(|_| Some(now)))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .context("write the controls' results")
}

fn findings(run: &Run, set: &str, moment: &Moment, report: &ControlReport, now: DateTime<Utc>) -> Result<RecordBatch> {
    let all: Vec<_> = report
        .verdicts
        .iter()
        .flat_map(|verdict| verdict.findings.iter().map(move |(row, waiver)| (verdict, row, waiver)))
        .collect();
    let same = |text: Option<String>| texts(all.iter().map(move |_| text.clone()));
    let columns: [(&str, ArrayRef); 7] = [
        ("run_id", same(Some(run.id().to_owned()))),
        ("control_set", same(Some(set.to_owned()))),
        ("control", texts(all.iter().map(|(verdict, ..)| verdict.control.clone()))),
        ("period", same(moment.period.map(|period| period.to_string()))),
        ("finding", texts(all.iter().map(|(_, row, _)| serde_json::to_string(row).unwrap_or_default()))),
        ("waiver", texts(all.iter().map(|(.., waiver)| (*waiver).clone()))),
        ("recorded_at", instants(all.iter().map(|_| Some(now)))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .context("write the controls' findings")
}
