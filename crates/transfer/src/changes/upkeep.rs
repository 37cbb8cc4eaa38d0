//! What a stream does for a table that it commits to every second: it merges small files and writes checkpoints of
//! Delta's log.

use lake::Table;
use tokio::runtime::Handle;

/// After so many commits a checkpoint is written, so that readers need not read the commits before it.
const CHECKPOINT_EVERY: u64 = 50;

/// Counts the commits to a table.
#[derive(Debug, Default)]
pub struct StreamUpkeep {
    commits: u64,
}

impl StreamUpkeep {
    /// Does what is due after a commit, and returns the table's newest version. It blocks.
    pub fn after_commit(&mut self, table: &Table, run: &str, runtime: &Handle) -> Table {
        self.commits += 1;
        let is_checkpoint_due = self.commits.is_multiple_of(CHECKPOINT_EVERY);
        let tending = async {
            let packed = table.compact(run).await?;
            let table = if packed.is_some() { table.reload().await? } else { table.clone() };
            if is_checkpoint_due {
                table.checkpoint(CHECKPOINT_EVERY).await?;
            }
            Ok::<_, lake::Error>(table)
        };
        match runtime.block_on(tending) {
            Ok(table) => table,
            // The changes are committed; it is tried again after the next commit.
            Err(error) => {
                tracing::warn!(table = %table.name(), "small files were not merged: {}", base::chain(&error));
                table.clone()
            }
        }
    }
}
