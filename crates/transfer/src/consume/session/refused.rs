//! Tables that take no changes: the shards go on without them, until they are read again.

use lake::TableName;

use super::super::definitions::{Definitions, Refusal};
use super::super::table::ConsumedTable;
use super::Session;
use crate::error::{Error, Kind, Result};

impl Refusal {
    fn error(&self) -> Error {
        Error::input(self.reason.clone()).state("refused").hint(self.hint.clone().unwrap_or_default())
    }
}

impl Session {
    /// Opens a table; where it can't be, it is refused, and the others go on.
    pub(super) fn open(&self, name: &str, target: TableName) -> Result<ConsumedTable> {
        let (request, runtime) = (&self.part.request, &self.runtime);
        let refusal = self.definitions.refused.get(name);
        if let Some(refusal) = refusal.filter(|refusal| refusal.epoch >= self.part.replay.whole_epoch) {
            return Ok(ConsumedTable::refused(request, name, target, refusal.error(), runtime));
        }
        let definition = self.definitions.tables.get(name).cloned();
        let whole_epoch = self.part.replay.whole_epoch;
        match ConsumedTable::open(request, name, target.clone(), definition, whole_epoch, runtime) {
            Err(error) if error.kind != Kind::Retry => {
                let error = self.refuse(name, &target, error)?;
                Ok(ConsumedTable::refused(request, name, target, error, runtime))
            }
            opened => opened,
        }
    }

    /// Notes that a table takes no changes, so that a later session does not go on after what is missing.
    pub(super) fn refuse(&self, name: &str, target: &TableName, error: Error) -> Result<Error> {
        let (request, epoch) = (&self.part.request, self.part.replay.epoch);
        tracing::error!(table = name, "{}", base::chain(&error));
        let (program, transfer) = (&request.settings.program, &request.settings.name);
        let again = format!(
            "then have the transfer that publishes read the table again, or {program} transfer replay {transfer} --from beginning"
        );
        let hint = match &error.hint {
            Some(hint) => format!("{hint}; {again}"),
            None => format!("correct it, {again}"),
        };
        let error = error.hint(hint);
        let target = (target.schema.clone(), target.table.clone());
        let refusal = Refusal { epoch, target, reason: base::chain(&error), hint: error.hint.clone() };
        self.runtime.block_on(Definitions::refuse(self.part.store(), transfer, name, refusal))?;
        Ok(error)
    }

    /// Opens the tables that take no changes, so that they are seen before any message of theirs comes.
    pub(super) fn open_refused(&mut self) {
        let (request, runtime) = (&self.part.request, &self.runtime);
        let is_refused = |(name, refusal): &(&String, &Refusal)| {
            refusal.epoch >= self.part.replay.whole_epoch && (self.selects)(name)
        };
        for (name, refusal) in self.definitions.refused.iter().filter(is_refused) {
            let target = TableName { schema: refusal.target.0.clone(), table: refusal.target.1.clone() };
            let table = ConsumedTable::refused(request, name, target, refusal.error(), runtime);
            self.tables.insert(name.clone(), Some(table));
        }
    }

    /// Whether a table takes no changes.
    pub(super) fn is_refused(&self, name: &str) -> bool {
        matches!(self.tables.get(name), Some(Some(table)) if table.error.is_some())
    }

    /// Opens a table that is read again.
    pub(super) fn admit(&mut self, name: &str) -> Result<()> {
        let Some(Some(refused)) = self.tables.remove(name) else { return Ok(()) };
        self.runtime.block_on(async {
            Definitions::note_creation(self.part.store(), self.part.transfer(), name, None).await?;
            Definitions::admit(self.part.store(), self.part.transfer(), name).await
        })?;
        self.read_definitions()?;
        let table = self.open(name, refused.target)?;
        self.tables.insert(name.to_owned(), Some(table));
        Ok(())
    }

    /// Reads what is known of the tables.
    pub(super) fn read_definitions(&mut self) -> Result<()> {
        self.definitions = self.runtime.block_on(Definitions::read(self.part.store(), self.part.transfer()))?;
        Ok(())
    }
}
