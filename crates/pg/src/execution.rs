//! The execution of one query: it runs in the query runtime and sends its batches through a channel
//! of two; it ends on its time limit, on cancellation, or when its [`Batches`] are dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use datafusion::arrow::array::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder};
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use pgwire::error::{PgWireError, PgWireResult};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

use super::connection::Connection;
use super::lock::locked;
use super::memory::QueryMemory;
use super::problem::{self, CANCELLED};
use super::resources::QueryResources;
use sql::plan::PlannedQuery;

/// How many batches are computed before the client reads them.
const BATCHES_AHEAD: usize = 2;

/// The batches of a running query; dropped, the query stops.
pub(crate) struct Batches {
    batches: mpsc::Receiver<PgWireResult<RecordBatch>>,
    /// The task that runs the query; `None` once its result is known.
    task: Option<JoinHandle<()>>,
    record: Arc<QueryRecord>,
    connection: Arc<Connection>,
}

/// Counts and logs a query when it ends; it never contains the query's text or values.
pub(crate) struct QueryRecord {
    resources: Arc<QueryResources>,
    role: String,
    pid: i32,
    started: Instant,
    /// Rows that the client has read.
    pub(crate) rows: AtomicU64,
    error: std::sync::Mutex<Option<String>>,
}

impl QueryRecord {
    /// Counts a query as started; dropping the record counts it as ended and logs it.
    pub(crate) fn open(resources: &Arc<QueryResources>, connection: &Connection) -> Arc<QueryRecord> {
        resources.counts.queries.fetch_add(1, Ordering::Relaxed);
        resources.counts.running.fetch_add(1, Ordering::Relaxed);
        Arc::new(QueryRecord {
            resources: Arc::clone(resources),
            role: connection.role.name.clone(),
            pid: connection.pid,
            started: Instant::now(),
            rows: AtomicU64::new(0),
            error: std::sync::Mutex::default(),
        })
    }

    /// Records the query's first error.
    pub(crate) fn failed(&self, error: &PgWireError) {
        locked(&self.error).get_or_insert_with(|| error.code().to_owned());
    }
}

impl Drop for QueryRecord {
    fn drop(&mut self) {
        let counts = &self.resources.counts;
        let (rows, elapsed) = (self.rows.load(Ordering::Relaxed), self.started.elapsed());
        counts.running.fetch_sub(1, Ordering::Relaxed);
        counts.rows.fetch_add(rows, Ordering::Relaxed);
        counts.micros.fetch_add(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let error = locked(&self.error).take();
        match error.as_deref() {
            Some(CANCELLED) => counts.cancelled.fetch_add(1, Ordering::Relaxed),
            Some(_) => counts.errors.fetch_add(1, Ordering::Relaxed),
            None => 0,
        };
        let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(role = self.role, pid = self.pid, ms, rows, error, "query");
    }
}

impl Batches {
    /// Starts a planned query. It can run ahead of [`Batches::next`] by a few batches only.
    ///
    /// # Errors
    /// If the query's memory pool cannot be set up; errors of the query itself are returned by [`Batches::next`].
    pub(crate) fn start(
        resources: &Arc<QueryResources>,
        connection: &Arc<Connection>,
        planned: PlannedQuery,
        record: Arc<QueryRecord>,
    ) -> PgWireResult<Batches> {
        let memory = QueryMemory::new(Arc::clone(&resources.memory), resources.bounds.query_memory_bytes_max);
        let memory = Arc::new(memory);
        let running = resources.running.add(Arc::clone(&memory));
        let runtime = RuntimeEnvBuilder::from_runtime_env(planned.state.runtime_env())
            .with_memory_pool(memory)
            .build_arc()
            .map_err(problem::of_run)?;
        let state = SessionStateBuilder::new_from_existing(planned.state).with_runtime_env(runtime).build();
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
        let planning = resources.planning().spawn(async move {
            let frame = SessionContext::new_with_state(state).execute_logical_plan(planned.plan).await?;
            let context = Arc::new(frame.task_ctx());
            Ok::<_, DataFusionError>((frame.create_physical_plan().await?, context))
        });
        let planning = AbortOnDropHandle::new(planning);
        let task = resources.queries().spawn(async move {
            let sending = async {
                let stream = match planning.await {
                    Ok(Ok((plan, context))) => execute_stream(plan, context).map_err(problem::of_run),
                    Ok(Err(error)) => Err(problem::of_run(error)),
                    Err(_) => Err(problem::panicked("planning")),
                };
                match stream {
                    Ok(stream) => send_all(stream, &sender).await,
                    Err(error) => drop(sender.send(Err(error)).await),
                }
            };
            tokio::select! {
                biased;
                () = running.ended.cancelled() => drop(sender.send(Err(problem::out_of_memory())).await),
                () = sending => {}
            }
        });
        Ok(Batches { batches, task: Some(task), record, connection: Arc::clone(connection) })
    }

    /// The next batch, an error, or `None` at the end. After an error the query is stopped.
    pub(crate) async fn next(&mut self) -> Option<PgWireResult<RecordBatch>> {
        // The token of the current statement: a cursor's FETCH is another statement than its DECLARE.
        let token = self.connection.token();
        let batch = tokio::select! {
            biased;
            () = token.cancelled() => Some(Err(self.connection.cancellation_error())),
            batch = self.batches.recv() => batch,
        };
        // A closed channel is the end of the rows, unless the task panicked.
        let batch = match batch {
            Some(batch) => Some(batch),
            None => match self.task.take() {
                Some(task) => panic_of(task).await.map(Err),
                None => None,
            },
        };
        match &batch {
            Some(Ok(batch)) => {
                self.record.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
            }
            Some(Err(error)) => {
                self.record.failed(error);
                self.abort();
            }
            None => {}
        }
        batch
    }
}

impl Batches {
    fn abort(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn panic_of(task: JoinHandle<()>) -> Option<PgWireError> {
    let panicked = task.await.is_err_and(|error| error.is_panic());
    panicked.then(|| problem::panicked("the query"))
}

async fn send_all(mut stream: SendableRecordBatchStream, sender: &mpsc::Sender<PgWireResult<RecordBatch>>) {
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(problem::of_run);
        let last = batch.is_err();
        if sender.send(batch).await.is_err() || last {
            return;
        }
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::panic_of;

    #[tokio::test]
    async fn a_task_that_panics_is_an_error() {
        assert!(panic_of(tokio::spawn(async {})).await.is_none());
        let error = panic_of(tokio::spawn(async { panic!("by the test") })).await.unwrap();
        assert_eq!(error.code(), "XX000");
    }
}
