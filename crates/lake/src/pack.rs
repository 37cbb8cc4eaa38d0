//! Packs a table: small files, files with many hidden rows and unsorted files are rewritten into large,
//! sorted ones. The rows of the table do not change.
//!
//! Readers and writers are never blocked: the old files stay for readers and earlier versions until a
//! vacuum removes them, and a commit that changes a file while it is packed takes precedence; the pack
//! then plans that slice again.

use std::sync::Arc;

use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext, ident};
use futures::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::commit::{ORDER, PACK};
use crate::error::{Context, Error, Kind, Result};
use crate::rewrite::{conform, write_all};
use crate::scan::{File, Scan};
use crate::table::Table;
use crate::writer::{DataFile, Destination};

/// After so many conflicts with other writers the rest is left to the next upkeep.
const CONFLICTS_MAX: u64 = 5;
/// How many sorts run in parallel: more are hardly faster and need more memory.
const SORTS_AT_ONCE: usize = 2;

/// How a table is packed.
#[derive(Debug, Clone)]
pub struct PackOptions {
    /// The columns to sort by; empty means those that the table was loaded with, usually its key.
    pub order: Vec<String>,
    /// The size of new files; a file below a quarter of it counts as small.
    pub file_bytes: u64,
    /// How many small files there must be before they are packed.
    pub files_min: usize,
    /// How much is read, sorted and committed at once; it bounds time, disk space and the cost of a conflict.
    pub slice_bytes: u64,
    /// The memory of a sort, beyond which it spills to disk.
    pub memory_bytes: usize,
}

impl Default for PackOptions {
    fn default() -> Self {
        PackOptions {
            order: Vec::new(),
            file_bytes: 256 << 20,
            files_min: 4,
            slice_bytes: 1 << 30,
            memory_bytes: 512 << 20,
        }
    }
}

/// What a pack did, or would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PackSummary {
    /// The number of files that were replaced.
    pub files_before: u64,
    /// The number of new files.
    pub files_after: u64,
    /// The size of the files that were replaced.
    pub bytes_before: u64,
    /// The size of the new files.
    pub bytes_after: u64,
    /// The number of rows in the new files.
    pub rows: u64,
    /// The number of hidden rows that the new files do not contain.
    pub rows_purged: u64,
    /// How often another writer changed files of a slice, which was then planned again.
    pub conflicts: u64,
}

impl PackSummary {
    pub(crate) fn add(&mut self, slice: &[File]) {
        self.files_before += slice.len() as u64;
        self.bytes_before += slice.iter().map(File::bytes).sum::<u64>();
        self.rows += slice.iter().map(|file| file.rows_visible() as u64).sum::<u64>();
        self.rows_purged += slice.iter().map(|file| file.rows_hidden() as u64).sum::<u64>();
    }
}

impl Table {
    /// The columns that packed files are sorted by; empty where none were set.
    pub fn order(&self) -> Result<Vec<String>> {
        let context = || format!("read the order of {}", self.name());
        let state = self.delta.snapshot().context(context())?;
        let Some(text) = state.metadata().configuration().get(ORDER) else { return Ok(Vec::new()) };
        let named: Vec<String> = serde_json::from_str(text).context(context())?;
        let schema = self.schema()?;
        let known = |name: &String| schema.field_with_name(name).is_ok_and(|field| !field.data_type().is_nested());
        Ok(named.into_iter().filter(known).collect())
    }

    /// What [`Table::pack`] would rewrite; `files_after` and `bytes_after` are not known in advance.
    pub fn pack_preview(&self, pack: &PackOptions) -> Result<PackSummary> {
        let files = self.files()?;
        let order = self.order_for(pack)?;
        let mut packed = PackSummary::default();
        packed.add(&candidates(&files.files, pack, !order.is_empty()));
        Ok(packed)
    }

    /// Packs slice by slice until nothing is left to pack; another call then does nothing. A crash leaves whole commits
    /// and files that upkeep removes.
    pub async fn pack(&self, run: &str, pack: &PackOptions) -> Result<PackSummary> {
        let mut packed = PackSummary::default();
        let mut table = self.reload().await?;
        let order = table.order_for(pack)?;
        loop {
            let slice = slice(candidates(&table.files()?.files, pack, !order.is_empty()), pack, !order.is_empty());
            if slice.is_empty() {
                return Ok(packed);
            }
            let files = table.write_slice(run, &slice, &order, pack).await?;
            let (count, bytes) = (files.len() as u64, files.iter().map(|file| file.bytes).sum::<u64>());
            let paths = slice.iter().map(|file| file.path.clone());
            match table.commit(run, PACK).packs(paths).files(files).write().await {
                Ok(_) => {
                    packed.add(&slice);
                    packed.files_after += count;
                    packed.bytes_after += bytes;
                }
                // The files stay for a vacuum: after an error that came too late they may be committed nevertheless.
                Err(error) if error.kind == Kind::Retry && packed.conflicts < CONFLICTS_MAX => packed.conflicts += 1,
                Err(error) => return Err(error),
            }
            table = table.reload().await?;
        }
    }

    fn order_for(&self, pack: &PackOptions) -> Result<Vec<String>> {
        if pack.order.is_empty() {
            return self.order();
        }
        let schema = self.schema()?;
        for name in &pack.order {
            if schema.field_with_name(name).is_err() {
                let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                let context = format!(
                    "sort {} by {name:?}, which is not one of its columns: {}",
                    self.name(),
                    columns.join(", ")
                );
                return Err(Error::new(Kind::FixInput, context));
            }
        }
        Ok(pack.order.clone())
    }

    pub(crate) async fn write_slice(
        &self,
        run: &str,
        slice: &[File],
        order: &[String],
        pack: &PackOptions,
    ) -> Result<Vec<DataFile>> {
        let context = format!("pack {}", self.name());
        let schema = self.schema()?;
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(pack.memory_bytes)))
            .build_arc()
            .context(&context)?;
        let partitions = if order.is_empty() { 1 } else { SORTS_AT_ONCE };
        let session = SessionConfig::new().with_target_partitions(partitions);
        let session = SessionContext::new_with_config_rt(session, runtime);
        let mut rows = session.read_table(Arc::new(Scan::over(self, slice)?)).context(&context)?;
        if !order.is_empty() {
            rows = rows.sort(order.iter().map(|name| ident(name).sort(true, false)).collect()).context(&context)?;
        }
        let mut batches = rows.execute_stream().await.context(&context)?;
        let (sender, receiver) = mpsc::channel(2);
        let writer = self.writer(run, Arc::clone(&schema), Handle::current()).packed(pack.file_bytes);
        let writing = tokio::task::spawn_blocking(move || write_all(writer, receiver));
        while let Some(batch) = batches.next().await {
            let batch = conform(&batch.context(&context)?, &schema)?;
            if sender.send(batch).await.is_err() {
                break;
            }
        }
        drop(sender);
        let files = writing.await.map_err(|e| Error::new(Kind::Bug, context.clone()).because(e))??;
        let (read, written) = (
            slice.iter().map(|file| file.rows_visible() as u64).sum::<u64>(),
            files.iter().map(|f| f.rows).sum::<u64>(),
        );
        if read != written {
            return Err(Error::new(Kind::Bug, format!("{context}: {written} of {read} rows were written")));
        }
        Ok(files)
    }
}

/// The files that are worth packing.
fn candidates(files: &[File], pack: &PackOptions, has_order: bool) -> Vec<File> {
    let is_small = |file: &&File| file.bytes() < pack.file_bytes / 4;
    let too_many = files.iter().filter(is_small).count() >= pack.files_min.max(2);
    let chosen = files.iter().filter(|file| needs_packing(file, has_order) || (too_many && is_small(file)));
    chosen.cloned().collect()
}

/// Whether a file is to be packed whatever its size: more than a fifth of its rows are hidden, or it is not sorted.
fn needs_packing(file: &File, has_order: bool) -> bool {
    file.rows_hidden() * 5 > file.rows() || (has_order && !Destination::is_packed(&file.path))
}

/// The files of one commit; none where rewriting them would change nothing.
fn slice(files: Vec<File>, pack: &PackOptions, has_order: bool) -> Vec<File> {
    let (mut bytes, mut slice) = (0, Vec::new());
    for file in files {
        bytes += file.bytes();
        if !slice.is_empty() && bytes > pack.slice_bytes.max(pack.file_bytes) {
            break;
        }
        slice.push(file);
    }
    if slice.len() == 1 && !needs_packing(&slice[0], has_order) {
        slice.clear();
    }
    slice
}

#[cfg(test)]
mod tests;
