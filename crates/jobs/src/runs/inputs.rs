//! Hashes of what a run depends on: two runs with the same hashes ran the same configuration.

use std::path::Path;

use anyhow::{Context, Result};
use config::Job;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::warehouse::Warehouse;

/// A JSON object: the hash of each file of the job, by its path in the warehouse, and the program's version.
pub fn of(warehouse: &Warehouse, job: &Job<'_>) -> Result<Value> {
    let mut files = vec![job.file()];
    match job {
        Job::Transfer(transfer) => files.extend(transfer.mapping.as_deref()),
        Job::Statement(statement) => {
            files.extend([statement.template_file.as_path(), statement.labels_file.as_path()]);
            files.extend(statement.pdf.as_ref().map(|pdf| pdf.file.as_path()));
        }
        _ => {}
    }
    let mut hashes = Map::new();
    for file in files {
        let name = file.strip_prefix(&warehouse.config.root).unwrap_or(file);
        hashes.insert(name.to_string_lossy().into_owned(), json!(hash(file)?));
    }
    hashes.insert("wattlake".to_owned(), json!(env!("CARGO_PKG_VERSION")));
    Ok(Value::Object(hashes))
}

fn hash(file: &Path) -> Result<String> {
    let bytes = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("sha256:{hex}"))
}
