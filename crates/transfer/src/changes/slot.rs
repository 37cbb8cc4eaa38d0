//! Whether the slot, the publication and the tables are still those that the stream began with.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_postgres::Client;

use super::source::{self, LogMark, SelectedTables};
use super::stream_record::{PublicationState, StreamRecord};
use crate::error::{Context, Error, Result};
use crate::lsn::Lsn;
use crate::plan::Settings;
use crate::postgres::replication::ReplicationConnection;
use crate::postgres::{Endpoint, Identity, Snapshot};
use crate::request::Request;

/// How often, and after which waits, a slot that is in use is looked at.
const RELEASE_TRIES: u32 = 50;
const RELEASE_WAIT: Duration = Duration::from_millis(100);
/// How many positions are kept that the stream has not reached.
const MARKS_MAX: usize = 64;
/// Between two looks at the publication and the list of tables.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);

/// The record of the slot, where the slot exists and has all changes since the record's start. Otherwise the slot, if
/// any, is dropped, and the record has no start.
pub async fn ensure_slot_is_ours(
    request: &Request,
    client: &Client,
    identity: Identity,
    version: u32,
    is_new_publication: bool,
) -> Result<StreamRecord> {
    let settings = &request.settings;
    let slot = &settings.changes.slot;
    let record = StreamRecord::read(request.stream_store(), &settings.name).await?;
    let mut state = source::slot_state(client, slot, version).await?;
    // The server may take a moment to notice that an earlier session is gone.
    for _ in 0..RELEASE_TRIES {
        if state.as_ref().is_none_or(|state| state.active_pid.is_none()) {
            break;
        }
        tokio::time::sleep(RELEASE_WAIT).await;
        state = source::slot_state(client, slot, version).await?;
    }
    let record = record.filter(|record| record.is_of_source(identity));
    let new = StreamRecord {
        slot: Some(slot.clone()),
        system: identity.system,
        database: identity.database,
        id: uuid::Uuid::now_v7().to_string(),
        ..record.as_ref().map(StreamRecord::without_slot).unwrap_or_default()
    };
    let record = record.filter(|record| record.is_of(slot, identity));
    let Some(state) = state else {
        if record.is_some_and(|record| record.start.is_some()) {
            tracing::warn!(slot, "the replication slot is gone: the tables are read again");
        }
        return Ok(new);
    };
    let Some(record) = record else {
        let what = format!("stream changes: the source has a slot {slot}, which this warehouse has not created");
        return Err(Error::setup(what).state("slot").hint(format!(
            "set `slot` of the transfer to another name; or, where nothing else uses it, at the source: \
             SELECT pg_drop_replication_slot('{slot}')"
        )));
    };
    if let Some(pid) = state.active_pid {
        return Err(Error::retry(format!("stream changes: the slot {slot} is in use by the server's process {pid}")));
    }
    let problem = match (&state.lost, record.start) {
        (Some(reason), _) => format!("the server has invalidated it ({reason})"),
        (None, None) => "it was left by a run that was killed while it created the slot".to_owned(),
        (None, Some(_)) if is_new_publication => "the publication was dropped".to_owned(),
        (None, Some(_)) if state.confirmed > record.confirmed() => {
            let (now, was) = (state.confirmed, record.confirmed());
            format!("it is at {now}, and was confirmed up to {was}: it was created again or moved by another program")
        }
        (None, Some(_)) => return Ok(record),
    };
    tracing::warn!(slot, "the replication slot is replaced, and the tables are read again: {problem}");
    let sql = "SELECT pg_drop_replication_slot($1)";
    client.execute(sql, &[slot]).await.context(format!("drop the slot {slot}"))?;
    Ok(new)
}

/// A snapshot of the source with its position in the log: it shows the transactions that were committed before it. It is
/// taken by a new slot, which is dropped at once where it is temporary.
pub async fn snapshot_at_position(
    source: &Endpoint,
    version: u32,
    slot: String,
    is_temporary: bool,
) -> Result<(Snapshot, Lsn)> {
    let endpoint = source.clone();
    let created = tokio::task::spawn_blocking(move || {
        let mut connection = ReplicationConnection::connect(&endpoint, version)?;
        let slot = connection.create_slot(&slot, is_temporary)?;
        Ok::<_, Error>((connection, slot))
    });
    let (connection, slot) = created.await.map_err(|e| Error::bug("create a slot").because(e))??;
    fail::fail_point!("after-slot");
    let snapshot = Snapshot::import(source, &slot.snapshot).await?;
    // The snapshot belongs to the importing session now.
    drop(connection);
    Ok((snapshot, slot.start))
}

/// What a stream has found at the source when it began.
pub struct WatchedState {
    /// The publication.
    pub publication: PublicationState,
    /// The tables that the transfer may select.
    pub tables: SelectedTables,
}

/// What is observed at the source while its log is streamed.
#[derive(Debug, Default)]
pub struct SourceWatch {
    is_changed: AtomicBool,
    /// Positions of the log's end, of which the stream has not reached the last ones yet.
    marks: Mutex<VecDeque<LogMark>>,
}

impl SourceWatch {
    /// A watch with the first position that was read.
    pub fn new(mark: Option<LogMark>) -> SourceWatch {
        SourceWatch { is_changed: AtomicBool::new(false), marks: Mutex::new(mark.into_iter().collect()) }
    }

    /// Whether the publication, or the tables that the transfer selects, are others than at the beginning.
    pub fn is_changed(&self) -> bool {
        self.is_changed.load(Ordering::Relaxed)
    }

    /// The last position of the log's end before `reached`.
    pub fn mark_before(&self, reached: Lsn) -> Option<LogMark> {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        while marks.get(1).is_some_and(|next| next.position <= reached) {
            marks.pop_front();
        }
        marks.front().filter(|mark| mark.position <= reached).copied()
    }

    fn add(&self, mark: LogMark) {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        // A stream that is far behind reaches the first ones first.
        if marks.len() >= MARKS_MAX {
            marks.pop_back();
        }
        marks.push_back(mark);
    }
}

/// Watches the source until it has changed.
pub async fn watch_source(request: Arc<Request>, before: WatchedState, watch: Arc<SourceWatch>) {
    loop {
        // Where the source can't be reached, the stream ends, too.
        if let Ok(client) = request.source.connect().await {
            while let Ok(is_same) = is_unchanged(&client, &request.settings, &before).await {
                if !is_same {
                    watch.is_changed.store(true, Ordering::Relaxed);
                    return;
                }
                if let Ok(Some(mark)) = source::log_mark(&client).await {
                    watch.add(mark);
                }
                tokio::time::sleep(WATCH_INTERVAL).await;
            }
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

async fn is_unchanged(client: &Client, settings: &Settings, before: &WatchedState) -> Result<bool> {
    Ok(source::publication_state(client, &settings.changes.publication).await? == before.publication
        && source::selected_tables(client, settings).await? == before.tables)
}
