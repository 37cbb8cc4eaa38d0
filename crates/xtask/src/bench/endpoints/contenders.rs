//! The contenders of `bench endpoints`, each a process on a port of its own, and what they need.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::project::{Project, output, run};

const PACKAGES: [&str; 5] =
    ["lightgbm==4.7.0", "fastapi==0.165.0", "uvicorn[standard]==0.54.0", "mlflow==3.17.2", "numpy"];
const LISTENS_WITHIN: Duration = Duration::from_secs(60);
const PATH: &str = "/endpoints/hydro/invocations";

/// The programs and files of the benchmark.
pub struct Setup {
    work: PathBuf,
    scripts: PathBuf,
    server: PathBuf,
    python: PathBuf,
    /// With MLflow, which is large.
    has_mlflow: bool,
    request: String,
    mlflow_request: String,
    /// The prediction of the request's row.
    pub expected: f64,
    /// Versions of programs, for the results.
    pub versions: Value,
}

impl Setup {
    /// Builds and installs everything, and trains the model.
    pub fn prepare(project: &Project, has_mlflow: bool) -> Result<Setup> {
        let work = project.root.join("bench/work/endpoints");
        fs::create_dir_all(&work).with_context(|| format!("make {}", work.display()))?;
        run(project.cargo()?.args(["build", "--release", "--package", "model", "--examples"]))?;
        let server = project.target_dir()?.join("release/examples/serve-models");
        let python = install(&work, has_mlflow)?;
        let scripts = project.root.join("bench/endpoints");
        let mlflow = work.join("mlflow");
        let _ = fs::remove_dir_all(&mlflow);
        let mut train = Command::new(&python);
        train.arg(scripts.join("train.py")).arg(work.join("model.txt"));
        if has_mlflow {
            train.arg(&mlflow);
        }
        run(&mut train)?;
        let row: Vec<f64> = (0..40).map(|column| f64::from(column - 20) / 10.0).collect();
        let predict = "import sys, json, lightgbm; print(lightgbm.Booster(model_file=sys.argv[1])\
            .predict([json.loads(sys.argv[2])], num_threads=1)[0].item().hex())";
        let row_text = json!(row).to_string();
        let expected = output(Command::new(&python).args(["-c", predict]).arg(work.join("model.txt")).arg(&row_text))?;
        let version = |package: &str| {
            let text = format!("import importlib.metadata as m; print(m.version('{package}'))");
            output(Command::new(&python).args(["-c", &text])).map(|text| text.trim().to_owned())
        };
        let mut versions = json!({});
        for package in ["lightgbm", "fastapi", "uvicorn"].into_iter().chain(has_mlflow.then_some("mlflow")) {
            versions[package] = json!(version(package)?);
        }
        Ok(Setup {
            request: json!({"instances": [row]}).to_string(),
            mlflow_request: json!({"inputs": [row]}).to_string(),
            expected: hex(expected.trim())?,
            work,
            scripts,
            server,
            python,
            has_mlflow,
            versions,
        })
    }

    /// The names of the contenders.
    pub fn contenders(&self) -> Vec<&'static str> {
        let mut names = vec!["wattlake", "fastapi"];
        names.extend(self.has_mlflow.then_some("mlflow"));
        names
    }

    /// The body that a contender is asked with.
    pub fn request(&self, contender: &str) -> &str {
        if contender == "mlflow" { &self.mlflow_request } else { &self.request }
    }

    /// Milliseconds until the echo program answers, started without a sandbox.
    pub fn program_alone(&self) -> Result<f64> {
        let address = free_address()?;
        let began = Instant::now();
        let mut command = Command::new(self.scripts.join("serve"));
        let process = Process(command.arg(address.port().to_string()).spawn().context("start the echo program")?);
        wait(&process, address, Duration::from_millis(1))?;
        Ok(began.elapsed().as_secs_f64() * 1e3)
    }
}

/// Python with the packages.
fn install(work: &Path, has_mlflow: bool) -> Result<PathBuf> {
    let folder = work.join(if has_mlflow { "python" } else { "python-quick" });
    let python = folder.join("bin/python");
    if folder.join("installed").is_file() {
        return Ok(python);
    }
    eprintln!("bench endpoints: install Python packages");
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let packages = PACKAGES.into_iter().filter(|package| has_mlflow || !package.starts_with("mlflow"));
    let mut pip = Command::new(&python);
    run(pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check", "install"]).args(packages))?;
    fs::write(folder.join("installed"), "").context("note the installation")?;
    Ok(python)
}

/// A double as Python writes it with all its bits: `0x1.8p+1`.
fn hex(text: &str) -> Result<f64> {
    let (sign, digits) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest));
    let parsed = digits.strip_prefix("0x").and_then(|rest| rest.split_once('p')).and_then(|(digits, exponent)| {
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all = u64::from_str_radix(&format!("{whole}{fraction}"), 16).ok()?;
        let scale = exponent.parse::<i32>().ok()? - 4 * i32::try_from(fraction.len()).ok()?;
        Some(sign * all as f64 * f64::from(2).powi(scale))
    });
    parsed.with_context(|| format!("read {text}"))
}

/// Killed when it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running server.
pub struct Contender {
    process: Process,
    pub address: SocketAddr,
    pub path: &'static str,
}

impl Contender {
    /// Starts a contender and waits until it listens.
    pub fn start(setup: &Setup, name: &str) -> Result<Contender> {
        let address = free_address()?;
        let port = address.port().to_string();
        let model = setup.work.join("model.txt");
        let (mut command, path) = match name {
            "wattlake" => return Contender::start_with_models(setup, 1),
            "fastapi" => {
                let mut command = Command::new(&setup.python);
                command.args(["-m", "uvicorn", "--log-level", "warning", "--port", &port, "app:app"]);
                command.env("MODEL", model).current_dir(&setup.scripts);
                (command, PATH)
            }
            _ => {
                let mut command = Command::new(setup.python.with_file_name("mlflow"));
                command.args(["models", "serve", "--env-manager", "local", "--port", &port, "--workers", "1"]);
                command.arg("--model-uri").arg(setup.work.join("mlflow"));
                let bin = setup.python.parent().context("find Python's folder")?;
                let path = std::env::var("PATH").unwrap_or_default();
                command.env("PATH", format!("{}:{path}", bin.display())).env("OMP_NUM_THREADS", "1");
                (command, "/invocations")
            }
        };
        let log = fs::File::create(setup.work.join(format!("{name}.log"))).context("write a log")?;
        command.stdin(Stdio::null()).stdout(log.try_clone().context("write a log")?).stderr(log);
        let process = Process(command.spawn().with_context(|| format!("start {name}"))?);
        wait(&process, address, Duration::from_millis(5))?;
        Ok(Contender { process, address, path })
    }

    /// Starts Wattlake's server with the echo program and with so many endpoints of the model.
    pub fn start_with_models(setup: &Setup, models: usize) -> Result<Contender> {
        let folder = setup.work.join("served");
        let _ = fs::remove_dir_all(&folder);
        for inner in ["models", "containers/echo"] {
            fs::create_dir_all(folder.join(inner)).context("make the server's folder")?;
        }
        fs::copy(setup.scripts.join("serve"), folder.join("containers/echo/serve")).context("copy the echo program")?;
        for number in 0..models {
            let name = if number == 0 { "hydro".to_owned() } else { format!("hydro-{number}") };
            let file = folder.join("models").join(format!("{name}.txt"));
            fs::copy(setup.work.join("model.txt"), file).context("copy the model")?;
        }
        let address = free_address()?;
        let mut command = Command::new(&setup.server);
        command.arg(&folder).arg(address.port().to_string()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = Process(command.stderr(Stdio::null()).spawn().context("start Wattlake's server")?);
        // It prints its address once all endpoints are in service.
        let stdout = process.0.stdout.take().context("read the server's output")?;
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).context("read its output")?;
        ensure!(line.starts_with("http://"), "the server has printed {line:?}");
        Ok(Contender { process, address, path: PATH })
    }

    /// The resident memory of its processes, shared pages counted by their part.
    pub fn memory_mib(&self) -> Result<f64> {
        let mut sum = 0.0;
        for process in self.tree()? {
            let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
            let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
            sum += kilobytes.unwrap_or_default() / 1024.0;
        }
        Ok(sum)
    }

    /// How many processes it has.
    pub fn processes(&self) -> Result<usize> {
        Ok(self.tree()?.len())
    }

    /// It and all its descendants.
    fn tree(&self) -> Result<Vec<u32>> {
        let text = output(Command::new("ps").args(["-eo", "pid=,ppid="]))?;
        let all: Vec<(u32, u32)> = text
            .lines()
            .filter_map(|line| {
                let mut numbers = line.split_ascii_whitespace().map(str::parse);
                Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
            })
            .collect();
        let mut tree = vec![self.process.0.id()];
        let mut at = 0;
        while let Some(parent) = tree.get(at).copied() {
            tree.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
            at += 1;
        }
        Ok(tree)
    }
}

fn wait(process: &Process, address: SocketAddr, period: Duration) -> Result<()> {
    let began = Instant::now();
    while TcpStream::connect(address).is_err() {
        ensure!(began.elapsed() < LISTENS_WITHIN, "process {} does not listen on {address}", process.0.id());
        thread::sleep(period);
    }
    Ok(())
}

/// An address with a port that is free now.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    listener.local_addr().context("find a free port")
}
