//! What changed in a table since one of its versions: the rows that came and those that went, to
//! the row, whatever packs did to its files in between. Keeps nothing: the log tells it all.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use deltalake::kernel::DeletionVectorDescriptor;
use futures::TryStreamExt;
use roaring::RoaringTreemap;
use serde_json::Value;

use crate::deletion;
use crate::error::{Context, Result};
use crate::scan::{File, Scan};
use crate::table::{Table, When};

/// More commits than this are not worth telling apart.
const COMMITS_MAX: usize = 100;

/// How a table differs from an earlier version of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// It shows the same rows, though packs may have written them anew.
    None,
    /// By the commits that made these versions: see [`Table::rows_changed`].
    In(Vec<u64>),
    /// It was replaced, has other columns, or its log no longer tells.
    Whole,
}

impl Table {
    /// Stays the same for as long as the table lives; one made anew under its name has another.
    pub fn id(&self) -> Result<String> {
        let context = format!("read the identity of {}", self.name());
        Ok(self.delta.snapshot().context(context)?.metadata().id().to_owned())
    }

    /// What happened after a version.
    pub async fn changes_since(&self, version: u64) -> Result<Changes> {
        let Some(newer) = self.version().checked_sub(version) else { return Ok(Changes::Whole) };
        if newer == 0 {
            return Ok(Changes::None);
        }
        let newer = usize::try_from(newer).unwrap_or(usize::MAX);
        let context = || format!("read the history of {}", self.name());
        let commits: Vec<_> = self.delta.history(Some(newer)).try_collect().await.context(context())?;
        if commits.len() != newer {
            return Ok(Changes::Whole);
        }
        let pack = Value::from(crate::pack::OPERATION);
        let overwrite = Value::from("Overwrite");
        let mut versions = Vec::new();
        for (commit, back) in commits.iter().zip(0u64..) {
            if commit.info.get("wattlakeOperation") == Some(&pack) {
                continue;
            }
            if commit.operation_parameters.as_ref().and_then(|p| p.get("mode")) == Some(&overwrite) {
                return Ok(Changes::Whole);
            }
            versions.push(self.version() - back);
        }
        if versions.is_empty() {
            return Ok(Changes::None);
        }
        // A version that a vacuum has taken can't be compared with.
        match self.at(When::Version(version)).await {
            Ok(before) if before.schema()? == self.schema()? && versions.len() <= COMMITS_MAX => {}
            _ => return Ok(Changes::Whole),
        }
        versions.reverse();
        Ok(Changes::In(versions))
    }

    /// The rows that came to be and those that went with the commit that made a version, for
    /// DataFusion. What a reader of both versions would find the same is in neither.
    pub async fn rows_changed(&self, version: u64) -> Result<Vec<Arc<dyn TableProvider>>> {
        let Some(earlier) = version.checked_sub(1) else { return Ok(Vec::new()) };
        let (before, after) = (self.at(When::Version(earlier)).await?, self.at(When::Version(version)).await?);
        let (files_before, files_after) = (before.files()?, after.files()?);
        let mut left: HashMap<&str, &File> = files_before.files.iter().map(|file| (file.path.as_str(), file)).collect();
        let (mut came, mut went) = (Vec::new(), Vec::new());
        for file in &files_after.files {
            match left.remove(file.path.as_str()) {
                None => came.push(file.clone()),
                Some(old) if same(old.vector.as_ref(), file.vector.as_ref()) => {}
                Some(old) => {
                    let (was, is) = (before.hidden(old).await?, after.hidden(file).await?);
                    came.extend(file.picked(&was - &is));
                    went.extend(file.picked(&is - &was));
                }
            }
        }
        went.extend(left.into_values().cloned());
        let mut changed: Vec<Arc<dyn TableProvider>> = Vec::new();
        for (table, files) in [(&before, went), (&after, came)] {
            if !files.is_empty() {
                changed.push(Arc::new(Scan::over(table, &files)?));
            }
        }
        Ok(changed)
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
