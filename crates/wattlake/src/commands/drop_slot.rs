use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use jobs::flows::stream::drop_slot;
use jobs::warehouse::Warehouse;

/// Drop the replication slot and the publication that a transfer with mode = "changes" has at its source
///
/// The source keeps its log for a slot until its disk is full: drop it where the transfer does not run any more. When
/// the transfer runs again, its tables are read again.
#[derive(Debug, Args)]
pub struct DropSlot {
    name: String,
}

impl DropSlot {
    /// Runs the command.
    pub async fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let dropped = drop_slot(warehouse, &self.name).await?;
        match dropped.is_empty() {
            true => println!("{}: the source has no slot and no publication of it", self.name),
            false => println!("{}: dropped the {}", self.name, dropped.join(" and the ")),
        }
        Ok(ExitCode::SUCCESS)
    }
}
