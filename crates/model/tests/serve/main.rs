//! SageMaker's APIs over a folder: serve FOLDER PORT. For benchmarks, without the rest of a warehouse.
//!
//! Each `models/NAME.txt` is served by an endpoint of that name as a LightGBM model, and each folder `containers/NAME` as
//! a program.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use function::registry::Registry;
use function::store::Store;
use gateway::{AccessControl, RequestLog};
use ledger::Ledger;
use model::api::Api;
use model::{
    ArtifactStore, Catalog, ContainerDefinition, ContainerSettings, EndpointDefinition, Endpoints, EndpointsSettings,
    LIGHTGBM_IMAGE, Resources, VariantDefinition,
};
use sandbox::Launcher;

type Failed = Box<dyn Error>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(ended) = sandbox::run_if_reexecuted(&arguments) {
        return ended;
    }
    let [_, folder, port] = &arguments[..] else {
        eprintln!("serve FOLDER PORT");
        return ExitCode::FAILURE;
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match runtime.block_on(serve(Path::new(folder), port)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(folder: &Path, port: &str) -> Result<(), Failed> {
    let state = folder.join("state");
    std::fs::create_dir_all(state.join("roots"))?;
    let ledger = Ledger::open(&state.join("ledger.sqlite"))?;
    let (containers, endpoints) = declared(folder)?;
    let resources = Resources {
        registry: Registry::new(ledger, Store::open(&state.join("store"))?),
        artifacts: ArtifactStore::open(&state.join("artifacts"))?,
        catalog: Catalog::new(containers, Vec::new())?,
    };
    for endpoint in &endpoints {
        let plan = resources.plan(endpoint)?;
        resources.carry_out(&plan)?;
    }
    let is_root = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self")?) == 0;
    let served = Endpoints::new(EndpointsSettings {
        resources,
        launcher: Arc::new(Launcher::new(std::env::current_exe()?)),
        roots: state.join("roots"),
        users_from: is_root.then_some(180_000),
        output: Arc::new(|name, line| eprintln!("{name}: {line}")),
    });
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    let address = listener.local_addr()?;
    let api = Api::new(served.clone(), AccessControl::default(), RequestLog::default(), Arc::new(|_| Ok(())));
    let ready = async {
        while served.resources().ledger().endpoints()?.iter().any(|row| row.state.is_pending()) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        println!("http://{address}");
        std::future::pending::<Result<(), Failed>>().await
    };
    tokio::select! {
        () = gateway::serve(api, listener.into(), std::future::pending()) => Ok(()),
        () = served.run(std::future::pending()) => Ok(()),
        failed = ready => failed,
    }
}

/// The containers and the endpoints of a folder.
fn declared(folder: &Path) -> Result<(Vec<ContainerDefinition>, Vec<EndpointDefinition>), Failed> {
    let (mut containers, mut endpoints) = (Vec::new(), Vec::new());
    for (name, path) in entries(&folder.join("models"))? {
        let data = Some(format!("file://{}", std::fs::canonicalize(&path)?.display()));
        endpoints.push(endpoint(name.trim_end_matches(".txt"), LIGHTGBM_IMAGE, data));
    }
    for (name, path) in entries(&folder.join("containers"))? {
        endpoints.push(endpoint(&name, &name, None));
        let idle_max = std::time::Duration::from_secs(1);
        let settings = ContainerSettings { idle_max, ..ContainerSettings::default() };
        containers.push(ContainerDefinition { name, folder: path, images: Vec::new(), layers: Vec::new(), settings });
    }
    Ok((containers, endpoints))
}

fn endpoint(name: &str, image: &str, data: Option<String>) -> EndpointDefinition {
    let variant = VariantDefinition {
        name: "main".to_owned(),
        image: Some(image.to_owned()),
        data,
        environment: BTreeMap::new(),
        weight: 1.0,
        is_shadow: false,
    };
    EndpointDefinition { name: name.to_owned(), variants: vec![variant] }
}

fn entries(folder: &Path) -> Result<Vec<(String, std::path::PathBuf)>, Failed> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let entry = entry?;
        all.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    all.sort();
    Ok(all)
}
