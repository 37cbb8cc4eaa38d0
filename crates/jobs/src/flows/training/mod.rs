//! **training**: runs a container's program `train` over channels (rows of queries as of an instant, or files), and makes
//! a version of a model of what it leaves. The training job records all that the version depends on: the hashes of the
//! container's code and layers, of the channels and of the script, the hyperparameters and the instant.

mod channels;
mod created;
mod outputs;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use config::{Job, Training};
use ledger::{Ledger, NewVersion, Run, TrainingEnd, TrainingState};
use model::training::{Training as TrainingJob, TrainingHost, TrainingOutcome, remove_folder};
use model::{APPROVED, Container, PENDING_APPROVAL, ProcessContainer, Resources};
use regex::Regex;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::flows::moment::{AS_OF, Moment};
use crate::model_host;
use crate::runs::{self, FlowOutcome, RunRequest};
use crate::warehouse::Warehouse;

/// The file that a job's model is packed into, in its own folder.
const ARCHIVE: &str = "model.tar.gz";

/// A metric has at most one row a period.
const METRICS_PERIOD: Duration = Duration::from_secs(1);

/// Takes each line that a training job prints, beside the log of its run.
pub type LineSink = Arc<dyn Fn(&str) + Send + Sync>;

/// Trains as a run of `training:NAME`. Returns the run's figures.
///
/// # Errors
/// The program failed, with its reason; a channel or the container can't be had.
pub async fn run(warehouse: &Warehouse, request: &RunRequest, name: &str, output: LineSink) -> Result<Value> {
    train(warehouse, request, warehouse.training(name)?, None, output).await
}

/// Trains a job that was created by SageMaker's API, as a run of `training:NAME`.
///
/// # Errors
/// As [`run`].
pub async fn run_created(warehouse: &Warehouse, name: &str) -> Result<Value> {
    let training = created::training(warehouse, name).inspect_err(|error| {
        let _ = warehouse.ledger.end_training(name, &TrainingEnd::Failed { why: format!("{error:#}") });
    })?;
    train(warehouse, &RunRequest::by("api"), &training, Some(name), Arc::new(|_| ())).await
}

/// As [`run`], for a training job of this configuration; `created` is its name, where it was created already.
async fn train(
    warehouse: &Warehouse,
    request: &RunRequest,
    training: &Training,
    created: Option<&str>,
    output: LineSink,
) -> Result<Value> {
    settle_killed(&warehouse.ledger)?;
    let moment = Moment::of(warehouse, request)?;
    let detail = json!({"training": training.name, "model": training.model, AS_OF: moment.as_of()});
    runs::run(warehouse, Job::Training(training), request, detail, async |run| {
        let job = match created {
            Some(name) => name.to_owned(),
            None => create(warehouse, run, training, &moment)?,
        };
        // A job that could not be started, or was interrupted, has failed too.
        let mut recorded = RecordedJob { ledger: warehouse.ledger.clone(), name: job.clone(), has_ended: false };
        let trained = train_job(warehouse, run, training, &moment, &mut recorded, output).await;
        if let Err(error) = &trained
            && !recorded.has_ended
        {
            recorded.end(&TrainingEnd::Failed { why: format!("{error:#}") })?;
        }
        let figures = trained?;
        Ok(FlowOutcome::succeeded(figures.clone(), figures))
    })
    .await
}

/// Creates the training job of a run, with a name of its own.
fn create(warehouse: &Warehouse, run: &Run, training: &Training, moment: &Moment) -> Result<String> {
    let mut name = training.name.clone();
    // As SageMaker's SDK does, within the 63 characters of a name.
    name.truncate(63 - 24);
    let name = format!("{}-{}", name.trim_end_matches('-'), chrono::Utc::now().format("%Y-%m-%d-%H-%M-%S-%3f"));
    let request = request_of(training, &name, moment);
    match warehouse.ledger.create_training(&name, &request, Some(run.id()))? {
        true => Ok(name),
        false => bail!(base::Error::retry(format!("there is a training job {name} already"))),
    }
}

/// A training job in SageMaker's form, for descriptions of it.
fn request_of(training: &Training, name: &str, moment: &Moment) -> Value {
    let metrics = training.metrics.iter().map(|(name, regex)| json!({"Name": name, "Regex": regex}));
    let channels = training
        .channels
        .iter()
        .map(|(name, source)| json!({"ChannelName": name, "DataSource": channels::described(source, moment)}));
    json!({
        "TrainingJobName": name,
        "AlgorithmSpecification": {
            "TrainingImage": training.image, "TrainingInputMode": "File", "MetricDefinitions": metrics.collect::<Vec<_>>(),
        },
        "HyperParameters": training.hyperparameters, "Environment": training.environment,
        "InputDataConfig": channels.collect::<Vec<_>>(),
        "StoppingCondition": {"MaxRuntimeInSeconds": training.time_max.as_secs()},
    })
}

/// A training job in the ledger. Where it is dropped before it has ended, it has failed.
struct RecordedJob {
    ledger: Ledger,
    name: String,
    has_ended: bool,
}

impl RecordedJob {
    fn end(&mut self, end: &TrainingEnd) -> Result<()> {
        self.ledger.end_training(&self.name, end)?;
        self.has_ended = true;
        Ok(())
    }

    /// Records that it is complete, with its version of a model. Returns the version.
    fn complete(&mut self, artifact: &str, version: Option<&NewVersion<'_>>) -> Result<Option<i64>> {
        let Some(version) = version else {
            self.end(&TrainingEnd::Completed { artifact: artifact.to_owned() })?;
            return Ok(None);
        };
        let number = self.ledger.complete_training(&self.name, version)?;
        self.has_ended = true;
        Ok(Some(number))
    }
}

impl Drop for RecordedJob {
    fn drop(&mut self) {
        if !self.has_ended {
            let why = "its run was interrupted: see the run's error".to_owned();
            let _ = self.ledger.end_training(&self.name, &TrainingEnd::Failed { why });
        }
    }
}

/// Records training jobs as failed whose runs were killed, and as stopped those that were to stop before they had a run.
///
/// # Errors
/// The ledger can't be read or written.
pub fn settle_killed(ledger: &Ledger) -> Result<()> {
    for job in ledger.trainings(usize::MAX)?.into_iter().filter(|job| !job.state.has_ended()) {
        if job.run_id.is_none() && job.state == TrainingState::Stopping {
            ledger.end_training(&job.name, &TrainingEnd::Stopped { artifact: None })?;
        } else if let Some(run) = job.run_id.filter(|run| !ledger.is_run_alive(run).unwrap_or(true)) {
            let why = format!("its run {run} was killed");
            ledger.end_training(&job.name, &TrainingEnd::Failed { why })?;
        }
    }
    Ok(())
}

async fn train_job(
    warehouse: &Warehouse,
    run: &Run,
    training: &Training,
    moment: &Moment,
    recorded: &mut RecordedJob,
    output: LineSink,
) -> Result<Value> {
    let resources = model_host::resources(warehouse)?;
    let container = container(&resources, &training.image, &training.environment)?;
    let used = json!({"name": container.name, "code": container.code, "layers": container.layers});
    // From here on nothing removes what the job uses, and no other process begins it.
    if !warehouse.ledger.claim_training(&recorded.name, run.id(), &json!({"container": used}))? {
        return not_begun(warehouse, recorded);
    }
    let work = Arc::new(WorkFolder::make(warehouse, &recorded.name)?);
    let channels = channels::place(warehouse, &resources, &training.channels, moment, &work.path).await?;
    let code = training.code.as_ref().map(|url| channels::place_code(&resources, url, &work.path)).transpose()?;
    let hyperparameters = training.hyperparameters.iter();
    let hyperparameters = hyperparameters.map(|(name, text)| Ok((name.clone(), moment.fill(text, &|_| None)?)));
    let hyperparameters: BTreeMap<String, String> = hyperparameters.collect::<Result<_>>()?;
    let lineage = json!({
        "container": used,
        "channels": channels.iter().map(|one| (one.channel.name.clone(), one.lineage.clone())).collect::<serde_json::Map<_, _>>(),
        "code": code.as_ref().map(|(_, hash)| hash), "hyperparameters": hyperparameters, AS_OF: moment.as_of(),
        "run": run.id(),
    });
    let name = recorded.name.clone();
    if !warehouse.ledger.start_training(&name, run.id(), &lineage)? {
        return not_begun(warehouse, recorded);
    }
    tracing::info!(target: "jobs::training", "training job {name} begins");
    let job = TrainingJob {
        name: name.clone(),
        container,
        hyperparameters,
        channels: channels.into_iter().map(|placed| placed.channel).collect(),
        code: code.map(|(folder, _)| folder),
        time_max: training.time_max,
        written_bytes_max: training.written_bytes_max,
    };
    let began = Instant::now();
    let (outcome, packed) = run_program(warehouse, &resources, training, job, &work, output).await?;
    let artifact = match packed {
        Some(archive) => Some(resources.artifacts.put(&archive).context("store the model")?),
        None => None,
    };
    let artifact = completed(recorded, outcome, artifact)?;
    let tables = outputs::keep(warehouse, run, training, &name, &work.path).await?;
    #[cfg(feature = "failpoints")]
    fail::fail_point!("training-before-version");
    let metrics = warehouse.ledger.training(&name)?.map(|row| row.metrics).unwrap_or(json!({}));
    let approval = if training.approves { APPROVED } else { PENDING_APPROVAL };
    let content = json!({"image": training.serve_image, "lineage": lineage});
    let version = training.model.as_ref().map(|model| NewVersion {
        model,
        artifact: &artifact,
        training_job: Some(&name),
        approval,
        content: &content,
        metrics: &metrics,
    });
    let version = recorded.complete(&artifact, version.as_ref())?;
    run.event("model.trained", json!({"model": training.model, "version": version, "training_job": name}))?;
    Ok(json!({
        "training_job": name, "model": training.model, "version": version, "approval": approval, "artifact": artifact,
        "metrics": metrics, "tables": tables, AS_OF: moment.as_of(), "seconds": began.elapsed().as_secs_f64(),
    }))
}

/// The error of a job that can't begin: it was stopped, or is another run's.
fn not_begun<T>(warehouse: &Warehouse, recorded: &mut RecordedJob) -> Result<T> {
    let name = recorded.name.clone();
    match warehouse.ledger.training(&name)? {
        Some(row) if row.state == TrainingState::Stopping => {
            recorded.end(&TrainingEnd::Stopped { artifact: None })?;
            bail!(base::Error::input(format!("training job {name} was stopped before it began")))
        }
        _ => {
            // It is not this run's to end.
            recorded.has_ended = true;
            bail!(base::Error::input(format!("training job {name} is run by another process, or has ended")))
        }
    }
}

/// The artifact of a job that is complete. The end of another is recorded, and is the run's error.
fn completed(recorded: &mut RecordedJob, outcome: TrainingOutcome, artifact: Option<String>) -> Result<String> {
    let name = recorded.name.clone();
    match (outcome, artifact) {
        (TrainingOutcome::Completed, Some(artifact)) => Ok(artifact),
        (TrainingOutcome::Completed, None) => bail!("the model of {name} was not packed"),
        (TrainingOutcome::Stopped, artifact) => {
            recorded.end(&TrainingEnd::Stopped { artifact })?;
            bail!(base::Error::input(format!("training job {name} was stopped")))
        }
        (TrainingOutcome::Failed(why), _) => {
            recorded.end(&TrainingEnd::Failed { why: why.clone() })?;
            bail!(base::Error::input(format!("training job {name} failed: {why}")))
        }
    }
}

fn container(resources: &Resources, image: &str, environment: &BTreeMap<String, String>) -> Result<ProcessContainer> {
    match resources.catalog.container(image, environment, &resources.registry)? {
        Container::Process(container) => Ok(container),
        Container::LightGbm => {
            let error = base::Error::input(format!("the image {image} has no program that trains"));
            Err(error.hint("name an image of containers/; its models may be served by this one: serve_image").into())
        }
    }
}

/// Runs the program to its end. Its lines are lines of the run's log, and those of metrics are recorded. Returns the
/// packed model, where it has left one.
async fn run_program(
    warehouse: &Warehouse,
    resources: &Resources,
    training: &Training,
    job: TrainingJob,
    work: &Arc<WorkFolder>,
    output: LineSink,
) -> Result<(TrainingOutcome, Option<PathBuf>)> {
    let store = resources.registry.store().clone();
    let launcher = sandbox::Launcher::new(warehouse.environment.executable.clone());
    let metrics = Metrics::of(training, &job.name, warehouse.ledger.clone())?;
    // The folder stays until the program has ended, also where this run is given up, which ends the program.
    let (ledger, work) = (warehouse.ledger.clone(), Arc::clone(work));
    let giving_up = CancellationToken::new();
    let (is_given_up, _giving_up) = (giving_up.clone(), giving_up.drop_guard());
    let user = model_host::user_of(&job.name);
    let running = tokio::task::spawn_blocking(move || -> base::Result<_> {
        let is_stopped = || {
            let row = ledger.training(&job.name).ok().flatten();
            is_given_up.is_cancelled() || row.is_some_and(|row| row.state == TrainingState::Stopping)
        };
        let host = TrainingHost {
            store: &store,
            launcher: &launcher,
            work: &work.path,
            user,
            output: Arc::new(move |line| {
                tracing::info!(target: "jobs::training", "{line}");
                output(line);
                metrics.note(line);
            }),
            is_stopped: &is_stopped,
        };
        let outcome = host.run(&job)?;
        let archive = work.path.join(ARCHIVE);
        let packed = match outcome {
            TrainingOutcome::Failed(_) => None,
            _ => match host.pack_model(&archive) {
                Ok(packed) => packed.map(|()| archive),
                Err(error) if error.kind == base::Kind::FixInput => {
                    return Ok((TrainingOutcome::Failed(error.chain()), None));
                }
                Err(error) => return Err(error),
            },
        };
        Ok((outcome, packed))
    });
    Ok(running.await.context("run the training job")??)
}

/// The metrics of a training job, read from what it prints.
struct Metrics {
    ledger: Ledger,
    job: String,
    expressions: Vec<(String, Regex)>,
    /// By the metrics: the last value, when it was written, and whether it is newer.
    last: Mutex<BTreeMap<String, LastValue>>,
}

struct LastValue {
    value: f64,
    written_at: Instant,
    is_pending: bool,
}

impl Metrics {
    fn of(training: &Training, job: &str, ledger: Ledger) -> Result<Metrics> {
        let expressions = training.metrics.iter();
        let expressions = expressions.map(|(name, text)| Ok((name.clone(), Regex::new(text)?)));
        Ok(Metrics {
            ledger,
            job: job.to_owned(),
            expressions: expressions.collect::<Result<_>>()?,
            last: Mutex::default(),
        })
    }

    fn note(&self, line: &str) {
        for (name, expression) in &self.expressions {
            let value = expression.captures(line).and_then(|found| found.get(1)?.as_str().parse::<f64>().ok());
            if let Some(value) = value.filter(|value| value.is_finite()) {
                self.add(name, value);
            }
        }
    }

    /// Records a value, but at most one a period and metric; the last one is always recorded, by [`Drop`] at the latest.
    fn add(&self, name: &str, value: f64) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = last.get_mut(name).filter(|last| last.written_at.elapsed() < METRICS_PERIOD) {
            (last.value, last.is_pending) = (value, true);
            return;
        }
        last.insert(name.to_owned(), LastValue { value, written_at: Instant::now(), is_pending: false });
        drop(last);
        self.write(name, value);
    }

    fn write(&self, name: &str, value: f64) {
        if let Err(error) = self.ledger.put_training_metric(&self.job, name, value) {
            tracing::warn!(error = error.chain(), "record a metric");
        }
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        let last = std::mem::take(&mut *self.last.lock().unwrap_or_else(PoisonError::into_inner));
        for (name, last) in last.iter().filter(|(_, last)| last.is_pending) {
            self.write(name, last.value);
        }
    }
}

/// The folder of one training job. It is removed with everything in it; those of killed runs are removed by the next.
struct WorkFolder {
    path: PathBuf,
}

impl WorkFolder {
    fn make(warehouse: &Warehouse, job: &str) -> Result<WorkFolder> {
        let folders = model_host::trainings_folder(warehouse)?;
        for entry in std::fs::read_dir(&folders).into_iter().flatten().flatten() {
            let row = warehouse.ledger.training(&entry.file_name().to_string_lossy());
            if row.is_ok_and(|row| row.is_none_or(|row| row.state.has_ended())) {
                remove(&entry.path());
            }
        }
        let path = folders.join(job);
        // Of a run of this job that was killed.
        remove(&path);
        std::fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(WorkFolder { path })
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn remove(folder: &Path) {
    if let Err(error) = remove_folder(folder) {
        tracing::warn!(%error, path = %folder.display(), "remove the folder of a training job");
    }
}
