//! Training jobs, and the versions of models that they make. Contents are JSON; the ledger does not interpret them.

use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension, Row, Transaction};
use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Kind};
use crate::rows::json;
use crate::{Ledger, Result, instant};

/// The state of a training job, by SageMaker's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum TrainingState {
    /// It runs, or is about to.
    InProgress,
    /// Its program ended with 0, and its artifact is stored.
    Completed,
    /// It failed.
    Failed,
    /// It was asked to stop, and has not ended yet.
    Stopping,
    /// It was stopped.
    Stopped,
}

/// A training job.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainingRow {
    /// Its name, unique for all times.
    pub name: String,
    /// Its state.
    pub state: TrainingState,
    /// The run that trains; `None` before it has begun.
    pub run_id: Option<String>,
    /// What was asked for, as JSON.
    pub request: Value,
    /// What it was trained from: hashes of code, layers, channels and parameters, as JSON.
    pub lineage: Value,
    /// The last value of each metric, as JSON.
    pub metrics: Value,
    /// The hash of the artifact.
    pub artifact: Option<String>,
    /// Why it failed.
    pub failure: Option<String>,
    /// When it was created.
    #[serde(serialize_with = "instant::serialize")]
    pub created_at: DateTime<Utc>,
    /// When its program was started.
    #[serde(serialize_with = "instant::serialize_option")]
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    #[serde(serialize_with = "instant::serialize_option")]
    pub ended_at: Option<DateTime<Utc>>,
}

/// How a training job ended.
#[derive(Clone, Debug, PartialEq)]
pub enum TrainingEnd {
    /// With an artifact.
    Completed {
        /// The artifact's hash.
        artifact: String,
    },
    /// Without one.
    Failed {
        /// Why.
        why: String,
    },
    /// It was stopped.
    Stopped {
        /// The hash of the artifact, where it has left one.
        artifact: Option<String>,
    },
}

/// A version of a model in the registry.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelVersionRow {
    /// The model's name.
    pub model: String,
    /// Counts from 1 within the model.
    pub version: i64,
    /// The hash of its artifact.
    pub artifact: String,
    /// The training job that made it; `None` where a file was registered.
    pub training_job: Option<String>,
    /// `PendingManualApproval`, `Approved` or `Rejected`, as SageMaker calls it.
    pub approval: String,
    /// The image that serves it, and what else belongs to it, as JSON.
    pub content: Value,
    /// The metrics of its training, as JSON.
    pub metrics: Value,
    /// The aliases that point to it.
    pub aliases: Vec<String>,
    /// When it was registered.
    #[serde(serialize_with = "instant::serialize")]
    pub created_at: DateTime<Utc>,
}

const TRAINING_COLUMNS: &str =
    "name, state, run_id, request, lineage, metrics, artifact, failure, created_at, started_at, ended_at";
const VERSION_COLUMNS: &str = "model, version, artifact, training_job, approval, content, metrics, created_at,
    (select json_group_array(name) from (select name from model_aliases a
        where a.model = v.model and a.version = v.version order by name))";

impl TrainingState {
    const ALL: [TrainingState; 5] = [
        TrainingState::InProgress,
        TrainingState::Completed,
        TrainingState::Failed,
        TrainingState::Stopping,
        TrainingState::Stopped,
    ];

    /// SageMaker's name.
    pub fn name(self) -> &'static str {
        match self {
            TrainingState::InProgress => "InProgress",
            TrainingState::Completed => "Completed",
            TrainingState::Failed => "Failed",
            TrainingState::Stopping => "Stopping",
            TrainingState::Stopped => "Stopped",
        }
    }

    /// Whether it has ended.
    pub fn has_ended(self) -> bool {
        !matches!(self, TrainingState::InProgress | TrainingState::Stopping)
    }
}

impl Ledger {
    /// Creates a training job, of a run where one has it already. False where there is, or was, one of that name.
    pub fn create_training(&self, name: &str, request: &Value, run_id: Option<&str>) -> Result<bool> {
        self.write(&format!("create training job {name}"), |tx| {
            let sql = "insert into training_jobs (name, state, run_id, request, lineage, metrics, created_at)
                       values (?, 'InProgress', ?, ?, '{}', '{}', ?) on conflict (name) do nothing";
            let now = instant::to_text(instant::now());
            Ok(tx.execute(sql, (name, run_id, request.to_string(), now))? == 1)
        })
    }

    /// Gives a training job to a run, with the container that it uses from then on. False where the job has another run, was
    /// stopped, or has ended.
    pub fn claim_training(&self, name: &str, run_id: &str, lineage: &Value) -> Result<bool> {
        self.write(&format!("begin training job {name}"), |tx| {
            let sql = "update training_jobs set run_id = ?2, lineage = ?3
                       where name = ?1 and state = 'InProgress' and coalesce(run_id, ?2) = ?2";
            Ok(tx.execute(sql, (name, run_id, lineage.to_string()))? == 1)
        })
    }

    /// Records that the program of a training job is started by a run, and what it is trained from. False where it was
    /// stopped before, or has ended.
    pub fn start_training(&self, name: &str, run_id: &str, lineage: &Value) -> Result<bool> {
        self.write(&format!("start training job {name}"), |tx| {
            let sql = "update training_jobs set run_id = ?2, lineage = ?3, started_at = ?4
                       where name = ?1 and state = 'InProgress' and run_id = ?2";
            Ok(tx.execute(sql, (name, run_id, lineage.to_string(), instant::to_text(instant::now())))? == 1)
        })
    }

    /// Asks a training job to stop. False where it does not exist, or has ended.
    pub fn stop_training(&self, name: &str) -> Result<bool> {
        self.write(&format!("stop training job {name}"), |tx| {
            let sql = "update training_jobs set state = 'Stopping'
                       where name = ? and state in ('InProgress', 'Stopping')";
            Ok(tx.execute(sql, [name])? == 1)
        })
    }

    /// Records a metric that a training job has printed.
    pub fn put_training_metric(&self, name: &str, metric: &str, value: f64) -> Result<()> {
        self.write(&format!("record a metric of training job {name}"), |tx| {
            let now = instant::to_text(instant::now());
            let sql = "insert into training_metrics (training_job, metric, at, value) values (?, ?, ?, ?)";
            tx.execute(sql, (name, metric, now, value))?;
            let sql = "update training_jobs set metrics = json_set(metrics, ?2, ?3) where name = ?1";
            tx.execute(sql, (name, format!("$.\"{metric}\""), value))?;
            Ok(())
        })
    }

    /// Records how a training job ended. One that was asked to stop has stopped, unless it has an artifact.
    pub fn end_training(&self, name: &str, end: &TrainingEnd) -> Result<()> {
        self.write(&format!("end training job {name}"), |tx| end_training(tx, name, end))
    }

    /// Records that a training job is complete, and registers its model as a version, at once.
    pub fn complete_training(&self, name: &str, version: &NewVersion<'_>) -> Result<i64> {
        self.write(&format!("complete training job {name}"), |tx| {
            end_training(tx, name, &TrainingEnd::Completed { artifact: version.artifact.to_owned() })?;
            register(tx, version)
        })
    }

    /// Looks up a training job.
    pub fn training(&self, name: &str) -> Result<Option<TrainingRow>> {
        let sql = format!("select {TRAINING_COLUMNS} from training_jobs where name = ?");
        Ok(self.list("look up a training job", &sql, [name], TrainingRow::read)?.into_iter().next())
    }

    /// Lists training jobs, the newest first.
    pub fn trainings(&self, limit: usize) -> Result<Vec<TrainingRow>> {
        let sql = format!("select {TRAINING_COLUMNS} from training_jobs order by created_at desc, name limit ?");
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.list("list training jobs", &sql, [limit], TrainingRow::read)
    }

    /// Registers a version of a model: a number, once assigned, always means the same artifact.
    pub fn register_model(
        &self,
        model: &str,
        artifact: &str,
        training_job: Option<&str>,
        approval: &str,
        content: &Value,
        metrics: &Value,
    ) -> Result<i64> {
        self.write(&format!("register a version of model {model}"), |tx| {
            register(tx, &NewVersion { model, artifact, training_job, approval, content, metrics })
        })
    }

    /// The versions of a model, or of all models, the oldest first.
    pub fn model_versions(&self, model: Option<&str>) -> Result<Vec<ModelVersionRow>> {
        let sql = format!(
            "select {VERSION_COLUMNS} from model_versions v where ?1 is null or model = ?1 order by model, version"
        );
        self.list("list versions of models", &sql, [model], ModelVersionRow::read)
    }

    /// The version of a model that a number or an alias stands for.
    pub fn model_version(&self, model: &str, qualifier: &str) -> Result<Option<ModelVersionRow>> {
        let sql = format!(
            "select {VERSION_COLUMNS} from model_versions v where model = ?1 and version = coalesce(
                 (select version from model_aliases where model = ?1 and name = ?2), ?3)"
        );
        let is_number = qualifier.bytes().all(|byte| byte.is_ascii_digit());
        let number: Option<i64> = qualifier.parse().ok().filter(|_| is_number);
        let values = (model, qualifier, number);
        let found = self.list("look up a version of a model", &sql, values, ModelVersionRow::read)?;
        Ok(found.into_iter().next())
    }

    /// Sets whether a version may be served. False where there is no such version.
    pub fn approve_model(&self, model: &str, version: i64, approval: &str) -> Result<bool> {
        self.write(&format!("approve version {version} of model {model}"), |tx| {
            let sql = "update model_versions set approval = ?3 where model = ?1 and version = ?2";
            Ok(tx.execute(sql, (model, version, approval))? == 1)
        })
    }

    /// Creates an alias of a model, or points an existing one to another version.
    ///
    /// # Errors
    /// [`Kind::FixInput`] where the model has no such version, or it was rejected.
    pub fn point_model_alias(&self, model: &str, alias: &str, version: i64) -> Result<()> {
        let doing = format!("point alias {alias} of model {model} at version {version}");
        let pointed = self.write(&doing, |tx| {
            let sql = "insert into model_aliases (model, name, version, updated_at)
                       select model, ?2, version, ?4 from model_versions
                       where model = ?1 and version = ?3 and approval <> 'Rejected'
                       on conflict (model, name)
                           do update set version = excluded.version, updated_at = excluded.updated_at";
            Ok(tx.execute(sql, (model, alias, version, instant::to_text(instant::now())))? == 1)
        })?;
        match pointed {
            true => Ok(()),
            false => Err(Error::new(Kind::FixInput, format!("{doing}: there is no such version, or it was rejected"))),
        }
    }
}

impl TrainingRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let state: String = row.get(1)?;
        let state = TrainingState::ALL.into_iter().find(|known| known.name() == state);
        let instant_of = |at: usize| -> rusqlite::Result<Option<DateTime<Utc>>> {
            row.get::<_, Option<String>>(at)?.map(|text| instant::from_text(at, &text)).transpose()
        };
        Ok(TrainingRow {
            name: row.get(0)?,
            // The table has a check of its states.
            state: state.unwrap_or(TrainingState::Failed),
            run_id: row.get(2)?,
            request: json(row, 3)?,
            lineage: json(row, 4)?,
            metrics: json(row, 5)?,
            artifact: row.get(6)?,
            failure: row.get(7)?,
            created_at: instant::from_text(8, &row.get::<_, String>(8)?)?,
            started_at: instant_of(9)?,
            ended_at: instant_of(10)?,
        })
    }
}

impl ModelVersionRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let aliases = json(row, 8)?;
        let aliases = aliases.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
        Ok(ModelVersionRow {
            model: row.get(0)?,
            version: row.get(1)?,
            artifact: row.get(2)?,
            training_job: row.get(3)?,
            approval: row.get(4)?,
            content: json(row, 5)?,
            metrics: json(row, 6)?,
            aliases: aliases.collect(),
            created_at: instant::from_text(7, &row.get::<_, String>(7)?)?,
        })
    }
}

/// A version of a model that is to be registered.
#[derive(Debug, Clone, Copy)]
pub struct NewVersion<'a> {
    /// The model's name.
    pub model: &'a str,
    /// The hash of its artifact.
    pub artifact: &'a str,
    /// The training job that it is of.
    pub training_job: Option<&'a str>,
    /// Its approval.
    pub approval: &'a str,
    /// What serves it, and what it is made from.
    pub content: &'a Value,
    /// Its metrics, by their names.
    pub metrics: &'a Value,
}

fn register(tx: &Transaction<'_>, new: &NewVersion<'_>) -> rusqlite::Result<i64> {
    // A run that was killed after it has registered its version registers it again.
    let known = "select version from model_versions where model = ? and training_job = ? and artifact = ?";
    let values = (new.model, new.training_job, new.artifact);
    if let Some(version) = tx.query_row(known, values, |row| row.get(0)).optional()? {
        return Ok(version);
    }
    let sql =
        "insert into model_versions (model, version, artifact, training_job, approval, content, metrics, created_at)
               select ?1, coalesce(max(version), 0) + 1, ?2, ?3, ?4, ?5, ?6, ?7
               from model_versions where model = ?1 returning version";
    let (content, metrics) = (new.content.to_string(), new.metrics.to_string());
    let now = instant::to_text(instant::now());
    tx.query_row(sql, (new.model, new.artifact, new.training_job, new.approval, content, metrics, now), |row| {
        row.get(0)
    })
}

fn end_training(tx: &Transaction<'_>, name: &str, end: &TrainingEnd) -> rusqlite::Result<()> {
    let (state, artifact, failure) = match end {
        TrainingEnd::Completed { artifact } => (TrainingState::Completed, Some(artifact), None),
        TrainingEnd::Failed { why } => (TrainingState::Failed, None, Some(why)),
        TrainingEnd::Stopped { artifact } => (TrainingState::Stopped, artifact.as_ref(), None),
    };
    let sql = "update training_jobs set state = ?2, artifact = ?3, failure = ?4, ended_at = ?5
               where name = ?1 and state in ('InProgress', 'Stopping')";
    tx.execute(sql, (name, state.name(), artifact, failure, instant::to_text(instant::now())))?;
    Ok(())
}
