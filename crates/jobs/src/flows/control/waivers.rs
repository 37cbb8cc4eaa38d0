//! `controls.waivers`: which findings somebody accepts, why, and until when. Waivers are added and
//! revoked, never changed, so that it stays known who accepted what.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use arrow::array::{ArrayRef, RecordBatch};
use chrono::{DateTime, Utc};
use config::Job;
use lake::TableName;
use serde_json::{Map, Value, json};
use sql::Session;

use super::tables::{SCHEMA, instants, texts};
use crate::flows::moment::{Moment, instant_text};
use crate::flows::rows;
use crate::runs::{self, FlowOutcome, RunRequest};
use crate::warehouse::{Warehouse, unknown};

const TABLE: &str = "waivers";
const OPERATION: &str = "waive";

/// A signed decision that findings of a control do not count until an instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiver {
    pub id: String,
    /// The set of the control, a folder under `controls/`.
    pub set: String,
    pub control: String,
    /// Columns of a finding and the texts that they must have; it covers all findings where it is empty.
    pub matches: BTreeMap<String, String>,
    pub who: String,
    pub why: String,
    /// RFC 3339, in UTC.
    pub until: String,
}

impl Waiver {
    /// True where it covers this finding of this control. It does not look at `set` and `until`.
    pub fn covers(&self, control: &str, row: &Map<String, Value>) -> bool {
        let same = |(column, text): (&String, &String)| match row.get(column) {
            Some(Value::String(value)) => value == text,
            Some(Value::Null) | None => false,
            Some(other) => *text == format!("{other}"),
        };
        self.control == control && self.matches.iter().all(same)
    }
}

/// The waivers of a set that count at the run's `as_of` instant.
pub async fn in_force(session: &Session, set: &str, moment: &Moment) -> Result<Vec<Waiver>> {
    let waivers = read(session, &moment.as_of()).await?;
    Ok(waivers.into_iter().filter(|waiver| waiver.set == set && waiver.until > moment.as_of()).collect())
}

/// All waivers that are not revoked now, those that are over included.
pub async fn waivers(warehouse: &Warehouse) -> Result<Vec<Waiver>> {
    let lake = warehouse.lake().await?;
    read(&rows::session(warehouse, &lake)?, &instant_text(Utc::now())).await
}

/// The waivers that were recorded by `at`, and not revoked by then.
async fn read(session: &Session, at: &str) -> Result<Vec<Waiver>> {
    let name = TableName::new(SCHEMA, TABLE);
    if session.lake.table(&name).await?.is_none() {
        return Ok(Vec::new());
    }
    let query = format!(
        "SELECT id, control_set, control, matches, who, why, CAST(extract(epoch FROM until) AS bigint)
         FROM {SCHEMA}.{TABLE} WHERE revokes IS NULL AND recorded_at <= '{at}' AND id NOT IN
         (SELECT revokes FROM {SCHEMA}.{TABLE} WHERE revokes IS NOT NULL AND recorded_at <= '{at}') ORDER BY id"
    );
    let batches = rows::query(session, &query).await.context("read the waivers")?;
    let columns: Vec<Vec<Option<String>>> =
        (0..7).map(|column| rows::texts(&batches, column)).collect::<Result<_>>()?;
    let count = columns[0].len();
    let text = |column: usize, row: usize| columns[column][row].clone().unwrap_or_default();
    let waiver = |row: usize| -> Result<Waiver> {
        let matches = serde_json::from_str(&text(3, row)).context("read a waiver's matches")?;
        let (id, set, control) = (text(0, row), text(1, row), text(2, row));
        let until = text(6, row).parse().ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
        let until = instant_text(until.context("read until when a waiver counts")?);
        Ok(Waiver { id, set, control, matches, who: text(4, row), why: text(5, row), until })
    };
    (0..count).map(waiver).collect()
}

/// Adds a waiver. Returns its id.
///
/// # Errors
/// The control does not exist, or `until` is in the past.
pub async fn waive(
    warehouse: &Warehouse,
    (set, control): (&str, &str),
    matches: &BTreeMap<String, String>,
    (who, why): (&str, &str),
    until: DateTime<Utc>,
) -> Result<String> {
    let controls = warehouse.controls(set)?;
    if !controls.names().any(|name| name == control) {
        return Err(unknown("control", control, &format!("controls/{set}/"), controls.names()));
    }
    if until <= Utc::now() {
        let error = base::Error::input(format!("a waiver until {} is over already", instant_text(until)));
        return Err(error.hint("choose a later instant with --until").into());
    }
    let id = uuid::Uuid::now_v7().to_string();
    let matches = serde_json::to_string(matches).context("write what a waiver matches")?;
    let texts_of =
        [Some(id.clone()), Some(set.into()), Some(control.into()), Some(matches), Some(who.into()), Some(why.into())];
    add(warehouse, set, texts_of, Some(until), None).await?;
    Ok(id)
}

/// Revokes a waiver: adds a row that names it. The row of the waiver itself stays.
pub async fn revoke(warehouse: &Warehouse, id: &str, who: &str, why: &str) -> Result<()> {
    let Some(waiver) = waivers(warehouse).await?.into_iter().find(|waiver| waiver.id == id) else {
        let error = base::Error::input(format!("there is no waiver {id}, or it is revoked already"));
        return Err(error.hint("`wattlake control waivers` lists the waivers in force").into());
    };
    let matches = serde_json::to_string(&waiver.matches).context("write what a waiver matches")?;
    let own = uuid::Uuid::now_v7().to_string();
    let texts_of =
        [Some(own), Some(waiver.set.clone()), Some(waiver.control), Some(matches), Some(who.into()), Some(why.into())];
    add(warehouse, &waiver.set, texts_of, None, Some(id.to_owned())).await
}

async fn add(
    warehouse: &Warehouse,
    set: &str,
    texts_of: [Option<String>; 6],
    until: Option<DateTime<Utc>>,
    revokes: Option<String>,
) -> Result<()> {
    let lake = warehouse.lake().await?;
    let [id, set_name, control, matches, who, why] = texts_of.map(|text| texts([text].into_iter()));
    let columns: [(&str, ArrayRef); 9] = [
        ("id", id),
        ("control_set", set_name),
        ("control", control),
        ("matches", matches),
        ("who", who),
        ("why", why),
        ("until", instants([until].into_iter())),
        ("revokes", texts([revokes].into_iter())),
        ("recorded_at", instants([Some(Utc::now())].into_iter())),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .context("write a waiver")?;
    let (name, schema) = (TableName::new(SCHEMA, TABLE), batch.schema());
    // A run of the set's own job, so that it never happens while the set's controls are evaluated.
    runs::run(
        warehouse,
        Job::Control(warehouse.controls(set)?),
        &RunRequest::by("waiver"),
        json!({"waiver": true}),
        async |run| {
            rows::append(&lake, &name, run.id(), OPERATION, &schema, vec![batch], Vec::new()).await?;
            Ok(FlowOutcome::succeeded((), json!({"rows": 1})))
        },
    )
    .await
}
