//! What is deployed: functions with versions and aliases, layers with versions.
//!
//! The zips lie in the store by their hashes; names, numbers and settings are rows of the ledger.
//! They are there, and not in files beside the zips, since a deployment is then one transaction
//! whoever deploys at the same time, and since `system.functions` is a query over them. A
//! deployment that is killed has happened or has not; at worst it leaves a zip that nobody names.
//!
//! A version's content is the SHA-256 of its code, its layers and its settings: what a run has
//! executed can be named, and found again.

use std::path::Path;

use ledger::{AliasRow, Deployment, FunctionVersionRow, LayerRow, Ledger};
use serde::Serialize;

use crate::definition::{self, Definition, LayerName, Measured, Policy, Settings, is_name};
use crate::error::{During, Error, Kind, Result};
use crate::store::{Digest, Store};

/// What a call without a qualifier means.
pub const LATEST: &str = "$LATEST";

/// Cheap to clone. Several processes may share a ledger and a store.
#[derive(Debug, Clone)]
pub struct Registry {
    ledger: Ledger,
    store: Store,
}

/// What came of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployed {
    pub version: i64,
    /// False where the same content was there already.
    pub new: bool,
    pub content: Digest,
    pub code: Digest,
    pub layers: Vec<Digest>,
    pub measured: Measured,
}

/// One version, and how its function is treated.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    pub name: String,
    /// Of the function; never given twice.
    pub number: i64,
    /// The function's, for telling that it has changed.
    pub revision: i64,
    /// What it was asked for by: `$LATEST`, or the version's number.
    pub shown: String,
    pub version: i64,
    pub content: Digest,
    pub code: Digest,
    pub code_bytes: u64,
    pub layers: Vec<Digest>,
    pub settings: Settings,
    pub policy: Policy,
    pub modified_at: String,
}

impl Registry {
    pub fn new(ledger: Ledger, store: Store) -> Registry {
        Registry { ledger, store }
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Packs what the definition names and makes it the function's `$LATEST`.
    ///
    /// # Errors
    /// [`Kind::FixInput`] names the file, the layer or the entry of a zip that is wrong; nothing is
    /// deployed then.
    pub fn deploy(&self, definition: &Definition) -> Result<Deployed> {
        let code = self.put(&definition.code)?;
        let layers = definition.layers.iter().map(|layer| self.layer(layer)).collect::<Result<Vec<_>>>()?;
        // Merged now, so that the first invocation need not wait for it.
        self.store.layers(&layers)?;
        let settings = serde_json::to_value(&definition.settings).during(Kind::Bug, "write a function's settings")?;
        let content = content(code, &layers, &settings);
        let measured = self.measure(code, &layers)?;
        let (version, new) = self.ledger.deploy_function(&Deployment {
            function: definition.name.clone(),
            content: content.to_string(),
            code: code.to_string(),
            layers: layers.iter().map(Digest::to_string).collect(),
            settings,
            code_bytes: measured.code_zip_bytes,
            policy: serde_json::to_value(&definition.policy).during(Kind::Bug, "write a function's policy")?,
        })?;
        Ok(Deployed { version, new, content, code, layers, measured })
    }

    /// `qualifier` is `$LATEST`, a version's number or an alias.
    pub fn find(&self, name: &str, qualifier: &str) -> Result<Option<Found>> {
        let Some(chosen) = self.ledger.choose_function(name, qualifier)? else { return Ok(None) };
        let (Some(function), Some(version)) =
            (self.ledger.function(name)?, self.ledger.function_version(name, chosen.version)?)
        else {
            return Ok(None);
        };
        let shown = if qualifier == LATEST { LATEST.to_owned() } else { version.version.to_string() };
        let policy = serde_json::from_value(function.policy).during(Kind::FixSetup, format!("read function {name}"))?;
        found(version, shown, function.number, chosen.revision, policy).map(Some)
    }

    /// `$LATEST` of every function, by name.
    pub fn list(&self) -> Result<Vec<Found>> {
        let functions = self.ledger.functions()?;
        let latest = functions.iter().map(|function| self.find(&function.name, LATEST));
        latest.filter_map(Result::transpose).collect()
    }

    /// Oldest first; without `$LATEST`.
    pub fn versions(&self, name: &str) -> Result<Vec<Found>> {
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

    /// Now there or not yet.
    pub fn point_alias(&self, function: &str, alias: &str, version: i64) -> Result<()> {
        // A number is a version.
        if !is_name(alias) || alias.bytes().all(|b| b.is_ascii_digit()) {
            let says = "an alias is 1 to 64 letters, digits, - and _, not only digits";
            return Err(Error::new(Kind::FixInput, format!("point alias {alias:?} of {function}: {says}")));
        }
        Ok(self.ledger.point_alias(function, alias, version)?)
    }

    pub fn aliases(&self, function: &str) -> Result<Vec<AliasRow>> {
        Ok(self.ledger.function_aliases(function)?)
    }

    /// False where there is none; so for all that delete.
    pub fn delete_alias(&self, function: &str, alias: &str) -> Result<bool> {
        Ok(self.ledger.delete_alias(function, alias)?)
    }

    /// The function, with its versions and aliases. The record of what has run stays.
    pub fn delete(&self, function: &str) -> Result<bool> {
        Ok(self.ledger.delete_function(function)?)
    }

    pub fn delete_version(&self, function: &str, version: i64) -> Result<bool> {
        Ok(self.ledger.delete_function_version(function, version)?)
    }

    /// A zip or a folder as the layer's next version; the same content is the same version.
    pub fn publish_layer(&self, name: &str, path: &Path) -> Result<LayerRow> {
        if !is_name(name) {
            let says = "a name is 1 to 64 letters, digits, - and _";
            return Err(Error::new(Kind::FixInput, format!("publish layer {name:?}: {says}")));
        }
        let code = self.put(path)?;
        let (version, _) = self.ledger.put_layer(name, &code.to_string(), self.store.zip_bytes(code)?)?;
        let published = self.ledger.layer(name, Some(version))?;
        published.ok_or_else(|| Error::new(Kind::Retry, format!("publish layer {name}: it was deleted meanwhile")))
    }

    pub fn layers(&self) -> Result<Vec<LayerRow>> {
        Ok(self.ledger.layers()?)
    }

    /// Functions that were deployed with it keep it.
    pub fn delete_layer(&self, name: &str, version: i64) -> Result<bool> {
        Ok(self.ledger.delete_layer(name, version)?)
    }

    fn layer(&self, layer: &LayerName) -> Result<Digest> {
        let (name, version) = match layer {
            LayerName::Path(path) => return self.put(path),
            LayerName::Newest(name) => (name, None),
            LayerName::Version(name, version) => (name, Some(*version)),
        };
        let Some(found) = self.ledger.layer(name, version)? else {
            let of = version.map_or_else(String::new, |version| format!("version {version} of "));
            let context = format!("look for {of}layer {name}: there is none; publish it first");
            return Err(Error::new(Kind::FixInput, context));
        };
        found.code.parse()
    }

    fn put(&self, path: &Path) -> Result<Digest> {
        if path.is_dir() { self.store.put_folder(path, &definition::BESIDE) } else { self.store.put(path) }
    }

    fn measure(&self, code: Digest, layers: &[Digest]) -> Result<Measured> {
        let mut unpacked_bytes = self.store.tree_bytes(code)?;
        for layer in layers {
            unpacked_bytes += self.store.tree_bytes(*layer)?;
        }
        Ok(Measured { code_zip_bytes: self.store.zip_bytes(code)?, unpacked_bytes, layers: layers.len() })
    }
}

/// The order of the layers counts, and so it is in the hash.
fn content(code: Digest, layers: &[Digest], settings: &serde_json::Value) -> Digest {
    Digest::of(&serde_json::json!({"code": code, "layers": layers, "settings": settings}).to_string())
}

fn found(version: FunctionVersionRow, shown: String, number: i64, revision: i64, policy: Policy) -> Result<Found> {
    let context = format!("read version {} of {}", version.version, version.function);
    Ok(Found {
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
