//! Checks functions with their layers, and plans the queries of jobs, controls and statements.

use anyhow::Result;
use config::flow::{InputsChanged, LoadSource, Statement};
use config::{ChannelSource, Function, placeholders};
use function::definition::{LayerName, PackageSizes, refused_by_aws, variables_of};
use function::registry::{LATEST, Registry};
use jobs::flows::rows;
use jobs::function_host;
use jobs::warehouse::Warehouse;
use lake::Lake;
use transfer::preflight::{Finding, Severity};

use super::unfilled::UnfilledQueries;

/// The findings, each with the name of what it is about.
pub async fn findings(
    warehouse: &Warehouse,
    lake: &Lake,
    unfilled: &UnfilledQueries<'_>,
) -> Result<Vec<(String, Finding)>> {
    let mut found = Vec::new();
    let registry = function_host::registry(warehouse)?;
    for function in warehouse.config.functions.values() {
        let about = format!("function {}", function.name);
        for finding in of_function(warehouse, &registry, function)? {
            found.push((about.clone(), finding));
        }
        for (name, query) in function.job.iter().flat_map(|call| &call.inputs) {
            found.extend(
                check_query(warehouse, lake, query, unfilled)
                    .await
                    .map(|finding| (format!("{about}, input {name}"), finding)),
            );
        }
    }
    for set in warehouse.config.controls.values() {
        for control in set.controls.values() {
            let about = format!("control {}/{}", set.name, control.name);
            found.extend(check_query(warehouse, lake, &control.sql, unfilled).await.map(|finding| (about, finding)));
        }
        if let Some(control) = &set.inputs_changed {
            let about = format!("control {}/{}", set.name, control.name);
            found.extend(of_inputs_changed(warehouse, control).map(|finding| (about.clone(), finding)));
            let checked = check_query(warehouse, lake, &control.documents, unfilled).await;
            found.extend(checked.map(|finding| (about, finding)));
        }
    }
    for statement in warehouse.config.statements.values() {
        let queries = [("lines", Some(&statement.lines)), ("days", statement.days.as_ref())];
        for (name, query) in queries.into_iter().filter_map(|(name, query)| Some((name, query?))) {
            let about = format!("statement {}, {name}", statement.name);
            found.extend(check_query(warehouse, lake, query, unfilled).await.map(|finding| (about, finding)));
        }
    }
    found.extend(warehouse.config.statements.values().filter_map(of_statement));
    for training in warehouse.config.trainings.values() {
        for (channel, source) in &training.channels {
            let ChannelSource::Query { sql, .. } = source else { continue };
            let about = format!("training {}, channel {channel}", training.name);
            found.extend(check_query(warehouse, lake, sql, unfilled).await.map(|finding| (about, finding)));
        }
    }
    for prediction in warehouse.config.predictions.values() {
        let about = format!("prediction {}", prediction.name);
        let checked = check_query(warehouse, lake, &prediction.input, unfilled).await;
        found.extend(checked.map(|finding| (about, finding)));
    }
    Ok(found)
}

fn of_inputs_changed(warehouse: &Warehouse, control: &InputsChanged) -> Option<Finding> {
    let known: Vec<&str> = warehouse.config.loads.keys().map(String::as_str).collect();
    let what = match warehouse.config.loads.get(&control.load).map(|load| &load.from) {
        Some(LoadSource::Function { .. }) => return None,
        Some(LoadSource::Ingest(_)) => format!("load:{} does not load the answer of a function", control.load),
        None => format!("there is no load {:?}", control.load),
    };
    let hint = base::suggestion("load", &control.load, &known);
    Some(Finding { severity: Severity::Error, subject: "load".to_owned(), what, hint, common: None })
}

fn of_statement(statement: &Statement) -> Option<(String, Finding)> {
    let is_missing = statement.invoice.as_ref().is_some_and(|invoice| invoice.company.is_none());
    let finding = || Finding {
        severity: Severity::Warning,
        subject: "[invoice.company]".to_owned(),
        what: "name and siren are not filled in: no e-invoice is written, and nothing is issued that charges VAT"
            .to_owned(),
        hint: Some(format!("fill them in in statements/{}.toml", statement.name)),
        common: None,
    };
    is_missing.then(|| (format!("statement {}", statement.name), finding()))
}

fn of_function(warehouse: &Warehouse, registry: &Registry, function: &Function) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    let mut add = |severity: Severity, subject: &str, what: String, hint: Option<String>| {
        found.push(Finding { severity, subject: subject.to_owned(), what, hint, common: None });
    };
    let definition = &function.definition;
    let published = registry.layers()?;
    for layer in &definition.layers {
        let (name, version) = match layer {
            LayerName::Newest(name) => (name, None),
            LayerName::Version(name, version) => (name, Some(*version)),
            LayerName::Path(path) if path.exists() => continue,
            LayerName::Path(path) => {
                add(Severity::Error, "layer", format!("there is no {}", path.display()), None);
                continue;
            }
        };
        if published.iter().any(|row| row.name == *name && version.is_none_or(|version| version == row.version)) {
            continue;
        }
        let what = format!("no layer {name} is published");
        match warehouse.config.layers.contains_key(name) && version.is_none() {
            true => add(Severity::Warning, "layer", what, Some(format!("wattlake layer build {name}"))),
            false => {
                let hint = format!("write layers/{name}.toml, or `wattlake layer publish {name} ZIP`");
                add(Severity::Error, "layer", what, Some(hint));
            }
        }
    }
    for (name, text) in &definition.settings.environment {
        for variable in variables_of(text).unwrap_or_default() {
            if std::env::var_os(variable).is_none() {
                let what = format!("{name} needs the environment variable {variable}, which is not set");
                add(Severity::Error, "environment", what, Some(format!("export {variable}=...")));
            }
        }
    }
    let measured = match registry.find(&function.name, LATEST)? {
        Some(found) => PackageSizes { code_zip_bytes: found.code_bytes, layers: found.layers.len(), unpacked_bytes: 0 },
        None => PackageSizes { layers: definition.layers.len(), ..PackageSizes::default() },
    };
    for finding in refused_by_aws(definition, &measured) {
        add(Severity::Note, "AWS Lambda", format!("AWS Lambda would refuse it: {}", finding.what), finding.hint);
    }
    Ok(found)
}

/// Plans a query with sample values for its placeholders, unless it reads unfilled tables.
async fn check_query(
    warehouse: &Warehouse,
    lake: &Lake,
    query: &str,
    unfilled: &UnfilledQueries<'_>,
) -> Option<Finding> {
    let query = placeholders::fill(query, &|word| placeholders::sample(word).to_owned());
    if unfilled.add(&query) {
        return None;
    }
    let what = match rows::session(warehouse, lake) {
        Ok(session) => base::chain(&session.prepare(&query).await.err()?),
        Err(error) => base::chain(error.as_ref()),
    };
    Some(Finding { severity: Severity::Error, subject: "query".into(), what, hint: None, common: None })
}
