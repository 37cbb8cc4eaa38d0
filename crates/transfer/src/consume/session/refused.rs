//! Tables that take no changes: the shards go on without them, until they are read again.

use lake::TableName;

use super::super::definitions::{Definitions, KnownTable, Refusal};
use super::super::table::ConsumedTable;
use super::Session;
use crate::changes::StreamStore;
use crate::error::{Error, Kind, Result};

impl Session {
    /// Opens a table; where it can't be, it is refused, and the others go on.
    pub(super) fn open(&self, name: &str, target: TableName) -> Result<ConsumedTable> {
        let (request, runtime) = (&self.part.request, &self.runtime);
        let known = self.definitions.0.get(name).cloned();
        let refusal = known.as_ref().and_then(|known| known.refusal.as_ref());
        if let Some(refusal) = refusal.filter(|refusal| refusal.epoch == self.part.replay.epoch) {
            let error = Error::input(refusal.reason.clone()).state("refused");
            let error = error.hint(refusal.hint.clone().unwrap_or_default());
            return Ok(ConsumedTable::refused(request, name, target, error, runtime));
        }
        let definition = known.map(|known| known.definition).filter(|table| !table.columns.is_empty());
        match ConsumedTable::open(request, name, target.clone(), definition, runtime) {
            Err(error) if error.kind != Kind::Retry => {
                let error = self.refuse(name, error)?;
                Ok(ConsumedTable::refused(request, name, target, error, runtime))
            }
            opened => opened,
        }
    }

    /// Notes that a table takes no changes, so that a later session does not go on after what is missing.
    pub(super) fn refuse(&self, name: &str, error: Error) -> Result<Error> {
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
        let refusal = Refusal { epoch, reason: base::chain(&error), hint: error.hint.clone() };
        let change = |known: &mut KnownTable| known.refusal = Some(refusal);
        let store = StreamStore::Lake(&request.lake);
        self.runtime.block_on(Definitions::change(store, transfer, name, change))?;
        Ok(error)
    }

    /// Whether a table takes no changes.
    pub(super) fn is_refused(&self, name: &str) -> bool {
        matches!(self.tables.get(name), Some(Some(table)) if table.error.is_some())
    }

    /// Opens a table that is read again.
    pub(super) fn admit(&mut self, name: &str) -> Result<()> {
        let Some(Some(refused)) = self.tables.remove(name) else { return Ok(()) };
        let store = StreamStore::Lake(&self.part.request.lake);
        let change = |known: &mut KnownTable| known.refusal = None;
        let transfer = &self.part.request.settings.name;
        self.runtime.block_on(Definitions::change(store, transfer, name, change))?;
        self.read_definitions()?;
        let table = self.open(name, refused.target)?;
        self.tables.insert(name.to_owned(), Some(table));
        Ok(())
    }

    /// Reads what is known of the tables.
    pub(super) fn read_definitions(&mut self) -> Result<()> {
        let request = &self.part.request;
        let reading = Definitions::read(StreamStore::Lake(&request.lake), &request.settings.name);
        self.definitions = self.runtime.block_on(reading)?;
        Ok(())
    }
}
