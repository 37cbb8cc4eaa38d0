//! Deployed functions with their versions and aliases, and layers with their versions.
//!
//! A version is identified by its content: the same content deployed twice is the same version, and a
//! number, once assigned, always means the same content, also after a deletion. Code and layers are
//! hashes here and settings are JSON; the ledger does not interpret them.

use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension, Row, Transaction};
use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, ErrorContext, Kind};
use crate::rows::{count, json};
use crate::{Ledger, Result, instant};

/// The content of a function's version, and the policy of the function.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployment {
    /// The function's name.
    pub function: String,
    /// The hash of the version's whole content: code, layers and settings.
    pub content: String,
    /// The hash of the code's zip archive.
    pub code: String,
    /// The hashes of the layers' zip archives, in the function's order.
    pub layers: Vec<String>,
    /// The settings that belong to the version, as JSON.
    pub settings: Value,
    /// The size of the code's zip archive.
    pub code_bytes: u64,
    /// The settings that hold for all versions of the function, as JSON.
    pub policy: Value,
}

/// A function that is deployed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FunctionRow {
    /// Unique, and never assigned to another function.
    pub number: i64,
    /// The function's name.
    pub name: String,
    /// The version that the qualifier `$LATEST` means.
    pub latest: i64,
    /// The settings that hold for all versions, as JSON.
    pub policy: Value,
    /// Increases with each deployment and each change of an alias.
    pub revision: i64,
    /// The time of the last deployment.
    #[serde(serialize_with = "instant::serialize")]
    pub deployed_at: DateTime<Utc>,
}

/// One version of a function.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FunctionVersionRow {
    /// The function's name.
    pub function: String,
    /// Counts from 1 within the function.
    pub version: i64,
    /// The hash of the version's whole content.
    pub content: String,
    /// The hash of the code's zip archive.
    pub code: String,
    /// The hashes of the layers' zip archives, in the function's order.
    pub layers: Vec<String>,
    /// The version's settings, as JSON.
    pub settings: Value,
    /// The size of the code's zip archive.
    pub code_bytes: u64,
    /// The time of the first deployment of this content.
    #[serde(serialize_with = "instant::serialize")]
    pub created_at: DateTime<Utc>,
}

/// An alias of a function.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AliasRow {
    /// The function's name.
    pub function: String,
    /// The alias's name, unique within the function.
    pub name: String,
    /// The version that the alias points to.
    pub version: i64,
}

/// One version of a layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerRow {
    /// The layer's name.
    pub name: String,
    /// Counts from 1 within the layer.
    pub version: i64,
    /// The hash of the layer's zip archive.
    pub code: String,
    /// The size of the layer's zip archive.
    pub bytes: u64,
    /// The time at which this version was published first.
    #[serde(serialize_with = "instant::serialize")]
    pub created_at: DateTime<Utc>,
}

/// The version that a function's name and a qualifier resolve to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolvedVersion {
    /// The function's number.
    pub number: i64,
    /// The function's revision at the time of the lookup.
    pub revision: i64,
    /// The version's number.
    pub version: i64,
}

const FUNCTION_COLUMNS: &str = "number, name, latest, policy, revision, deployed_at";
const VERSION_COLUMNS: &str = "function, version, content, code, layers, settings, code_bytes, created_at";
const LAYER_COLUMNS: &str = "name, version, code, bytes, created_at";

impl Ledger {
    /// Makes the content the function's `$LATEST`. Returns its version, and whether the version is new.
    pub fn deploy_function(&self, what: &Deployment) -> Result<(i64, bool)> {
        self.write(&format!("deploy {}", what.function), |tx| {
            let (version, new) = put_version(tx, what)?;
            let sql = "update functions set latest = ?, policy = ?, revision = revision + 1, deployed_at = ?
                       where name = ? and (latest is not ?1 or policy <> ?2)";
            let now = instant::to_text(instant::now());
            tx.execute(sql, (version, what.policy.to_string(), now, &what.function))?;
            Ok((version, new))
        })
    }

    /// Looks up a function by its name. A deleted function is not found.
    pub fn function(&self, name: &str) -> Result<Option<FunctionRow>> {
        let sql = format!("select {FUNCTION_COLUMNS} from functions where name = ? and latest is not null");
        Ok(self.list("look up a function", &sql, [name], FunctionRow::read)?.into_iter().next())
    }

    /// Lists the functions by name, without deleted ones.
    pub fn functions(&self) -> Result<Vec<FunctionRow>> {
        let sql = format!("select {FUNCTION_COLUMNS} from functions where latest is not null order by name");
        self.list("list functions", &sql, [], FunctionRow::read)
    }

    /// Looks up a version, also one that was deleted, so that the version of a past run can be shown.
    pub fn function_version(&self, function: &str, version: i64) -> Result<Option<FunctionVersionRow>> {
        let sql = format!("select {VERSION_COLUMNS} from function_versions where function = ? and version = ?");
        let found = self.list("look up a version", &sql, (function, version), FunctionVersionRow::read)?;
        Ok(found.into_iter().next())
    }

    /// Lists a function's versions, oldest first, without deleted ones.
    pub fn function_versions(&self, function: &str) -> Result<Vec<FunctionVersionRow>> {
        let sql = format!(
            "select {VERSION_COLUMNS} from function_versions where function = ? and deleted_at is null order by version"
        );
        self.list("list versions", &sql, [function], FunctionVersionRow::read)
    }

    /// Resolves `$LATEST`, a version's number or an alias. Each invocation calls it, so it waits for no writer.
    pub fn resolve_function(&self, name: &str, qualifier: &str) -> Result<Option<ResolvedVersion>> {
        const RESOLVE: &str = "look up a function";
        let read =
            |row: &Row<'_>| Ok(ResolvedVersion { number: row.get(0)?, revision: row.get(1)?, version: row.get(2)? });
        let reader = self.lock_reader();
        let found = if qualifier == "$LATEST" {
            let sql = "select number, revision, latest from functions where name = ? and latest is not null";
            reader.prepare_cached(sql).and_then(|mut found| found.query_row([name], read).optional())
        } else if let Ok(version) = qualifier.parse::<i64>() {
            let sql = "select number, revision, version from functions join function_versions on function = name
                       where name = ? and latest is not null and version = ? and deleted_at is null";
            reader.prepare_cached(sql).and_then(|mut found| found.query_row((name, version), read).optional())
        } else {
            let sql =
                "select number, revision, version from functions join function_aliases on function = functions.name
                       where functions.name = ? and latest is not null and function_aliases.name = ?";
            reader.prepare_cached(sql).and_then(|mut found| found.query_row((name, qualifier), read).optional())
        };
        found.during(RESOLVE)
    }

    /// Creates an alias, or points an existing one to another version.
    ///
    /// # Errors
    /// [`Kind::FixInput`] where the function has no such version.
    pub fn point_alias(&self, function: &str, name: &str, version: i64) -> Result<()> {
        let pointed = self.write(&format!("point alias {name} of {function}"), |tx| {
            let sql = "insert into function_aliases (function, name, version, updated_at)
                       select function, ?2, version, ?4 from function_versions
                           join functions on functions.name = function
                       where function = ?1 and version = ?3 and deleted_at is null and latest is not null
                       on conflict (function, name)
                           do update set version = excluded.version, updated_at = excluded.updated_at";
            let pointed = tx.execute(sql, (function, name, version, instant::to_text(instant::now())))?;
            tx.execute("update functions set revision = revision + 1 where name = ?", [function])?;
            Ok(pointed == 1)
        })?;
        if pointed {
            return Ok(());
        }
        let context = format!("point alias {name} at version {version} of {function}: there is no such version");
        Err(Error::new(Kind::FixInput, context))
    }

    /// Lists a function's aliases by name.
    pub fn function_aliases(&self, function: &str) -> Result<Vec<AliasRow>> {
        let sql = "select function, name, version from function_aliases where function = ? order by name";
        self.list("list aliases", sql, [function], |row| {
            Ok(AliasRow { function: row.get(0)?, name: row.get(1)?, version: row.get(2)? })
        })
    }

    /// Deletes an alias. False where there is none of that name.
    pub fn delete_alias(&self, function: &str, name: &str) -> Result<bool> {
        self.write(&format!("delete alias {name} of {function}"), |tx| {
            tx.execute("update functions set revision = revision + 1 where name = ?", [function])?;
            let sql = "delete from function_aliases where function = ? and name = ?";
            Ok(tx.execute(sql, (function, name))? == 1)
        })
    }

    /// Deletes a function, so that it can no longer be called. Its version numbers are not assigned again, and its
    /// versions can still be looked up. False where there is none of that name.
    pub fn delete_function(&self, name: &str) -> Result<bool> {
        self.write(&format!("delete function {name}"), |tx| {
            tx.execute("delete from function_aliases where function = ?", [name])?;
            let sql = "update function_versions set deleted_at = ? where function = ? and deleted_at is null";
            tx.execute(sql, (instant::to_text(instant::now()), name))?;
            let sql = "update functions set latest = null, revision = revision + 1
                       where name = ? and latest is not null";
            Ok(tx.execute(sql, [name])? == 1)
        })
    }

    /// Deletes one version of a function. False where there is none.
    ///
    /// # Errors
    /// [`Kind::FixInput`] while `$LATEST` or an alias points to that version.
    pub fn delete_function_version(&self, function: &str, version: i64) -> Result<bool> {
        let doing = format!("delete version {version} of {function}");
        let deleted = self.write(&doing, |tx| {
            let sql = "select 'alias ' || name from function_aliases where function = ?1 and version = ?2
                       union all select '$LATEST' from functions where name = ?1 and latest = ?2 limit 1";
            if let Some(user) = tx.query_row(sql, (function, version), |row| row.get::<_, String>(0)).optional()? {
                return Ok(Err(user));
            }
            let sql = "update function_versions set deleted_at = ?
                       where function = ? and version = ? and deleted_at is null";
            let deleted = tx.execute(sql, (instant::to_text(instant::now()), function, version))? == 1;
            tx.execute("update functions set revision = revision + 1 where name = ?", [function])?;
            Ok(Ok(deleted))
        })?;
        deleted.map_err(|user| Error::new(Kind::FixInput, format!("{doing}: {user} points to it")))
    }

    /// Publishes a layer. Returns its version, and whether the version is new: the same code is the same version.
    pub fn put_layer(&self, name: &str, code: &str, bytes: u64) -> Result<(i64, bool)> {
        self.write(&format!("publish layer {name}"), |tx| {
            let known = "update layers set deleted_at = null where name = ? and code = ? returning version";
            if let Some(version) = tx.query_row(known, (name, code), |row| row.get(0)).optional()? {
                return Ok((version, false));
            }
            let sql = "insert into layers (name, version, code, bytes, created_at)
                       select ?1, coalesce(max(version), 0) + 1, ?2, ?3, ?4 from layers where name = ?1
                       returning version";
            let now = instant::to_text(instant::now());
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            Ok((tx.query_row(sql, (name, code, bytes, now), |row| row.get(0))?, true))
        })
    }

    /// Looks up a version of a layer: the given one, or the newest.
    pub fn layer(&self, name: &str, version: Option<i64>) -> Result<Option<LayerRow>> {
        let sql = format!(
            "select {LAYER_COLUMNS} from layers
             where name = ?1 and (?2 is null or version = ?2) and deleted_at is null order by version desc limit 1"
        );
        Ok(self.list("look up a layer", &sql, (name, version), LayerRow::read)?.into_iter().next())
    }

    /// Lists all versions of all layers by name, oldest version first.
    pub fn layers(&self) -> Result<Vec<LayerRow>> {
        let sql = format!("select {LAYER_COLUMNS} from layers where deleted_at is null order by name, version");
        self.list("list layers", &sql, [], LayerRow::read)
    }

    /// Deletes a version of a layer; functions that were deployed with it still use it. False where there is none.
    pub fn delete_layer(&self, name: &str, version: i64) -> Result<bool> {
        self.write(&format!("delete version {version} of layer {name}"), |tx| {
            let sql = "update layers set deleted_at = ? where name = ? and version = ? and deleted_at is null";
            Ok(tx.execute(sql, (instant::to_text(instant::now()), name, version))? == 1)
        })
    }
}

fn put_version(tx: &Transaction<'_>, what: &Deployment) -> rusqlite::Result<(i64, bool)> {
    let now = instant::to_text(instant::now());
    let sql = "insert into functions (name, policy, deployed_at) values (?, ?, ?) on conflict (name) do nothing";
    tx.execute(sql, (&what.function, what.policy.to_string(), &now))?;
    let known = "update function_versions set deleted_at = null where function = ? and content = ? returning version";
    if let Some(version) = tx.query_row(known, (&what.function, &what.content), |row| row.get(0)).optional()? {
        return Ok((version, false));
    }
    let sql = "insert into function_versions
                   (function, version, content, code, layers, settings, code_bytes, created_at)
               select ?1, coalesce(max(version), 0) + 1, ?2, ?3, ?4, ?5, ?6, ?7
               from function_versions where function = ?1 returning version";
    let layers = Value::from(what.layers.clone()).to_string();
    let bytes = i64::try_from(what.code_bytes).unwrap_or(i64::MAX);
    let values = (&what.function, &what.content, &what.code, layers, what.settings.to_string(), bytes, now);
    Ok((tx.query_row(sql, values, |row| row.get(0))?, true))
}

impl FunctionRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(FunctionRow {
            number: row.get(0)?,
            name: row.get(1)?,
            latest: row.get(2)?,
            policy: json(row, 3)?,
            revision: row.get(4)?,
            deployed_at: instant::from_text(5, &row.get::<_, String>(5)?)?,
        })
    }
}

impl FunctionVersionRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let layers = json(row, 4)?;
        let layers = layers.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
        Ok(FunctionVersionRow {
            function: row.get(0)?,
            version: row.get(1)?,
            content: row.get(2)?,
            code: row.get(3)?,
            layers: layers.collect(),
            settings: json(row, 5)?,
            code_bytes: count(row, 6)?,
            created_at: instant::from_text(7, &row.get::<_, String>(7)?)?,
        })
    }
}

impl LayerRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(LayerRow {
            name: row.get(0)?,
            version: row.get(1)?,
            code: row.get(2)?,
            bytes: count(row, 3)?,
            created_at: instant::from_text(4, &row.get::<_, String>(4)?)?,
        })
    }
}
