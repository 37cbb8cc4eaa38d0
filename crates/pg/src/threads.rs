//! Starts the threads of a server.

use tokio::runtime::Runtime;

/// Stack of a thread that parses, plans or runs queries. Only the pages that are used take memory.
const STACK_BYTES: usize = 64 << 20;

/// The number of cores that the process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A runtime with this many threads.
///
/// # Errors
/// If the threads cannot be started.
pub(crate) fn runtime(name: &str, threads: usize) -> std::io::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    // Statements and plans are walked recursively, which takes much stack.
    builder.worker_threads(threads).thread_name(name).thread_stack_size(STACK_BYTES).enable_all().build()
}
