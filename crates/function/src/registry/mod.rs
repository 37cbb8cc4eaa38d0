//! The registry of what is deployed: functions with versions and aliases, and layers with versions.
//!
//! The zips are in the store, by their hashes; names, numbers and settings are rows of the ledger. So a deployment
//! is one transaction even when several processes deploy at the same time, and `system.functions` is a query. A
//! deployment that is killed has either happened or not; at worst it leaves a zip in the store that no version
//! uses.
//!
//! A version is identified by the SHA-256 of its code, its layers and its settings: so a run can name exactly what
//! it has executed.

use std::path::Path;

use ledger::{AliasRow, Deployment, FunctionVersionRow, LayerRow, Ledger};
use serde::Serialize;

use crate::definition::{self, Definition, LayerName, PackageSizes, Policy, Settings, is_name};
use crate::error::{Error, ErrorContext, Kind, Result};
use crate::store::{Digest, Store};

/// The qualifier of the version that was deployed last, and of a call without a qualifier.
pub const LATEST: &str = "$LATEST";

/// The registry over a ledger and a store, which several processes may share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Registry {
    ledger: Ledger,
    store: Store,
}

/// The result of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentResult {
    /// The number of the version that is `$LATEST` now.
    pub version: i64,
    /// False where a version with the same content existed already.
    pub new: bool,
    /// Identifies the version: the hash of code, layers and settings.
    pub content: Digest,
    /// The zip of its code.
    pub code: Digest,
    /// The zips of its layers.
    pub layers: Vec<Digest>,
    /// The sizes of code and layers.
    pub sizes: PackageSizes,
}

/// A deployed version of a function, with the function's policy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FunctionVersion {
    /// The function's name.
    pub name: String,
    /// The function's number, which no other function ever gets.
    pub number: i64,
    /// Counts the function's changes.
    pub revision: i64,
    /// The version in AWS's notation: `$LATEST` where it was found by that, else its number.
    pub shown: String,
    /// The version's number.
    pub version: i64,
    /// Identifies the version: the hash of code, layers and settings.
    pub content: Digest,
    /// The zip of its code.
    pub code: Digest,
    /// The size of that zip.
    pub code_bytes: u64,
    /// The zips of its layers.
    pub layers: Vec<Digest>,
    /// The version's settings.
    pub settings: Settings,
    /// The function's policy.
    pub policy: Policy,
    /// When the version was deployed, in AWS's notation: `2026-01-31T12:00:00.000+0000`.
    pub modified_at: String,
}

impl Registry {
    /// A registry whose zips are in `store` and whose rows are in `ledger`.
    pub fn new(ledger: Ledger, store: Store) -> Registry {
        Registry { ledger, store }
    }

    /// The store of code and layers.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The ledger.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Stores the code and the layers of a definition and makes them the function's `$LATEST`.
    ///
    /// # Errors
    /// [`Kind::FixInput`] names the file, the layer or the zip's entry that is wrong. Nothing is deployed then.
    pub fn deploy(&self, definition: &Definition) -> Result<DeploymentResult> {
        let code = self.put(&definition.code)?;
        let layers = definition.layers.iter().map(|layer| self.layer(layer)).collect::<Result<Vec<_>>>()?;
        // Merged now, so that the first invocation does not wait for it.
        self.store.layers(&layers)?;
        let settings = serde_json::to_value(&definition.settings).during(Kind::Bug, "write a function's settings")?;
        let content = content(code, &layers, &settings);
        let sizes = self.measure(code, &layers)?;
        let (version, new) = self.ledger.deploy_function(&Deployment {
            function: definition.name.clone(),
            content: content.to_string(),
            code: code.to_string(),
            layers: layers.iter().map(Digest::to_string).collect(),
            settings,
            code_bytes: sizes.code_zip_bytes,
            policy: serde_json::to_value(&definition.policy).during(Kind::Bug, "write a function's policy")?,
        })?;
        Ok(DeploymentResult { version, new, content, code, layers, sizes })
    }

    /// The version that a name and a qualifier stand for, if there is one. The qualifier is `$LATEST`, a version's
    /// number or an alias.
    pub fn find(&self, name: &str, qualifier: &str) -> Result<Option<FunctionVersion>> {
        let Some(chosen) = self.ledger.resolve_function(name, qualifier)? else { return Ok(None) };
        let (Some(function), Some(version)) =
            (self.ledger.function(name)?, self.ledger.function_version(name, chosen.version)?)
        else {
            return Ok(None);
        };
        let shown = if qualifier == LATEST { LATEST.to_owned() } else { version.version.to_string() };
        let policy = serde_json::from_value(function.policy).during(Kind::FixSetup, format!("read function {name}"))?;
        found(version, shown, function.number, chosen.revision, policy).map(Some)
    }

    /// `$LATEST` of every function, in the order of their names.
    pub fn list(&self) -> Result<Vec<FunctionVersion>> {
        let functions = self.ledger.functions()?;
        let latest = functions.iter().map(|function| self.find(&function.name, LATEST));
        latest.filter_map(Result::transpose).collect()
    }

    /// All versions of a function by their numbers, the oldest first.
    pub fn versions(&self, name: &str) -> Result<Vec<FunctionVersion>> {
        let Some(function) = self.ledger.function(name)? else { return Ok(Vec::new()) };
        let policy: Policy =
            serde_json::from_value(function.policy).during(Kind::FixSetup, format!("read function {name}"))?;
        let versions = self.ledger.function_versions(name)?.into_iter();
        let read = versions.map(|version| {
            let shown = version.version.to_string();
            found(version, shown, function.number, function.revision, policy.clone())
        });
        read.collect()
    }

    /// Makes an alias stand for a version. The alias is created where it does not exist.
    ///
    /// # Errors
    /// [`Kind::FixInput`] where the text is not an alias's name.
    pub fn point_alias(&self, function: &str, alias: &str, version: i64) -> Result<()> {
        // A number stands for a version.
        if !is_name(alias) || alias.bytes().all(|b| b.is_ascii_digit()) {
            let says = "an alias has 1 to 64 letters, digits, - and _, and not only digits";
            return Err(Error::new(Kind::FixInput, format!("point alias {alias:?} of {function}: {says}")));
        }
        self.ledger.point_alias(function, alias, version)
    }

    /// The aliases of a function.
    pub fn aliases(&self, function: &str) -> Result<Vec<AliasRow>> {
        self.ledger.function_aliases(function)
    }

    /// Deletes an alias. False where it does not exist.
    pub fn delete_alias(&self, function: &str, alias: &str) -> Result<bool> {
        self.ledger.delete_alias(function, alias)
    }

    /// Deletes a function with its versions and aliases. The record of its runs stays. False where it does not exist.
    pub fn delete(&self, function: &str) -> Result<bool> {
        self.ledger.delete_function(function)
    }

    /// Deletes a version. False where it does not exist.
    pub fn delete_version(&self, function: &str, version: i64) -> Result<bool> {
        self.ledger.delete_function_version(function, version)
    }

    /// Puts a folder and its layers into the store, without deploying anything: what else runs on layers than functions.
    ///
    /// # Errors
    /// As [`Registry::deploy`].
    pub fn put_content(&self, folder: &Path, layers: &[LayerName]) -> Result<(Digest, Vec<Digest>)> {
        let code = self.put(folder)?;
        let layers = layers.iter().map(|layer| self.layer(layer)).collect::<Result<Vec<_>>>()?;
        self.store.layers(&layers)?;
        Ok((code, layers))
    }

    /// Publishes a zip or a folder as the layer's next version. The same content as a version's gives that version.
    pub fn publish_layer(&self, name: &str, path: &Path) -> Result<LayerRow> {
        if !is_name(name) {
            let says = "a name has 1 to 64 letters, digits, - and _";
            return Err(Error::new(Kind::FixInput, format!("publish layer {name:?}: {says}")));
        }
        let code = self.put(path)?;
        let (version, _) = self.ledger.put_layer(name, &code.to_string(), self.store.zip_bytes(code)?)?;
        let published = self.ledger.layer(name, Some(version))?;
        published
            .ok_or_else(|| Error::new(Kind::Retry, format!("publish layer {name}: it was deleted at the same time")))
    }

    /// All versions of all layers, in the order of name and version.
    pub fn layers(&self) -> Result<Vec<LayerRow>> {
        self.ledger.layers()
    }

    /// Deletes a version of a layer. Functions that were deployed with it keep it. False where it does not exist.
    pub fn delete_layer(&self, name: &str, version: i64) -> Result<bool> {
        self.ledger.delete_layer(name, version)
    }

    /// Removes code and layers of which no version is deployed or published any more. With `is_served`, a host may still
    /// run it; see [`Store::remove_moved`]. `others` returns what else uses the store, each the code and its layers.
    /// Returns the number of bytes removed.
    pub fn remove_unused(
        &self,
        is_served: bool,
        others: impl Fn() -> Result<Vec<(Digest, Vec<Digest>)>>,
    ) -> Result<u64> {
        let used = || -> Result<_> { Ok([self.used()?, others()?].concat()) };
        self.store.move_unused(&used()?)?;
        // Another process may have deployed the same code in between.
        self.store.restore_used(&used()?)?;
        self.store.remove_moved(is_served)
    }

    /// The code and the layers of all versions, and the published layers.
    fn used(&self) -> Result<Vec<(Digest, Vec<Digest>)>> {
        let mut used: Vec<(Digest, Vec<Digest>)> = Vec::new();
        for function in self.ledger.functions()? {
            for version in self.ledger.function_versions(&function.name)? {
                let layers = version.layers.iter().map(|layer| layer.parse()).collect::<Result<Vec<Digest>>>()?;
                used.push((version.code.parse()?, layers));
            }
        }
        for layer in self.ledger.layers()? {
            used.push((layer.code.parse()?, Vec::new()));
        }
        Ok(used)
    }

    fn layer(&self, layer: &LayerName) -> Result<Digest> {
        let (name, version) = match layer {
            LayerName::Path(path) => return self.put(path),
            LayerName::Newest(name) => (name, None),
            LayerName::Version(name, version) => (name, Some(*version)),
        };
        let Some(found) = self.ledger.layer(name, version)? else {
            let of = version.map_or_else(String::new, |version| format!("version {version} of "));
            let context = format!("find {of}layer {name}: it is not published; publish it first");
            return Err(Error::new(Kind::FixInput, context));
        };
        found.code.parse()
    }

    fn put(&self, path: &Path) -> Result<Digest> {
        if path.is_dir() { self.store.put_folder(path, &definition::NOT_CODE) } else { self.store.put(path) }
    }

    fn measure(&self, code: Digest, layers: &[Digest]) -> Result<PackageSizes> {
        let mut unpacked_bytes = self.store.tree_bytes(code)?;
        for layer in layers {
            unpacked_bytes += self.store.tree_bytes(*layer)?;
        }
        Ok(PackageSizes { code_zip_bytes: self.store.zip_bytes(code)?, unpacked_bytes, layers: layers.len() })
    }
}

/// The hash that identifies a version. The order of the layers is part of it.
fn content(code: Digest, layers: &[Digest], settings: &serde_json::Value) -> Digest {
    Digest::of(&serde_json::json!({"code": code, "layers": layers, "settings": settings}).to_string())
}

fn found(
    version: FunctionVersionRow,
    shown: String,
    number: i64,
    revision: i64,
    policy: Policy,
) -> Result<FunctionVersion> {
    let context = format!("read version {} of {}", version.version, version.function);
    Ok(FunctionVersion {
        number,
        revision,
        shown,
        version: version.version,
        content: version.content.parse()?,
        code: version.code.parse()?,
        code_bytes: version.code_bytes,
        layers: version.layers.iter().map(|layer| layer.parse()).collect::<Result<_>>()?,
        settings: serde_json::from_value(version.settings).during(Kind::FixSetup, context)?,
        policy,
        modified_at: version.created_at.format("%Y-%m-%dT%H:%M:%S%.3f+0000").to_string(),
        name: version.function,
    })
}

#[cfg(test)]
mod tests;
