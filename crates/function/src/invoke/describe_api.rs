//! The requests of AWS Lambda's API that describe functions, versions, aliases and layers, as far as clients send them
//! before they invoke.

use gateway::Body;
use hyper::{Response, StatusCode};
use ledger::AliasRow;
use serde_json::{Value, json};

use super::address::{Address, parameter};
use super::reply::{ApiError, json_response};
use crate::error::Error;
use crate::host::arn;
use crate::registry::{FunctionVersion, Registry};

const PAGE_MAX: usize = 50;

/// Answers a GET request for a path, given in its segments.
pub(super) fn answer(registry: &Registry, path: &[&str], query: Option<&str>) -> Result<Response<Body>, ApiError> {
    let body = match path {
        ["2015-03-31", "functions"] => functions(registry, query)?,
        ["2015-03-31", "functions", name] => function(&find(registry, name, query)?),
        ["2015-03-31", "functions", name, "configuration"] => configuration(&find(registry, name, query)?),
        ["2015-03-31", "functions", name, "versions"] => versions(registry, &find(registry, name, None)?, query)?,
        ["2015-03-31", "functions", name, "aliases"] => aliases(registry, &find(registry, name, None)?, query)?,
        ["2015-03-31", "functions", name, "aliases", alias] => {
            let found = find(registry, name, None)?;
            let all = registry.aliases(&found.name).map_err(|error| failed(&error))?;
            let one = all.iter().find(|one| one.name == **alias);
            alias_of(
                one.ok_or_else(|| ApiError::missing(&format!("Cannot find alias arn: {}:{alias}", arn(&found.name))))?,
            )
        }
        ["2019-09-30" | "2017-10-31", "functions", name, "concurrency"] => {
            match find(registry, name, None)?.policy.concurrency {
                Some(most) => json!({"ReservedConcurrentExecutions": most}),
                None => json!({}),
            }
        }
        ["2018-10-31", "layers"] => layers(registry, query)?,
        ["2018-10-31", "layers", name, "versions"] => layer_versions(registry, name, query)?,
        _ => return Err(ApiError::not_here()),
    };
    Ok(json_response(StatusCode::OK, &body))
}

fn failed(error: &Error) -> ApiError {
    ApiError::service(&error.chain())
}

fn find(registry: &Registry, name: &str, query: Option<&str>) -> Result<FunctionVersion, ApiError> {
    let address = Address::of(name, query)?;
    let found = registry.find(&address.name, &address.qualifier).map_err(|error| failed(&error))?;
    found.ok_or_else(|| ApiError::unknown(&address.name, &address.qualifier))
}

fn functions(registry: &Registry, query: Option<&str>) -> Result<Value, ApiError> {
    let mut all = registry.list().map_err(|error| failed(&error))?;
    if parameter(query, "FunctionVersion").as_deref() == Some("ALL") {
        for latest in std::mem::take(&mut all) {
            let versions = registry.versions(&latest.name).map_err(|error| failed(&error))?;
            all.push(latest);
            all.extend(versions);
        }
    }
    page("Functions", &all.iter().map(configuration).collect::<Vec<_>>(), query)
}

fn versions(registry: &Registry, latest: &FunctionVersion, query: Option<&str>) -> Result<Value, ApiError> {
    let versions = registry.versions(&latest.name).map_err(|error| failed(&error))?;
    let all: Vec<Value> = std::iter::once(latest).chain(&versions).map(configuration).collect();
    page("Versions", &all, query)
}

fn aliases(registry: &Registry, found: &FunctionVersion, query: Option<&str>) -> Result<Value, ApiError> {
    let all = registry.aliases(&found.name).map_err(|error| failed(&error))?;
    page("Aliases", &all.iter().map(alias_of).collect::<Vec<_>>(), query)
}

/// A page of a list. Its marker is the index of the first item of the next page.
fn page(key: &str, all: &[Value], query: Option<&str>) -> Result<Value, ApiError> {
    let number = |name: &str| match parameter(query, name).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => {
            let wrong = |_| ApiError::parameter(&format!("{name}: expected a number, found {text:?}"));
            text.parse::<usize>().map(Some).map_err(wrong)
        }
    };
    let from = number("Marker")?.unwrap_or_default().min(all.len());
    let until = from.saturating_add(number("MaxItems")?.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX)).min(all.len());
    let mut page = json!({ key: all[from..until] });
    if until < all.len() {
        page["NextMarker"] = json!(until.to_string());
    }
    Ok(page)
}

fn function(found: &FunctionVersion) -> Value {
    let mut function = json!({
        "Configuration": configuration(found),
        "Code": {"RepositoryType": "Wattlake", "ResolvedImageUri": found.code},
        "Tags": {},
    });
    if let Some(most) = found.policy.concurrency {
        function["Concurrency"] = json!({"ReservedConcurrentExecutions": most});
    }
    function
}

fn configuration(found: &FunctionVersion) -> Value {
    let settings = &found.settings;
    let layers: Vec<Value> = found
        .layers
        .iter()
        .map(|layer| json!({"Arn": format!("arn:aws:lambda:local:000000000000:layer:{layer}:1")}))
        .collect();
    json!({
        "FunctionName": found.name,
        "FunctionArn": format!("{}:{}", arn(&found.name), found.shown),
        "Runtime": settings.runtime,
        "Role": "arn:aws:iam::000000000000:role/local",
        "Handler": settings.handler,
        "CodeSize": found.code_bytes,
        "Description": found.policy.description,
        "Timeout": settings.timeout.as_secs() + u64::from(settings.timeout.subsec_nanos() > 0),
        "MemorySize": settings.memory_mb,
        "LastModified": found.modified_at,
        "CodeSha256": found.code.base64(),
        "Version": found.shown,
        "Environment": {"Variables": settings.environment},
        "TracingConfig": {"Mode": "PassThrough"},
        "RevisionId": found.content,
        "Layers": layers,
        "State": "Active",
        "LastUpdateStatus": "Successful",
        "PackageType": "Zip",
        "Architectures": [if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" }],
        "EphemeralStorage": {"Size": settings.tmp_mb},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": format!("/aws/lambda/{}", found.name)},
    })
}

fn alias_of(alias: &AliasRow) -> Value {
    json!({
        "AliasArn": format!("{}:{}", arn(&alias.function), alias.name),
        "Name": alias.name,
        "FunctionVersion": alias.version.to_string(),
        "Description": "",
    })
}

fn layers(registry: &Registry, query: Option<&str>) -> Result<Value, ApiError> {
    let all = registry.layers().map_err(|error| failed(&error))?;
    // The newest version of each layer, which is the last one of its name.
    let newest =
        all.iter().enumerate().filter(|(at, layer)| all.get(at + 1).is_none_or(|next| next.name != layer.name));
    let shown = newest.map(|(_, layer)| {
        json!({
            "LayerName": layer.name,
            "LayerArn": layer_arn(&layer.name),
            "LatestMatchingVersion": layer_version(layer),
        })
    });
    page("Layers", &shown.collect::<Vec<_>>(), query)
}

fn layer_versions(registry: &Registry, name: &str, query: Option<&str>) -> Result<Value, ApiError> {
    let all = registry.layers().map_err(|error| failed(&error))?;
    let of = all.iter().rev().filter(|layer| layer.name == name).map(layer_version);
    page("LayerVersions", &of.collect::<Vec<_>>(), query)
}

fn layer_version(layer: &ledger::LayerRow) -> Value {
    json!({
        "LayerVersionArn": format!("{}:{}", layer_arn(&layer.name), layer.version),
        "Version": layer.version,
        "CreatedDate": layer.created_at.format("%Y-%m-%dT%H:%M:%S%.3f+0000").to_string(),
    })
}

fn layer_arn(name: &str) -> String {
    format!("arn:aws:lambda:local:000000000000:layer:{name}")
}
