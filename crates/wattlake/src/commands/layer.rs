use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use base::text;
use clap::{Args, Subcommand};
use config::Layer as LayerConfig;
use config::flow::Language;
use jobs::function_host;
use jobs::warehouse::{Warehouse, unknown};
use layers::{PackedLayer, python, r};
use ledger::LayerRow;
use serde_json::json;

use crate::program::open_warehouse;
use crate::report;

/// Layers of functions: languages and packages as zip files, by layers/NAME.toml
#[derive(Debug, Subcommand)]
pub enum Layer {
    Build(Build),
    Publish(Publish),
    List(List),
}

impl Layer {
    /// Opens the warehouse and runs the subcommand.
    pub fn run(self, root: &Path) -> Result<ExitCode> {
        let warehouse = open_warehouse(root)?;
        match self {
            Layer::Build(command) => command.run(&warehouse),
            Layer::Publish(command) => command.run(&warehouse),
            Layer::List(command) => command.run(&warehouse),
        }
    }
}

/// Build layers from languages and packages that are installed on this machine, and publish them
///
/// The zip files contain all that they need, and also run on AWS Lambda.
#[derive(Debug, Args)]
pub struct Build {
    /// Files of layers/; all by default. Their base layers are built first
    names: Vec<String>,
    /// Print one JSON object for each layer
    #[arg(long)]
    json: bool,
}

impl Build {
    fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let known = &warehouse.config.layers;
        let mut wanted = BTreeSet::new();
        for name in &self.names {
            if !known.contains_key(name) {
                return Err(unknown("layer", name, "layers/", known.keys()));
            }
            wanted.insert(name.clone());
        }
        if self.names.is_empty() {
            wanted.extend(known.keys().cloned());
        }
        let mut built = BTreeSet::new();
        for name in wanted {
            build(warehouse, &name, &mut built, &mut Vec::new(), &|row, packed| {
                print_layer(row, Some(packed), self.json)
            })?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Builds and publishes layers of `layers/`, and prints a line for each.
pub fn build_named(warehouse: &Warehouse, names: &[&str]) -> Result<()> {
    Build { names: names.iter().map(|name| (*name).to_owned()).collect(), json: false }.run(warehouse).map(drop)
}

/// Called with each layer that was built.
type OnBuilt<'a> = &'a dyn Fn(&LayerRow, &PackedLayer);

/// Builds a layer after its base layers. `above` has the layers that wait for it, to find a cycle.
fn build(
    warehouse: &Warehouse,
    name: &str,
    built: &mut BTreeSet<String>,
    above: &mut Vec<String>,
    on_built: OnBuilt<'_>,
) -> Result<()> {
    if built.contains(name) {
        return Ok(());
    }
    if above.iter().any(|other| other == name) {
        let what = format!("the layer {name} is below itself: {} -> {name}", above.join(" -> "));
        return Err(report::input(what, "remove one of these layers from another's `layers`"));
    }
    let layer = &warehouse.config.layers[name];
    above.push(name.to_owned());
    for base in &layer.base_layers {
        build(warehouse, base, built, above, on_built)?;
    }
    above.pop();
    let folder = function_host::layers_folder(warehouse);
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let base_zips: Vec<PathBuf> = layer.base_layers.iter().map(|name| folder.join(format!("{name}.zip"))).collect();
    let packed = pack(layer, &folder.join(format!("{name}.zip")), &base_zips)
        .with_context(|| format!("pack the layer {name}"))?;
    let row = function_host::registry(warehouse)?.publish_layer(name, &packed.zip)?;
    on_built(&row, &packed);
    built.insert(name.to_owned());
    Ok(())
}

fn pack(layer: &LayerConfig, zip: &Path, base_zips: &[PathBuf]) -> Result<PackedLayer> {
    Ok(match layer.language {
        Language::R => {
            let mut installation = r::Installation::default();
            installation.libraries.splice(..0, layer.libraries.iter().cloned());
            if let Some(lock_file) = &layer.requirements {
                installation.require(lock_file)?;
            }
            match (&layer.source, base_zips) {
                (Some(source), base_zips) => r::package_source(zip, &installation, source, base_zips)?,
                (None, []) => {
                    let shape = if layer.is_script { r::Shape::PerEvent } else { r::Shape::Persistent };
                    let packages = layer.packages.clone();
                    r::runtime(zip, &r::Options { installation, packages, shape, graphics: false })?
                }
                (None, base_zips) => r::packages(zip, &installation, &layer.packages, base_zips)?,
            }
        }
        Language::Python => {
            let mut installation = match layer.libraries.is_empty() {
                true => python::Installation::of_program("python3")?,
                false => {
                    let libraries = layer.libraries.clone();
                    python::Installation { program: "python3".into(), libraries, required: vec![] }
                }
            };
            let installed = tempfile::tempdir().context("make a folder to install in")?;
            if let Some(requirements) = &layer.requirements {
                installation.install(requirements, installed.path())?;
            }
            match base_zips {
                [] => python::runtime(zip, &installation, &layer.packages)?,
                base_zips => python::packages(zip, &installation, &layer.packages, base_zips)?,
            }
        }
    })
}

/// Publish a zip or a folder as a layer's next version
#[derive(Debug, Args)]
pub struct Publish {
    name: String,
    path: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Publish {
    fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let row = function_host::registry(warehouse)?.publish_layer(&self.name, &self.path)?;
        print_layer(&row, None, self.json);
        Ok(ExitCode::SUCCESS)
    }
}

/// List the published layers with their versions
#[derive(Debug, Args)]
pub struct List {
    /// Print one JSON object for each version
    #[arg(long)]
    json: bool,
}

impl List {
    fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let layers = function_host::registry(warehouse)?.layers()?;
        if self.json {
            layers.iter().for_each(|row| print_layer(row, None, true));
            return Ok(ExitCode::SUCCESS);
        }
        let rows: Vec<Vec<String>> = layers
            .into_iter()
            .map(|row| {
                let at = row.created_at.format("%Y-%m-%d %H:%M:%S").to_string();
                vec![row.name, row.version.to_string(), text::bytes(row.bytes), at, row.code]
            })
            .collect();
        print!("{}", text::table(&["layer", ">version", ">zip", "published", "sha256"], &rows));
        Ok(ExitCode::SUCCESS)
    }
}

fn print_layer(row: &LayerRow, packed: Option<&PackedLayer>, json: bool) {
    let packages = packed.map(|packed| {
        let packages = packed.manifest.packages.iter();
        packages.map(|part| part.name.clone()).collect::<Vec<_>>()
    });
    if json {
        let mut shown = json!({"layer": row.name, "version": row.version, "sha256": row.code, "zip_bytes": row.bytes});
        if let Some(packed) = packed {
            shown["unpacked_bytes"] = json!(packed.unpacked_bytes);
            shown["files"] = json!(packed.files);
            shown["packages"] = json!(packages);
        }
        println!("{shown}");
        return;
    }
    let unpacked = packed.map(|packed| format!(", {} unpacked", text::bytes(packed.unpacked_bytes)));
    let packages = packages.filter(|packages| !packages.is_empty()).map(|names| format!(": {}", names.join(", ")));
    println!(
        "{}: version {}, {}{}{}",
        row.name,
        row.version,
        text::bytes(row.bytes),
        unpacked.unwrap_or_default(),
        packages.unwrap_or_default()
    );
}
