//! No forgotten file: every Rust file under `crates/` is a root that Cargo builds, or declared by one.
//! A test file that no `mod` names never runs, and nobody notices.

use std::collections::{BTreeMap, BTreeSet};

use super::{File, Finding};

/// Adds files that no module declares, and modules without a file.
pub fn check(files: &[File], found: &mut Vec<Finding>) {
    let rust: BTreeMap<&str, &File> =
        files.iter().filter(|f| f.is_rust() && f.crate_name().is_some()).map(|f| (f.path.as_str(), f)).collect();
    let mut reached = BTreeSet::new();
    let mut waiting = roots(files, &rust);
    while let Some(path) = waiting.pop() {
        let Some(file) = rust.get(path.as_str()) else { continue };
        if reached.insert(file.path.clone())
            && let Ok(syntax) = syn::parse_file(&file.text)
        {
            let folder = children_folder(&path, is_root(files, &path));
            declared(&syntax.items, &path, &folder, &mut waiting);
        }
    }
    for file in rust.values().filter(|f| !reached.contains(&f.path)) {
        found.push(file.finding("forgotten", 0, "no `mod` and no target of Cargo names this file: it is never built"));
    }
}

/// What Cargo builds by itself, and the paths that manifests name.
fn roots(files: &[File], rust: &BTreeMap<&str, &File>) -> Vec<String> {
    rust.keys().filter(|path| is_root(files, path)).map(|path| (*path).to_owned()).collect()
}

fn is_root(files: &[File], path: &str) -> bool {
    let mut parts = path.splitn(3, '/');
    let (Some(_), Some(name), Some(inside)) = (parts.next(), parts.next(), parts.next()) else { return false };
    let manifest_path = format!("crates/{name}/Cargo.toml");
    let manifest = files.iter().find(|f| f.path == manifest_path).and_then(|f| f.text.parse::<toml::Table>().ok());
    let manifest = manifest.unwrap_or_default();
    if named_targets(&manifest).contains(&inside) {
        return true;
    }
    match *inside.split('/').collect::<Vec<_>>() {
        ["build.rs"] | ["src", "lib.rs" | "main.rs"] | ["src", "bin", _] | ["src", "bin", _, "main.rs"] => true,
        [kind @ ("tests" | "examples" | "benches"), _] | [kind @ ("tests" | "examples" | "benches"), _, "main.rs"] => {
            let found_by_itself = manifest.get("package").and_then(|p| p.get(format!("auto{kind}")));
            found_by_itself.and_then(toml::Value::as_bool).unwrap_or(true)
        }
        _ => false,
    }
}

fn named_targets(manifest: &toml::Table) -> Vec<&str> {
    let path = |target: &toml::Value| target.get("path").is_some();
    let mut targets: Vec<&toml::Value> = manifest.get("lib").into_iter().collect();
    for kind in ["bin", "test", "example", "bench"] {
        targets.extend(manifest.get(kind).and_then(toml::Value::as_array).into_iter().flatten());
    }
    targets.into_iter().filter(|t| path(t)).filter_map(|t| t.get("path")?.as_str()).collect()
}

/// Where the modules that a file declares are.
fn children_folder(path: &str, is_root: bool) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    match name {
        "mod.rs" => folder.to_owned(),
        _ if is_root => folder.to_owned(),
        _ => format!("{folder}/{}", name.trim_end_matches(".rs")),
    }
}

fn declared(items: &[syn::Item], path: &str, folder: &str, waiting: &mut Vec<String>) {
    for item in items {
        let syn::Item::Mod(module) = item else { continue };
        let name = module.ident.to_string();
        let name = name.trim_start_matches("r#");
        match (&module.content, path_attribute(module)) {
            (Some((_, inner)), _) => declared(inner, path, &format!("{folder}/{name}"), waiting),
            (None, Some(named)) => {
                let beside = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                waiting.push(normal(&format!("{beside}/{named}")));
            }
            (None, None) => {
                waiting.push(format!("{folder}/{name}.rs"));
                waiting.push(format!("{folder}/{name}/mod.rs"));
            }
        }
    }
}

fn path_attribute(module: &syn::ItemMod) -> Option<String> {
    module.attrs.iter().find_map(|attribute| match &attribute.meta {
        syn::Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    })
}

/// Without `.` and `..`.
pub fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}
