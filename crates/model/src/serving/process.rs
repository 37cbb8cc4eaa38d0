//! A model that a program serves by SageMaker's container contract, in a sandbox: `serve` listens on port 8080, answers
//! `GET /ping` with 200 when it is ready, and `POST /invocations` with predictions. `/opt/ml/model` has the artifact.
//!
//! The first request starts the program, and all requests until then wait for it. It is ended when it is idle.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base::{Error, ErrorContext, Kind, Result};
use bytes::Bytes;
use function::store::Store;
use http_body_util::Full;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use sandbox::{Connector, End, Launcher, Limits, Mount, RootSpec, Sandbox, Spec};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::AbortHandle;

use super::{Invocation, OutputSink, Prediction, ServingError};
use crate::container::{ProcessContainer, program_variables};
use crate::output_lines::read_lines;

const PORT: u16 = 8080;
/// Where a program of the container contract is looked for.
const PROGRAMS: [&str; 4] = ["/var/task/serve", "/opt/program/serve", "/opt/bin/serve", "/opt/serve"];
const MODEL_FOLDER: &str = "/opt/ml/model";
/// How long a program may take to answer a request, as on SageMaker.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// How long it may take to answer `/ping`, as on SageMaker.
const PING_MAX: Duration = Duration::from_secs(2);
/// Between two questions whether it is ready.
const PING_PERIOD: Duration = Duration::from_millis(20);
/// How long the end of a program may be known after its connections have ended.
const END_WAIT: Duration = Duration::from_millis(500);
/// How long the last lines of a program may take that has ended.
const OUTPUT_WAIT: Duration = Duration::from_secs(2);
/// How many requests wait for a program that has as many as it can take.
const WAITING_MAX: usize = 200;
/// The largest answer, as on SageMaker.
const ANSWER_BYTES_MAX: usize = 25 << 20;
/// Lines of its output that the error of a program has that did not start.
const LINES_SHOWN: usize = 20;
/// Processes and threads of a program.
const PROCESSES_MAX: u64 = 1024;
const CUSTOM_ATTRIBUTES: &str = "x-amzn-sagemaker-custom-attributes";

/// What a program is started from.
pub(crate) struct ProcessServerSettings {
    /// The variant, for messages and logs: `endpoint/variant`.
    pub name: String,
    pub container: ProcessContainer,
    /// The folder of the model's artifact.
    pub artifact: Option<PathBuf>,
    /// Holds the container's code and layers.
    pub store: Store,
    pub launcher: Arc<Launcher>,
    /// The folder for mount points.
    pub roots: PathBuf,
    /// The user id of its processes; only where the host is root.
    pub user: Option<u32>,
    /// Takes each line that it prints.
    pub output: OutputSink,
}

/// A program, served. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ProcessServer {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Arc<ProcessServerSettings>,
    /// The program that runs or is started.
    program: Mutex<Option<Program>>,
    /// Has a permit for each request that it may get.
    free: Semaphore,
    waiting: AtomicUsize,
    used_at: Mutex<Instant>,
    starts: AtomicUsize,
}

/// A program that is started by a task of its own: a request that waits for it may be given up, and the start goes on. All
/// that wait for it get its error.
struct Program {
    started: watch::Receiver<Option<Result<Arc<Running>, ServingError>>>,
    task: AbortHandle,
}

impl Program {
    /// The program, where it runs.
    fn running(&self) -> Option<Arc<Running>> {
        let started = self.started.borrow();
        started.as_ref()?.as_ref().ok().filter(|running| running.is_alive()).cloned()
    }

    fn is_starting(&self) -> bool {
        self.started.borrow().is_none()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A program that has answered `/ping`. It ends when this is dropped.
struct Running {
    started_at: Instant,
    sandbox: Arc<Sandbox>,
    connector: Arc<Connector>,
    /// Connections without a request.
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
    ended: watch::Receiver<Option<End>>,
}

impl ProcessServer {
    /// A server whose program does not run yet.
    pub fn new(settings: ProcessServerSettings) -> ProcessServer {
        let inner = Inner {
            free: Semaphore::new(settings.container.settings.concurrency.max(1)),
            settings: Arc::new(settings),
            program: Mutex::default(),
            waiting: AtomicUsize::new(0),
            used_at: Mutex::new(Instant::now()),
            starts: AtomicUsize::new(0),
        };
        ProcessServer { inner: Arc::new(inner) }
    }

    /// Starts the program where it does not run, and waits until it answers `/ping`.
    ///
    /// # Errors
    /// It ended before, with the end of its output, or took too long.
    pub async fn start(&self) -> Result<(), ServingError> {
        self.running().await.map(drop)
    }

    /// Answers a request.
    pub async fn invoke(&self, invocation: Invocation) -> Result<Prediction, ServingError> {
        let _permit = self.permit().await?;
        self.use_now();
        let running = self.running().await?;
        let answered = tokio::time::timeout(ANSWER_MAX, running.invoke(&invocation)).await;
        self.use_now();
        match answered {
            Ok(answered) => answered,
            Err(_) => {
                // One that hangs for all requests is replaced.
                if !running.is_healthy().await {
                    running.kill();
                }
                let seconds = ANSWER_MAX.as_secs();
                Err(ServingError::answered(0, format!("the model did not answer within {seconds} s")))
            }
        }
    }

    /// Ends the program where it is idle.
    pub fn end_idle(&self) {
        let settings = &self.inner.settings.container.settings;
        let used_at = *self.inner.used_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_unused = self.inner.free.available_permits() == settings.concurrency.max(1);
        let is_idle = |program: &mut Program| {
            let running = program.running();
            running.is_some_and(|running| used_at.max(running.started_at).elapsed() >= settings.idle_max)
        };
        if is_unused {
            drop(self.program().take_if(is_idle));
        }
    }

    /// Whether its program runs.
    pub fn is_running(&self) -> bool {
        self.program().as_ref().is_some_and(|program| program.running().is_some())
    }

    /// How often its program was started.
    pub fn starts(&self) -> usize {
        self.inner.starts.load(Ordering::Relaxed)
    }

    async fn permit(&self) -> Result<tokio::sync::SemaphorePermit<'_>, ServingError> {
        let waiting = WaitingGuard::on(&self.inner.waiting);
        if waiting.before >= WAITING_MAX {
            return Err(ServingError::Overloaded);
        }
        let permit = tokio::time::timeout(self.inner.settings.container.settings.start_max, self.inner.free.acquire());
        permit.await.ok().and_then(Result::ok).ok_or(ServingError::Overloaded)
    }

    fn use_now(&self) {
        *self.inner.used_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn program(&self) -> MutexGuard<'_, Option<Program>> {
        self.inner.program.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The running program; it is started where none runs.
    async fn running(&self) -> Result<Arc<Running>, ServingError> {
        let mut started = {
            let mut program = self.program();
            if let Some(running) = program.as_ref().and_then(Program::running) {
                return Ok(running);
            }
            match program.as_ref().filter(|program| program.is_starting()) {
                Some(program) => program.started.clone(),
                None => program.insert(self.begin_start()).started.clone(),
            }
        };
        let started = started.wait_for(Option::is_some).await.ok().and_then(|started| started.clone());
        started.unwrap_or_else(|| Err(ServingError::Failed("its start was given up".to_owned())))
    }

    fn begin_start(&self) -> Program {
        self.inner.starts.fetch_add(1, Ordering::Relaxed);
        let settings = Arc::clone(&self.inner.settings);
        let (tell, started) = watch::channel(None);
        let task = tokio::spawn(async move {
            let result = launch_and_wait(settings).await.map(Arc::new);
            tell.send_replace(Some(result));
        });
        Program { started, task: task.abort_handle() }
    }
}

/// Starts a program, and waits until it answers `/ping`.
async fn launch_and_wait(settings: Arc<ProcessServerSettings>) -> Result<Running, ServingError> {
    let start_max = settings.container.settings.start_max;
    let tail = Arc::new(Mutex::new(Vec::new()));
    let lines = Arc::clone(&tail);
    let (printing, all_printed) = oneshot::channel();
    let launching = tokio::task::spawn_blocking(move || launch(&settings, lines, printing));
    let launched = launching.await.map_err(|error| ServingError::Failed(error.to_string()))?;
    let mut running = launched.map_err(|error| ServingError::Failed(error.chain()))?;
    let began = Instant::now();
    loop {
        if running.is_healthy().await {
            running.started_at = Instant::now();
            return Ok(running);
        }
        if let Some(end) = running.end() {
            // Its last lines are on their way. A process that it has left may keep its output open.
            let _ = tokio::time::timeout(OUTPUT_WAIT, all_printed).await;
            return Err(ServingError::Failed(format!("{} before it answered /ping{}", described(end), shown(&tail))));
        }
        if began.elapsed() >= start_max {
            let seconds = start_max.as_secs();
            let message = format!("it did not answer /ping with 200 within {seconds} s{}", shown(&tail));
            return Err(ServingError::NotReady(message));
        }
        let _ = tokio::time::timeout(PING_PERIOD, running.ended.changed()).await;
    }
}

/// The last lines that a program has printed, for an error.
fn shown(tail: &Mutex<Vec<String>>) -> String {
    let lines = tail.lock().unwrap_or_else(PoisonError::into_inner);
    match lines.is_empty() {
        true => "; it has printed nothing".to_owned(),
        false => format!("; its output ends with:\n{}", lines.join("\n")),
    }
}

fn described(end: End) -> String {
    match end {
        End::Exit(status) => format!("the program exited with status {status}"),
        End::Signal(signal) => format!("the program was ended by signal {signal}"),
        End::OutOfMemory => "the program used more memory than memory_mb".to_owned(),
        End::Killed => "the program was killed".to_owned(),
    }
}

/// Starts the sandbox with the program. `printing` gets a message when all of its output is read.
fn launch(
    settings: &ProcessServerSettings,
    tail: Arc<Mutex<Vec<String>>>,
    printing: oneshot::Sender<()>,
) -> Result<Running> {
    let container = &settings.container;
    let doing = || format!("start {}", settings.name);
    let mounts =
        settings.artifact.iter().map(|from| Mount { from: from.clone(), at: MODEL_FOLDER.into(), is_writable: false });
    let spec = Spec {
        task: settings.store.tree(container.code)?,
        opt: settings.store.layers(&container.layers)?,
        root: RootSpec { mount_at: mount_point(&settings.roots)?, base: None },
        programs: PROGRAMS.map(Into::into).to_vec(),
        environment: environment(container),
        ports: Vec::new(),
        user: settings.user,
        limits: Limits {
            memory_mb: container.settings.memory_mb,
            tmp_mb: container.settings.tmp_mb,
            processes: PROCESSES_MAX,
            ..Limits::default()
        },
        inputs: None,
        mounts: mounts.collect(),
        accepts_connections: true,
        results_mb: None,
    };
    let (output, input) = std::io::pipe().during(Kind::FixSetup, doing())?;
    let (name, sink) = (settings.name.clone(), Arc::clone(&settings.output));
    std::thread::spawn(move || {
        read_lines(output, |line| {
            let mut lines = tail.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() == LINES_SHOWN {
                lines.remove(0);
            }
            lines.push(line.clone());
            drop(lines);
            sink(&name, line);
        });
        let _ = printing.send(());
    });
    let mut sandbox = settings.launcher.launch(&spec, &File::from(OwnedFd::from(input)))?;
    let connector = sandbox.take_connector().ok_or_else(|| Error::bug(doing()))?;
    let sandbox = Arc::new(sandbox);
    let (tell, ended) = watch::channel(None);
    let waiting = Arc::clone(&sandbox);
    std::thread::spawn(move || tell.send_replace(Some(waiting.wait())));
    Ok(Running { started_at: Instant::now(), sandbox, connector: Arc::new(connector), idle: Mutex::default(), ended })
}

/// Variables of the container contract. Programs of layers come first.
fn environment(container: &ProcessContainer) -> BTreeMap<String, String> {
    let mut all = program_variables();
    for (name, value) in [("SAGEMAKER_BIND_TO_PORT", PORT.to_string()), ("SM_MODEL_DIR", MODEL_FOLDER.to_owned())] {
        all.insert(name.to_owned(), value);
    }
    all.extend(container.settings.environment.clone());
    all
}

fn mount_point(roots: &std::path::Path) -> Result<PathBuf> {
    let path = roots.join("root");
    std::fs::create_dir_all(&path).during(Kind::FixSetup, format!("create folder {}", path.display()))?;
    Ok(path)
}

impl Running {
    fn end(&self) -> Option<End> {
        *self.ended.borrow()
    }

    fn is_alive(&self) -> bool {
        self.end().is_none()
    }

    /// Ends the program, without a wait for its end.
    fn kill(&self) {
        let sandbox = Arc::clone(&self.sandbox);
        std::thread::spawn(move || sandbox.kill());
    }

    /// Whether `/ping` is answered with 200.
    async fn is_healthy(&self) -> bool {
        let asked = async {
            let mut connection = self.connect().await.ok()?;
            let request = Request::get("/ping").header("host", "localhost:8080").body(Full::default()).ok()?;
            connection.send_request(request).await.ok().map(|answer| answer.status().as_u16())
        };
        tokio::time::timeout(PING_MAX, asked).await == Ok(Some(200))
    }

    async fn invoke(&self, invocation: &Invocation) -> Result<Prediction, ServingError> {
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.connect_for_request().await?,
        };
        let mut sent = connection.try_send_request(request(invocation)).await;
        let unsent = sent.as_mut().err().and_then(TrySendError::take_message);
        if let Some(unsent) = unsent.filter(|_| self.is_alive()) {
            // The program has closed the connection while it was idle. What it may have read is not sent twice.
            connection = self.connect_for_request().await?;
            sent = connection.try_send_request(unsent).await;
        }
        let response = match sent.map_err(TrySendError::into_error) {
            Ok(response) => response,
            Err(error) => return Err(self.failure(format!("the model closed the connection: {error}")).await),
        };
        let answered = read(response).await;
        if connection.is_ready() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
        answered
    }

    async fn connect_for_request(&self) -> Result<SendRequest<Full<Bytes>>, ServingError> {
        match self.connect().await {
            Ok(connection) => Ok(connection),
            Err(error) => Err(self.failure(error.chain()).await),
        }
    }

    /// The error of a request without an answer. The end of a program is known a moment after that of its connections.
    async fn failure(&self, error: String) -> ServingError {
        let mut ended = self.ended.clone();
        let _ = tokio::time::timeout(END_WAIT, ended.wait_for(Option::is_some)).await;
        match self.end() {
            Some(end) => ServingError::answered(0, format!("{} while it answered", described(end))),
            None => ServingError::answered(0, error),
        }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        const CONNECT: &str = "connect to the model";
        let connector = Arc::clone(&self.connector);
        let connecting = tokio::task::spawn_blocking(move || connector.connect(PORT)).await;
        let stream = connecting.during(Kind::Retry, CONNECT)?.during(Kind::Retry, CONNECT)?;
        stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).during(Kind::Retry, CONNECT)?;
        let stream = TcpStream::from_std(stream).during(Kind::Retry, CONNECT)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.during(Kind::Retry, CONNECT)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a model");
            }
        });
        Ok(sender)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The thread that waits for its end holds the sandbox, too.
        if self.is_alive() {
            self.kill();
        }
    }
}

fn request(invocation: &Invocation) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(Method::POST).uri("/invocations").header("host", "localhost:8080");
    for (name, value) in [
        ("content-type", &invocation.content_type),
        ("accept", &invocation.accept),
        (CUSTOM_ATTRIBUTES, &invocation.custom_attributes),
        ("x-amzn-sagemaker-inference-id", &invocation.inference_id),
    ] {
        if let Some(value) = value {
            request = request.header(name, value);
        }
    }
    // The values were headers of a request before.
    request.body(Full::new(invocation.body.clone())).unwrap_or_default()
}

async fn read(response: Response<Incoming>) -> Result<Prediction, ServingError> {
    let status = response.status().as_u16();
    let header = |name: &str| response.headers().get(name)?.to_str().ok().map(str::to_owned);
    let content_type = header("content-type").unwrap_or_else(|| "application/octet-stream".to_owned());
    let custom_attributes = header(CUSTOM_ATTRIBUTES);
    let body = gateway::read_body(response.into_body(), ANSWER_BYTES_MAX).await;
    let body = body.map_err(|error| match error {
        gateway::BodyError::TooLarge => {
            ServingError::answered(status, format!("the answer has more than {ANSWER_BYTES_MAX} bytes"))
        }
        gateway::BodyError::Interrupted => ServingError::answered(0, "the model did not end its answer"),
    })?;
    match status {
        200..300 => Ok(Prediction { body, content_type, custom_attributes }),
        _ => Err(ServingError::answered(status, String::from_utf8_lossy(&body).into_owned())),
    }
}

/// Counts a request that waits or runs.
struct WaitingGuard<'a> {
    count: &'a AtomicUsize,
    before: usize,
}

impl<'a> WaitingGuard<'a> {
    fn on(count: &'a AtomicUsize) -> WaitingGuard<'a> {
        let before = count.fetch_add(1, Ordering::Relaxed);
        WaitingGuard { count, before }
    }
}

impl Drop for WaitingGuard<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}
