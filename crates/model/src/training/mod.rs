//! Training by SageMaker's container contract: a program `train` in a sandbox, with `/opt/ml` as SageMaker lays it out.
//! What it leaves in `/opt/ml/model` becomes the artifact.
//!
//! This runs one job, and blocks until it ends. Who runs it, and what is recorded, is the caller's.

mod archive;
mod folders;
mod job;
mod remove;
mod variables;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::{ErrorContext, Kind, Result};
use function::store::Store;
use sandbox::{End, Launcher, Limits, Mount, RootSpec, Sandbox, Spec};

use super::output_lines::read_lines;
use folders::Folders;
pub use folders::{output_file, output_pages};
pub use job::{Channel, Training, check_channel_name};
pub use remove::remove_folder;

/// Where a program of the container contract is looked for.
const PROGRAMS: [&str; 4] = ["/var/task/train", "/opt/program/train", "/opt/bin/train", "/opt/train"];
/// How long a program that is stopped has to save its model, as on SageMaker.
const STOP_MAX: Duration = Duration::from_secs(120);
/// Between two looks at the time, the size of what is written, and whether the job is to be stopped.
const LOOK_PERIOD: Duration = Duration::from_millis(200);
/// Between two measures of what is written.
const MEASURE_PERIOD: Duration = Duration::from_secs(1);
/// Of a failure's text, so much is kept, as on SageMaker.
const FAILURE_CHARS_MAX: usize = 1024;
const PROCESSES_MAX: u64 = 4096;
const OPEN_FILES_MAX: u64 = 4096;

/// How a training job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrainingOutcome {
    /// Its program exited with 0, and has left a model.
    Completed,
    /// It was stopped. It may have left a model.
    Stopped,
    /// For this reason.
    Failed(String),
}

/// What training jobs are run with.
pub struct TrainingHost<'a> {
    /// Holds the container's code and layers.
    pub store: &'a Store,
    /// Starts the sandbox.
    pub launcher: &'a Launcher,
    /// An existing folder of this job alone, for its `/opt/ml`. The caller removes it.
    pub work: &'a Path,
    /// The user id of its processes; only where the host is root.
    pub user: Option<u32>,
    /// Takes each line that it prints.
    pub output: Arc<dyn Fn(&str) + Send + Sync>,
    /// Whether the job is to be stopped.
    pub is_stopped: &'a dyn Fn() -> bool,
}

impl TrainingHost<'_> {
    /// Runs a job to its end. Blocks.
    ///
    /// # Errors
    /// The sandbox could not be started: what is wrong is not the job's program.
    pub fn run(&self, training: &Training) -> Result<TrainingOutcome> {
        let folders = Folders::make(self.work, training, self.user)?;
        let (output, input) = std::io::pipe().during(Kind::FixSetup, "read the output of a training job")?;
        let sink = Arc::clone(&self.output);
        let reading = std::thread::spawn(move || read_lines(output, |line| sink(&line)));
        let spec = self.spec(training, &folders)?;
        let started = self.launcher.launch(&spec, &File::from(OwnedFd::from(input)));
        let sandbox = match started {
            Ok(sandbox) => Arc::new(sandbox),
            Err(error) if error.kind == Kind::FixInput => return Ok(TrainingOutcome::Failed(error.chain())),
            Err(error) => return Err(error),
        };
        let ended = self.watch(training, &folders, &sandbox);
        sandbox.kill();
        // What was written last was not measured yet.
        let ended = match (ended, folders.check_written(training.written_bytes_max)) {
            (WatchEnd::Ended(End::Exit(0)), Err(what)) => WatchEnd::Failed(what),
            (ended, _) => ended,
        };
        drop(sandbox);
        // All processes have ended, so that the pipe is closed.
        let _ = reading.join();
        Ok(self.outcome(ended, &folders))
    }

    /// Packs what a job has left in `/opt/ml/model` into a `.tar.gz`, whose bytes depend on the files only. `None` where it
    /// has left nothing.
    ///
    /// # Errors
    /// [`Kind::FixInput`] for a link or a device among them.
    pub fn pack_model(&self, to: &Path) -> Result<Option<()>> {
        archive::pack(&Folders::model(self.work), to)
    }

    fn spec(&self, training: &Training, folders: &Folders) -> Result<Spec> {
        let container = &training.container;
        let mount_at = self.work.join("root");
        std::fs::create_dir_all(&mount_at).during(Kind::FixSetup, "make a folder for a training job")?;
        let mut mounts = vec![Mount { from: folders.ml(), at: "/opt/ml".into(), is_writable: true }];
        let read_only = |from: &Path, at: String| Mount { from: from.to_owned(), at: at.into(), is_writable: false };
        mounts.extend(
            training
                .channels
                .iter()
                .map(|channel| read_only(&channel.folder, format!("/opt/ml/input/data/{}", channel.name))),
        );
        mounts.extend(training.code.iter().map(|code| read_only(code, "/opt/ml/code".to_owned())));
        Ok(Spec {
            task: self.store.tree(container.code)?,
            opt: self.store.layers(&container.layers)?,
            root: RootSpec { mount_at, base: None },
            programs: PROGRAMS.map(Into::into).to_vec(),
            environment: variables::of(training),
            ports: Vec::new(),
            user: self.user,
            limits: Limits {
                memory_mb: container.settings.memory_mb,
                tmp_mb: container.settings.tmp_mb,
                processes: PROCESSES_MAX,
                open_files: OPEN_FILES_MAX,
            },
            inputs: None,
            mounts,
            accepts_connections: false,
            results_mb: None,
        })
    }

    /// Waits for the end of the program, and ends it where it takes too long, writes too much or is stopped.
    fn watch(&self, training: &Training, folders: &Folders, sandbox: &Arc<Sandbox>) -> WatchEnd {
        let (tell, told) = std::sync::mpsc::channel();
        let waiting = Arc::clone(sandbox);
        std::thread::spawn(move || {
            let _ = tell.send(waiting.wait());
        });
        let began = Instant::now();
        let (mut stopped_at, mut measured_at): (Option<Instant>, _) = (None, Instant::now());
        loop {
            if let Ok(end) = told.recv_timeout(LOOK_PERIOD) {
                return if stopped_at.is_some() { WatchEnd::Stopped } else { WatchEnd::Ended(end) };
            }
            // One that is stopped has its time to save its model, also beyond the limit.
            if stopped_at.is_none() && began.elapsed() >= training.time_max {
                let seconds = training.time_max.as_secs();
                return WatchEnd::Failed(format!("it did not end within {seconds} s: the time limit"));
            }
            if measured_at.elapsed() >= MEASURE_PERIOD {
                measured_at = Instant::now();
                if let Err(what) = folders.check_written(training.written_bytes_max) {
                    return WatchEnd::Failed(what);
                }
            }
            match stopped_at {
                None if (self.is_stopped)() => {
                    sandbox.terminate();
                    stopped_at = Some(Instant::now());
                }
                Some(at) if at.elapsed() >= STOP_MAX => return WatchEnd::Stopped,
                _ => {}
            }
        }
    }

    fn outcome(&self, ended: WatchEnd, folders: &Folders) -> TrainingOutcome {
        let failed = |what: String| {
            let why = folders.failure().map_or(what, |text| text.chars().take(FAILURE_CHARS_MAX).collect());
            TrainingOutcome::Failed(why)
        };
        match ended {
            WatchEnd::Stopped => TrainingOutcome::Stopped,
            WatchEnd::Failed(what) => TrainingOutcome::Failed(what),
            WatchEnd::Ended(End::Exit(0)) if folders.has_model() => TrainingOutcome::Completed,
            WatchEnd::Ended(End::Exit(0)) => {
                TrainingOutcome::Failed("the program wrote nothing to /opt/ml/model".to_owned())
            }
            WatchEnd::Ended(End::Exit(status)) => failed(format!("the program exited with status {status}")),
            WatchEnd::Ended(End::Signal(signal)) => failed(format!("the program was ended by signal {signal}")),
            WatchEnd::Ended(End::OutOfMemory) => {
                TrainingOutcome::Failed("the program used more memory than memory_mb".to_owned())
            }
            WatchEnd::Ended(End::Killed) => failed("the program was killed".to_owned()),
        }
    }
}

/// Why a program is not waited for any more.
enum WatchEnd {
    Ended(End),
    Stopped,
    Failed(String),
}
