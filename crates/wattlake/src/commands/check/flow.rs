//! Functions with their layers, and the queries of jobs and controls, against what is there.

use anyhow::Result;
use function::definition::{LayerName, Measured, refused_by_aws, variables_of};
use function::registry::{LATEST, Registry};
use lake::Lake;
use transfer::preflight::{Finding, Severity};

use super::awaited::Awaited;
use crate::config::{Function, holes};
use crate::flows::rows;
use crate::host;
use crate::report;
use crate::warehouse::Warehouse;

/// Each with what it is about.
pub async fn findings(warehouse: &Warehouse, lake: &Lake, awaited: &Awaited<'_>) -> Result<Vec<(String, Finding)>> {
    let mut found = Vec::new();
    let registry = host::registry(warehouse)?;
    for function in warehouse.config.functions.values() {
        let about = format!("function {}", function.name);
        for finding in of_function(warehouse, &registry, function)? {
            found.push((about.clone(), finding));
        }
        for (name, query) in function.call.iter().flat_map(|call| &call.inputs) {
            found.extend(
                prove(warehouse, lake, query, awaited).await.map(|finding| (format!("{about}, input {name}"), finding)),
            );
        }
    }
    for set in warehouse.config.controls.values() {
        for control in set.controls.values() {
            let about = format!("control {}/{}", set.name, control.name);
            found.extend(prove(warehouse, lake, &control.sql, awaited).await.map(|finding| (about, finding)));
        }
    }
    for statement in warehouse.config.statements.values() {
        let queries = [("lines", Some(&statement.lines)), ("days", statement.days.as_ref())];
        for (name, query) in queries.into_iter().filter_map(|(name, query)| Some((name, query?))) {
            let about = format!("statement {}, {name}", statement.name);
            found.extend(prove(warehouse, lake, query, awaited).await.map(|finding| (about, finding)));
        }
    }
    Ok(found)
}

fn of_function(warehouse: &Warehouse, registry: &Registry, function: &Function) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    let mut say = |severity: Severity, subject: &str, what: String, hint: Option<String>| {
        found.push(Finding { severity, subject: subject.to_owned(), what, hint, shared: None });
    };
    let definition = &function.definition;
    let published = registry.layers()?;
    for layer in &definition.layers {
        let (name, version) = match layer {
            LayerName::Newest(name) => (name, None),
            LayerName::Version(name, version) => (name, Some(*version)),
            LayerName::Path(path) if path.exists() => continue,
            LayerName::Path(path) => {
                say(Severity::Error, "layer", format!("there is no {}", path.display()), None);
                continue;
            }
        };
        if published.iter().any(|row| row.name == *name && version.is_none_or(|version| version == row.version)) {
            continue;
        }
        let what = format!("no layer {name} is published");
        match warehouse.config.layers.contains_key(name) && version.is_none() {
            true => say(Severity::Warning, "layer", what, Some(format!("wattlake layer build {name}"))),
            false => {
                let hint = format!("write layers/{name}.toml, or `wattlake layer publish {name} ZIP`");
                say(Severity::Error, "layer", what, Some(hint));
            }
        }
    }
    for (name, text) in &definition.settings.environment {
        for variable in variables_of(text).unwrap_or_default() {
            if std::env::var_os(variable).is_none() {
                let what = format!("{name} needs the environment variable {variable}, which is not set");
                say(Severity::Error, "environment", what, Some(format!("export {variable}=...")));
            }
        }
    }
    let measured = match registry.find(&function.name, LATEST)? {
        Some(found) => Measured { code_zip_bytes: found.code_bytes, layers: found.layers.len(), unpacked_bytes: 0 },
        None => Measured { layers: definition.layers.len(), ..Measured::default() },
    };
    for finding in refused_by_aws(definition, &measured) {
        say(Severity::Note, "AWS Lambda", format!("it would be refused there: {}", finding.what), finding.hint);
    }
    Ok(found)
}

/// Plans a query with values in its holes, unless it waits for tables.
async fn prove(warehouse: &Warehouse, lake: &Lake, query: &str, awaited: &Awaited<'_>) -> Option<Finding> {
    let query = holes::fill(query, &|word| holes::sample(word).to_owned());
    if awaited.has(&query) {
        return None;
    }
    let what = match rows::session(warehouse, lake) {
        Ok(session) => report::chain(&session.prepare(&query).await.err()?),
        Err(error) => report::chain(error.as_ref()),
    };
    Some(Finding { severity: Severity::Error, subject: "query".into(), what, hint: None, shared: None })
}
