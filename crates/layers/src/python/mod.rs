//! Packs Python as layers: this machine's CPython with AWS's runtime interface client, and layers of packages.
//!
//! In a layer the interpreter is in `/opt/cpython` and its shared libraries in `/opt/cpython/shared`. Packages of
//! further layers are in `/opt/python`, where AWS Lambda expects them. Bytecode is compiled when a layer is packed:
//! a function can't write it to a layer, so each cold start would compile everything that it imports.

mod distribution;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use walkdir::WalkDir;

use crate::base_layers::{BaseLayers, Language};
use crate::error::{Error, ErrorContext, Kind, Result, end_of};
use crate::pack::{Layer, LayerDescription, PackedLayer, PackedPart};
use crate::runtime_files;
use distribution::Distribution;

const KIND_RUNTIME: &str = "python";
const KIND_PACKAGES: &str = "python-packages";
const HOME: &str = "cpython";
const LIBRARIES: &str = "cpython/shared";
const OWN_PACKAGES: &str = "cpython/site-packages";
const LANGUAGE: &str = "Python";
/// The package with AWS's runtime interface client.
const CLIENT: &str = "awslambdaric";

/// Parts of the standard library that no function needs, and files with the host's own settings.
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

/// Where Python and its packages are installed on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// The interpreter, as a path or as a command's name.
    pub program: PathBuf,
    /// Folders that packages are installed in, such as a virtual environment's `site-packages`. The first that has a
    /// package counts.
    pub libraries: Vec<PathBuf>,
    /// Packages that are packed beside those that a layer names; those that a layer below has are left out.
    pub required: Vec<String>,
}

/// What the interpreter reports about itself.
struct Interpreter {
    version: String,
    program: PathBuf,
    library: PathBuf,
}

/// Packs this machine's Python into the zip `out_zip`, with a bootstrap, `awslambdaric` and the packages `names`.
///
/// # Errors
/// [`Kind::FixSetup`] where something that every layer needs is not installed, [`Kind::FixInput`] where a named
/// package is not installed.
pub fn runtime(out_zip: &Path, installation: &Installation, names: &[String]) -> Result<PackedLayer> {
    let python = installation.ask()?;
    let name = python.name();
    let work = StagingFolder::new()?;
    let standard = work.copy(&format!("{HOME}/lib/{name}"), &python.library, |path| {
        let first = path.components().next().map(|part| part.as_os_str().to_string_lossy().into_owned());
        let first = first.unwrap_or_default();
        !LEFT_OUT.contains(&first.as_str()) && !first.starts_with("config-")
    })?;
    let all: Vec<String> = names.iter().cloned().chain([CLIENT.to_owned()]).collect();
    let packages = work.copy_packages(installation, OWN_PACKAGES, &all, &BTreeSet::new())?;
    work.compile(&python)?;
    let mut layer = Layer::default();
    layer.folder(HOME, &work.folder.path().join(HOME), |_| true)?;
    let program = format!("{HOME}/bin/{name}");
    layer.file(&program, &python.program, true);
    let tools = runtime_files::put_programs(&mut layer, &["bash"])?;
    runtime_files::put_encodings(&mut layer, HOME)?;
    let libraries = runtime_files::put_libraries(&mut layer, LIBRARIES, &[], &BTreeSet::new())?;
    let loader = runtime_files::loader_of(&python.program)?;
    runtime_files::set_loader(&mut layer, &tools, LIBRARIES, &loader)?;
    // With the layer's loader in it: `multiprocessing` starts the program itself, without the bootstrap.
    layer.bytes(program, runtime_files::with_loader(&python.program, LIBRARIES, &loader)?, true);
    runtime_files::put_zones_and_locale(&mut layer, HOME)?;
    let filled = |text: &str| text.replace("@LOADER@", &loader).replace("@PYTHON@", &name);
    layer.bytes(format!("{HOME}/environment.sh"), filled(include_str!("layer/environment.sh")), false);
    layer.bytes("bootstrap", filled(include_str!("layer/bootstrap.sh")), true);
    for program in ["python", "python3"] {
        let at = format!("{}/{program}", runtime_files::PROGRAMS);
        layer.bytes(at, filled(include_str!("layer/python.sh")), true);
    }
    // What trains and serves models by scripts, by SageMaker's container contract.
    layer.bytes("train", include_str!("layer/train.sh"), true);
    layer.bytes("serve", include_str!("layer/serve.sh"), true);
    layer.bytes(format!("{HOME}/sagemaker/training.py"), include_str!("layer/training.py"), false);
    layer.bytes(format!("{HOME}/sagemaker/serving.py"), include_str!("layer/serving.py"), false);
    let version = python.version;
    let mut named = vec![PackedPart { name, version: Some(version.clone()), at: standard }];
    named.extend(packages);
    layer.write(out_zip, LayerDescription { kind: KIND_RUNTIME, version, packages: named, libraries, below: vec![] })
}

/// Packs installed packages, and all packages that they need, into the zip `out_zip`, without those that the layers
/// `below` contain. The first of these is Python's own.
///
/// # Errors
/// [`Kind::FixInput`] where a named package is not installed, or the layers below do not fit.
pub fn packages(
    out_zip: &Path,
    installation: &Installation,
    names: &[String],
    below: &[PathBuf],
) -> Result<PackedLayer> {
    let python = installation.ask()?;
    let below = BaseLayers::read(&Language { name: LANGUAGE, kind: KIND_RUNTIME, version: &python.version }, below)?;
    if !names.is_empty() || installation.required.is_empty() {
        below.check_new(names, LANGUAGE)?;
    }
    let work = StagingFolder::new()?;
    let at = format!("python/lib/{}/site-packages", python.name());
    let packages = work.copy_packages(installation, &at, names, &below.packages)?;
    work.compile(&python)?;
    let mut layer = Layer::default();
    layer.folder("python", &work.folder.path().join("python"), |_| true)?;
    let libraries = runtime_files::put_libraries(&mut layer, LIBRARIES, &[], &below.libraries)?;
    let version = python.version;
    layer.write(out_zip, LayerDescription { kind: KIND_PACKAGES, version, packages, libraries, below: below.layers })
}

impl Installation {
    /// An interpreter with the packages that it finds by itself: those of a virtual environment, where it is one's.
    ///
    /// # Errors
    /// [`Kind::FixSetup`] where it can't be started.
    pub fn of_program(program: impl Into<PathBuf>) -> Result<Installation> {
        const QUESTION: &str = "import site; print('\\n'.join(site.getsitepackages()))";
        let program = program.into();
        let context = format!("find the packages of {}", program.display());
        let ran = supervisor::output(Command::new(&program).args(["-I", "-c", QUESTION]));
        let output = ran.during(Kind::FixSetup, context)?;
        let libraries = String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from).collect();
        Ok(Installation { program, libraries, required: vec![] })
    }

    /// Has pip install what a `requirements.txt` lists into `folder`. Layers then have all of it.
    ///
    /// # Errors
    /// [`Kind::FixInput`] with the end of pip's output where it can't be installed.
    pub fn install(&mut self, requirements: &Path, folder: &Path) -> Result<()> {
        let context = format!("install the packages of {}", requirements.display());
        let mut pip = Command::new(&self.program);
        pip.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--no-compile"])
            .arg("--target")
            .arg(folder)
            .arg("--requirement")
            .arg(requirements);
        // Paths in the file are relative to it.
        if let Some(folder) = requirements.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            pip.current_dir(folder);
        }
        let ran = supervisor::output(&mut pip).during(Kind::FixSetup, &context)?;
        if !ran.status.success() {
            return Err(Error::new(Kind::FixInput, context).because(end_of(&ran.stderr)));
        }
        self.required = distribution::names(folder).during(Kind::FixSetup, &context)?;
        self.libraries.insert(0, folder.to_owned());
        Ok(())
    }

    /// Starts the interpreter to find its version, its file and its library.
    fn ask(&self) -> Result<Interpreter> {
        const QUESTION: &str = "import os, sys, sysconfig; print('.'.join(map(str, sys.version_info[:3]))); \
            print(os.path.realpath(sys.executable)); print(sysconfig.get_path('stdlib'))";
        let context = format!("find the library of {}", self.program.display());
        let ran = supervisor::output(Command::new(&self.program).args(["-I", "-c", QUESTION]));
        let ran = ran.during(Kind::FixSetup, &context)?;
        let output = String::from_utf8_lossy(&ran.stdout).into_owned();
        match output.lines().collect::<Vec<_>>()[..] {
            [version, program, library] if ran.status.success() => {
                Ok(Interpreter { version: version.to_owned(), program: program.into(), library: library.into() })
            }
            _ => {
                let errors = String::from_utf8_lossy(&ran.stderr).trim().to_owned();
                Err(Error::new(Kind::FixSetup, context).because(errors))
            }
        }
    }
}

impl Interpreter {
    /// The name of its program and library: `python3.11`.
    fn name(&self) -> String {
        format!("python{}", self.version.split('.').take(2).collect::<Vec<_>>().join("."))
    }
}

/// A temporary folder with the layer's files, where bytecode is compiled before they are packed.
struct StagingFolder {
    folder: TempDir,
}

impl StagingFolder {
    fn new() -> Result<StagingFolder> {
        let folder = tempfile::tempdir().during(Kind::FixSetup, "make a folder to pack from")?;
        Ok(StagingFolder { folder })
    }

    /// Copies a folder to `at`, without bytecode, and gives `at`, for the manifest.
    fn copy(&self, at: &str, from: &Path, wanted: impl Fn(&Path) -> bool) -> Result<String> {
        let mut layer = Layer::default();
        layer.folder(at, from, |path| !path.ends_with("__pycache__") && wanted(path))?;
        layer.write_files(self.folder.path())?;
        Ok(at.to_owned())
    }

    /// Copies packages, and all packages that they need, to `at`, without those in `provided`.
    fn copy_packages(
        &self,
        installation: &Installation,
        at: &str,
        names: &[String],
        provided: &BTreeSet<String>,
    ) -> Result<Vec<PackedPart>> {
        let mut found: BTreeMap<String, Distribution> = BTreeMap::new();
        let named = names.iter().chain(&installation.required);
        let mut waiting: Vec<(String, Option<String>)> = named.map(|name| (name.clone(), None)).collect();
        while let Some((name, needed_by)) = waiting.pop() {
            let name = distribution::normal(&name);
            if provided.contains(&name) || found.contains_key(&name) {
                continue;
            }
            let Some(package) = distribution::find(&installation.libraries, &name)? else {
                return Err(missing(installation, &name, needed_by.as_deref()));
            };
            for need in &package.may_need {
                if distribution::find(&installation.libraries, &distribution::normal(need))?.is_some() {
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
            layer.write_files(self.folder.path())?;
            let at = format!("{at}/{}", package.information);
            named.push(PackedPart { name, version: Some(package.version), at });
        }
        Ok(named)
    }

    /// Compiles all files. The bytecode refers to its source by hash and is not checked against it: unpacked files
    /// have no reliable time.
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
        // compileall fails because of any file that is not Python of this version, such as a package's template, which
        // is never imported. So the presence of bytecode decides.
        let is_compiled = WalkDir::new(folder).into_iter().flatten().any(|entry| entry.file_name() == "__pycache__");
        if is_compiled {
            return Ok(());
        }
        let output = [ran.stdout, ran.stderr].concat();
        Err(Error::new(Kind::FixSetup, COMPILE).because(String::from_utf8_lossy(&output).trim().to_owned()))
    }
}

fn missing(installation: &Installation, name: &str, needed_by: Option<&str>) -> Error {
    let by = needed_by.map(|by| format!(", which {by} needs")).unwrap_or_default();
    let libraries: Vec<String> = installation.libraries.iter().map(|library| library.display().to_string()).collect();
    let folder = libraries.first().map_or("FOLDER", String::as_str);
    let what = format!(
        "find the Python package {name}{by}: it is in none of [{}]; install it with \
         `{} -m pip install --target {folder} {name}`",
        libraries.join(", "),
        installation.program.display()
    );
    Error::new(if needed_by.is_some() { Kind::FixSetup } else { Kind::FixInput }, what)
}
