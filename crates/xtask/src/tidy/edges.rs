//! Which crate may stand on which: edges run one way, and the heavy engines have one owner each.

use super::{File, Finding};

/// What a crate may name under `[dependencies]`, among our own.
const EDGES: &[(&str, &[&str])] = &[
    (
        "wattlake",
        &[
            "server",
            "jobs",
            "config",
            "transfer",
            "stream",
            "function",
            "model",
            "sandbox",
            "layers",
            "ingest",
            "supervisor",
            "sql",
            "ledger",
            "schedule",
            "lake",
            "pgserver",
            "platform",
        ],
    ),
    ("server", &["jobs", "config", "function", "gateway", "ledger", "model", "pg", "sql", "lake"]),
    (
        "jobs",
        &[
            "config",
            "transfer",
            "stream",
            "function",
            "model",
            "sandbox",
            "ingest",
            "bill",
            "typeset",
            "pg",
            "sql",
            "ledger",
            "schedule",
            "lake",
            "pgserver",
            "supervisor",
        ],
    ),
    ("config", &["transfer", "stream", "function", "gateway", "model", "ingest", "bill", "sql", "lake", "schedule"]),
    ("base", &[]),
    ("sandbox", &[]),
    ("schedule", &["ledger"]),
    ("transfer", &["lake", "pgserver", "ledger", "stream"]),
    ("pg", &["sql", "lake"]),
    ("sql", &["optimizer", "series", "lake"]),
    ("optimizer", &[]),
    ("series", &[]),
    ("stream", &[]),
    ("function", &["gateway", "ledger", "sandbox"]),
    ("gateway", &[]),
    ("model", &["function", "gateway", "ledger", "lightgbm", "sandbox"]),
    ("lightgbm", &[]),
    ("ingest", &[]),
    ("lake", &[]),
    ("layers", &["function", "sandbox", "supervisor"]),
    ("ledger", &[]),
    ("pgserver", &["supervisor"]),
    ("platform", &[]),
    ("bill", &[]),
    ("typeset", &[]),
    ("supervisor", &[]),
    ("testkit", &[]),
    ("xtask", &["pgserver", "platform"]),
];

/// The crate that all others may stand on.
const BASE: &str = "base";

/// Free for everybody's tests.
const TEST_PARTS: [&str; 3] = ["pgserver", "platform", "testkit"];

/// Packages of others that only these crates may depend on.
const OWNED: [(&str, &[&str]); 5] = [
    ("deltalake", &["lake"]),
    ("delta_kernel", &["lake"]),
    ("pgwire", &["pg"]),
    ("datafusion-postgres", &["pg"]),
    ("clap", &["wattlake", "xtask"]),
];

/// Adds the dependencies between crates that are not allowed.
pub fn check(files: &[File], found: &mut Vec<Finding>) {
    for file in files.iter().filter(|f| is_manifest(f)) {
        match file.text.parse::<toml::Table>() {
            Ok(manifest) => check_manifest(file, &manifest, found),
            Err(error) => found.push(file.finding("parse", 0, error.message())),
        }
    }
}

fn is_manifest(file: &File) -> bool {
    file.crate_name().is_some_and(|name| file.path == format!("crates/{name}/Cargo.toml"))
}

fn check_manifest(file: &File, manifest: &toml::Table, found: &mut Vec<Finding>) {
    let name = file.crate_name().unwrap_or_default();
    let Some((_, allowed)) = EDGES.iter().find(|(from, _)| *from == name) else {
        let says = format!("`{name}` is a new crate: say in {} which crates it may stand on", file!());
        return found.push(file.finding("edge", 0, says));
    };
    for (package, in_tests) in dependencies(manifest) {
        let ours = EDGES.iter().any(|(to, _)| *to == package);
        if ours && package != BASE && !allowed.contains(&package) && !(in_tests && TEST_PARTS.contains(&package)) {
            found.push(file.finding("edge", 0, format!("{name} -> {package} is not an edge of the house")));
        }
        if let Some((_, owners)) = OWNED.iter().find(|(owned, owners)| *owned == package && !owners.contains(&name)) {
            let says = format!("{name} -> {package}: only {} may", owners.join(" and "));
            found.push(file.finding("edge", 0, says));
        }
    }
}

/// Names of packages under all tables of dependencies, those of targets included; true: for tests only.
fn dependencies(manifest: &toml::Table) -> Vec<(&str, bool)> {
    let mut holders = vec![manifest];
    if let Some(targets) = manifest.get("target").and_then(toml::Value::as_table) {
        holders.extend(targets.values().filter_map(toml::Value::as_table));
    }
    let kinds = [("dependencies", false), ("build-dependencies", false), ("dev-dependencies", true)];
    let mut all = Vec::new();
    for holder in holders {
        for (kind, in_tests) in kinds {
            let table = holder.get(kind).and_then(toml::Value::as_table);
            for (key, value) in table.into_iter().flatten() {
                // A crate of ours under another name is still that crate.
                let package = value.get("package").and_then(toml::Value::as_str).unwrap_or(key);
                all.push((package, in_tests));
            }
        }
    }
    all
}
