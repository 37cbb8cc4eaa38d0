//! Reads a table under a snapshot. Several streams share a queue of page ranges; each stream is one thread with a
//! connection of its own, which reads, decodes and writes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;

use crate::decode::Decoder;
use crate::error::{Error, Result};
use crate::plan::TablePlan;
use crate::postgres::wire::Wire;
use crate::postgres::{Endpoint, Table, TableKind};

/// A batch is passed to the sink at this many rows or bytes, whichever comes first.
const BATCH_ROWS: usize = 32_768;
const BATCH_BYTES: usize = 4 << 20;

/// The least number of pages that a query of its own is worth: 16 MiB.
pub(crate) const RANGE_PAGES_MIN: u64 = 2048;
/// Page ranges per stream: enough that no stream waits long for another at the end.
const RANGES_PER_STREAM: u64 = 6;

/// The version from which PostgreSQL scans page ranges: before 14, `ctid >=` reads the whole table.
const HAS_TID_RANGES: u32 = 140_000;

/// The error of a stream that stopped because another one failed.
const STOPPED: &str = "another stream of the table failed";

/// Receives the progress of a transfer, from any thread.
pub trait Progress: Send + Sync {
    /// A table begins; `rows_expected` is the estimate of the source's statistics.
    fn started(&self, table: &str, rows_expected: u64);
    /// Further rows of a table were read, with the bytes that they took on the network.
    fn advanced(&self, table: &str, rows: u64, bytes: u64);
    /// A table ends.
    fn finished(&self, table: &str, failed: bool);
    /// A step that belongs to no table, such as a backup or a validation.
    fn note(&self, text: &str);
}

/// Ignores all progress.
pub struct NoProgress;

impl Progress for NoProgress {
    fn started(&self, _table: &str, _rows_expected: u64) {}
    fn advanced(&self, _table: &str, _rows: u64, _bytes: u64) {}
    fn finished(&self, _table: &str, _failed: bool) {}
    fn note(&self, _text: &str) {}
}

/// Receives the batches of one stream, on the stream's own thread.
pub trait Sink: Send {
    /// What the stream returns at its end.
    type Done: Send;
    /// Writes a batch.
    fn take(&mut self, batch: RecordBatch) -> Result<()>;
    /// Ends the stream, after its last batch.
    fn done(self) -> Result<Self::Done>;
}

/// Connections to the server that rows are read from. They are used again for the next tables of a transfer.
pub struct Pool {
    endpoint: Endpoint,
    /// The SQL with which a connection joins the snapshot.
    join: String,
    idle: Mutex<Vec<Wire>>,
}

impl Pool {
    /// A pool without connections; `join` is [`Snapshot::join`](crate::postgres::Snapshot::join).
    pub fn new(endpoint: &Endpoint, join: String) -> Arc<Pool> {
        Arc::new(Pool { endpoint: endpoint.clone(), join, idle: Mutex::default() })
    }

    /// A connection whose transaction is in the snapshot, an idle one or a new one.
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
            // The view's functions may need the role's own search path.
            wire.batch("RESET search_path")?;
        }
        Ok(wire)
    }

    /// Ends the connection's transaction, and keeps the connection for another table. A view's is closed, since its
    /// search path was changed.
    pub fn close(&self, mut wire: Wire, plan: &TablePlan) {
        if !plan.source.is_view() && wire.batch("COMMIT").is_ok() {
            self.lock().push(wire);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Wire>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads one table: what all its streams share.
pub struct TableReader {
    /// Where the streams get their connections.
    pub pool: Arc<Pool>,
    /// The table and its columns.
    pub plan: Arc<TablePlan>,
    /// Receives the numbers of rows and bytes during the reading.
    pub progress: Arc<dyn Progress>,
    name: String,
    queue: Mutex<VecDeque<String>>,
    /// A connection that is in the snapshot already: the first stream takes it.
    opened: Mutex<Option<Wire>>,
    stopped: AtomicBool,
    rows: AtomicU64,
    bytes: AtomicU64,
}

impl TableReader {
    /// A reader that executes `queries`, each by one stream. `opened` is a connection in the snapshot, where there is
    /// one already.
    pub fn new(
        pool: &Arc<Pool>,
        plan: Arc<TablePlan>,
        queries: Vec<String>,
        progress: Arc<dyn Progress>,
        opened: Option<Wire>,
    ) -> Arc<TableReader> {
        Arc::new(TableReader {
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

    /// The rows read so far by all streams.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Counts rows that a stream has passed on, and reports them as progress.
    pub(crate) fn count(&self, rows: u64, bytes: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.progress.advanced(&self.name, rows, bytes);
    }

    /// Makes all streams fail at their next batch or query.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// The bytes read so far by all streams, as they came over the network.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Takes the next query from the queue; `None` where it is empty, or where the streams were stopped.
    pub(crate) fn next(&self) -> Option<String> {
        if self.stopped.load(Ordering::Relaxed) {
            return None;
        }
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// A connection for a stream, in the snapshot.
    pub(crate) fn open(&self) -> Result<Wire> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).take();
        opened.map_or_else(|| self.pool.open(&self.plan), Ok)
    }

    /// Ends a stream that has executed its queries, and returns its connection to the pool.
    ///
    /// # Errors
    /// Where the rows read may not be all of the table: a snapshot shows a table that was truncated or rewritten since
    /// as empty, and the queries do not read a partition that was attached since the plan.
    pub(crate) fn close(&self, mut wire: Wire) -> Result<()> {
        let leaves = self.plan.source.leaves.iter().filter(|leaf| leaf.file_node != 0);
        let nodes: Vec<String> = leaves.map(|leaf| format!("({}, {})", leaf.oid, leaf.file_node)).collect();
        if !nodes.is_empty() {
            let sql = format!(
                "SELECT 1 FROM (VALUES {}) AS planned(oid, node) WHERE pg_relation_filenode(oid::oid::regclass) IS DISTINCT FROM node::oid LIMIT 1",
                nodes.join(", ")
            );
            if !wire.rows(&sql)?.is_empty() {
                return Err(Error::retry(format!("read {}: it was truncated or rewritten during the run", self.name))
                    .hint("run the transfer again"));
            }
        }
        if let Some(sql) = unplanned_leaves(&self.plan.source)
            && !wire.rows(&sql)?.is_empty()
        {
            return Err(Error::retry(format!("read {}: a partition was attached when the run began", self.name))
                .hint("run the transfer again"));
        }
        self.pool.close(wire, &self.plan);
        Ok(())
    }

    /// Runs a stream for each sink until the queue is empty, and returns what the sinks return. The first error stops
    /// all streams. A stream for which no query was left returns nothing.
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
                // The error of the stream that failed, not of those that stopped because of it.
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
        let mut decoder = Decoder::new(&self.name, &self.plan.column_kinds(), &self.plan.key_positions());
        if wire.has_bytes() {
            decoder.check_texts();
        }
        loop {
            let copy = format!("COPY ({query}) TO STDOUT (FORMAT binary)");
            decoder.restart();
            wire.copy_out(&copy, |message| {
                decoder.push(message)?;
                if decoder.rows() >= BATCH_ROWS || decoder.bytes() >= BATCH_BYTES {
                    self.flush_batch(&mut decoder, &mut sink)?;
                }
                Ok(())
            })?;
            match self.next() {
                Some(next) => query = next,
                None => break,
            }
        }
        self.flush_batch(&mut decoder, &mut sink)?;
        self.close(wire)?;
        sink.done().map(Some)
    }

    /// Passes the rows decoded so far to the sink.
    fn flush_batch<S: Sink>(&self, decoder: &mut Decoder, sink: &mut S) -> Result<()> {
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

/// The query for relations that hold rows of the table under the snapshot and are not in its plan; `None` where the
/// table can't have any.
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

/// The queries that read all of a table, and the number of streams to execute them with: at most `streams`.
pub fn whole_table_queries(plan: &TablePlan, server_version: u32, streams: usize) -> (Vec<String>, usize) {
    let ranges = page_ranges(&plan.source, server_version, streams as u64);
    let queries: Vec<String> = ranges.iter().map(|(from, range)| plan.select(from, range.as_deref())).collect();
    let streams = streams.min(queries.len()).max(1);
    (queries, streams)
}

/// The relations to read a table from, each with the SQL condition for a range of its pages; `None` is all of them.
/// Together they read each row once.
pub fn page_ranges(table: &Table, server_version: u32, streams: u64) -> Vec<(String, Option<String>)> {
    if table.leaves.is_empty() || table.leaves.iter().any(|leaf| !leaf.readable) {
        return vec![(table.rows(), None)];
    }
    let all: u64 = table.leaves.iter().map(|leaf| leaf.pages).sum();
    let step = (all / (streams * RANGES_PER_STREAM)).max(RANGE_PAGES_MIN);
    let mut ranges = Vec::new();
    for leaf in &table.leaves {
        let from = table.rows_of(leaf);
        if !leaf.has_pages || server_version < HAS_TID_RANGES || leaf.pages <= step || streams < 2 {
            ranges.push((from, None));
            continue;
        }
        let mut start = 0;
        while start < leaf.pages {
            let end = start + step;
            // The last range has no end: the table may have grown since its size was read.
            let upper = if end < leaf.pages { format!(" AND ctid < '({end},0)'::tid") } else { String::new() };
            ranges.push((from.clone(), Some(format!("ctid >= '({start},0)'::tid{upper}"))));
            start = end;
        }
    }
    ranges
}

#[cfg(test)]
mod tests;
