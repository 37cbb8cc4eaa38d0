//! Merges small files of a table while it is written: a stream that commits every second would leave a small file for
//! each. Files of one size class are merged when there are enough of them, so that each row is rewritten a few times at
//! most, whatever the table's size. Larger files are packed by upkeep.

use crate::commit::PACK;
use crate::error::{Kind, Result};
use crate::pack::{PackOptions, PackSummary};
use crate::table::Table;

/// The size classes: the sizes from which on a file belongs to the next one, and how many files of the class are merged.
const CLASSES: [(u64, usize); 3] = [(1 << 20, 16), (16 << 20, 16), (128 << 20, 12)];
/// At most so many files are merged at a time.
const FILES_MAX: usize = 128;
/// The memory of a sort, beyond which it spills to disk.
const MEMORY_BYTES: usize = 128 << 20;

impl Table {
    /// Merges the files of a size class that has enough of them, in one commit; `None` where no class has, or where
    /// another writer was faster. Nothing else may write to the table meanwhile but upkeep.
    pub async fn compact(&self, run: &str) -> Result<Option<PackSummary>> {
        let files = self.files()?;
        let mut least = 0;
        for (end, count) in CLASSES {
            let class = files.files.iter().filter(|file| (least..end).contains(&file.bytes()));
            let class: Vec<_> = class.take(FILES_MAX).cloned().collect();
            least = end;
            if class.len() < count {
                continue;
            }
            let pack = PackOptions { memory_bytes: MEMORY_BYTES, ..PackOptions::default() };
            let written = self.write_slice(run, &class, &self.order()?, &pack).await?;
            let mut packed = PackSummary::default();
            packed.add(&class);
            packed.files_after = written.len() as u64;
            packed.bytes_after = written.iter().map(|file| file.bytes).sum();
            let paths = class.iter().map(|file| file.path.clone());
            return match self.commit(run, PACK).packs(paths).files(written).write().await {
                Ok(_) => Ok(Some(packed)),
                Err(error) if error.kind == Kind::Retry => Ok(None),
                Err(error) => Err(error),
            };
        }
        Ok(None)
    }
}
