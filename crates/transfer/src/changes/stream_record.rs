//! The record of a stream beside the lake's tables. It tells a slot that this warehouse has made and confirmed from one
//! that was created again, or moved by another program: then changes are missing, and the tables are read again.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::stream_store::StreamStore;
use crate::error::{Error, Result};
use crate::lsn::Lsn;
use crate::postgres::Identity;
use crate::request::{Request, Target};

/// The record of a transfer's stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRecord {
    /// The stream's id, which is new with each slot.
    pub id: String,
    /// The name of the slot; `None` after the user dropped it. Another program may have one of that name.
    pub slot: Option<String>,
    /// `pg_control_system().system_identifier` of the source.
    pub system: i64,
    /// The OID of the source's database.
    pub database: u32,
    /// The position from which the slot has all changes; `None` from before the slot's creation until it is known.
    #[serde(with = "as_text")]
    pub start: Option<Lsn>,
    /// The greatest position that was confirmed, or is about to be.
    #[serde(with = "as_text")]
    pub confirmed: Option<Lsn>,
    /// The state of the publication when the stream began.
    #[serde(default)]
    pub publication: Option<PublicationState>,
    /// The times up to which the tables have all changes, also by an earlier slot.
    #[serde(default)]
    pub reached: ReachedTimes,
    /// The timeline of the source's log.
    pub timeline: Option<u32>,
    /// The tables that take part in the stream, by their OIDs at the source; `None` while they are read for the first
    /// time.
    pub tables: Option<BTreeSet<u32>>,
}

/// The times up to which the lake has all changes of a stream's tables, in microseconds since 1970 by the source's clock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReachedTimes {
    /// Of the tables that take part.
    pub all: Option<i64>,
    /// The same, at a time after which the publication was found unchanged.
    pub verified: Option<i64>,
    /// Of tables that do not take part any more, by their OIDs.
    pub of_left: BTreeMap<u32, i64>,
}

impl ReachedTimes {
    /// The time of one table.
    pub fn of(&self, oid: u32) -> Option<i64> {
        self.of_left.get(&oid).copied().or(self.all)
    }

    /// A table does not take part any more, and has the changes up to `at`.
    pub fn leave(&mut self, oid: u32, at: Option<i64>) {
        self.of_left.entry(oid).or_insert(at.unwrap_or_default());
    }
}

/// Which rows of the catalogue make up a publication, each by its OID and the transaction that wrote it. One that was
/// changed is another one, also where it was changed back: changes in between are not in the log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicationState {
    /// The publication.
    pub publication: String,
    /// Its tables, by their OIDs.
    pub tables: BTreeMap<u32, String>,
}

impl StreamRecord {
    /// The position that was confirmed last.
    pub fn confirmed(&self) -> Lsn {
        self.confirmed.or(self.start).unwrap_or_default()
    }

    /// Whether it is of the slot with this name at a source.
    pub fn is_of(&self, slot: &str, source: Identity) -> bool {
        self.slot.as_deref() == Some(slot) && self.is_of_source(source)
    }

    /// Whether it is of a slot at a source.
    pub fn is_of_source(&self, source: Identity) -> bool {
        (self.system, self.database) == (source.system, source.database)
    }

    /// The record without the slot: until they are read again, no table takes part.
    #[must_use]
    pub fn without_slot(&self) -> StreamRecord {
        let mut reached = self.reached.clone();
        let at = reached.all;
        self.tables.iter().flatten().for_each(|oid| reached.leave(*oid, at));
        let StreamRecord { id, system, database, .. } = self.clone();
        StreamRecord { id, system, database, reached, ..StreamRecord::default() }
    }

    /// Sets the tables that take part.
    pub fn set_tables(&mut self, tables: BTreeSet<u32>) {
        let at = self.reached.all;
        for oid in self.tables.iter().flatten().filter(|oid| !tables.contains(oid)) {
            self.reached.leave(*oid, at);
        }
        self.tables = Some(tables);
    }

    /// The record of a transfer's stream; `None` where it never ran.
    pub async fn read(store: StreamStore<'_>, transfer: &str) -> Result<Option<StreamRecord>> {
        let Some(text) = store.read(transfer).await? else { return Ok(None) };
        let parsed =
            serde_json::from_slice(&text).map_err(|e| Error::setup("read the record of the stream").because(e));
        parsed.map(Some).map_err(|error| error.hint("a newer version of wattlake may have written it"))
    }

    /// The record as it is stored.
    pub fn text(&self) -> Result<Vec<u8>> {
        serde_json::to_vec_pretty(self).map_err(|e| Error::bug("write the record of the stream").because(e))
    }

    /// Writes the record of the request's transfer.
    pub async fn write(&self, request: &Request) -> Result<()> {
        request.stream_store().write(&request.settings.name, self.text()?).await
    }
}

/// Tables that a running stream is asked to read again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RereadRequest {
    /// The tables, as `schema.table` at the source.
    pub tables: BTreeSet<String>,
}

impl RereadRequest {
    /// Asks a transfer's stream to read tables again, beside those that it was asked for before.
    pub async fn add(target: &Target, transfer: &str, tables: impl IntoIterator<Item = String>) -> Result<()> {
        let store = StreamStore::of(target);
        let mut request = RereadRequest::of(store, transfer).await?;
        request.tables.extend(tables);
        store.write(&name(transfer), request.text()?).await
    }

    /// The tables that the request's transfer was asked to read again.
    pub async fn read(request: &Request) -> Result<RereadRequest> {
        RereadRequest::of(request.stream_store(), &request.settings.name).await
    }

    /// Removes tables that were read from what the stream was asked for; others may have been added meanwhile.
    pub async fn finish(request: &Request, tables: &BTreeSet<String>) -> Result<()> {
        let (store, name) = (request.stream_store(), name(&request.settings.name));
        let mut asked = RereadRequest::read(request).await?;
        asked.tables.retain(|table| !tables.contains(table));
        if asked.tables.is_empty() {
            return store.remove(&name).await;
        }
        store.write(&name, asked.text()?).await
    }

    async fn of(store: StreamStore<'_>, transfer: &str) -> Result<RereadRequest> {
        let text = store.read(&name(transfer)).await?;
        let context = "read which tables are to be read again";
        let parse = |text: Vec<u8>| serde_json::from_slice(&text).map_err(|e| Error::setup(context).because(e));
        text.map(parse).transpose().map(Option::unwrap_or_default)
    }

    fn text(&self) -> Result<Vec<u8>> {
        serde_json::to_vec_pretty(self).map_err(|e| Error::bug("ask the stream to read tables again").because(e))
    }
}

/// The name of the record with the tables that a transfer's stream is asked to read again.
fn name(transfer: &str) -> String {
    format!("{transfer}.reread")
}

/// A position as PostgreSQL writes it.
mod as_text {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::lsn::Lsn;

    pub fn serialize<S: Serializer>(value: &Option<Lsn>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(lsn) => serializer.collect_str(lsn),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Lsn>, D::Error> {
        let text: Option<String> = Option::deserialize(deserializer)?;
        let parse = |text: String| {
            text.parse().map_err(|_| serde::de::Error::custom(format!("{text:?} is not a position in the log")))
        };
        text.map(parse).transpose()
    }
}
