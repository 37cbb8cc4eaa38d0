use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use layers::{Packed, python, r};
use ledger::LayerRow;
use serde_json::json;

use crate::config::Layer as Known;
use crate::config::flow::Language;
use crate::host;
use crate::text;
use crate::warehouse::Warehouse;

/// What functions stand on: languages and packages as zips, layers/NAME.toml
#[derive(Debug, Subcommand)]
pub enum Layer {
    Build(Build),
    Publish(Publish),
    List(List),
}

impl Layer {
    pub fn run(self, root: &Path) -> Result<ExitCode> {
        let warehouse = Warehouse::open(root)?;
        match self {
            Layer::Build(command) => command.run(&warehouse),
            Layer::Publish(command) => command.run(&warehouse),
            Layer::List(command) => command.run(&warehouse),
        }
    }
}

/// Pack layers from what this machine has, and publish them
///
/// The zips run here and on AWS Lambda alike: each carries all that it needs.
#[derive(Debug, Args)]
pub struct Build {
    /// Of layers/; all of them where none is named. Those that they lie over come first
    names: Vec<String>,
    /// One JSON object a layer
    #[arg(long)]
    json: bool,
}

impl Build {
    fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let known = &warehouse.config.layers;
        let mut wanted = BTreeSet::new();
        for name in &self.names {
            if !known.contains_key(name) {
                let names: Vec<&str> = known.keys().map(String::as_str).collect();
                bail!("there is no layer {name:?} in layers/; there are: {}", names.join(", "));
            }
            wanted.insert(name.clone());
        }
        if self.names.is_empty() {
            wanted.extend(known.keys().cloned());
        }
        let mut built = BTreeSet::new();
        for name in wanted {
            build(warehouse, &name, &mut built, &mut Vec::new(), &|row, packed| say(row, Some(packed), self.json))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// All of `layers/`, told to people.
pub fn build_all(warehouse: &Warehouse) -> Result<()> {
    Build { names: Vec::new(), json: false }.run(warehouse).map(drop)
}

type Told<'a> = &'a dyn Fn(&LayerRow, &Packed);

fn build(
    warehouse: &Warehouse,
    name: &str,
    built: &mut BTreeSet<String>,
    above: &mut Vec<String>,
    told: Told<'_>,
) -> Result<()> {
    if built.contains(name) {
        return Ok(());
    }
    if above.iter().any(|other| other == name) {
        bail!("the layer {name} lies over itself: {} -> {name}", above.join(" -> "));
    }
    let layer = &warehouse.config.layers[name];
    above.push(name.to_owned());
    for below in &layer.below {
        build(warehouse, below, built, above, told)?;
    }
    above.pop();
    let folder = host::layers_folder(warehouse);
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let below: Vec<PathBuf> = layer.below.iter().map(|name| folder.join(format!("{name}.zip"))).collect();
    let packed =
        pack(layer, &folder.join(format!("{name}.zip")), &below).with_context(|| format!("pack the layer {name}"))?;
    let row = host::registry(warehouse)?.publish_layer(name, &packed.zip)?;
    told(&row, &packed);
    built.insert(name.to_owned());
    Ok(())
}

fn pack(layer: &Known, zip: &Path, below: &[PathBuf]) -> Result<Packed> {
    Ok(match layer.language {
        Language::R => {
            let machine = r::Machine::default();
            match (&layer.source, below) {
                (Some(source), below) => r::package_source(zip, &machine, source, below)?,
                (None, []) => {
                    let shape = if layer.is_script { r::Shape::PerEvent } else { r::Shape::Persistent };
                    let packages = layer.packages.clone();
                    r::runtime(zip, &r::Options { machine, packages, shape, graphics: false })?
                }
                (None, below) => r::packages(zip, &machine, &layer.packages, below)?,
            }
        }
        Language::Python => {
            let machine = python::Machine { program: "python3".into(), libraries: layer.libraries.clone() };
            match below {
                [] => python::runtime(zip, &machine, &layer.packages)?,
                below => python::packages(zip, &machine, &layer.packages, below)?,
            }
        }
    })
}

/// Publish a zip or a folder as a layer's next version
#[derive(Debug, Args)]
pub struct Publish {
    name: String,
    path: PathBuf,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

impl Publish {
    fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let row = host::registry(warehouse)?.publish_layer(&self.name, &self.path)?;
        say(&row, None, self.json);
        Ok(ExitCode::SUCCESS)
    }
}

/// List the layers that are published, with their versions
#[derive(Debug, Args)]
pub struct List {
    /// One JSON object a version
    #[arg(long)]
    json: bool,
}

impl List {
    fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let layers = host::registry(warehouse)?.layers()?;
        if self.json {
            layers.iter().for_each(|row| say(row, None, true));
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

fn say(row: &LayerRow, packed: Option<&Packed>, json: bool) {
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
