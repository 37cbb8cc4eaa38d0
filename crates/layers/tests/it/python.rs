//! This machine's Python with AWS's runtime interface client, in the sandbox.

use std::path::PathBuf;
use std::sync::LazyLock;

use layers::python::{Installation, packages, runtime};
use layers::{Kind, PackedLayer};
use libtest_mimic::Trial;
use serde_json::json;

use crate::world::{Host, LAYERS, Root, trial};

pub static PYTHON: LazyLock<PackedLayer> = LazyLock::new(|| pack("python.zip"));

fn pack(name: &str) -> PackedLayer {
    runtime(&LAYERS.folder.path().join(name), &installation(), &[]).expect("Python's layer")
}

/// Python in the tests' virtual environment, with the packages of crates/wattlake/tests/requirements.txt.
fn installation() -> Installation {
    let given = std::env::var_os("WATTLAKE_TEST_PYTHON").map(PathBuf::from);
    let program = given.unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/wattlake/test-venv/bin/python")
    });
    let folder = program.parent().and_then(|bin| bin.parent()).expect("an environment").join("lib");
    let versions = std::fs::read_dir(&folder).expect("there is no Python for the tests: run ./test, which installs it");
    let libraries = versions.flatten().map(|entry| entry.path().join("site-packages")).collect();
    Installation { program, libraries, required: vec![] }
}

const PROBE: &str = r#"
import ctypes, datetime, hashlib, json, multiprocessing, os, sqlite3, ssl, sys, zoneinfo

def run(event, context):
    what = event["what"]
    if what == "zones":
        paris = zoneinfo.ZoneInfo("Europe/Paris")
        day = [datetime.datetime(2024, 10, d, tzinfo=paris).astimezone(datetime.timezone.utc) for d in (27, 28)]
        return [(day[1] - day[0]).total_seconds() / 3600, zoneinfo.TZPATH[0], "Été €".upper(), context.aws_request_id[:8]]
    if what == "maps":
        lines = [line.split(maxsplit=5) for line in open("/proc/self/maps")]
        return sorted({line[5].strip() for line in lines if len(line) > 5 and line[5].startswith("/")})
    if what == "sources":
        import decimal, email, urllib.request
        modules = [m for m in sys.modules.values() if (getattr(m, "__file__", None) or "").startswith("/opt/")]
        modules = [m for m in modules if m.__file__.endswith(".py") and hasattr(m, "__cached__")]
        return [len(modules), [m.__name__ for m in modules if not os.path.exists(m.__cached__ or "")],
                ssl.OPENSSL_VERSION[:7], sqlite3.sqlite_version[:1]]
    if what == "spawn":
        process = multiprocessing.get_context("spawn")
        here, there = process.Pipe()
        child = process.Process(target=send, args=(there,))
        child.start()
        answer = here.recv()
        child.join()
        return answer
    raise ValueError(f"unknown: {what}")

def send(pipe):
    pipe.send(sys.executable)
"#;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("python::awslambdaric_answers_on_the_host", async || answers(Root::Host).await),
        trial("python::awslambdaric_answers_on_a_root_with_nothing_else", async || answers(Root::Bare).await),
        trial("python::the_same_machine_gives_the_same_bytes", async || {
            assert_eq!(pack("python-again.zip").sha256, PYTHON.sha256);
        }),
        trial("python::packages_of_another_layer", more_packages),
        trial("python::the_packages_of_a_requirements_file", requirements),
        trial("python::what_cannot_be_packed_is_reported_with_the_reason", async || refusals()),
    ]
}

fn probe(root: Root, layers: &[&PackedLayer]) -> Host {
    let layers = layers.iter().map(|packed| LAYERS.digest(packed)).collect();
    Host::of(&[("bill.py", 0o100_644, PROBE)], "bill.run", layers, root)
}

async fn answers(root: Root) {
    let host = probe(root, &[&PYTHON]);
    let zones = host.value(r#"{"what": "zones"}"#).await;
    assert_eq!(zones, json!([25.0, "/opt/cpython/zoneinfo", "ÉTÉ €", "00000000"]));
    let maps = host.value(r#"{"what": "maps"}"#).await;
    let maps: Vec<&str> = maps.as_array().expect("paths").iter().filter_map(|path| path.as_str()).collect();
    assert!(maps.contains(&"/opt/cpython/shared/libc.so.6"), "{maps:?}");
    let strangers: Vec<&&str> = maps.iter().filter(|path| !path.starts_with("/opt/")).collect();
    assert!(strangers.is_empty(), "{strangers:?}");
    let sources = host.value(r#"{"what": "sources"}"#).await;
    assert!(sources[0].as_u64().is_some_and(|count| count > 50), "{sources}");
    assert_eq!((&sources[1], &sources[2], &sources[3]), (&json!([]), &json!("OpenSSL"), &json!("3")));
    let spawned = host.value(r#"{"what": "spawn"}"#).await;
    assert!(spawned.as_str().is_some_and(|program| program.starts_with("/opt/cpython/bin/python3.")), "{spawned}");
    assert!(!host.log().contains("warning"), "{}", host.log());
    let (kind, body) = host.failure(r#"{"what": "x"}"#).await;
    assert_eq!((kind.as_str(), &body["errorMessage"]), ("ValueError", &json!("unknown: x")));
    assert!(body["stackTrace"][0].as_str().is_some_and(|line| line.contains("/var/task/bill.py")), "{body}");
}

async fn more_packages() {
    let out = LAYERS.folder.path().join("python-packages.zip");
    let below = [PYTHON.zip.clone()];
    let packed = packages(&out, &installation(), &["pandas".to_owned()], &below).expect("a layer");
    let names: Vec<&str> = packed.manifest.packages.iter().map(|package| package.name.as_str()).collect();
    assert!(names.contains(&"numpy") && names.contains(&"pandas") && !names.contains(&"awslambdaric"), "{names:?}");
    assert!(
        !packed.manifest.libraries.iter().any(|library| library.name.contains("openblas")),
        "beside numpy: {packed:?}"
    );
    let text = "import pandas\ndef run(event, context):\n  return int(pandas.Series(event).sum())\n";
    let layers = [&*PYTHON, &packed].map(|packed| LAYERS.digest(packed)).to_vec();
    let host = Host::of(&[("bill.py", 0o100_644, text)], "bill.run", layers, Root::Bare);
    assert_eq!(host.value("[40, 2]").await, json!(42));
}

async fn requirements() {
    let folder = LAYERS.folder.path().join("requirements");
    std::fs::create_dir_all(&folder).expect("a folder");
    let wheel = "import zipfile, sys
with zipfile.ZipFile(sys.argv[1], 'w') as wheel:
    info = 'tariff-1.2.dist-info/'
    wheel.writestr('tariff.py', 'def price(kwh): return round(kwh * 0.25, 2)')
    wheel.writestr(info + 'METADATA', 'Metadata-Version: 2.1\\nName: tariff\\nVersion: 1.2\\n')
    wheel.writestr(info + 'WHEEL', 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    wheel.writestr(info + 'RECORD', 'tariff.py,,\\n' + ''.join(info + f + ',,\\n' for f in ('METADATA', 'WHEEL', 'RECORD')))";
    let name = "tariff-1.2-py3-none-any.whl";
    let mut python = std::process::Command::new(installation().program);
    let made = python.args(["-c", wheel, name]).current_dir(&folder).status().expect("Python");
    assert!(made.success());
    let (file, target) = (folder.join("requirements.txt"), folder.join("target"));
    std::fs::write(&file, format!("# what the tariff needs\n./{name}\n")).expect("a file");
    let mut found = installation();
    found.install(&file, &target).expect("pip");
    let packed = packages(&folder.join("layer.zip"), &found, &[], std::slice::from_ref(&PYTHON.zip)).expect("a layer");
    let named: Vec<_> =
        packed.manifest.packages.iter().map(|part| (part.name.as_str(), part.version.as_deref())).collect();
    assert_eq!(named, [("tariff", Some("1.2"))]);
    let text = "import tariff\ndef run(event, context):\n  return tariff.price(event)\n";
    let layers = [&*PYTHON, &packed].map(|packed| LAYERS.digest(packed)).to_vec();
    let host = Host::of(&[("bill.py", 0o100_644, text)], "bill.run", layers, Root::Bare);
    assert_eq!(host.value("10").await, json!(2.5));
    std::fs::write(&file, "./nothing-1.0-py3-none-any.whl\n").expect("a file");
    let error = installation().install(&file, &folder.join("other")).expect_err("a refusal");
    assert_eq!(error.kind, Kind::FixInput);
    assert!(base_text(&error).contains("nothing-1.0"), "{error:?}");
}

fn base_text(error: &layers::Error) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    format!("{error}: {}", cause.unwrap_or_default())
}

fn refusals() {
    let out = LAYERS.folder.path().join("refused-python.zip");
    let refused = |names: &[&str], below: &[PathBuf]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let error = packages(&out, &installation(), &names, below).expect_err("a refusal");
        assert_eq!(error.kind, Kind::FixInput, "{error}");
        error.to_string()
    };
    assert!(
        refused(&["pandas"], std::slice::from_ref(&LAYERS.persistent.zip)).contains("name Python's own layer first")
    );
    assert!(refused(&["no-such"], std::slice::from_ref(&PYTHON.zip)).contains("pip install --target"));
    let nowhere = Installation { program: "/none/python3".into(), libraries: vec![], required: vec![] };
    assert_eq!(runtime(&out, &nowhere, &[]).expect_err("a refusal").kind, Kind::FixSetup);
    let alone = Installation { libraries: vec![], ..installation() };
    assert!(
        runtime(&out, &alone, &[]).expect_err("a refusal").to_string().contains("find the Python package awslambdaric")
    );
    assert!(!out.exists());
}
