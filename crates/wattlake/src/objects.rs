//! Files that are no table, in the lake under their SHA-256: what a run was asked and what it
//! answered. The same bytes are one object; an object is whole or not there.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use sha2::{Digest, Sha256};

/// Returns the object's hash, in small hexadecimal digits.
pub async fn put(lake: &lake::Lake, bytes: Bytes) -> Result<String> {
    let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    match lake.objects().put_opts(&path(&hash), bytes.into(), create).await {
        Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => Ok(hash),
        Err(error) => Err(error).with_context(|| format!("keep the object {hash}")),
    }
}

/// The object, proven to be what its hash says.
pub async fn get(lake: &lake::Lake, hash: &str) -> Result<Bytes> {
    let context = || format!("read the object {hash}");
    let found = lake.objects().get(&path(hash)).await.with_context(context)?;
    let bytes = found.bytes().await.with_context(context)?;
    let own: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if own != hash {
        bail!("the object {hash} is no longer what it was: its bytes have the hash {own}");
    }
    Ok(bytes)
}

fn path(hash: &str) -> Path {
    Path::from(format!("sha256/{}/{hash}", hash.get(..2).unwrap_or_default()))
}
