//! The content of layers of R.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use layers::r::{Installation, Options, package_source, packages, runtime};
use layers::{Kind, Manifest};
use libtest_mimic::Trial;
use serde_json::json;

use crate::world::{Host, LAYERS, Root, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("layer::the_same_machine_gives_the_same_bytes", async || same_bytes()),
        trial("layer::its_manifest_names_r_and_its_packages", async || manifest()),
        trial("layer::a_layer_has_nothing_that_those_below_have", async || nothing_twice()),
        trial("layer::what_cannot_be_packed_is_reported_with_the_reason", async || refusals()),
        trial("layer::a_kill_while_packing_leaves_no_zip", async || killed()),
        trial("layer::packages_that_others_link_to_come_along", async || links()),
        trial("layer::the_versions_of_a_lock_file", async || lock_file()),
        trial("layer::a_source_package_of_ones_own", source_package),
    ]
}

/// Packs R's layer. Runs in a process of its own, which a test kills.
pub fn pack(out: &str) -> ExitCode {
    match runtime(Path::new(out), &Options::default()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn same_bytes() {
    let again = LAYERS.folder.path().join("again.zip");
    let packed = runtime(&again, &Options::default()).expect("R's layer");
    assert_eq!(packed.sha256, LAYERS.persistent.sha256);
    assert!(fs::read(&again).expect("a zip") == fs::read(&LAYERS.persistent.zip).expect("a zip"));
    assert_ne!(packed.sha256, LAYERS.per_event.sha256);
}

fn manifest() {
    let manifest = Manifest::of(&LAYERS.persistent.zip).expect("a manifest");
    assert_eq!(manifest, LAYERS.persistent.manifest);
    assert_eq!(
        (manifest.kind.as_str(), manifest.version.as_str()),
        ("r", Installation::default().version().expect("R").as_str())
    );
    for name in ["base", "methods", "stats", "utils", "grDevices", "compiler"] {
        let package = manifest.packages.iter().find(|package| package.name == name).expect(name);
        assert_eq!((package.version.as_ref(), package.sha256.len()), (Some(&manifest.version), 64));
    }
    for name in ["libR.so", "libc.so.6", "libcurl.so.4"] {
        assert!(manifest.libraries.iter().any(|library| library.name == name), "{name}");
    }
    assert!(!manifest.packages.iter().any(|package| package.name == "tcltk"));
}

fn nothing_twice() {
    let names = |manifest: &Manifest| manifest.packages.iter().map(|p| p.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&LAYERS.second.manifest), ["curl", "jsonlite"]);
    assert_eq!(names(&LAYERS.third.manifest), ["data.table"]);
    let tree = LAYERS.store.tree(LAYERS.digest(&LAYERS.third)).expect("a tree");
    let mut top: Vec<_> = fs::read_dir(&tree).expect("a folder").flatten().map(|entry| entry.file_name()).collect();
    top.sort();
    assert_eq!(top, ["R", "layer.json"]);
    for library in &LAYERS.third.manifest.libraries {
        assert!(!LAYERS.persistent.manifest.libraries.iter().any(|below| below.name == library.name), "{library:?}");
    }
}

fn refusals() {
    let out = LAYERS.folder.path().join("refused.zip");
    let installation = Installation::default();
    let r = LAYERS.persistent.zip.clone();
    let refused = |names: &[&str], below: &[std::path::PathBuf]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let error = packages(&out, &installation, &names, below).expect_err("a refusal");
        assert_eq!(error.kind, Kind::FixInput, "{error}");
        error.to_string()
    };
    assert!(refused(&["jsonlite"], &[]).contains("name R's own layer first"));
    assert!(refused(&["jsonlite"], std::slice::from_ref(&LAYERS.second.zip)).contains("name R's own layer first"));
    assert!(refused(&["jsonlite"], &[LAYERS.folder.path().join("none.zip")]).contains("none.zip"));
    assert!(refused(&["noSuchPackage"], std::slice::from_ref(&r)).contains("install.packages(\"noSuchPackage\")"));
    assert!(refused(&["stats"], std::slice::from_ref(&r)).contains("a layer below contains it already"));
    assert!(refused(&[], std::slice::from_ref(&r)).contains("at least one"));
    assert!(!out.exists());
}

fn killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("r.zip");
    let files = || fs::read_dir(folder.path()).expect("a folder").count();
    for wait_ms in [0, 20, 100, 300] {
        let before = files();
        let mut packing = std::process::Command::new(std::env::current_exe().expect("this program"))
            .arg("pack")
            .arg(&out)
            .spawn()
            .expect("a process");
        while files() == before {
            assert!(packing.try_wait().expect("its state").is_none(), "it has ended without a file");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(wait_ms));
        packing.kill().expect("a kill");
        packing.wait().expect("its end");
        assert!(!out.exists(), "killed {wait_ms} ms after it began to write");
    }
    let packed = runtime(&out, &Options::default()).expect("R's layer");
    assert_eq!(packed.sha256, LAYERS.persistent.sha256);
}

fn links() {
    let installation = Installation::default();
    let library = LAYERS.folder.path().join("library");
    for (name, field) in [("outer", "LinkingTo: headers, noSuchHeaders\nImports: jsonlite\n"), ("headers", "")] {
        let folder = library.join(name);
        fs::create_dir_all(folder.join("include")).expect("a folder");
        fs::write(folder.join("include/large.h"), "for compilers").expect("a file");
        fs::write(folder.join("DESCRIPTION"), format!("Package: {name}\nVersion: 1\n{field}")).expect("a file");
    }
    let installation =
        Installation { libraries: [vec![library], installation.libraries.clone()].concat(), ..installation };
    let out = LAYERS.folder.path().join("links.zip");
    let below = [LAYERS.persistent.zip.clone(), LAYERS.second.zip.clone()];
    let packed = packages(&out, &installation, &["outer".to_owned()], &below).expect("a layer");
    let names: Vec<&str> = packed.manifest.packages.iter().map(|package| package.name.as_str()).collect();
    assert_eq!(names, ["headers", "outer"]);
    assert_eq!(packed.files, 3, "no headers: {packed:?}");
    fs::write(LAYERS.folder.path().join("library/outer/DESCRIPTION"), "Package: outer\nVersion: 1\nImports: noSuch\n")
        .expect("a file");
    let error = packages(&out, &installation, &["outer".to_owned()], &below).expect_err("a refusal");
    assert_eq!(error.kind, Kind::FixSetup);
    assert!(error.to_string().contains("noSuch, which outer needs"), "{error}");
}

fn lock_file() {
    let file = LAYERS.folder.path().join("renv.lock");
    let locked = |version: &str| {
        let text = format!(
            r#"{{"R": {{"Version": "4.2.2"}}, "Packages": {{
                "jsonlite": {{"Package": "jsonlite", "Version": "{version}", "Source": "Repository"}},
                "renv": {{"Package": "renv", "Version": "1.0.0"}}}}}}"#
        );
        fs::write(&file, text).expect("a file");
        let mut installation = Installation::default();
        installation.require(&file).expect("a lock file");
        installation
    };
    let out = LAYERS.folder.path().join("locked.zip");
    let below = [LAYERS.persistent.zip.clone()];
    let error = packages(&out, &locked("0.0.1"), &[], &below).expect_err("a refusal");
    assert_eq!(error.kind, Kind::FixInput);
    assert!(error.to_string().starts_with("find version 0.0.1 of the R package jsonlite: "), "{error}");
    let description = fs::read_to_string("/usr/lib/R/site-library/jsonlite/DESCRIPTION").expect("jsonlite");
    let version = description.lines().find_map(|line| line.strip_prefix("Version: ")).expect("its version");
    let packed = packages(&out, &locked(version), &[], &below).expect("a layer");
    let names: Vec<&str> = packed.manifest.packages.iter().map(|package| package.name.as_str()).collect();
    assert_eq!(names, ["jsonlite"]);
}

async fn source_package() {
    let folder = LAYERS.folder.path().join("tariff");
    fs::create_dir_all(folder.join("R")).expect("a folder");
    fs::write(folder.join("DESCRIPTION"), "Package: tariff\nVersion: 1.2\nTitle: T\nDescription: D.\nLicense: none\n")
        .expect("a file");
    fs::write(folder.join("NAMESPACE"), "export(price)\n").expect("a file");
    fs::write(folder.join("R/price.R"), "price <- function(kwh) round(kwh * 0.1234, 2)\n").expect("a file");
    let out = LAYERS.folder.path().join("tariff.zip");
    let below = [LAYERS.persistent.zip.clone()];
    let packed = package_source(&out, &Installation::default(), &folder, &below).expect("a layer");
    assert_eq!(packed.manifest.packages[0].version.as_deref(), Some("1.2"));
    let layers = [&LAYERS.persistent, &packed].map(|packed| LAYERS.digest(packed)).to_vec();
    let host = Host::new("run <- function(kwh) tariff::price(kwh)", "bill.run", layers, Root::Host);
    assert_eq!(host.value(r#"{"kwh": 1000}"#).await, json!(123.4));
    fs::write(folder.join("R/price.R"), "price <- function(kwh) {\n").expect("a file");
    let error = package_source(&out, &Installation::default(), &folder, &below).expect_err("a refusal");
    assert!(
        std::error::Error::source(&error).is_some_and(|source| source.to_string().contains("price.R")),
        "{error:?}"
    );
}
