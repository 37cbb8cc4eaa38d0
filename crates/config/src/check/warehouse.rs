//! Checks `wattlake.toml`: the lake, connections, PostgreSQL's programs, the server, roles, hooks and upkeep.

use std::collections::BTreeMap;
use std::path::Path;

use base::suggestion;
use toml::de::{DeTable, DeValue};
use url::Url;

use super::super::expand::{self, Env};
use super::super::problem::FileProblems;
use super::super::raw::{self, FileKind};
use super::super::{LAKE, Lake, Role, Secret, Warehouse, schema_check};
use super::{connection, job, model, serve};

/// The schemes that a lake's URL may have; without a scheme it is a folder.
const SCHEMES: [&str; 9] = ["file", "s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss"];

/// Checks the file. `names` gets the names of all connections in it, also of those with problems.
pub fn check(
    root: &Path,
    report: &mut FileProblems<'_>,
    env: Env<'_>,
    names: &mut Option<Vec<String>>,
) -> Option<Warehouse> {
    let mut tree = schema_check::tree(report)?;
    *names = connection_names(tree.get_ref());
    expand::strings(tree.get_mut(), env, report);
    let raw: raw::Warehouse = schema_check::read(FileKind::Warehouse, tree, report)?;
    let lake = match report.take_unset_under(&["lake"]) {
        Some(unset) => Some(Err(unset)),
        None => check_lake(root, &raw.lake, report).map(Ok),
    };
    let mut connections = BTreeMap::new();
    for (name, connection) in raw.connections {
        if name.get_ref() == LAKE {
            let what = format!("a connection can't have the name {LAKE:?}, which is the lake as a target");
            report.add(name.span(), what, Some("choose another name".to_owned()));
        }
        if let Some(checked) = connection::check(root, name.get_ref(), &connection, report) {
            connections.insert(name.into_inner(), checked);
        }
    }
    let postgres_bin_dir = match report.take_unset_under(&["postgres"]) {
        Some(unset) => Err(unset),
        None => Ok(raw.postgres.bin_dir.get().map(|dir| root.join(dir))),
    };
    let roles = raw.roles.into_iter().map(|(name, role)| serve::role(&name, role.into_inner(), report));
    let roles: BTreeMap<String, Role> = roles.collect();
    let serve = serve::check(root, &raw.serve, report);
    let zone = serve.as_ref().map_or("UTC", |serve| &serve.timezone);
    let file = root.join(super::WAREHOUSE_FILE);
    let upkeep = job::upkeep(&raw.upkeep, &file, zone, report);
    let hooks = job::hooks(raw.hooks, report);
    Some(Warehouse {
        root: root.to_owned(),
        lake: lake?,
        connections,
        postgres_bin_dir,
        transfers: BTreeMap::new(),
        marts: BTreeMap::new(),
        serve: serve?,
        roles,
        file,
        hooks,
        upkeep,
        layers: BTreeMap::new(),
        functions: BTreeMap::new(),
        ingests: BTreeMap::new(),
        loads: BTreeMap::new(),
        controls: BTreeMap::new(),
        statements: BTreeMap::new(),
        trainings: BTreeMap::new(),
        collects: BTreeMap::new(),
        predictions: BTreeMap::new(),
        containers: BTreeMap::new(),
        endpoints: BTreeMap::new(),
        model_data: model::data(root, &raw.models, report),
    })
}

fn connection_names(tree: &DeTable<'_>) -> Option<Vec<String>> {
    match tree.get("connections").map(|value| value.get_ref()) {
        None => Some(Vec::new()),
        Some(DeValue::Table(table)) => Some(table.keys().map(|key| key.get_ref().to_string()).collect()),
        Some(_) => None,
    }
}

fn check_lake(root: &Path, raw: &raw::Lake, report: &mut FileProblems<'_>) -> Option<Lake> {
    let (url, span) = (raw.url.get()?, raw.url.span()?);
    let url = match url.split_once("://") {
        None => root.join(url).to_string_lossy().into_owned(),
        Some((scheme, _)) if !SCHEMES.contains(&scheme) => {
            let what = format!("unknown kind of object store in {}", report.written(&span));
            report.add(span, what, suggestion("scheme", scheme, &SCHEMES));
            return None;
        }
        Some(_) => match Url::parse(url) {
            Ok(_) => url.clone(),
            Err(error) => {
                let what = format!("this is not a URL: {}: {error}", report.written(&span));
                report.add(span, what, Some("write a folder, or s3://bucket/prefix".to_owned()));
                return None;
            }
        },
    };
    let options = raw.options.iter().map(|(key, value)| (key.clone(), Secret::new(value))).collect();
    Some(Lake { url, options })
}
