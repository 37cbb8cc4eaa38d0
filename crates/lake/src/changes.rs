//! The changes of a table since one of its versions: exactly the rows that were added and removed, even
//! where packs rewrote files in between. They are computed from the Delta log; nothing is stored for them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::execution::context::SessionContext;
use deltalake::kernel::DeletionVectorDescriptor;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use roaring::RoaringTreemap;
use serde_json::Value;

use crate::deletion;
use crate::error::{Context, Result};
use crate::scan::{File, Scan};
use crate::table::{AsOf, Table};

/// After more commits than this, the changes count as unknown.
const COMMITS_MAX: usize = 100;

/// How a table differs from an earlier version of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableChanges {
    /// It has the same rows, though packs may have rewritten them.
    None,
    /// The rows changed by the commits of these versions, which [`Table::rows_changed`] returns.
    InVersions(Vec<u64>),
    /// The changed rows are not known: the table was replaced, has other columns, or the earlier version is gone.
    Unknown,
}

impl Table {
    /// The table's identity, which never changes; a table that is created again under its name has another.
    pub fn id(&self) -> Result<String> {
        let context = format!("read the identity of {}", self.name());
        Ok(self.delta.snapshot().context(context)?.metadata().id().to_owned())
    }

    /// What changed after a version.
    pub async fn changes_since(&self, version: u64) -> Result<TableChanges> {
        let Some(newer) = self.version().checked_sub(version) else { return Ok(TableChanges::Unknown) };
        if newer == 0 {
            return Ok(TableChanges::None);
        }
        let newer = usize::try_from(newer).unwrap_or(usize::MAX);
        let context = || format!("read the history of {}", self.name());
        let commits: Vec<_> = self.delta.history(Some(newer)).try_collect().await.context(context())?;
        if commits.len() != newer {
            return Ok(TableChanges::Unknown);
        }
        let pack = Value::from(crate::commit::PACK);
        let overwrite = Value::from("Overwrite");
        let mut versions = Vec::new();
        for (commit, back) in commits.iter().zip(0u64..) {
            if commit.info.get("wattlakeOperation") == Some(&pack) {
                continue;
            }
            if commit.operation_parameters.as_ref().and_then(|p| p.get("mode")) == Some(&overwrite) {
                return Ok(TableChanges::Unknown);
            }
            versions.push(self.version() - back);
        }
        if versions.is_empty() {
            return Ok(TableChanges::None);
        }
        // A version whose files a vacuum removed can't be compared.
        match self.at(AsOf::Version(version)).await {
            Ok(before) if before.schema()? == self.schema()? && versions.len() <= COMMITS_MAX => {}
            _ => return Ok(TableChanges::Unknown),
        }
        versions.reverse();
        Ok(TableChanges::InVersions(versions))
    }

    /// The rows that the commit of a version added or removed, for DataFusion. Rows that are visible before and after
    /// it are in neither provider.
    pub async fn rows_changed(&self, version: u64) -> Result<Vec<Arc<dyn TableProvider>>> {
        let Some(earlier) = version.checked_sub(1) else { return Ok(Vec::new()) };
        let (before, after) = (self.at(AsOf::Version(earlier)).await?, self.at(AsOf::Version(version)).await?);
        let (files_before, files_after) = (before.files()?, after.files()?);
        let mut remaining: HashMap<&str, &File> =
            files_before.files.iter().map(|file| (file.path.as_str(), file)).collect();
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for file in &files_after.files {
            match remaining.remove(file.path.as_str()) {
                None => added.push(file.clone()),
                Some(old) if same(old.vector.as_ref(), file.vector.as_ref()) => {}
                Some(old) => {
                    let (hidden_before, hidden_after) = (before.hidden(old).await?, after.hidden(file).await?);
                    added.extend(file.picked(&hidden_before - &hidden_after));
                    removed.extend(file.picked(&hidden_after - &hidden_before));
                }
            }
        }
        removed.extend(remaining.into_values().cloned());
        let mut changed: Vec<Arc<dyn TableProvider>> = Vec::new();
        for (table, files) in [(&before, removed), (&after, added)] {
            if !files.is_empty() {
                changed.push(Arc::new(Scan::over(table, &files)?));
            }
        }
        Ok(changed)
    }

    /// The rows of [`Table::rows_changed`], a batch at a time.
    pub async fn read_changed(&self, version: u64) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let context = format!("read what changed in {} with version {version}", self.name());
        let mut parts = Vec::new();
        for provider in self.rows_changed(version).await? {
            let frame = SessionContext::new().read_table(provider).context(&context)?;
            parts.push(frame.execute_stream().await.context(&context)?);
        }
        Ok(futures::stream::iter(parts).flatten().map(move |batch| batch.context(&context)).boxed())
    }

    async fn hidden(&self, file: &File) -> Result<RoaringTreemap> {
        match &file.vector {
            Some(vector) => deletion::read(self, vector.clone()).await,
            None => Ok(RoaringTreemap::new()),
        }
    }
}

fn same(one: Option<&DeletionVectorDescriptor>, other: Option<&DeletionVectorDescriptor>) -> bool {
    let place = |vector: Option<&DeletionVectorDescriptor>| vector.map(|v| (v.path_or_inline_dv.clone(), v.offset));
    place(one) == place(other)
}

#[cfg(test)]
mod tests;
