//! Packs a table: small files, files with many hidden rows and files in no order are written anew,
//! big and sorted. What the table shows stays the same, to the row.
//!
//! Never disturbs anybody: old files stay for readers and earlier versions until a vacuum takes
//! them, and a commit that touches a file while it is packed wins: that slice is planned anew.

use std::sync::Arc;

use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext, ident};
use futures::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::commit::ORDER;
use crate::error::{Context, Error, Kind, Result};
use crate::rewrite::{conform, write_all};
use crate::scan::{File, Scan};
use crate::table::Table;
use crate::writer::{DataFile, Destination};

/// Tells packed files from the rest in the table's history.
pub(crate) const OPERATION: &str = "pack";
/// A slice that keeps losing to other writers is left for the next upkeep.
const LOSSES_MAX: u64 = 5;
/// Sorting side by side more than this brings little and holds more memory.
const SORTS_AT_ONCE: usize = 2;

/// How a table is packed.
#[derive(Debug, Clone)]
pub struct Pack {
    /// Columns to sort by. Empty: those that the table was loaded with, usually its key.
    pub order: Vec<String>,
    /// Files are filled up to this; one below a quarter of it counts as small.
    pub file_bytes: u64,
    /// Small files wait until there are so many.
    pub files_min: usize,
    /// What is read, sorted and committed at once: bounds time, disk and the cost of a lost race.
    pub slice_bytes: u64,
    /// Beyond it a sort goes to disk.
    pub memory_bytes: usize,
}

impl Default for Pack {
    fn default() -> Self {
        Pack { order: Vec::new(), file_bytes: 256 << 20, files_min: 4, slice_bytes: 1 << 30, memory_bytes: 512 << 20 }
    }
}

/// What packing did, or would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Packed {
    pub files_before: u64,
    pub files_after: u64,
    pub bytes_before: u64,
    pub bytes_after: u64,
    pub rows: u64,
    /// Hidden rows that the new files no longer hold.
    pub rows_purged: u64,
    /// Slices that another writer was faster with, and that were planned anew.
    pub lost: u64,
}

impl Packed {
    fn add(&mut self, slice: &[File]) {
        self.files_before += slice.len() as u64;
        self.bytes_before += slice.iter().map(File::bytes).sum::<u64>();
        self.rows += slice.iter().map(|file| file.rows_visible() as u64).sum::<u64>();
        self.rows_purged += slice.iter().map(|file| file.rows_hidden() as u64).sum::<u64>();
    }
}

impl Table {
    /// The columns that packed files are sorted by; none where nobody said.
    pub fn order(&self) -> Result<Vec<String>> {
        let context = || format!("read the order of {}", self.name());
        let state = self.delta.snapshot().context(context())?;
        let Some(text) = state.metadata().configuration().get(ORDER) else { return Ok(Vec::new()) };
        let named: Vec<String> = serde_json::from_str(text).context(context())?;
        let schema = self.schema()?;
        let known = |name: &String| schema.field_with_name(name).is_ok_and(|field| !field.data_type().is_nested());
        Ok(named.into_iter().filter(known).collect())
    }

    /// What [`Table::pack`] would read; `files_after` and `bytes_after` are not known before.
    pub fn to_pack(&self, pack: &Pack) -> Result<Packed> {
        let files = self.files()?;
        let order = self.order_for(pack)?;
        let mut packed = Packed::default();
        packed.add(&candidates(&files.files, pack, !order.is_empty()));
        Ok(packed)
    }

    /// Packs until nothing is left to pack. A second call does nothing.
    pub async fn pack(&self, run: &str, pack: &Pack) -> Result<Packed> {
        let mut packed = Packed::default();
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
            match table.commit(run, OPERATION).packs(paths).files(files).write().await {
                Ok(_) => {
                    packed.add(&slice);
                    packed.files_after += count;
                    packed.bytes_after += bytes;
                }
                // What was written stays for a vacuum: a store that answers "no" too late may have committed it.
                Err(error) if error.kind == Kind::Retry && packed.lost < LOSSES_MAX => packed.lost += 1,
                Err(error) => return Err(error),
            }
            table = table.reload().await?;
        }
    }

    fn order_for(&self, pack: &Pack) -> Result<Vec<String>> {
        if pack.order.is_empty() {
            return self.order();
        }
        let schema = self.schema()?;
        for name in &pack.order {
            if schema.field_with_name(name).is_err() {
                let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                let context =
                    format!("sort {} by {name:?}, which is none of its columns: {}", self.name(), columns.join(", "));
                return Err(Error::new(Kind::FixInput, context));
            }
        }
        Ok(pack.order.clone())
    }

    async fn write_slice(&self, run: &str, slice: &[File], order: &[String], pack: &Pack) -> Result<Vec<DataFile>> {
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
            return Err(Error::new(Kind::Bug, format!("{context}: of {read} rows {written} were written")));
        }
        Ok(files)
    }
}

/// The files that packing would better.
fn candidates(files: &[File], pack: &Pack, has_order: bool) -> Vec<File> {
    let is_small = |file: &&File| file.bytes() < pack.file_bytes / 4;
    let too_many = files.iter().filter(is_small).count() >= pack.files_min.max(2);
    let chosen = files.iter().filter(|file| must(file, has_order) || (too_many && is_small(file)));
    chosen.cloned().collect()
}

/// Full of holes, or in no order.
fn must(file: &File, has_order: bool) -> bool {
    file.rows_hidden() * 5 > file.rows() || (has_order && !Destination::is_packed(&file.path))
}

/// As many files as one commit takes; none where writing them anew would change nothing.
fn slice(files: Vec<File>, pack: &Pack, has_order: bool) -> Vec<File> {
    let (mut bytes, mut slice) = (0, Vec::new());
    for file in files {
        bytes += file.bytes();
        if !slice.is_empty() && bytes > pack.slice_bytes.max(pack.file_bytes) {
            break;
        }
        slice.push(file);
    }
    if slice.len() == 1 && !must(&slice[0], has_order) {
        slice.clear();
    }
    slice
}

#[cfg(test)]
mod tests;
