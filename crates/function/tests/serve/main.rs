//! Serves the Invoke API for a folder of functions: `serve FOLDER [PORT]`. It deploys FOLDER/layers/* and
//! FOLDER/functions/*, has its state in FOLDER/state, prints its address, and serves until it is killed.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use function::definition::{self, Definition};
use function::event_queue::{self, EventQueue};
use function::host::{Fleet, FleetSettings, Journal, LakeServices, PoolSettings};
use function::invoke::Api;
use function::registry::Registry;
use function::store::Store;
use gateway::{AccessControl, RequestLog};
use ledger::Ledger;
use sandbox::Launcher;

type Failed = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(ended) = sandbox::run_if_reexecuted(&arguments) {
        return ended;
    }
    let Some(folder) = arguments.get(1) else {
        eprintln!("usage: serve FOLDER [PORT]");
        return ExitCode::FAILURE;
    };
    let port = arguments.get(2).and_then(|port| port.parse().ok()).unwrap_or(0);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(serve(Path::new(folder), port)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}: {:?}", error.source());
            ExitCode::FAILURE
        }
    }
}

async fn serve(folder: &Path, port: u16) -> Result<(), Failed> {
    let state = folder.join("state");
    std::fs::create_dir_all(state.join("roots"))?;
    let registry = Registry::new(Ledger::open(&state.join("ledger.db"))?, Store::open(&state.join("store"))?);
    deploy(&registry, folder)?;
    let settings = PoolSettings {
        store: registry.store().clone(),
        launcher: Launcher::new(std::env::current_exe()?),
        roots: state.join("roots"),
        environment: [].into(),
        idle_max: Duration::from_secs(300),
        sink: Journal::open(&state.join("logs"), 8 << 20)?.sink(),
    };
    let is_root = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self")?) == 0;
    let rules = FleetSettings {
        concurrency_max: 100,
        memory_mb_max: u64::MAX,
        users_from: is_root.then_some(80_000),
        variable: Arc::new(|name| std::env::var(name).ok()),
        lake: LakeServices::default(),
    };
    let fleet = Fleet::new(registry, settings, rules);
    let _maintenance = fleet.maintain();
    let queue = EventQueue::new(fleet.clone(), event_queue::QueueSettings::default());
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("http://{}", listener.local_addr()?);
    let api = Api::new(fleet, queue.clone(), AccessControl::default(), RequestLog::default());
    tokio::select! {
        () = gateway::serve(api, listener.into(), std::future::pending()) => Ok(()),
        ended = queue.run(std::future::pending()) => Ok(ended?),
    }
}

fn deploy(registry: &Registry, folder: &Path) -> Result<(), Failed> {
    for layer in entries(&folder.join("layers"))? {
        let name = layer.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        registry.publish_layer(&name, &layer)?;
    }
    for function in entries(&folder.join("functions"))? {
        let name = function.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let text = std::fs::read_to_string(function.join(definition::FILE))?;
        let definition = Definition::read(&name, &function, &text);
        let definition = definition.map_err(|problems| format!("{name}: {}", problems[0]))?;
        registry.deploy(&definition)?;
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<std::path::PathBuf>, Failed> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut all = std::fs::read_dir(folder)?.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>()?;
    all.sort();
    Ok(all)
}
