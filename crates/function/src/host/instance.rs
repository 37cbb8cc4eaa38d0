//! An instance: one sandbox with its Runtime API. It runs one event after the other until it ends.

use std::any::Any;
use std::collections::BTreeMap;
use std::fs::File;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinHandle;

use super::files::{self, EventFiles, Inputs, InstanceFiles, ResultFile};
use super::logs::{Log, Sink};
use super::runtime::{Init, PendingEvent, Runtime};
use super::{Answer, Event, Failure, Function, LoopbackService, Outcome, Pieces};
use crate::error::{Error, ErrorContext, Kind, Result};
use crate::store::Store;
use sandbox::{End, Launcher, RootSpec, Sandbox, Spec};

/// The port of the Runtime API inside a sandbox. Each sandbox has a loopback interface of its own.
const PORT: u16 = 9001;
/// How long a runtime may take to ask for its first event, as on AWS Lambda.
const INIT_MAX: Duration = Duration::from_secs(10);
/// How long an event waits for a runtime that has just answered to ask for it. Usually a runtime asks at once.
const RETURN_MAX: Duration = Duration::from_millis(50);
/// The wait after a runtime's end for what it printed last.
const LAST_OUTPUT: Duration = Duration::from_millis(20);
/// Connections of a sandbox to its Runtime API at a time, which take the server's memory and files; further ones wait in the
/// listener's queue. A runtime needs one.
const CONNECTIONS_MAX: usize = 32;
/// Bytes of a connection that are not read as a request yet.
const CONNECTION_BYTES_MAX: usize = 64 << 10;
/// A pause after a connection could not be accepted: with too many open files, others have to be closed first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A running instance of a version of a function. Its processes are killed when it is dropped.
pub struct Instance {
    function: Arc<Function>,
    sandbox: Arc<Sandbox>,
    runtime: Arc<Runtime>,
    init: watch::Receiver<Init>,
    ended: watch::Receiver<Option<End>>,
    server: JoinHandle<()>,
    log: Log,
    started: Instant,
    init_took: Option<Duration>,
    is_paused: bool,
    instance_files: Option<Arc<InstanceFiles>>,
    /// What serves its loopback services, dropped with the instance.
    _served: Vec<Box<dyn Any + Send + Sync>>,
}

/// What an instance is started with, beside its function.
pub(super) struct InstanceSettings<'a> {
    /// Holds the function's code and layers.
    pub store: &'a Store,
    /// Starts the sandbox.
    pub launcher: &'a Launcher,
    /// The folder for mount points and inputs.
    pub roots: &'a Path,
    /// The function's user id; only where the host is root.
    pub user: Option<u32>,
    /// Variables that every function of the host gets.
    pub environment: BTreeMap<String, String>,
    /// Takes each line that the function prints.
    pub sink: Sink,
    /// What is served on the instance's loopback interface.
    pub services: &'a [LoopbackService],
}

impl Instance {
    /// Starts the sandbox. Blocks until the runtime's process has been started; the runtime itself still has to
    /// start then.
    pub(super) fn start(
        function: Arc<Function>,
        settings: &InstanceSettings<'_>,
        handle: &tokio::runtime::Handle,
    ) -> Result<Self> {
        const OUTPUT: &str = "read a function's output";
        // The name begins with the host's process id, so that leftovers of a killed host are recognised.
        let name = format!("{}-{}", std::process::id(), uuid::Uuid::now_v7().simple());
        let mount_at = mount_point(settings.roots)?;
        let inputs = function.files.map(|_| Inputs::make(settings.roots.join(format!("{name}-inputs")))).transpose()?;
        let spec = Spec {
            task: settings.store.tree(function.code)?,
            opt: settings.store.layers(&function.layers)?,
            root: RootSpec { mount_at, base: function.base.clone() },
            programs: ["/var/task/bootstrap", "/opt/bootstrap", "/var/runtime/bootstrap"].map(Into::into).to_vec(),
            environment: environment(&function, settings, &name),
            ports: std::iter::once(PORT).chain(settings.services.iter().map(|service| service.port)).collect(),
            user: settings.user,
            limits: function.limits,
            inputs: inputs.as_ref().map(|inputs| inputs.path().to_owned()),
            results_mb: function.files.map(|files| files.results_mb),
            mounts: Vec::new(),
            accepts_connections: false,
        };
        let (output, input) = std::io::pipe().during(Kind::FixSetup, OUTPUT)?;
        let log = Log::new(&function.name, &function.version, Arc::clone(&settings.sink));
        log.follow(output);
        let mut sandbox = settings.launcher.launch(&spec, &File::from(OwnedFd::from(input)))?;
        let instance_files = match (inputs, sandbox.take_results(), function.files) {
            (Some(inputs), Some(results), Some(files)) => {
                Some(Arc::new(InstanceFiles::new(inputs, results, files.results_mb)))
            }
            _ => None,
        };
        let mut listeners = sandbox.take_listeners().into_iter();
        let listener = listeners.next().ok_or_else(|| Error::new(Kind::Bug, "listen in a sandbox"))?;
        let _entered = handle.enter();
        let _served = settings.services.iter().zip(listeners).map(|(service, own)| (service.serve)(own)).collect();
        let (runtime, init) = Runtime::new();
        let runtime = Arc::new(runtime);
        let server = serve(Arc::clone(&runtime), listener, handle)?;
        let sandbox = Arc::new(sandbox);
        let ended = watch_end(Arc::clone(&sandbox));
        let started = Instant::now();
        Ok(Instance {
            function,
            sandbox,
            runtime,
            init,
            ended,
            server,
            log,
            started,
            init_took: None,
            is_paused: false,
            instance_files,
            _served,
        })
    }

    /// Whether its runtime has not ended yet.
    pub fn is_alive(&self) -> bool {
        self.ended.borrow().is_none()
    }

    /// Stops its processes, where its runtime waits for an event.
    pub fn pause(&mut self) {
        if !self.is_paused && self.is_waiting() {
            self.is_paused = true;
            self.sandbox.pause();
        }
    }

    /// Whether its runtime waits for an event. After an answer the runtime has to ask for the next event first.
    pub fn is_waiting(&self) -> bool {
        self.runtime.is_waiting()
    }

    /// Runs one event.
    ///
    /// # Errors
    /// Inputs that can't be placed, or results that can't be copied. The instance can't be used again then.
    pub(super) async fn invoke(
        &mut self,
        event: Event,
        arn: &Arc<str>,
        pieces: Option<Pieces>,
    ) -> Result<InstanceResult> {
        if std::mem::take(&mut self.is_paused) {
            self.sandbox.resume();
        }
        let files = event.files.clone();
        self.place_inputs(files.as_ref()).await?;
        let id = event.request_id.clone();
        let began = Instant::now();
        self.log.catch_up().await;
        self.log.begin(&id);
        self.log.put(&format!("START RequestId: {id} Version: {}", self.function.version));
        let cold = self.init_took.is_none();
        let mut alive = true;
        let mut invoked = Instant::now();
        let answer = match self.ready().await {
            Ok(()) => {
                invoked = Instant::now();
                self.hand_over(event, arn, pieces).await
            }
            Err(stopped) => Err(stopped),
        };
        let mut answer = match answer {
            Ok(answer) => answer,
            Err(InvokeError::NotTaken(work)) => return Ok(InstanceResult::NotTaken(work, self.is_alive())),
            Err(stopped) => {
                alive = false;
                let sandbox = Arc::clone(&self.sandbox);
                let _ = tokio::task::spawn_blocking(move || sandbox.kill()).await;
                self.server.abort();
                tokio::time::sleep(LAST_OUTPUT).await;
                Answer::Error(self.failure(&stopped, &id))
            }
        };
        let results = self.collect_results(files, &mut answer).await;
        let duration = if alive { invoked.elapsed() } else { began.elapsed() };
        let memory_peak_bytes = self.sandbox.memory_peak_bytes();
        let init = cold.then_some(self.init_took).flatten();
        self.log.catch_up().await;
        self.report(&id, duration, init, memory_peak_bytes);
        let (log_tail, results) = (self.log.end(), results?);
        Ok(InstanceResult::Done(Outcome { answer, log_tail, duration, init, memory_peak_bytes, results }, alive))
    }

    async fn place_inputs(&self, files: Option<&EventFiles>) -> Result<()> {
        match (&self.instance_files, files) {
            (None, None) => Ok(()),
            (None, Some(_)) => {
                let context =
                    format!("pass files to function {}: its function.toml has no [files]", self.function.name);
                Err(Error::new(Kind::FixInput, context))
            }
            (Some(instance_files), files) => {
                let (instance_files, files) = (Arc::clone(instance_files), files.cloned().unwrap_or_default());
                let placed = tokio::task::spawn_blocking(move || instance_files.place_inputs(&files)).await;
                placed.during(Kind::Bug, "place an event's inputs")?
            }
        }
    }

    /// Collects the results after a response. What can't be a result makes the answer a failure of the function.
    async fn collect_results(&self, files: Option<EventFiles>, answer: &mut Answer) -> Result<Vec<ResultFile>> {
        let Some(instance_files) = self.instance_files.clone() else { return Ok(Vec::new()) };
        let into = files.and_then(|files| files.results).filter(|_| matches!(answer, Answer::Response(_)));
        let taken = tokio::task::spawn_blocking(move || {
            let taken = into.map_or(Ok(Vec::new()), |into| instance_files.collect_results(&into));
            // Frees the memory now. An error here would come up again at the next event.
            let _ = instance_files.clear();
            taken
        });
        let taken = taken.await;
        match taken.during(Kind::Bug, "collect results")? {
            Ok(produced) => Ok(produced),
            Err(files::ResultsError::Host(error)) => Err(error),
            Err(files::ResultsError::Function(says)) => {
                *answer = Answer::Error(Failure::with_message("Function.ResultsRefused", &says));
                Ok(Vec::new())
            }
        }
    }

    /// Waits until the runtime has asked for its first event.
    ///
    /// # Errors
    /// Why it never will.
    pub async fn warm(&mut self) -> Result<(), Failure> {
        match self.ready().await {
            Ok(()) => Ok(()),
            Err(stopped) => Err(self.failure(&stopped, "init")),
        }
    }

    async fn ready(&mut self) -> Result<(), InvokeError> {
        if self.init_took.is_some() {
            return Ok(());
        }
        let mut init = self.init.clone();
        let most = INIT_MAX.max(self.function.timeout);
        let started = tokio::time::timeout(most.saturating_sub(self.started.elapsed()), async {
            tokio::select! {
                biased;
                state = init.wait_for(|state| *state != Init::Starting) => {
                    state.map(|state| state.clone()).map_err(|_| End::Killed)
                }
                end = ended(&mut self.ended) => Err(end),
            }
        });
        match started.await {
            Err(_) => Err(InvokeError::TimedOut(most)),
            Ok(Err(end)) => Err(InvokeError::Ended(end)),
            Ok(Ok(Init::Failed(failure))) => Err(InvokeError::Reported(failure)),
            Ok(Ok(_)) => {
                self.init_took = Some(self.started.elapsed());
                Ok(())
            }
        }
    }

    async fn hand_over(&mut self, event: Event, arn: &Arc<str>, pieces: Option<Pieces>) -> Result<Answer, InvokeError> {
        let timeout = self.function.timeout;
        let (reply, mut answer) = oneshot::channel();
        // A runtime that is not waiting has just answered another event: it may still be busy, or end.
        let mut returning = !self.runtime.is_waiting();
        self.runtime.hand(PendingEvent {
            event,
            deadline: SystemTime::now() + timeout,
            arn: Arc::clone(arn),
            reply,
            pieces,
        });
        let mut late = pin!(tokio::time::sleep(timeout));
        let mut return_late = pin!(tokio::time::sleep(RETURN_MAX));
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return answer.map_err(|_| InvokeError::Ended(End::Killed)),
                end = ended(&mut self.ended) => {
                    return Err(self.runtime.take_back().map_or(InvokeError::Ended(end), InvokeError::NotTaken));
                }
                () = &mut return_late, if returning => {
                    returning = false;
                    if let Some(work) = self.runtime.take_back() {
                        return Err(InvokeError::NotTaken(work));
                    }
                }
                () = &mut late => return Err(InvokeError::TimedOut(timeout)),
            }
        }
    }

    fn failure(&self, stopped: &InvokeError, id: &str) -> Failure {
        match stopped {
            InvokeError::Reported(failure) => failure.clone(),
            InvokeError::NotTaken(_) => Failure::of("Runtime.Unknown", id, "Runtime did not take the event"),
            InvokeError::TimedOut(most) => {
                let what = format!("Task timed out after {:.2} seconds", most.as_secs_f64());
                Failure::of("Sandbox.Timedout", id, &what)
            }
            InvokeError::Ended(End::OutOfMemory) => {
                Failure::of("Runtime.OutOfMemory", id, "Runtime exited with error: signal: killed")
            }
            InvokeError::Ended(End::Exit(0)) => {
                Failure::of("Runtime.ExitError", id, "Runtime exited without providing a reason")
            }
            InvokeError::Ended(End::Exit(code)) => {
                Failure::of("Runtime.ExitError", id, &format!("Runtime exited with error: exit status {code}"))
            }
            InvokeError::Ended(End::Signal(signal)) => {
                Failure::of("Runtime.ExitError", id, &format!("Runtime exited with error: signal: {signal}"))
            }
            InvokeError::Ended(End::Killed) => {
                Failure::of("Runtime.ExitError", id, "Runtime exited with error: signal: killed")
            }
        }
    }

    fn report(&self, id: &str, duration: Duration, init: Option<Duration>, memory_peak_bytes: Option<u64>) {
        self.log.put(&format!("END RequestId: {id}"));
        let ms = duration.as_secs_f64() * 1e3;
        let mut line = format!(
            "REPORT RequestId: {id}\tDuration: {ms:.2} ms\tBilled Duration: {:.0} ms\tMemory Size: {} MB",
            ms.ceil(),
            self.function.limits.memory_mb
        );
        if let Some(peak) = memory_peak_bytes {
            line.push_str(&format!("\tMax Memory Used: {} MB", peak.div_ceil(1 << 20)));
        }
        if let Some(init) = init {
            line.push_str(&format!("\tInit Duration: {:.2} ms", init.as_secs_f64() * 1e3));
        }
        self.log.put(&line);
    }
}

/// Creates the folder that sandboxes' roots are mounted on. Each mount is seen in its own sandbox only: for the host
/// the folder stays empty.
pub(super) fn mount_point(roots: &Path) -> Result<PathBuf> {
    let path = roots.join("mounted");
    std::fs::create_dir_all(&path).during(Kind::FixSetup, format!("create folder {}", path.display()))?;
    Ok(path)
}

/// Removes the folders of instances whose hosts were killed.
pub(super) fn remove_leftovers(roots: &Path) {
    for entry in std::fs::read_dir(roots).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let host = name.to_str().and_then(|name| name.split_once('-')?.0.parse::<u32>().ok());
        if host.is_some_and(|host| !Path::new("/proc").join(host.to_string()).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.server.abort();
        // In a thread, since the kill blocks.
        let sandbox = Arc::clone(&self.sandbox);
        std::thread::spawn(move || sandbox.kill());
    }
}

/// The result of an event in one instance. The flag tells whether the instance can be used again.
pub(super) enum InstanceResult {
    /// The event ran.
    Done(Outcome, bool),
    /// The runtime did not take the event, which can go to another instance.
    NotTaken(PendingEvent, bool),
}

/// Why an instance gives no answer to an event.
enum InvokeError {
    /// The runtime did not take the event.
    NotTaken(PendingEvent),
    /// It took longer than this.
    TimedOut(Duration),
    /// The runtime ended.
    Ended(End),
    /// The runtime reported an error while it was starting.
    Reported(Failure),
}

async fn ended(watched: &mut watch::Receiver<Option<End>>) -> End {
    watched.wait_for(Option::is_some).await.ok().and_then(|end| *end).unwrap_or(End::Killed)
}

fn watch_end(sandbox: Arc<Sandbox>) -> watch::Receiver<Option<End>> {
    let (tell, ended) = watch::channel(None);
    std::thread::spawn(move || tell.send_replace(Some(sandbox.wait())));
    ended
}

fn serve(runtime: Arc<Runtime>, listener: TcpListener, handle: &tokio::runtime::Handle) -> Result<JoinHandle<()>> {
    const SERVE: &str = "serve a sandbox's Runtime API";
    listener.set_nonblocking(true).during(Kind::Bug, SERVE)?;
    let _entered = handle.enter();
    let listener = tokio::net::TcpListener::from_std(listener).during(Kind::FixSetup, SERVE)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    Ok(handle.spawn(async move {
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "accept a connection of a runtime");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let _ = stream.set_nodelay(true);
            let runtime = Arc::clone(&runtime);
            tokio::spawn(async move {
                let _place = place;
                let service = service_fn(|request| runtime.answer(request));
                // Some bootstraps in shell search for `Lambda-Runtime-Aws-Request-Id` in exactly this spelling.
                let mut server = hyper::server::conn::http1::Builder::new();
                server.title_case_headers(true).max_buf_size(CONNECTION_BYTES_MAX);
                if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                    tracing::debug!(%error, "a runtime's connection");
                }
            });
        }
    }))
}

/// AWS Lambda's locale, where the function's root has it. Where it does not, programs would silently fall back to
/// ASCII and corrupt accented letters.
fn language(base: Option<&Path>) -> &'static str {
    let locales = base.unwrap_or(Path::new("/")).join("usr/lib/locale");
    let known = ["en_US.utf8", "locale-archive"].iter().any(|name| locales.join(name).exists());
    if known { "en_US.UTF-8" } else { "C.UTF-8" }
}

/// Where programs are found by name. Those of layers come first; of this machine, only those that AWS's images have, too.
fn search_path(base: Option<&Path>) -> String {
    match base {
        Some(_) => "/opt/bin:/usr/local/bin:/usr/bin/:/bin".to_owned(),
        None => format!("/opt/bin:/opt/R/bin:/opt/python/bin:{}", sandbox::PROGRAMS_FOLDER),
    }
}

/// An instance's variables: AWS Lambda's, then the host's, then the services', then the function's own. Later ones
/// replace earlier ones.
fn environment(function: &Function, settings: &InstanceSettings<'_>, instance: &str) -> BTreeMap<String, String> {
    let libraries = "/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib".to_owned();
    let own = [
        ("AWS_LAMBDA_RUNTIME_API", format!("127.0.0.1:{PORT}")),
        ("_HANDLER", function.handler.clone()),
        ("LAMBDA_TASK_ROOT", "/var/task".to_owned()),
        ("LAMBDA_RUNTIME_DIR", "/var/runtime".to_owned()),
        ("AWS_LAMBDA_FUNCTION_NAME", function.name.clone()),
        ("AWS_LAMBDA_FUNCTION_VERSION", function.version.clone()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", function.limits.memory_mb.to_string()),
        ("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{}", function.name)),
        ("AWS_LAMBDA_LOG_STREAM_NAME", format!("[{}]{instance}", function.version)),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand".to_owned()),
        ("AWS_REGION", "local".to_owned()),
        ("AWS_DEFAULT_REGION", "local".to_owned()),
        ("TZ", ":UTC".to_owned()),
        ("LANG", language(function.base.as_deref()).to_owned()),
        ("HOME", "/tmp".to_owned()),
        ("PATH", search_path(function.base.as_deref())),
        ("LD_LIBRARY_PATH", libraries),
    ];
    let mut environment: BTreeMap<String, String> =
        own.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    environment.extend(settings.environment.clone());
    environment.extend(settings.services.iter().flat_map(|service| service.environment.clone()));
    environment.extend(function.environment.clone());
    environment
}
