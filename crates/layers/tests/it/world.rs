//! Packs this machine's R into layers, once for all tests, and runs functions with them.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use function::host::{Answer, Event, Function, Line, Outcome, Pool, PoolSettings};
use function::store::{Digest, Store};
use layers::PackedLayer;
use layers::r::{Installation, Options, Shape, packages, runtime};
use libtest_mimic::{Failed, Trial};
use sandbox::{Launcher, Limits};
use tempfile::TempDir;

pub static LAYERS: LazyLock<Layers> = LazyLock::new(Layers::pack);

pub struct Layers {
    pub folder: TempDir,
    pub store: Store,
    pub persistent: PackedLayer,
    pub per_event: PackedLayer,
    /// A layer with jsonlite and curl.
    pub second: PackedLayer,
    /// A layer with data.table.
    pub third: PackedLayer,
}

impl Layers {
    fn pack() -> Layers {
        let folder = TempDir::new().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let of = |shape| Options { shape, ..Options::default() };
        let persistent = runtime(&at("r.zip"), &of(Shape::Persistent)).expect("R's layer");
        let per_event = runtime(&at("r-per-event.zip"), &of(Shape::PerEvent)).expect("R's other layer");
        let installation = Installation::default();
        let names = ["jsonlite".to_owned(), "curl".to_owned()];
        let second = packages(&at("second.zip"), &installation, &names, &[at("r.zip")]).expect("the second layer");
        let below = [at("r.zip"), at("second.zip")];
        let third =
            packages(&at("third.zip"), &installation, &["data.table".to_owned()], &below).expect("the third layer");
        let store = Store::open(&at("store")).expect("a store");
        fs::create_dir(at("roots")).expect("a folder");
        Layers { folder, store, persistent, per_event, second, third }
    }

    pub fn digest(&self, packed: &PackedLayer) -> Digest {
        self.store.put(&packed.zip).expect("a layer that the store takes")
    }

    /// The layers with R, with jsonlite and curl, and with data.table.
    pub fn three(&self) -> Vec<Digest> {
        [&self.persistent, &self.second, &self.third].map(|packed| self.digest(packed)).to_vec()
    }
}

/// Whether the function's root has this machine's programs, or no programs at all.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Root {
    Host,
    Bare,
}

/// The timeout of functions whose timeout is not tested.
pub const LONG_TIMEOUT: Duration = Duration::from_secs(300);

pub struct Host {
    pub pool: Pool,
    lines: Arc<Mutex<Vec<Line>>>,
    _folder: TempDir,
}

impl Host {
    /// A host of a function with the single file `bill.R`.
    pub fn new(text: &str, handler: &str, layers: Vec<Digest>, root: Root) -> Host {
        Host::of(&[("bill.R", 0o100_644, text)], handler, layers, root)
    }

    pub fn of(files: &[(&str, u32, &str)], handler: &str, layers: Vec<Digest>, root: Root) -> Host {
        Host::within(files, handler, layers, root, LONG_TIMEOUT)
    }

    pub fn within(
        files: &[(&str, u32, &str)],
        handler: &str,
        layers: Vec<Digest>,
        root: Root,
        timeout: Duration,
    ) -> Host {
        let folder = TempDir::new().expect("a folder");
        let code = zip_of(folder.path(), "function.zip", files);
        let lines: Arc<Mutex<Vec<Line>>> = Arc::default();
        let kept = Arc::clone(&lines);
        let bare = folder.path().join("bare");
        fs::create_dir(&bare).expect("a folder");
        let settings = PoolSettings {
            launcher: Launcher::new(std::env::current_exe().expect("this program")),
            roots: LAYERS.folder.path().join("roots"),
            environment: [].into(),
            idle_max: Duration::from_secs(600),
            sink: Arc::new(move |line| kept.lock().expect("lines").push(line)),
            store: LAYERS.store.clone(),
        };
        let function = Function {
            name: "bill".into(),
            version: "$LATEST".into(),
            handler: handler.into(),
            code: LAYERS.store.put(&code).expect("a zip"),
            layers,
            environment: [].into(),
            timeout,
            limits: Limits { memory_mb: 512, tmp_mb: 64, ..Default::default() },
            base: (root == Root::Bare).then_some(bare),
            files: None,
        };
        let user = is_root().then_some(70_003);
        Host { pool: Pool::new(Arc::new(settings), function, 4, user), lines, _folder: folder }
    }

    pub async fn ask(&self, payload: &str) -> Outcome {
        // An instance that is slow to ask for its next event would not be used.
        let began = Instant::now();
        while !self.pool.is_at_rest() {
            assert!(began.elapsed() < LONG_TIMEOUT, "it does not ask for its next event");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let request_id = format!("00000000-0000-4000-8000-{:012}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let event = Event { request_id, payload: payload.to_owned().into(), ..Event::default() };
        self.pool.invoke(event).await.expect("an invocation")
    }

    /// The response to an event, which must succeed.
    pub async fn value(&self, payload: &str) -> serde_json::Value {
        let outcome = self.ask(payload).await;
        match &outcome.answer {
            Answer::Response(body) => serde_json::from_slice(body).expect("JSON"),
            Answer::Error(failure) => panic!("{}\n{}", String::from_utf8_lossy(&failure.body), self.log()),
        }
    }

    pub async fn failure(&self, payload: &str) -> (String, serde_json::Value) {
        let outcome = self.ask(payload).await;
        match &outcome.answer {
            Answer::Response(body) => {
                panic!("no error: {}", String::from_utf8_lossy(&body[..body.len().min(1000)]))
            }
            Answer::Error(failure) => {
                (failure.error_type.clone(), serde_json::from_slice(&failure.body).expect("JSON"))
            }
        }
    }

    pub fn log(&self) -> String {
        let lines = self.lines.lock().expect("lines");
        lines.iter().map(|line| line.text.clone()).collect::<Vec<_>>().join("\n")
    }
}

pub fn trial(name: &str, test: impl AsyncFnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || -> Result<(), Failed> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(test());
        Ok(())
    })
}

pub fn is_root() -> bool {
    fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0).unwrap_or(false)
}

/// Writes a zip of entries: name, mode with the file's type, content.
pub fn zip_of(folder: &Path, name: &str, entries: &[(&str, u32, &str)]) -> PathBuf {
    let path = folder.join(name);
    let mut zip = zip::ZipWriter::new(File::create(&path).expect("a file"));
    for (name, mode, text) in entries {
        zip.start_file(*name, zip::write::SimpleFileOptions::default().unix_permissions(*mode)).expect("an entry");
        zip.write_all(text.as_bytes()).expect("its content");
    }
    zip.finish().expect("a zip");
    path
}
