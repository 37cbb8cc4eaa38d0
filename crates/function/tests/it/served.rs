//! Deploys functions and serves them by the Invoke API, in this process or in one that can be killed.

use std::any::Any;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use function::definition::{self, Definition};
use function::event_queue::{self, EventQueue};
use function::host::{Fleet, FleetSettings, Journal, LakeServices, Maintenance, PoolSettings, ServiceFn};
use function::invoke::Api;
use function::registry::{DeploymentResult, Registry};
use function::store::Store;
use gateway::{AccessControl, RequestLog};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::header::HeaderMap;
use hyper_util::rt::TokioIo;
use ledger::Ledger;
use sandbox::Launcher;
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};

use crate::world::is_root;

/// A line of a definition, for functions whose timeout is not tested.
pub const LONG_TIMEOUT: &str = "timeout = \"5min\"\n";

/// Waits until a condition is true. The time limit only ends a test that has failed.
pub async fn until(what: &str, is: impl Fn() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < Duration::from_secs(180), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Events `wait` of the native function run until the gate is opened. They connect to it as the lake's SQL, which their
/// function's definition has to allow.
#[derive(Clone)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    pub fn closed() -> Gate {
        Gate(watch::Sender::new(false))
    }

    pub fn open(&self) {
        self.0.send_replace(true);
    }

    pub fn lake(&self) -> LakeServices {
        let opened = self.0.subscribe();
        let serve: ServiceFn = Arc::new(move |_, listener| -> Box<dyn Any + Send + Sync> {
            listener.set_nonblocking(true).expect("a listener");
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            let opened = opened.clone();
            Box::new(tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let mut opened = opened.clone();
                    tokio::spawn(async move {
                        drop(opened.wait_for(|open| *open).await);
                        // Closing the connection ends the wait of the function.
                        drop(stream);
                    });
                }
            }))
        });
        LakeServices { sql: Some(serve), ..LakeServices::default() }
    }
}

/// A folder of functions in the layout of `tests/serve`.
pub struct Functions {
    pub folder: TempDir,
}

impl Functions {
    pub fn new() -> Functions {
        Functions { folder: TempDir::new().expect("a folder") }
    }

    /// Adds a function: name, lines of its `function.toml`, its files. Without a timeout in the lines it gets a
    /// long one.
    pub fn add(&self, name: &str, toml: &str, files: &[(&str, &[u8])]) -> PathBuf {
        let toml = if toml.contains("timeout") { toml.to_owned() } else { format!("{LONG_TIMEOUT}{toml}") };
        let folder = self.folder.path().join("functions").join(name);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(definition::FILE), toml).expect("a definition");
        write(&folder, files);
        folder
    }

    pub fn shell(&self, name: &str, toml: &str, script: &str) -> PathBuf {
        self.add(name, &format!("handler = \"h\"\n{toml}"), &[("bootstrap", script.as_bytes())])
    }

    pub fn native(&self, name: &str, toml: &str) -> PathBuf {
        let program = fs::read(example("native")).expect("the native function");
        self.add(name, toml, &[("bootstrap", &program)])
    }

    pub fn layer(&self, name: &str, files: &[(&str, &[u8])]) {
        write(&self.folder.path().join("layers").join(name), files);
    }
}

pub fn write(folder: &Path, files: &[(&str, &[u8])]) {
    for (file, bytes) in files {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(&path, bytes).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    }
}

/// An example of this crate, which Cargo builds at the first use.
pub fn example(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--package", "function", "--examples"]);
        let this = std::env::current_exe().expect("this program");
        let profile = this.parent().and_then(Path::parent).expect("a profile's folder").to_owned();
        build.arg("--target-dir").arg(profile.parent().expect("a target folder"));
        assert!(build.status().expect("cargo").success(), "cargo builds the examples");
        profile.join("examples")
    });
    folder.join(name)
}

/// Functions served in this process.
pub struct Served {
    pub functions: Functions,
    pub registry: Registry,
    pub fleet: Fleet,
    pub queue: EventQueue,
    pub journal: Journal,
    pub address: SocketAddr,
    _maintenance: Maintenance,
    _stop: oneshot::Sender<()>,
}

#[derive(Clone)]
pub struct Host {
    pub concurrency_max: usize,
    pub idle_max: Duration,
    pub rules: event_queue::QueueSettings,
    pub lake: LakeServices,
}

impl Default for Host {
    fn default() -> Host {
        Host {
            concurrency_max: 100,
            idle_max: Duration::from_secs(600),
            rules: event_queue::QueueSettings::default(),
            lake: LakeServices::default(),
        }
    }
}

pub async fn served(functions: Functions) -> Served {
    served_with(functions, Host::default()).await
}

pub async fn served_with(functions: Functions, host: Host) -> Served {
    let state = functions.folder.path().join("state");
    fs::create_dir_all(state.join("roots")).expect("a folder");
    let ledger = Ledger::open(&state.join("ledger.db")).expect("a ledger");
    let registry = Registry::new(ledger, Store::open(&state.join("store")).expect("a store"));
    let journal = Journal::open(&state.join("logs"), 1 << 20).expect("a journal");
    let settings = PoolSettings {
        store: registry.store().clone(),
        launcher: Launcher::new(std::env::current_exe().expect("this program")),
        roots: state.join("roots"),
        environment: [].into(),
        idle_max: host.idle_max,
        sink: journal.sink(),
    };
    let granted = FleetSettings {
        concurrency_max: host.concurrency_max,
        memory_mb_max: u64::MAX,
        users_from: is_root().then_some(90_000),
        variable: Arc::new(|name| (name == "GREETING").then(|| "bonjour".to_owned())),
        lake: host.lake,
    };
    let fleet = Fleet::new(registry.clone(), settings, granted);
    let queue = EventQueue::new(fleet.clone(), host.rules);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("its address");
    let (stop, stopped) = oneshot::channel();
    let api = Api::new(fleet.clone(), queue.clone(), AccessControl::default(), RequestLog::default());
    tokio::spawn(gateway::serve(api, listener.into(), async { drop(stopped.await) }));
    let runs = queue.clone();
    tokio::spawn(async move { runs.run(std::future::pending()).await });
    let served =
        Served { functions, registry, queue, journal, address, _maintenance: fleet.maintain(), fleet, _stop: stop };
    served.deploy_all();
    served
}

impl Served {
    fn deploy_all(&self) {
        let functions = self.functions.folder.path().join("functions");
        for layer in fs::read_dir(self.functions.folder.path().join("layers")).into_iter().flatten().flatten() {
            let name = layer.file_name().into_string().expect("a name");
            self.registry.publish_layer(&name, &layer.path()).expect("a layer");
        }
        for function in fs::read_dir(functions).into_iter().flatten().flatten() {
            self.deploy(&function.path());
        }
    }

    pub fn deploy(&self, folder: &Path) -> DeploymentResult {
        let name = folder.file_name().and_then(|name| name.to_str()).expect("a name");
        let text = fs::read_to_string(folder.join(definition::FILE)).expect("a definition");
        let definition = Definition::read(name, folder, &text).expect("a good definition");
        self.registry.deploy(&definition).expect("a deployment")
    }

    pub async fn invoke(&self, name: &str, payload: impl Into<Bytes>) -> Reply {
        self.invoke_with(name, "", &[], payload).await
    }

    pub async fn invoke_with(
        &self,
        name: &str,
        query: &str,
        headers: &[(&str, &str)],
        payload: impl Into<Bytes>,
    ) -> Reply {
        let path = format!("/2015-03-31/functions/{name}/invocations{query}");
        ask(self.address, "POST", &path, headers, payload.into()).await
    }

    pub async fn defer(&self, name: &str, payload: &str) -> String {
        let headers = [("x-amz-invocation-type", "Event")];
        let reply = self.invoke_with(name, "", &headers, payload.to_owned()).await;
        assert_eq!(reply.status, 202, "{reply:?}");
        reply.header("x-amzn-requestid").to_owned()
    }

    /// Waits until each idle instance can take an event: an instance that is slow to ask for one is not used.
    pub async fn at_rest(&self, name: &str) {
        until("each instance asks for its next event", || self.fleet.is_at_rest(name)).await;
    }

    /// Waits until an asynchronous event is in the state.
    pub async fn wait_for(&self, request_id: &str, state: &str) -> ledger::InvocationRow {
        for _ in 0..9000 {
            let row = self.registry.ledger().invocation(request_id).expect("a ledger").expect("the event");
            if row.state == state {
                return row;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{request_id}: {:?}", self.registry.ledger().invocation(request_id));
    }
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("JSON: {self:?}"))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The status and type that SDKs turn into an exception.
    pub fn error(&self) -> (u16, &str) {
        (self.status, self.header("x-amzn-errortype"))
    }
}

pub async fn ask(at: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: Bytes) -> Reply {
    let stream = tokio::net::TcpStream::connect(at).await.expect("a connection");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a connection");
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header("host", at.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body)).expect("a request");
    let response = sender.send_request(request).await.expect("a response");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("its body").to_bytes();
    Reply { status: parts.status.as_u16(), headers: parts.headers, body }
}

/// A server in a process of its own, which can be killed.
pub struct Process {
    child: Child,
    pub address: SocketAddr,
}

impl Process {
    pub fn start(folder: &Path) -> Process {
        let mut command = Command::new(example("serve"));
        let mut child = command.arg(folder).stdout(Stdio::piped()).spawn().expect("a server");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("its address");
        let address = line.trim().trim_start_matches("http://").parse();
        Process { child, address: address.unwrap_or_else(|_| panic!("an address, not {line:?}")) }
    }

    /// The ids of all processes that it has started, directly and indirectly.
    pub fn descendants(&self) -> Vec<u32> {
        let mut found = vec![self.child.id()];
        let mut at = 0;
        while let Some(parent) = found.get(at) {
            let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
            let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
            let children: Vec<u32> =
                children.flat_map(|line| line.split(' ').filter_map(|n| n.parse().ok()).collect::<Vec<_>>()).collect();
            found.extend(children);
            at += 1;
        }
        found.split_off(1)
    }

    pub fn kill(mut self) {
        self.child.kill().expect("a kill");
        self.child.wait().expect("its end");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
