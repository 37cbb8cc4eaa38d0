//! Reads a table under a snapshot: several streams share a queue of page ranges, each stream is a
//! thread with a connection of its own, from the socket to the sink without a hand-over.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;

use crate::decode::Decoder;
use crate::error::{Error, Result};
use crate::plan::TablePlan;
use crate::postgres::wire::Wire;
use crate::postgres::{Endpoint, Table, TableKind};

/// A batch is handed on at so many rows or bytes, whichever comes first.
const BATCH_ROWS: usize = 32_768;
const BATCH_BYTES: usize = 4 << 20;

/// Fewer pages than this are not worth a query of their own: 16 MiB.
pub(crate) const PIECE_PAGES: u64 = 2048;
/// Pieces a stream: enough that no stream waits long for another at the end.
const PIECES_A_STREAM: u64 = 6;

/// Page ranges came with PostgreSQL 14; before, `ctid >=` reads the whole table.
const HAS_TID_RANGES: u32 = 140_000;

const STOPPED: &str = "another stream of the table failed";

/// Told as rows arrive, from any thread.
pub trait Progress: Send + Sync {
    /// A table starts: how many rows the source's statistics let expect.
    fn started(&self, table: &str, rows_expected: u64);
    fn advanced(&self, table: &str, rows: u64, bytes: u64);
    fn finished(&self, table: &str, failed: bool);
    /// Something other than a table: a backup, a validation.
    fn note(&self, text: &str);
}

/// Nobody watches.
pub struct Quiet;

impl Progress for Quiet {
    fn started(&self, _table: &str, _rows_expected: u64) {}
    fn advanced(&self, _table: &str, _rows: u64, _bytes: u64) {}
    fn finished(&self, _table: &str, _failed: bool) {}
    fn note(&self, _text: &str) {}
}

/// What takes a stream's batches, on the stream's own thread.
pub trait Sink: Send {
    type Done: Send;
    fn take(&mut self, batch: RecordBatch) -> Result<()>;
    fn done(self) -> Result<Self::Done>;
}

/// Connections to the server that rows come from. A table takes what it needs and gives it back for the next one.
pub struct Pool {
    endpoint: Endpoint,
    /// The statements that join the snapshot.
    join: String,
    idle: Mutex<Vec<Wire>>,
}

impl Pool {
    pub fn new(endpoint: &Endpoint, join: String) -> Arc<Pool> {
        Arc::new(Pool { endpoint: endpoint.clone(), join, idle: Mutex::default() })
    }

    /// A connection with a transaction in the snapshot.
    pub fn open(&self, plan: &TablePlan) -> Result<Wire> {
        let idle = self.lock().pop();
        // One that has been idle may have been closed in the meantime.
        let idle = idle.and_then(|mut wire| wire.batch(&self.join).is_ok().then_some(wire));
        let mut wire = match idle {
            Some(wire) => wire,
            None => {
                let mut wire = Wire::connect(&self.endpoint)?;
                wire.batch(&self.join)?;
                wire
            }
        };
        if plan.source.is_view() {
            // Its functions may need the path that the role has.
            wire.batch("RESET search_path")?;
        }
        Ok(wire)
    }

    /// Ends the transaction.
    pub fn close(&self, mut wire: Wire, plan: &TablePlan) {
        if !plan.source.is_view() && wire.batch("COMMIT").is_ok() {
            self.lock().push(wire);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Wire>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What all streams of a table share.
pub struct Reading {
    pub pool: Arc<Pool>,
    pub plan: Arc<TablePlan>,
    pub progress: Arc<dyn Progress>,
    name: String,
    queue: Mutex<VecDeque<String>>,
    /// A connection that is in the snapshot already.
    opened: Mutex<Option<Wire>>,
    stopped: AtomicBool,
    rows: AtomicU64,
    bytes: AtomicU64,
}

impl Reading {
    pub fn new(
        pool: &Arc<Pool>,
        plan: Arc<TablePlan>,
        queries: Vec<String>,
        progress: Arc<dyn Progress>,
        opened: Option<Wire>,
    ) -> Arc<Reading> {
        Arc::new(Reading {
            pool: Arc::clone(pool),
            name: plan.source.display(),
            plan,
            progress,
            queue: Mutex::new(queries.into()),
            opened: Mutex::new(opened),
            stopped: AtomicBool::new(false),
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        })
    }

    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    pub(crate) fn count(&self, rows: u64, bytes: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.progress.advanced(&self.name, rows, bytes);
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn next(&self) -> Option<String> {
        if self.stopped.load(Ordering::Relaxed) {
            return None;
        }
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    pub(crate) fn open(&self) -> Result<Wire> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).take();
        opened.map_or_else(|| self.pool.open(&self.plan), Ok)
    }

    /// A stream has read all it could. Fails where what it read was not the table: a snapshot shows a table that was
    /// truncated or written anew after it as empty.
    pub(crate) fn close(&self, mut wire: Wire) -> Result<()> {
        let leaves = self.plan.source.leaves.iter().filter(|leaf| leaf.file_node != 0);
        let nodes: Vec<String> = leaves.map(|leaf| format!("({}, {})", leaf.oid, leaf.file_node)).collect();
        if !nodes.is_empty() {
            let sql = format!(
                "SELECT 1 FROM (VALUES {}) AS planned(oid, node) WHERE pg_relation_filenode(oid::oid::regclass) IS DISTINCT FROM node::oid LIMIT 1",
                nodes.join(", ")
            );
            if !wire.rows(&sql)?.is_empty() {
                return Err(Error::retry(format!(
                    "read {}: it was truncated or written anew while the run was under way",
                    self.name
                ))
                .hint("run the transfer again"));
            }
        }
        if let Some(sql) = unplanned_leaves(&self.plan.source)
            && !wire.rows(&sql)?.is_empty()
        {
            return Err(Error::retry(format!("read {}: a partition was attached as the run began", self.name))
                .hint("run the transfer again"));
        }
        self.pool.close(wire, &self.plan);
        Ok(())
    }

    /// Runs `streams` threads until the queue is empty; the first error stops them all.
    pub async fn run<S: Sink + 'static>(self: &Arc<Self>, sinks: Vec<S>) -> Result<Vec<S::Done>> {
        let streams: Vec<_> = sinks
            .into_iter()
            .map(|sink| {
                let reading = Arc::clone(self);
                tokio::task::spawn_blocking(move || {
                    let outcome = reading.stream(sink);
                    if outcome.is_err() {
                        reading.stop();
                    }
                    outcome
                })
            })
            .collect();
        let mut done = Vec::new();
        let mut failed = None;
        for stream in streams {
            match stream.await {
                Ok(Ok(Some(part))) => done.push(part),
                Ok(Ok(None)) => {}
                // The stream that failed says more than those that stopped because of it.
                Ok(Err(error)) => match &failed {
                    Some(_) if error.context == STOPPED => {}
                    Some(Error { context, .. }) if context != STOPPED => {}
                    _ => failed = Some(error),
                },
                Err(error) => failed = failed.or(Some(Error::bug("run a stream").because(error))),
            }
        }
        failed.map_or(Ok(done), Err)
    }

    fn stream<S: Sink>(&self, mut sink: S) -> Result<Option<S::Done>> {
        let Some(mut query) = self.next() else { return Ok(None) };
        let mut wire = self.open()?;
        let mut decoder = Decoder::new(&self.name, &self.plan.decoded(), &self.plan.key_positions());
        if wire.has_bytes() {
            decoder.check_texts();
        }
        loop {
            let copy = format!("COPY ({query}) TO STDOUT (FORMAT binary)");
            decoder.restart();
            wire.copy_out(&copy, |message| {
                decoder.push(message)?;
                if decoder.rows() >= BATCH_ROWS || decoder.bytes() >= BATCH_BYTES {
                    self.hand_on(&mut decoder, &mut sink)?;
                }
                Ok(())
            })?;
            match self.next() {
                Some(next) => query = next,
                None => break,
            }
        }
        self.hand_on(&mut decoder, &mut sink)?;
        self.close(wire)?;
        sink.done().map(Some)
    }

    fn hand_on<S: Sink>(&self, decoder: &mut Decoder, sink: &mut S) -> Result<()> {
        let (rows, bytes) = (decoder.rows() as u64, decoder.bytes() as u64);
        if rows == 0 {
            return Ok(());
        }
        fail::fail_point!("mid-copy");
        if self.stopped.load(Ordering::Relaxed) {
            return Err(Error::retry(STOPPED));
        }
        sink.take(decoder.take()?)?;
        self.count(rows, bytes);
        Ok(())
    }
}

/// The query for relations that hold rows of the table under the snapshot, and were not there when it was planned.
fn unplanned_leaves(table: &Table) -> Option<String> {
    if table.kind != TableKind::Partitioned && !table.has_children {
        return None;
    }
    let planned: Vec<String> = table.relations().map(|oid| oid.to_string()).collect();
    Some(format!(
        "WITH RECURSIVE tree AS (SELECT {}::oid AS relid UNION SELECT i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.relid) \
         SELECT 1 FROM tree JOIN pg_class c ON c.oid = relid WHERE c.relkind IN ('r', 'f') AND relid <> ALL (ARRAY[{}]::oid[]) LIMIT 1",
        table.oid,
        planned.join(", ")
    ))
}

/// The queries that read all of a table, and how many streams are worth it.
pub fn whole(plan: &TablePlan, server_version: u32, streams: usize) -> (Vec<String>, usize) {
    let pieces = pieces(&plan.source, server_version, streams as u64);
    let queries: Vec<String> = pieces.iter().map(|(from, range)| plan.select(from, range.as_deref())).collect();
    let streams = streams.min(queries.len()).max(1);
    (queries, streams)
}

/// What to read from, and which pages of it.
pub fn pieces(table: &Table, server_version: u32, streams: u64) -> Vec<(String, Option<String>)> {
    if table.leaves.is_empty() || table.leaves.iter().any(|leaf| !leaf.readable) {
        return vec![(table.rows(), None)];
    }
    let all: u64 = table.leaves.iter().map(|leaf| leaf.pages).sum();
    let step = (all / (streams * PIECES_A_STREAM)).max(PIECE_PAGES);
    let mut pieces = Vec::new();
    for leaf in &table.leaves {
        let from = table.rows_of(leaf);
        if !leaf.has_pages || server_version < HAS_TID_RANGES || leaf.pages <= step || streams < 2 {
            pieces.push((from, None));
            continue;
        }
        let mut start = 0;
        while start < leaf.pages {
            let end = start + step;
            // The last range is open: the table may have grown since it was measured.
            let upper = if end < leaf.pages { format!(" AND ctid < '({end},0)'::tid") } else { String::new() };
            pieces.push((from.clone(), Some(format!("ctid >= '({start},0)'::tid{upper}"))));
            start = end;
        }
    }
    pieces
}

#[cfg(test)]
mod tests;
