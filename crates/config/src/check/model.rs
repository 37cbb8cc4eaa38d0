//! Reads `containers/NAME/container.toml` and `endpoints/NAME.toml`, and checks `[models]` of `wattlake.toml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use function::definition::LayerName;
use model::{ContainerDefinition, ContainerSettings, EndpointDefinition, VariantDefinition, is_name};

use super::super::Problem;
use super::super::problem::FileProblems;
use super::super::raw::{self, FileKind};
use super::super::schema_check;
use super::files::{entries, read_text, with_extension};
use super::{job, stem, training};

const CONTAINERS: &str = "containers";
const ENDPOINTS: &str = "endpoints";
const FILE: &str = "container.toml";

/// Checks `[models]`: the folders of artifacts, by the beginnings of their URLs.
pub fn data(root: &Path, raw: &raw::Models, report: &mut FileProblems<'_>) -> Vec<(String, PathBuf)> {
    let mut all: Vec<(String, PathBuf)> = Vec::new();
    for (prefix, folder) in &raw.data {
        if !prefix.get_ref().contains("://") {
            let what = format!("{:?} is not the beginning of a URL", prefix.get_ref());
            report.add(prefix.span(), what, "write \"s3://bucket/prefix/\"".to_owned());
        }
        all.push((prefix.get_ref().clone(), root.join(folder.get_ref())));
    }
    // The longest beginning counts.
    all.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
    all
}

/// Reads all containers, by name. A folder without a `container.toml` has the defaults.
pub fn containers(root: &Path, problems: &mut Vec<Problem>) -> BTreeMap<String, ContainerDefinition> {
    let folders = entries(root, Path::new(CONTAINERS)).unwrap_or_else(|problem| {
        problems.push(problem);
        Vec::new()
    });
    let mut containers = BTreeMap::new();
    for (name, _) in folders.into_iter().filter(|(_, is_folder)| *is_folder) {
        let folder = Path::new(CONTAINERS).join(&name);
        let file = folder.join(FILE);
        let text = match root.join(&file).exists() {
            true => read_text(root, &file),
            false => Ok(String::new()),
        };
        let Ok(text) = text.map_err(|problem| problems.push(problem)) else { continue };
        let mut report = FileProblems::new(&file, &text);
        let container = container(&root.join(&folder), &name, &mut report);
        problems.extend(report.finish());
        containers.extend(container.map(|container| (name, container)));
    }
    containers
}

fn container(folder: &Path, name: &str, report: &mut FileProblems<'_>) -> Option<ContainerDefinition> {
    let tree = schema_check::tree(report)?;
    let raw: raw::Container = schema_check::read(FileKind::Container, tree, report)?;
    let mut layers = Vec::new();
    for layer in raw.layers.get().into_iter().flatten() {
        match LayerName::parse(folder, layer.get_ref()) {
            Ok(layer) => layers.push(layer),
            Err(error) => report.add(layer.span(), error.context.clone(), error.hint),
        }
    }
    let default = ContainerSettings::default();
    let number = |field: &raw::Field<u32>, default: u64| field.get().map_or(default, |number| u64::from(*number));
    Some(ContainerDefinition {
        name: name.to_owned(),
        folder: folder.to_owned(),
        images: raw.images.get().into_iter().flatten().map(|image| image.get_ref().clone()).collect(),
        layers,
        settings: ContainerSettings {
            memory_mb: number(&raw.memory_mb, default.memory_mb),
            tmp_mb: number(&raw.tmp_mb, default.tmp_mb),
            concurrency: raw.concurrency.get().map_or(default.concurrency, |number| *number as usize),
            start_max: job::duration(&raw.start_max, report).unwrap_or(default.start_max),
            idle_max: job::duration(&raw.idle_max, report).unwrap_or(default.idle_max),
            environment: raw.environment,
        },
    })
}

/// Reads all endpoints, by name.
pub fn endpoints(root: &Path, problems: &mut Vec<Problem>) -> BTreeMap<String, EndpointDefinition> {
    let mut endpoints = BTreeMap::new();
    for file in with_extension(root, Path::new(ENDPOINTS), "toml", problems) {
        let Ok(text) = read_text(root, &file).map_err(|problem| problems.push(problem)) else { continue };
        let mut report = FileProblems::new(&file, &text);
        let endpoint = endpoint(root, &stem(&file), &mut report);
        problems.extend(report.finish());
        endpoints.extend(endpoint.map(|endpoint| (endpoint.name.clone(), endpoint)));
    }
    endpoints
}

fn endpoint(root: &Path, name: &str, report: &mut FileProblems<'_>) -> Option<EndpointDefinition> {
    let tree = schema_check::tree(report)?;
    let raw: raw::Endpoint = schema_check::read(FileKind::Endpoint, tree, report)?;
    let rule = || "a name has up to 63 letters, digits and -, and begins and ends with a letter or a digit".to_owned();
    if !is_name(name) {
        report.add(0..0, format!("{name:?} is not an endpoint's name"), rule());
    }
    let mut variants = Vec::new();
    for (variant, raw) in &raw.variants {
        let (variant_name, span, raw) = (variant.get_ref(), variant.span(), raw.get_ref());
        if !is_name(variant_name) {
            report.add(span.clone(), format!("{variant_name:?} is not a variant's name"), rule());
        }
        let data = raw.data.get().map(|data| training::url(root, data));
        let has_image = data.as_ref().is_some_and(|data| data.starts_with(model::REGISTRY_SCHEME));
        if raw.image.get().is_none() && !has_image {
            let hint = "write image = \"wattlake/lightgbm\", or data = \"model://NAME/ALIAS\"".to_owned();
            report.add(span.clone(), format!("the variant {variant_name:?} has no image"), hint);
        }
        variants.push(VariantDefinition {
            name: variant_name.clone(),
            image: raw.image.get().cloned(),
            data,
            environment: raw.environment.clone(),
            weight: *raw.weight.get().unwrap_or(&1.0),
            is_shadow: *raw.shadow.get().unwrap_or(&false),
        });
    }
    let served = variants.iter().filter(|variant| !variant.is_shadow).map(|variant| variant.weight);
    if served.sum::<f64>() <= 0.0 {
        let hint = "give one that is no shadow a weight above 0".to_owned();
        report.add(0..0, "no variant of the endpoint gets requests", hint);
    }
    Some(EndpointDefinition { name: name.to_owned(), variants })
}
