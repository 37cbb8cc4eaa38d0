//! The models and endpoints of a warehouse: where their files are, and what serves them.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, Result};
use function::host::{Journal, Line};
use ledger::{TrainingEnd, TrainingState};
use model::{ArtifactStore, Catalog, Endpoints, EndpointsSettings, Resources};
use sandbox::Launcher;

use crate::function_host::{self, make_private};
use crate::warehouse::{STATE, Warehouse};

/// The folder of artifacts, below the folder of the warehouse's state.
pub(crate) const ARTIFACTS: &str = "models/artifacts";
/// The size of one log file of an endpoint; the older of several are removed.
const LOG_BYTES: u64 = 16 << 20;
/// The first user id for endpoints, where the host is root; those of training jobs come a thousand later. The two
/// thousand above it must have no other users. They are not those of functions.
const USERS_FROM: u32 = 180_000;

/// The models, endpoint configurations and endpoints of the warehouse.
pub fn resources(warehouse: &Warehouse) -> Result<Resources> {
    let folder = folder(warehouse);
    make_private(&folder)?;
    let containers = warehouse.config.containers.values().cloned().collect();
    Ok(Resources {
        registry: function_host::registry(warehouse)?,
        artifacts: ArtifactStore::open(&folder.join("artifacts"))?,
        catalog: Catalog::new(containers, warehouse.config.model_data.clone())?,
    })
}

/// What serves the endpoints, in the server.
pub fn endpoints(warehouse: &Warehouse) -> Result<Endpoints> {
    let resources = resources(warehouse)?;
    let roots = folder(warehouse).join("roots");
    std::fs::create_dir_all(&roots).with_context(|| format!("create {}", roots.display()))?;
    let sink = journal(warehouse)?.sink();
    let output = move |name: &str, text: String| {
        let (endpoint, variant) = name.split_once('/').unwrap_or((name, ""));
        sink(Line { function: endpoint.to_owned(), version: variant.to_owned(), request_id: None, text });
    };
    Ok(Endpoints::new(EndpointsSettings {
        resources,
        launcher: Arc::new(Launcher::new(warehouse.environment.executable.clone())),
        roots,
        users_from: rustix::process::geteuid().is_root().then_some(USERS_FROM),
        output: Arc::new(output),
    }))
}

/// Starts a training job that was created by SageMaker's API, as a process of its own, which goes on where this one ends.
pub fn start_training(warehouse: &Warehouse, name: &str) -> Result<()> {
    let mut command = std::process::Command::new(&warehouse.environment.executable);
    command.arg("--warehouse").arg(&warehouse.config.root).args(["model", "train", "--created", name]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut child = command.spawn().with_context(|| format!("start training job {name}"))?;
    let (ledger, name) = (warehouse.ledger.clone(), name.to_owned());
    // Its end is in the ledger, but for one that was killed, or has ended before its run began.
    std::thread::spawn(move || {
        let ended = child.wait();
        let row = ledger.training(&name).ok().flatten().filter(|row| !row.state.has_ended());
        let is_abandoned = row.is_some_and(|row| match &row.run_id {
            None => true,
            Some(run) => !ledger.is_run_alive(run).unwrap_or(true),
        });
        if is_abandoned {
            let status = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
            let why = format!("its process has ended before the job: {status}");
            if let Err(error) = ledger.end_training(&name, &TrainingEnd::Failed { why }) {
                tracing::warn!(error = error.chain(), "record the end of training job {name}");
            }
        }
    });
    Ok(())
}

/// Starts the training jobs that were created by SageMaker's API and have not begun: the server was killed in between.
pub fn start_created_trainings(warehouse: &Warehouse) -> Result<()> {
    settle_trainings(warehouse)?;
    for job in warehouse.ledger.trainings(usize::MAX)? {
        if job.state == TrainingState::InProgress && job.run_id.is_none() {
            start_training(warehouse, &job.name)?;
        }
    }
    Ok(())
}

/// Records training jobs as failed whose processes were killed.
pub fn settle_trainings(warehouse: &Warehouse) -> Result<()> {
    crate::flows::training::settle_killed(&warehouse.ledger)
}

/// What the models of endpoints have printed.
pub fn journal(warehouse: &Warehouse) -> Result<Journal> {
    Ok(Journal::open(&folder(warehouse).join("logs"), LOG_BYTES)?)
}

/// Removes artifacts that no model uses. Returns the number of bytes.
pub fn remove_unused_artifacts(warehouse: &Warehouse) -> Result<u64> {
    let resources = resources(warehouse)?;
    Ok(resources.artifacts.remove_unused(&model::artifacts_in_use(&warehouse.ledger)?)?)
}

/// The folder of the folders of training jobs.
pub fn trainings_folder(warehouse: &Warehouse) -> Result<PathBuf> {
    let folders = folder(warehouse).join("trainings");
    std::fs::create_dir_all(&folders).with_context(|| format!("create {}", folders.display()))?;
    Ok(folders)
}

/// The user of a training job's processes, by its name; only where this process is root.
pub fn user_of(training_job: &str) -> Option<u32> {
    rustix::process::geteuid().is_root().then(|| USERS_FROM + model::USERS + model::user_number(training_job))
}

/// The folder of models, below the warehouse's state.
pub(crate) fn folder(warehouse: &Warehouse) -> PathBuf {
    warehouse.config.root.join(STATE).join("models")
}
