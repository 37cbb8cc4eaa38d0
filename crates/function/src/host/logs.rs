//! Reads what a function prints: each line goes to the sink, and the last 4 KB are kept for callers that request
//! the tail of the log.

use std::collections::VecDeque;
use std::io::{PipeReader, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ioctl_fionread};

/// The largest content of `X-Amz-Log-Result`.
const TAIL_BYTES: usize = 4096;
/// A longer line is split into several, so that a function that prints no newline does not fill the memory.
const LINE_BYTES_MAX: usize = 64 * 1024;
const READ_BYTES: usize = 16 * 1024;
/// How long an answer waits at most until the output before it has been read.
const CATCH_UP_MAX: Duration = Duration::from_secs(5);
/// The number of checks without a pause for whether the output has been read; further checks pause in between.
const CATCH_UP_EAGER: u32 = 5;

/// A line that a function printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The function's name.
    pub function: String,
    /// The version that printed it.
    pub version: String,
    /// The invocation that printed it; `None` before the instance's first one.
    pub request_id: Option<String>,
    /// The line, without its newline.
    pub text: String,
}

/// Takes every line that functions print. It is called from threads that may block.
pub type Sink = Arc<dyn Fn(Line) + Send + Sync>;

/// The output of one instance. Cheap to clone.
#[derive(Clone)]
pub(super) struct Log {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    sink: Sink,
    function: String,
    version: String,
    /// True while bytes have left the pipe and are not in a line yet.
    reading: AtomicBool,
    /// Bytes read from the pipe that are in lines.
    read_bytes: AtomicU64,
}

#[derive(Default)]
struct State {
    request_id: Option<String>,
    tail: VecDeque<u8>,
    /// A line that has not ended yet.
    begun: Vec<u8>,
    output: Option<Arc<PipeReader>>,
}

impl Log {
    /// The empty output of an instance of a function's version.
    pub fn new(function: &str, version: &str, sink: Sink) -> Log {
        let (function, version) = (function.to_owned(), version.to_owned());
        let (state, reading, read_bytes) = (Mutex::default(), AtomicBool::new(false), AtomicU64::new(0));
        Log { inner: Arc::new(Inner { state, sink, function, version, reading, read_bytes }) }
    }

    /// Reads the pipe, in a thread, until no process has its other end open.
    pub fn follow(&self, output: PipeReader) {
        let log = self.clone();
        let output = Arc::new(output);
        self.lock().output = Some(Arc::clone(&output));
        std::thread::spawn(move || {
            let mut buffer = vec![0; READ_BYTES];
            loop {
                let mut waits = [PollFd::new(&*output, PollFlags::IN)];
                match poll(&mut waits, None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(_) => break,
                }
                // Set before bytes leave the pipe: where the pipe is empty and this is false, all has been read.
                log.inner.reading.store(true, Ordering::SeqCst);
                let read = (&*output).read(&mut buffer).unwrap_or(0);
                log.take(&buffer[..read]);
                log.inner.read_bytes.fetch_add(read as u64, Ordering::SeqCst);
                log.inner.reading.store(false, Ordering::SeqCst);
                if read == 0 {
                    break;
                }
            }
            let mut state = log.lock();
            log.end_line(&mut state);
            state.output = None;
        });
    }

    /// Begins an invocation: lines belong to it from now on.
    pub fn begin(&self, request_id: &str) {
        let mut state = self.lock();
        state.request_id = Some(request_id.to_owned());
        state.tail.clear();
    }

    /// Adds a line of the host itself.
    pub fn put(&self, line: &str) {
        self.keep(&mut self.lock(), line.as_bytes());
    }

    /// Waits until what was printed before this call has been read, for at most five seconds. It does not wait for
    /// what is printed meanwhile, since a function's processes may print without end.
    pub async fn catch_up(&self) {
        let began = Instant::now();
        let (mut attempt, mut due) = (0, None);
        while began.elapsed() < CATCH_UP_MAX {
            let output = self.lock().output.clone();
            let left = output.and_then(|output| ioctl_fionread(&*output).ok()).unwrap_or(0);
            if left == 0 && !self.inner.reading.load(Ordering::SeqCst) {
                break;
            }
            // In this order: what leaves the pipe in between is counted twice, never missed.
            let read = self.inner.read_bytes.load(Ordering::SeqCst);
            // What was in the pipe at first, and what its reader may have been holding then.
            if read >= *due.get_or_insert(read + left + READ_BYTES as u64) {
                break;
            }
            attempt += 1;
            if attempt < CATCH_UP_EAGER {
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        }
        // An incomplete line belongs to the invocation too.
        let mut state = self.lock();
        self.end_line(&mut state);
    }

    /// The tail of the invocation, which ends here. Lines until the next one begins still have its request id.
    pub fn end(&self) -> String {
        let tail: Vec<u8> = std::mem::take(&mut self.lock().tail).into();
        String::from_utf8_lossy(&tail).into_owned()
    }

    fn take(&self, mut bytes: &[u8]) {
        let mut state = self.lock();
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            state.begun.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end + 1..];
            let line = std::mem::take(&mut state.begun);
            self.keep(&mut state, &line);
        }
        state.begun.extend_from_slice(bytes);
        if state.begun.len() >= LINE_BYTES_MAX {
            self.end_line(&mut state);
        }
    }

    fn end_line(&self, state: &mut State) {
        if !state.begun.is_empty() {
            let line = std::mem::take(&mut state.begun);
            self.keep(state, &line);
        }
    }

    /// Passes a line on. The caller holds the lock on the state, so that lines keep their order.
    fn keep(&self, state: &mut State, line: &[u8]) {
        let text = String::from_utf8_lossy(line).trim_end_matches(['\n', '\r']).to_owned();
        let above = text.len().saturating_sub(TAIL_BYTES);
        state.tail.extend(text.as_bytes()[above..].iter().chain(b"\n"));
        let above = state.tail.len().saturating_sub(TAIL_BYTES);
        state.tail.drain(..above);
        let (function, version) = (self.inner.function.clone(), self.inner.version.clone());
        (self.inner.sink)(Line { function, version, request_id: state.request_id.clone(), text });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
