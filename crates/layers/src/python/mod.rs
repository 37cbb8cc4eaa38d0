//! Python as layers: the machine's own CPython with AWS's runtime interface client, and packages
//! on top.
//!
//! Inside a layer the interpreter lies under `/opt/cpython`, its shared libraries in
//! `/opt/cpython/shared`; packages of further layers where AWS Lambda expects them, in
//! `/opt/python`. Bytecode is made when a layer is packed: there it can't be kept, and a cold
//! start would compile all that it imports.

mod distribution;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use walkdir::WalkDir;

use crate::below::{Below, Language};
use crate::error::{During, Error, Kind, Result};
use crate::ground;
use crate::pack::{About, Layer, Named, Packed};
use distribution::Distribution;

const KIND_RUNTIME: &str = "python";
const KIND_PACKAGES: &str = "python-packages";
const HOME: &str = "cpython";
const LIBRARIES: &str = "cpython/shared";
const OWN_PACKAGES: &str = "cpython/site-packages";
const LANGUAGE: &str = "Python";
/// What AWS's own images run functions with.
const CLIENT: &str = "awslambdaric";

/// Parts of the standard library that nothing in a function runs, and the host's own settings.
const LEFT_OUT: [&str; 11] = [
    "test",
    "idlelib",
    "tkinter",
    "turtledemo",
    "turtle.py",
    "ensurepip",
    "lib2to3",
    "pydoc_data",
    "dist-packages",
    "site-packages",
    "sitecustomize.py",
];

/// Where Python and its packages are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    pub program: PathBuf,
    /// Folders that packages are installed in, such as a virtual environment's `site-packages`;
    /// the first that has a package is taken.
    pub libraries: Vec<PathBuf>,
}

/// What the interpreter says of itself.
struct Interpreter {
    version: String,
    program: PathBuf,
    library: PathBuf,
}

/// Packs this machine's Python, with `awslambdaric` and the other `names`, and a bootstrap.
pub fn runtime(out_zip: &Path, machine: &Machine, names: &[String]) -> Result<Packed> {
    let python = machine.ask()?;
    let name = python.name();
    let work = Work::new()?;
    let standard = work.copy(&format!("{HOME}/lib/{name}"), &python.library, |path| {
        let first = path.components().next().map(|part| part.as_os_str().to_string_lossy().into_owned());
        let first = first.unwrap_or_default();
        !LEFT_OUT.contains(&first.as_str()) && !first.starts_with("config-")
    })?;
    let all: Vec<String> = names.iter().cloned().chain([CLIENT.to_owned()]).collect();
    let packages = work.copy_packages(machine, OWN_PACKAGES, &all, &BTreeSet::new())?;
    work.compile(&python)?;
    let mut layer = Layer::default();
    layer.folder(HOME, &work.folder.path().join(HOME), |_| true)?;
    let program = format!("{HOME}/bin/{name}");
    layer.file(&program, &python.program, true);
    let tools = ground::put_programs(&mut layer, &["bash"])?;
    ground::put_encodings(&mut layer, HOME)?;
    let libraries = ground::put_libraries(&mut layer, LIBRARIES, &[], &BTreeSet::new())?;
    let loader = ground::loader_of(&python.program)?;
    ground::rehome(&mut layer, &tools, LIBRARIES, &loader)?;
    // It starts itself by its name for processes of its own.
    layer.bytes(program, ground::rehomed(&python.program, LIBRARIES, &loader)?, true);
    ground::put_zones_and_locale(&mut layer, HOME)?;
    let bootstrap = include_str!("layer/bootstrap.sh").replace("@LOADER@", &loader).replace("@PYTHON@", &name);
    layer.bytes("bootstrap", bootstrap, true);
    let version = python.version;
    let mut named = vec![Named { name, version: Some(version.clone()), at: standard }];
    named.extend(packages);
    layer.write(out_zip, About { kind: KIND_RUNTIME, version, packages: named, libraries, below: vec![] })
}

/// Packs installed packages and all that they need, less what the layers `below` have: Python's
/// own first, then those that this one is laid over.
pub fn packages(out_zip: &Path, machine: &Machine, names: &[String], below: &[PathBuf]) -> Result<Packed> {
    let python = machine.ask()?;
    let below = Below::read(&Language { name: LANGUAGE, kind: KIND_RUNTIME, version: &python.version }, below)?;
    below.check_new(names, LANGUAGE)?;
    let work = Work::new()?;
    let at = format!("python/lib/{}/site-packages", python.name());
    let packages = work.copy_packages(machine, &at, names, &below.packages)?;
    work.compile(&python)?;
    let mut layer = Layer::default();
    layer.folder("python", &work.folder.path().join("python"), |_| true)?;
    let libraries = ground::put_libraries(&mut layer, LIBRARIES, &[], &below.libraries)?;
    let version = python.version;
    layer.write(out_zip, About { kind: KIND_PACKAGES, version, packages, libraries, below: below.layers })
}

impl Machine {
    fn ask(&self) -> Result<Interpreter> {
        const QUESTION: &str = "import os, sys, sysconfig; print('.'.join(map(str, sys.version_info[:3]))); \
            print(os.path.realpath(sys.executable)); print(sysconfig.get_path('stdlib'))";
        let context = format!("ask {} where its library is", self.program.display());
        let ran = supervisor::output(Command::new(&self.program).args(["-I", "-c", QUESTION]));
        let ran = ran.during(Kind::FixSetup, &context)?;
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        match said.lines().collect::<Vec<_>>()[..] {
            [version, program, library] if ran.status.success() => {
                Ok(Interpreter { version: version.to_owned(), program: program.into(), library: library.into() })
            }
            _ => {
                let said = String::from_utf8_lossy(&ran.stderr).trim().to_owned();
                Err(Error::new(Kind::FixSetup, context).because(said))
            }
        }
    }
}

impl Interpreter {
    /// `python3.11`
    fn name(&self) -> String {
        format!("python{}", self.version.split('.').take(2).collect::<Vec<_>>().join("."))
    }
}

/// The layer's files before they are packed: bytecode is made beside them.
struct Work {
    folder: TempDir,
}

impl Work {
    fn new() -> Result<Work> {
        let folder = tempfile::tempdir().during(Kind::FixSetup, "make a folder to pack from")?;
        Ok(Work { folder })
    }

    /// Gives the place in the layer, for the manifest.
    fn copy(&self, at: &str, from: &Path, wanted: impl Fn(&Path) -> bool) -> Result<String> {
        let mut layer = Layer::default();
        layer.folder(at, from, |path| !path.ends_with("__pycache__") && wanted(path))?;
        layer.spread(self.folder.path())?;
        Ok(at.to_owned())
    }

    fn copy_packages(
        &self,
        machine: &Machine,
        at: &str,
        names: &[String],
        given: &BTreeSet<String>,
    ) -> Result<Vec<Named>> {
        let mut found: BTreeMap<String, Distribution> = BTreeMap::new();
        let mut waiting: Vec<(String, Option<String>)> = names.iter().map(|name| (name.clone(), None)).collect();
        while let Some((name, needed_by)) = waiting.pop() {
            let name = distribution::normal(&name);
            if given.contains(&name) || found.contains_key(&name) {
                continue;
            }
            let Some(package) = distribution::find(&machine.libraries, &name)? else {
                return Err(missing(machine, &name, needed_by.as_deref()));
            };
            for need in &package.may_need {
                if distribution::find(&machine.libraries, &distribution::normal(need))?.is_some() {
                    waiting.push((need.clone(), Some(name.clone())));
                }
            }
            waiting.extend(package.needs.iter().map(|need| (need.clone(), Some(name.clone()))));
            found.insert(name, package);
        }
        let mut named = Vec::new();
        for (name, package) in found {
            let mut layer = Layer::default();
            for file in &package.files {
                layer.file(format!("{at}/{file}"), &package.library.join(file), false);
            }
            layer.spread(self.folder.path())?;
            let at = format!("{at}/{}", package.information);
            named.push(Named { name, version: Some(package.version), at });
        }
        Ok(named)
    }

    /// By its content's hash, unchecked: unpacked files have no time that could tell.
    fn compile(&self, python: &Interpreter) -> Result<()> {
        const COMPILE: &str = "compile a layer's Python files";
        let folder = self.folder.path();
        let mut compile = Command::new(&python.program);
        compile
            .args(["-I", "-m", "compileall", "-q", "-j", "1", "--invalidation-mode", "unchecked-hash", "-s"])
            .arg(folder)
            .args(["-p", "/opt"])
            .arg(folder)
            .env("PYTHONHASHSEED", "0");
        let ran = supervisor::output(&mut compile).during(Kind::FixSetup, COMPILE)?;
        // It fails for a single file that is no Python of this version, such as a package's
        // template, which nothing imports.
        let made = WalkDir::new(folder).into_iter().flatten().any(|entry| entry.file_name() == "__pycache__");
        if made {
            return Ok(());
        }
        let said = [ran.stdout, ran.stderr].concat();
        Err(Error::new(Kind::FixSetup, COMPILE).because(String::from_utf8_lossy(&said).trim().to_owned()))
    }
}

fn missing(machine: &Machine, name: &str, needed_by: Option<&str>) -> Error {
    let by = needed_by.map(|by| format!(", which {by} needs")).unwrap_or_default();
    let libraries: Vec<String> = machine.libraries.iter().map(|library| library.display().to_string()).collect();
    let folder = libraries.first().map_or("FOLDER", String::as_str);
    let what = format!(
        "find the Python package {name}{by}: none of [{}] has it; install it with `{} -m pip install --target {folder} {name}`",
        libraries.join(", "),
        machine.program.display()
    );
    Error::new(if needed_by.is_some() { Kind::FixSetup } else { Kind::FixInput }, what)
}
