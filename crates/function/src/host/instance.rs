//! One sandbox with its Runtime API: it takes one event after the other until it ends.

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
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::files::{self, Desk, Files, Inputs, Produced};
use super::logs::{Log, Sink};
use super::runtime::{Init, Runtime, Work, failure};
use super::{Answer, Event, Failure, Function, Opening, Outcome, Pieces};
use crate::error::{During, Error, Kind, Result};
use crate::sandbox::{Ahead, End, Launcher, Sandbox, Spec};
use crate::store::Store;

/// The port of the Runtime API inside a sandbox: each has a loopback of its own.
const PORT: u16 = 9001;
/// AWS Lambda gives a runtime so long to ask for its first event.
const INIT_MAX: Duration = Duration::from_secs(10);
/// A runtime that has answered asks for the next event at once; one that takes longer does
/// something of its own.
const RETURN_MAX: Duration = Duration::from_millis(50);
/// What a runtime prints as it dies arrives a moment after its end.
const LAST_WORDS: Duration = Duration::from_millis(20);

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
    desk: Option<Arc<Desk>>,
    /// What serves its openings, for as long as it lives.
    _served: Vec<Box<dyn Any + Send + Sync>>,
}

/// Where instances come from.
pub(super) struct Making<'a> {
    pub store: &'a Store,
    pub launcher: &'a Launcher,
    /// Holds the folders that roots are mounted on.
    pub roots: &'a Path,
    pub user: Option<u32>,
    pub environment: BTreeMap<String, String>,
    pub sink: Sink,
    pub openings: &'a [Opening],
}

impl Instance {
    /// Starts the sandbox; the runtime in it is still starting when this returns. Blocks.
    pub(super) fn start(function: Arc<Function>, making: &Making<'_>, handle: &tokio::runtime::Handle) -> Result<Self> {
        const OUTPUT: &str = "take a function's output";
        // With the host's own number: what a killed host leaves behind can be told.
        let name = format!("{}-{}", std::process::id(), uuid::Uuid::now_v7().simple());
        let mount_at = mount_point(making.roots)?;
        let inputs = function.files.map(|_| Inputs::make(making.roots.join(format!("{name}-inputs")))).transpose()?;
        let spec = Spec {
            task: making.store.tree(function.code)?,
            opt: making.store.layers(&function.layers)?,
            ahead: Ahead { mount_at, base: function.base.clone() },
            programs: ["/var/task/bootstrap", "/opt/bootstrap", "/var/runtime/bootstrap"].map(Into::into).to_vec(),
            environment: environment(&function, making, &name),
            ports: std::iter::once(PORT).chain(making.openings.iter().map(|opening| opening.port)).collect(),
            user: making.user,
            limits: function.limits,
            inputs: inputs.as_ref().map(|inputs| inputs.path().to_owned()),
            results_mb: function.files.map(|files| files.results_mb),
        };
        let (output, input) = std::io::pipe().during(Kind::FixSetup, OUTPUT)?;
        let log = Log::new(&function.name, &function.version, Arc::clone(&making.sink));
        log.follow(output);
        let mut sandbox = making.launcher.launch(&spec, &File::from(OwnedFd::from(input)))?;
        let desk = match (inputs, sandbox.take_results(), function.files) {
            (Some(inputs), Some(results), Some(files)) => Some(Arc::new(Desk::new(inputs, results, files.results_mb))),
            _ => None,
        };
        let mut listeners = sandbox.take_listeners().into_iter();
        let listener = listeners.next().ok_or_else(|| Error::new(Kind::Bug, "listen in a sandbox"))?;
        let _entered = handle.enter();
        let _served = making.openings.iter().zip(listeners).map(|(opening, own)| (opening.serve)(own)).collect();
        let (runtime, init) = Runtime::new();
        let runtime = Arc::new(runtime);
        let server = serve(Arc::clone(&runtime), listener, handle)?;
        let sandbox = Arc::new(sandbox);
        let ended = watch_end(Arc::clone(&sandbox));
        let started = Instant::now();
        Ok(Instance { function, sandbox, runtime, init, ended, server, log, started, init_took: None, desk, _served })
    }

    /// False once its runtime has ended, by itself or by a kill.
    pub fn is_alive(&self) -> bool {
        self.ended.borrow().is_none()
    }

    /// Whether it is ready for an event. One that has answered still has to ask for the next.
    pub fn is_waiting(&self) -> bool {
        self.runtime.is_waiting()
    }

    /// Runs one event. `false` with it: this instance is of no more use.
    ///
    /// # Errors
    /// Files that can't be laid, or taken. The instance is of no more use then.
    pub(super) async fn invoke(&mut self, event: Event, arn: &Arc<str>, pieces: Option<Pieces>) -> Result<Invoked> {
        let files = event.files.clone();
        self.lay(files.as_ref()).await?;
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
            Err(Stopped::NotTaken(work)) => return Ok(Invoked::NotTaken(work, self.is_alive())),
            Err(stopped) => {
                alive = false;
                let sandbox = Arc::clone(&self.sandbox);
                let _ = tokio::task::spawn_blocking(move || sandbox.kill()).await;
                self.server.abort();
                tokio::time::sleep(LAST_WORDS).await;
                Answer::Error(self.failure(&stopped, &id))
            }
        };
        let results = self.take(files, &mut answer).await;
        let duration = if alive { invoked.elapsed() } else { began.elapsed() };
        let memory_peak_bytes = self.sandbox.memory_peak_bytes();
        let init = cold.then_some(self.init_took).flatten();
        self.log.catch_up().await;
        self.report(&id, duration, init, memory_peak_bytes);
        let (log_tail, results) = (self.log.end(), results?);
        Ok(Invoked::Done(Outcome { answer, log_tail, duration, init, memory_peak_bytes, results }, alive))
    }

    async fn lay(&self, files: Option<&Files>) -> Result<()> {
        match (&self.desk, files) {
            (None, None) => Ok(()),
            (None, Some(_)) => {
                let context =
                    format!("hand files to function {}: its function.toml has no [files]", self.function.name);
                Err(Error::new(Kind::FixInput, context))
            }
            (Some(desk), files) => {
                let (desk, files) = (Arc::clone(desk), files.cloned().unwrap_or_default());
                let laid = tokio::task::spawn_blocking(move || desk.lay(&files)).await;
                laid.during(Kind::Bug, "lay files")?
            }
        }
    }

    /// After a response. What the function has left that can't be a result is its own failure.
    async fn take(&self, files: Option<Files>, answer: &mut Answer) -> Result<Vec<Produced>> {
        let Some(desk) = self.desk.clone() else { return Ok(Vec::new()) };
        let into = files.and_then(|files| files.results).filter(|_| matches!(answer, Answer::Response(_)));
        let taken = tokio::task::spawn_blocking(move || {
            let taken = into.map_or(Ok(Vec::new()), |into| desk.take(&into));
            // Not kept in memory until the next event, which would hear of what can't be cleared.
            let _ = desk.clear();
            taken
        });
        let taken = taken.await;
        match taken.during(Kind::Bug, "take results")? {
            Ok(produced) => Ok(produced),
            Err(files::Refused::Host(error)) => Err(error),
            Err(files::Refused::Function(says)) => {
                *answer = Answer::Error(failure("Function.ResultsRefused", &says));
                Ok(Vec::new())
            }
        }
    }

    /// Waits until the runtime has asked for its first event: before an invocation, or to warm it.
    ///
    /// # Errors
    /// The reason why it never will.
    pub async fn warm(&mut self) -> Result<(), Failure> {
        match self.ready().await {
            Ok(()) => Ok(()),
            Err(stopped) => Err(self.failure(&stopped, "init")),
        }
    }

    async fn ready(&mut self) -> Result<(), Stopped> {
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
            Err(_) => Err(Stopped::Late(most)),
            Ok(Err(end)) => Err(Stopped::Ended(end)),
            Ok(Ok(Init::Failed(failure))) => Err(Stopped::Said(failure)),
            Ok(Ok(_)) => {
                self.init_took = Some(self.started.elapsed());
                Ok(())
            }
        }
    }

    async fn hand_over(&mut self, event: Event, arn: &Arc<str>, pieces: Option<Pieces>) -> Result<Answer, Stopped> {
        let timeout = self.function.timeout;
        let (reply, mut answer) = oneshot::channel();
        // Before this event there was another one: its runtime may go on for a moment, or end.
        let mut returning = !self.runtime.is_waiting();
        self.runtime.hand(Work { event, deadline: SystemTime::now() + timeout, arn: Arc::clone(arn), reply, pieces });
        let mut late = pin!(tokio::time::sleep(timeout));
        let mut return_late = pin!(tokio::time::sleep(RETURN_MAX));
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return answer.map_err(|_| Stopped::Ended(End::Killed)),
                end = ended(&mut self.ended) => {
                    return Err(self.runtime.take_back().map_or(Stopped::Ended(end), Stopped::NotTaken));
                }
                () = &mut return_late, if returning => {
                    returning = false;
                    if let Some(work) = self.runtime.take_back() {
                        return Err(Stopped::NotTaken(work));
                    }
                }
                () = &mut late => return Err(Stopped::Late(timeout)),
            }
        }
    }

    fn failure(&self, stopped: &Stopped, id: &str) -> Failure {
        match stopped {
            Stopped::Said(failure) => failure.clone(),
            Stopped::NotTaken(_) => Failure::of("Runtime.Unknown", id, "Runtime did not take the event"),
            Stopped::Late(most) => {
                let what = format!("Task timed out after {:.2} seconds", most.as_secs_f64());
                Failure::of("Sandbox.Timedout", id, &what)
            }
            Stopped::Ended(End::OutOfMemory) => {
                Failure::of("Runtime.OutOfMemory", id, "Runtime exited with error: signal: killed")
            }
            Stopped::Ended(End::Exit(0)) => {
                Failure::of("Runtime.ExitError", id, "Runtime exited without providing a reason")
            }
            Stopped::Ended(End::Exit(code)) => {
                Failure::of("Runtime.ExitError", id, &format!("Runtime exited with error: exit status {code}"))
            }
            Stopped::Ended(End::Signal(signal)) => {
                Failure::of("Runtime.ExitError", id, &format!("Runtime exited with error: signal: {signal}"))
            }
            Stopped::Ended(End::Killed) => {
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

/// Roots are mounted on it, each in its sandbox's own view only: here it stays empty.
pub(super) fn mount_point(roots: &Path) -> Result<PathBuf> {
    let path = roots.join("mounted");
    std::fs::create_dir_all(&path).during(Kind::FixSetup, format!("make folder {}", path.display()))?;
    Ok(path)
}

/// Removes what instances of hosts that were killed have left.
pub(super) fn sweep(roots: &Path) {
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
        // Its end takes a moment, which belongs to no worker of the runtime.
        let sandbox = Arc::clone(&self.sandbox);
        std::thread::spawn(move || sandbox.kill());
    }
}

/// What came of an event in one instance.
pub(super) enum Invoked {
    Done(Outcome, bool),
    /// The function knows nothing of it: it is for another instance. Whether this one lives.
    NotTaken(Work, bool),
}

/// Why an instance gives no answer, now or ever.
enum Stopped {
    NotTaken(Work),
    Late(Duration),
    Ended(End),
    Said(Failure),
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
    Ok(handle.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let runtime = Arc::clone(&runtime);
            tokio::spawn(async move {
                let service = service_fn(|request| runtime.answer(request));
                // Some bootstraps in shell look for Lambda-Runtime-Aws-Request-Id as it is spelt.
                let mut server = hyper::server::conn::http1::Builder::new();
                let connection = server.title_case_headers(true).serve_connection(TokioIo::new(stream), service);
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a runtime's connection");
                }
            });
        }
    }))
}

/// AWS Lambda's own where the programs that the function stands on know it. Where they don't, they
/// would fall back to ASCII without a word, and an accent would be two other characters.
fn language(base: Option<&Path>) -> &'static str {
    let locales = base.unwrap_or(Path::new("/")).join("usr/lib/locale");
    let known = ["en_US.utf8", "locale-archive"].iter().any(|name| locales.join(name).exists());
    if known { "en_US.UTF-8" } else { "C.UTF-8" }
}

/// What AWS Lambda sets, then the warehouse's, then the function's own, which come last.
fn environment(function: &Function, making: &Making<'_>, instance: &str) -> BTreeMap<String, String> {
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
        ("PATH", "/usr/local/bin:/usr/bin/:/bin:/opt/bin".to_owned()),
        ("LD_LIBRARY_PATH", libraries),
    ];
    let mut environment: BTreeMap<String, String> =
        own.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    environment.extend(making.environment.clone());
    environment.extend(making.openings.iter().flat_map(|opening| opening.environment.clone()));
    environment.extend(function.environment.clone());
    environment
}
