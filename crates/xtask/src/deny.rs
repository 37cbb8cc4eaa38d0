//! The licence of every dependency against `[licenses]` of deny.toml.
//!
//! Reads `cargo metadata`, which needs no other program. Where cargo-deny is installed, it runs too, and also compares
//! the licences' texts.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use spdx::{Expression, LicenseReq, ParseMode};

use crate::project::{Project, is_installed, output, run as run_command};

/// The part of `[licenses]` in deny.toml that this check uses; cargo-deny reads the same file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Rules {
    allow: BTreeSet<String>,
    /// Further licences that only the named package may have.
    exceptions: Vec<(String, BTreeSet<String>)>,
    /// The licences of packages whose manifests name none, as read in their licence files.
    clarified: Vec<(String, String)>,
}

struct Package {
    name: String,
    version: String,
    license: Option<String>,
}

/// Checks all dependencies; prints each violation and fails where there is one.
pub fn run(project: &Project) -> Result<()> {
    let text = fs::read_to_string(project.root.join("deny.toml")).context("read deny.toml")?;
    let rules = Rules::parse(&text)?;
    let metadata = output(project.cargo()?.args(["metadata", "--format-version", "1"]))?;
    let packages = dependencies(&metadata)?;
    let wrong = violations(&rules, &packages);
    for line in &wrong {
        eprintln!("{line}");
    }
    if !wrong.is_empty() {
        bail!("deny: {} findings", wrong.len());
    }
    eprintln!("deny: {} dependencies", packages.len());
    if is_installed(project.cargo()?.arg("deny")) {
        run_command(project.cargo()?.args(["deny", "check", "licenses"]))?;
    }
    Ok(())
}

impl Rules {
    fn parse(text: &str) -> Result<Self> {
        let file: toml::Table = text.parse().context("parse deny.toml")?;
        let licenses = file.get("licenses").and_then(toml::Value::as_table).context("deny.toml: no [licenses]")?;
        let mut rules = Self { allow: names(licenses)?, ..Self::default() };
        for table in tables(licenses, "exceptions") {
            rules.exceptions.push((text_of(table, "crate")?, names(table)?));
        }
        for table in tables(licenses, "clarify") {
            rules.clarified.push((text_of(table, "crate")?, text_of(table, "expression")?));
        }
        Ok(rules)
    }

    fn allows(&self, package: &str, requirement: &LicenseReq) -> bool {
        let name = requirement.to_string();
        let excepted = self.exceptions.iter().filter(|(of, _)| of == package);
        self.allow.contains(&name) || excepted.into_iter().any(|(_, also)| also.contains(&name))
    }
}

fn names(table: &toml::Table) -> Result<BTreeSet<String>> {
    let listed = table.get("allow").and_then(toml::Value::as_array).context("deny.toml: no `allow`")?;
    listed.iter().map(|name| Ok(name.as_str().context("deny.toml: a licence is not a string")?.to_owned())).collect()
}

fn tables<'a>(licenses: &'a toml::Table, key: &str) -> impl Iterator<Item = &'a toml::Table> {
    let listed = licenses.get(key).and_then(toml::Value::as_array);
    listed.into_iter().flatten().filter_map(toml::Value::as_table)
}

fn text_of(table: &toml::Table, key: &str) -> Result<String> {
    let value = table.get(key).and_then(toml::Value::as_str);
    Ok(value.with_context(|| format!("deny.toml: no `{key}`"))?.to_owned())
}

/// Every package of the lock file but the workspace's own; also those of other systems and of tests.
fn dependencies(metadata: &str) -> Result<Vec<Package>> {
    let metadata: Value = serde_json::from_str(metadata).context("parse what cargo metadata wrote")?;
    let list = |key: &str| metadata[key].as_array().with_context(|| format!("cargo metadata: no `{key}`"));
    let ours = list("workspace_members")?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let others = list("packages")?.iter().filter(|package| !ours.contains(&package["id"]));
    others
        .map(|package| {
            Ok(Package {
                name: text(&package["name"]).context("cargo metadata: a package without a name")?,
                version: text(&package["version"]).context("cargo metadata: a package without a version")?,
                license: text(&package["license"]),
            })
        })
        .collect()
}

fn violations(rules: &Rules, packages: &[Package]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut read = Vec::new();
    for Package { name, version, license } in packages {
        let clarified = rules.clarified.iter().find(|(of, _)| of == name).map(|(_, expression)| expression);
        let Some(license) = clarified.or(license.as_ref()) else {
            wrong.push(format!("{name} {version}: its manifest names no licence"));
            continue;
        };
        // Lax: older packages write "MIT/Apache-2.0".
        match Expression::parse_mode(license, ParseMode::LAX) {
            Ok(expression) if expression.evaluate(|r| rules.allows(name, r)) => read.push((name, expression)),
            Ok(_) => wrong.push(format!("{name} {version}: `{license}` is not allowed")),
            Err(error) => wrong.push(format!("{name} {version}: `{license}` can't be read: {}", error.reason)),
        }
    }
    let needed = |license: &&String| {
        let without = |name: &str, r: &LicenseReq| r.to_string() != **license && rules.allows(name, r);
        read.iter().any(|(name, expression)| !expression.evaluate(|r| without(name, r)))
    };
    let unneeded = rules.allow.iter().filter(|license| !needed(license));
    wrong.extend(unneeded.map(|license| format!("deny.toml: no dependency needs `{license}`, remove it")));
    let is_unused = |name: &&String| !packages.iter().any(|p| p.name == **name);
    let listed = rules.exceptions.iter().map(|(of, _)| of).chain(rules.clarified.iter().map(|(of, _)| of));
    wrong.extend(listed.filter(is_unused).map(|name| format!("deny.toml: no dependency is `{name}`, remove it")));
    wrong
}
