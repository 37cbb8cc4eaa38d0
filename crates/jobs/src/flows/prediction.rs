//! **prediction**: asks an endpoint with the rows of a query, of what was known at the issue time, and adds its answer to
//! a table, checked by a layout. The rows of an issue are in one commit: a run that is killed has added them or not,
//! and one that finds them adds nothing.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::compute::concat_batches;
use bytes::Bytes;
use chrono::{DateTime, SubsecRound, TimeDelta, TimeZone, Utc};
use config::{Job, Prediction};
use ingest::layout::Format as LayoutFormat;
use ingest::objects::Hash;
use lake::{Lake, TableName};
use ledger::Run;
use model::{EndpointAnswer, EndpointRequest};
use serde_json::{Value, json};
use sql::output::{self, Format};

use crate::flows::moment::{AS_OF, Moment, instant_text};
use crate::flows::{as_known, load, rows};
use crate::model_socket;
use crate::runs::{self, FlowOutcome, RunRequest};
use crate::warehouse::Warehouse;

const OPERATION: &str = "prediction";
/// More is refused by endpoints.
const INPUT_BYTES_MAX: usize = 25 << 20;

/// Runs the prediction `name` as a run of `prediction:NAME`. Returns the run's figures.
///
/// # Errors
/// The endpoint can't be asked, or its answer breaks the layout's rules.
pub async fn run(warehouse: &Warehouse, request: &RunRequest, name: &str) -> Result<Value> {
    let prediction = warehouse.prediction(name)?;
    let moment = Moment::of(warehouse, request)?;
    let issued_at = issue_time(warehouse, prediction, moment.as_of)?;
    let detail = json!({"prediction": name, "endpoint": prediction.endpoint, "issued_at": instant_text(issued_at), AS_OF: moment.as_of()});
    runs::run(warehouse, Job::Prediction(prediction), request, detail, async |run| {
        let lake = warehouse.lake().await?;
        let issue = Issue { warehouse, run, prediction, lake, moment: &moment, issued_at };
        let figures = issue.predict().await?;
        Ok(FlowOutcome::succeeded(figures.clone(), figures))
    })
    .await
}

/// The last issue time that is not after an instant. The issues of a day begin at its local time `at`.
fn issue_time(warehouse: &Warehouse, prediction: &Prediction, at: DateTime<Utc>) -> Result<DateTime<Utc>> {
    let zone: chrono_tz::Tz = warehouse.config.serve.timezone.parse().context("read the time zone")?;
    let every = i64::try_from(prediction.every.as_secs())?;
    let begins = |day: chrono::NaiveDate| {
        // A time that the clocks skip is the hour after it.
        let first = zone.from_local_datetime(&day.and_time(prediction.at)).earliest();
        let first =
            first.or_else(|| zone.from_local_datetime(&(day.and_time(prediction.at) + TimeDelta::hours(1))).earliest());
        first.map(|at| at.to_utc()).with_context(|| format!("find the first issue of {day}"))
    };
    let mut day = at.with_timezone(&zone).date_naive();
    if begins(day)? > at {
        day -= TimeDelta::days(1);
    }
    if every >= 86_400 {
        let days = every / 86_400;
        let since = chrono::Datelike::num_days_from_ce(&day);
        return begins(day - TimeDelta::days(i64::from(since) % days));
    }
    let begin = begins(day)?;
    let steps = (at - begin).num_seconds() / every;
    Ok(begin + TimeDelta::seconds(steps * every))
}

/// One issue of a prediction.
struct Issue<'a> {
    warehouse: &'a Warehouse,
    run: &'a Run,
    prediction: &'a Prediction,
    lake: Lake,
    moment: &'a Moment,
    issued_at: DateTime<Utc>,
}

impl Issue<'_> {
    async fn predict(&self) -> Result<Value> {
        let issued_at = instant_text(self.issued_at);
        let known = self.known_rows().await?;
        if known > 0 {
            return Ok(json!({"issued_at": issued_at, "rows": 0, "known": known}));
        }
        let (input, kept) = self.input().await?;
        let sent = input.rows;
        let sha256 = Hash::of(&input.bytes).to_string();
        let request = EndpointRequest {
            body: input.bytes,
            content_type: Some("text/csv".to_owned()),
            accept: Some(accepted(&self.prediction.layout.format).to_owned()),
        };
        let endpoint = &self.prediction.endpoint;
        let answer = model_socket::ask(self.warehouse, endpoint, &request).await?;
        let batch = self.read(&answer).await.with_context(|| format!("read the answer of endpoint {endpoint}"))?;
        if batch.num_rows() == 0 {
            let error = base::Error::input(format!("the answer of endpoint {endpoint} has no rows"));
            bail!(error.hint("a forecast of nothing is none: look at the program behind the endpoint"));
        }
        let complete = self.complete(&batch, kept, &answer, &sha256)?;
        let (schema, count) = (complete.schema(), complete.num_rows());
        #[cfg(feature = "failpoints")]
        fail::fail_point!("prediction-before-commit");
        let position = (format!("prediction/{}", self.prediction.name), self.issued_at.timestamp_micros());
        let target = self.target();
        rows::append(&self.lake, &target, self.run.id(), OPERATION, &schema, vec![complete], vec![position]).await?;
        let fields = json!({
            "prediction": self.prediction.name, "endpoint": endpoint, "issued_at": issued_at, "rows": count,
            "variant": answer.variant, "table": target.to_string(),
        });
        self.run.event("prediction.issued", fields)?;
        Ok(json!({
            "issued_at": issued_at, "rows": count, "sent": sent, "variant": answer.variant, "known": 0,
            "input_sha256": sha256,
        }))
    }

    fn target(&self) -> TableName {
        TableName::new(&self.prediction.schema, &self.prediction.table)
    }

    /// How many rows of this issue the table has.
    async fn known_rows(&self) -> Result<u64> {
        if self.lake.table(&self.target()).await?.is_none() {
            return Ok(0);
        }
        let query = format!(
            "SELECT count(*) FROM {} WHERE prediction = '{}' AND issued_at = TIMESTAMPTZ '{}'",
            load::sql_name(&self.target()),
            self.prediction.name,
            instant_text(self.issued_at)
        );
        let session = rows::session(self.warehouse, &self.lake)?;
        let counted = rows::query(&session, &query).await.context("read which issues the table has")?;
        let count = rows::texts(&counted, 0)?.pop().flatten().and_then(|text| text.parse().ok());
        Ok(count.unwrap_or_default())
    }

    /// The rows of the query as CSV, and the columns of them that are not sent.
    async fn input(&self) -> Result<(Input, Option<RecordBatch>)> {
        let issued_at = instant_text(self.issued_at);
        let sql = self.moment.fill(&self.prediction.input, &|word| (word == "issued_at").then(|| issued_at.clone()))?;
        let session = as_known::session(self.warehouse, &self.lake, self.issued_at)?;
        let batches = rows::query(&session, &sql).await.context("read what the endpoint is asked with")?;
        let Some(schema) = batches.first().map(RecordBatch::schema) else {
            let error =
                base::Error::input(format!("nothing was known at {issued_at} that the endpoint could be asked with"));
            bail!(error.hint("run the collects first, or look at the prediction's query"));
        };
        let whole = concat_batches(&schema, &batches).context("put the input's rows together")?;
        let (kept, sent): (Vec<usize>, Vec<usize>) =
            (0..schema.fields().len()).partition(|at| self.prediction.keep.contains(schema.field(*at).name()));
        if let Some(missing) = self.prediction.keep.iter().find(|name| schema.field_with_name(name).is_err()) {
            bail!(base::Error::setup(format!("the query has no column {missing:?}, which is to be kept")));
        }
        if whole.num_rows() == 0 {
            let error =
                base::Error::input(format!("nothing was known at {issued_at} that the endpoint could be asked with"));
            bail!(error.hint("run the collects first, or look at the prediction's query"));
        }
        let rows = whole.num_rows();
        let mut bytes = Vec::new();
        output::write_batch(&whole.project(&sent)?, Format::Csv, &mut bytes)?;
        if bytes.len() > INPUT_BYTES_MAX {
            let what = format!("the input has {}, and an endpoint takes 25 MiB", base::text::bytes(bytes.len() as u64));
            bail!(base::Error::setup(what).hint("select a shorter time, or fewer series"));
        }
        let kept = if kept.is_empty() { None } else { Some(whole.project(&kept)?) };
        Ok((Input { bytes: bytes.into(), rows }, kept))
    }

    /// The rows of an answer.
    async fn read(&self, answer: &EndpointAnswer) -> Result<RecordBatch> {
        use std::io::{Seek, Write};
        let mut file = tempfile::tempfile().context("create a temporary file for an answer")?;
        file.write_all(&answer.body)?;
        file.rewind()?;
        let read = load::rows_of(file, "", &self.prediction.layout).await?;
        let batches: Vec<RecordBatch> = read.into_iter().map(|rows| rows.batch).collect();
        concat_batches(&self.prediction.layout.schema(), &batches).context("put the answer's rows together")
    }

    /// The rows of the table: the kept columns, the answer's, and those that say where they come from.
    fn complete(
        &self,
        batch: &RecordBatch,
        kept: Option<RecordBatch>,
        answer: &EndpointAnswer,
        sha256: &str,
    ) -> Result<RecordBatch> {
        let count = batch.num_rows();
        let mut all: Vec<(String, ArrayRef)> = Vec::new();
        if let Some(kept) = kept {
            if kept.num_rows() != count {
                let what = format!("the answer has {count} rows for the {} that were sent", kept.num_rows());
                let error = base::Error::input(what);
                bail!(error.hint("`keep` is for endpoints that answer with a row for each row"));
            }
            let named = kept.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
            all.extend(named.into_iter().zip(kept.columns().iter().cloned()));
        }
        let schema = batch.schema();
        let own = schema.fields().iter().zip(batch.columns());
        all.extend(own.map(|(field, column)| (field.name().clone(), Arc::clone(column))));
        let same =
            |text: &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, count))) };
        let instants = |at: DateTime<Utc>| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from_value(at.timestamp_micros(), count).with_timezone("UTC"))
        };
        all.push(("prediction".to_owned(), same(&self.prediction.name)));
        all.push(("issued_at".to_owned(), instants(self.issued_at)));
        all.push(("variant".to_owned(), same(&answer.variant)));
        all.push(("input_sha256".to_owned(), same(sha256)));
        all.push(("recorded_at".to_owned(), instants(Utc::now().trunc_subsecs(6))));
        let all = all.into_iter().map(|(name, column)| (name, column, true));
        RecordBatch::try_from_iter_with_nullable(all).context("add the columns of a prediction")
    }
}

struct Input {
    bytes: Bytes,
    rows: usize,
}

/// The content type of an answer in the layout's format.
fn accepted(format: &LayoutFormat) -> &'static str {
    match format {
        LayoutFormat::Csv(_) => "text/csv",
        LayoutFormat::Ndjson => "application/jsonlines",
        _ => "application/json",
    }
}
