//! Runs shell scripts in a sandbox.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sandbox::{End, Launcher, Limits, RootSpec, Sandbox, Spec};
use tempfile::TempDir;

/// The folders of a sandbox, and a user id for it.
pub struct World {
    pub folder: TempDir,
    pub user: u32,
}

/// How a script ended, and what it printed.
pub struct ScriptRun {
    pub end: End,
    pub output: String,
}

impl World {
    pub fn new() -> World {
        let folder = TempDir::new().expect("a folder");
        for name in ["task", "opt", "root"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        World { folder, user: user() }
    }

    /// A sandbox with small limits that starts the script.
    pub fn spec(&self) -> Spec {
        let at = |name: &str| self.folder.path().join(name);
        Spec {
            task: at("task"),
            opt: Some(at("opt")),
            root: RootSpec { mount_at: at("root"), base: None },
            programs: ["/var/task/bootstrap", "/opt/bootstrap"].map(Into::into).to_vec(),
            environment: [("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin:/opt/bin".to_owned())].into(),
            ports: vec![9001],
            user: is_root().then_some(self.user),
            limits: Limits { memory_mb: 128, tmp_mb: 16, processes: 64, ..Limits::default() },
            inputs: None,
            results_mb: None,
            mounts: Vec::new(),
            accepts_connections: false,
        }
    }

    /// Writes the script.
    pub fn script(&self, text: &str) {
        let path = self.folder.path().join("task/bootstrap");
        fs::write(&path, format!("#!/bin/bash\n{text}\n")).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("an executable script");
    }

    /// Runs the script to its end, or kills it after three minutes.
    pub fn run(&self, text: &str) -> ScriptRun {
        self.run_as(text, &self.spec())
    }

    /// As [`World::run`], with other limits.
    pub fn run_as(&self, text: &str, spec: &Spec) -> ScriptRun {
        let path = self.folder.path().join("output");
        let started = Instant::now();
        let sandbox = self.launch(text, spec).expect("a sandbox");
        let end = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| sandbox.wait());
            while !waiting.is_finished() {
                if started.elapsed() > Duration::from_secs(180) {
                    sandbox.kill();
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            waiting.join().expect("its end")
        });
        drop(sandbox);
        let mut output = String::new();
        File::open(path).and_then(|mut f| f.read_to_string(&mut output)).expect("its output");
        ScriptRun { end, output }
    }
}

impl World {
    /// Starts the script.
    pub fn launch(&self, text: &str, spec: &Spec) -> function::Result<Sandbox> {
        self.script(text);
        let output = File::create(self.folder.path().join("output")).expect("a file");
        let program = std::env::current_exe().expect("this program");
        Launcher::new(program).launch(spec, &output)
    }
}

/// A user id that no other sandbox has, in this run of the tests or in another.
pub fn user() -> u32 {
    static USER: AtomicU32 = AtomicU32::new(0);
    100_000 + std::process::id() % 1_000_000 * 64 + USER.fetch_add(1, Ordering::Relaxed)
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0).unwrap_or(false)
}

/// Writes a zip of entries: name, mode with the file's type, content.
pub fn zip_of(folder: &std::path::Path, name: &str, entries: &[(&str, u32, &str)]) -> std::path::PathBuf {
    use std::io::Write;
    let path = folder.join(name);
    let mut zip = zip::ZipWriter::new(File::create(&path).expect("a file"));
    for (name, mode, text) in entries {
        zip.start_file(*name, zip::write::SimpleFileOptions::default().unix_permissions(*mode)).expect("an entry");
        zip.write_all(text.as_bytes()).expect("its content");
    }
    zip.finish().expect("a zip");
    path
}
