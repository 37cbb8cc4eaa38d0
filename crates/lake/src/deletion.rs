//! Deletion vectors hide rows without rewriting their file, so that replacing a thousand rows of ten
//! million writes a thousand rows. delta-rs itself rewrites whole files.
//!
//! The vectors of one commit are in one file, in Delta's format
//! (<https://github.com/delta-io/delta/blob/master/PROTOCOL.md#deletion-vectors>), written by the
//! kernel that delta-rs is built on.

use std::collections::BTreeMap;
use std::sync::Arc;

use delta_kernel::Engine;
use delta_kernel::actions::deletion_vector_writer::{KernelDeletionVector, StreamingDeletionVectorWriter};
use deltalake::kernel::{Action, Add, DeletionVectorDescriptor, LogicalFileView, StorageType};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use roaring::RoaringTreemap;
use url::Url;

use crate::error::{Context, Error, Kind, Result};
use crate::table::Table;

/// Rows to hide, by data file and position from 0.
#[derive(Debug, Clone, Default)]
pub struct HiddenRows {
    files: BTreeMap<String, RoaringTreemap>,
}

impl HiddenRows {
    /// Adds a row: `path` is relative to the table's root.
    pub fn insert(&mut self, path: &str, position: u64) {
        if let Some(rows) = self.files.get_mut(path) {
            rows.insert(position);
        } else {
            self.files.insert(path.to_owned(), RoaringTreemap::from_iter([position]));
        }
    }

    /// The number of rows.
    pub fn rows(&self) -> u64 {
        self.files.values().map(RoaringTreemap::len).sum()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The data files with such rows.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &String> {
        self.files.keys()
    }

    /// Whether a row is among them.
    pub(crate) fn contains(&self, path: &str, position: u64) -> bool {
        self.files.get(path).is_some_and(|rows| rows.contains(position))
    }

    /// Those of a data file.
    pub(crate) fn of(&self, path: &str) -> RoaringTreemap {
        self.files.get(path).cloned().unwrap_or_default()
    }

    /// Adds all rows of `other`.
    pub fn merge(&mut self, other: HiddenRows) {
        for (path, rows) in other.files {
            *self.files.entry(path).or_default() |= rows;
        }
    }

    /// Stores the vectors, each merged with the file's present one, and returns the log actions that apply them.
    /// Rows of the new files `adds` are hidden by the actions that add these. Before the actions are committed, nothing
    /// is hidden.
    pub(crate) async fn write(&self, base: &Table, run: &str, adds: &mut Vec<Add>) -> Result<Vec<Action>> {
        if self.files.is_empty() {
            return Ok(Vec::new());
        }
        let context = || format!("hide rows of {}", base.name());
        let state = base.delta.snapshot().context(context())?;
        let id = uuid::Uuid::new_v4();
        let mut bytes = Vec::new();
        let mut writer = StreamingDeletionVectorWriter::new(&mut bytes);
        let mut actions = Vec::new();
        let mut remaining = self.files.clone();
        for file in state.log_data().iter() {
            let Some(mut rows) = remaining.remove(file.path().as_ref()) else { continue };
            if let Some(present) = HiddenRows::of_file(base, &file).await? {
                rows |= present;
            }
            actions.push(Action::Remove(file.remove_action(true)));
            if file.num_records().is_some_and(|all| rows.len() == all as u64) {
                // No row of the file is visible any more.
                continue;
            }
            let descriptor = append(&mut writer, &rows, run, id).context(context())?;
            actions.push(Action::Add(Add {
                path: file.path().into_owned(),
                partition_values: file.partition_values_map(),
                size: file.size(),
                modification_time: file.modification_time(),
                data_change: true,
                stats: file.stats().map(|stats| loosen(&stats)),
                deletion_vector: Some(descriptor),
                ..Default::default()
            }));
        }
        let mut whole = Vec::new();
        for add in adds.iter_mut() {
            let Some(rows) = remaining.remove(&add.path) else { continue };
            if add.get_stats().ok().flatten().is_some_and(|stats| rows.len() == stats.num_records as u64) {
                whole.push(add.path.clone());
                continue;
            }
            add.stats = add.stats.as_deref().map(loosen);
            add.deletion_vector = Some(append(&mut writer, &rows, run, id).context(context())?);
        }
        adds.retain(|add| !whole.contains(&add.path));
        if let Some(path) = remaining.keys().next() {
            return Err(Error::new(Kind::Retry, format!("{}: {path} is no longer part of the table", context())));
        }
        writer.finalize().context(context())?;
        if !bytes.is_empty() {
            let path = Path::from(format!("{}/deletion_vector_{id}.bin", folder(run)));
            base.store().put(&path, bytes.into()).await.context(context())?;
            if let Ok(folder) = base.lake.table_url(base.name())?.to_file_path() {
                let file = folder.join(path.as_ref());
                crate::commit::flush(&file).await?;
                crate::commit::flush(file.parent().unwrap_or(&folder)).await?;
            }
        }
        Ok(actions)
    }

    /// The hidden rows of a file; `None` where it has no vector.
    pub(crate) async fn of_file(table: &Table, file: &LogicalFileView) -> Result<Option<RoaringTreemap>> {
        match file.deletion_vector_descriptor() {
            Some(descriptor) => read(table, descriptor).await.map(Some),
            None => Ok(None),
        }
    }
}

/// Writes the vector of a file into the commit's file of vectors, and returns where it is.
fn append(
    writer: &mut StreamingDeletionVectorWriter<'_, Vec<u8>>,
    rows: &RoaringTreemap,
    run: &str,
    id: uuid::Uuid,
) -> Result<DeletionVectorDescriptor, delta_kernel::Error> {
    let mut vector = KernelDeletionVector::new();
    vector.add_deleted_row_indexes(rows.iter());
    let written = writer.write_deletion_vector(vector)?;
    Ok(DeletionVectorDescriptor {
        storage_type: StorageType::UuidRelativePath,
        path_or_inline_dv: format!("{}{}", folder(run), z85::encode(id.as_bytes())),
        offset: Some(written.offset),
        size_in_bytes: written.size_in_bytes,
        cardinality: written.cardinality,
    })
}

/// Reads a vector: the positions of the rows that it hides.
pub(crate) async fn read(table: &Table, descriptor: DeletionVectorDescriptor) -> Result<RoaringTreemap> {
    let context = format!("read the deletion vector {} of {}", descriptor.path_or_inline_dv, table.name());
    let engine = table.delta.log_store().engine(None);
    let root = table.lake.table_url(table.name())?;
    let read = move || read_vector(descriptor, engine, &root);
    tokio::task::spawn_blocking(read)
        .await
        .map_err(|e| Error::new(Kind::Bug, context.clone()).because(e))?
        .context(context)
}

/// The file with a vector, relative to the table's root; `None` where it is in the log.
pub(crate) fn file_of(descriptor: &DeletionVectorDescriptor) -> Option<String> {
    let text = descriptor.path_or_inline_dv.as_str();
    let (folder, id) = text.split_at_checked(text.len().checked_sub(ENCODED_ID)?)?;
    let id = uuid::Uuid::from_slice(&z85::decode(id).ok()?).ok()?;
    let is_file = descriptor.storage_type == StorageType::UuidRelativePath;
    is_file.then(|| format!("{folder}/deletion_vector_{id}.bin"))
}

/// The length of a vector's id as Delta encodes it.
const ENCODED_ID: usize = 20;

/// The folder of a run's vectors. It has the run's name, so that upkeep recognizes what a crash left behind.
fn folder(run: &str) -> String {
    format!("dv-{run}")
}

fn read_vector(
    descriptor: DeletionVectorDescriptor,
    engine: Arc<dyn Engine>,
    root: &Url,
) -> Result<RoaringTreemap, delta_kernel::Error> {
    let descriptor: delta_kernel::actions::deletion_vector::DeletionVectorDescriptor = descriptor.try_into()?;
    descriptor.read(engine.storage_handler(), root)
}

/// The statistics of a file with hidden rows: its bounds may be wider than the visible rows, which Delta marks by
/// `tightBounds`.
fn loosen(stats: &str) -> String {
    match stats.strip_suffix('}') {
        Some(open) if !stats.contains("\"tightBounds\"") => format!("{open},\"tightBounds\":false}}"),
        _ => stats.to_owned(),
    }
}
