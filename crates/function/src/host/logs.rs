//! What a function prints: each line goes to whoever keeps it, the last ones stay at hand for the
//! caller who asks for the log's tail.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, PipeReader, Read};
use std::sync::{Arc, Mutex, PoisonError};

/// What `X-Amz-Log-Result` holds at most.
const TAIL_BYTES: usize = 4096;
/// A longer line is cut into several: a function that prints no newline fills no memory.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// A line that a function printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub function: String,
    pub version: String,
    /// None between two invocations.
    pub request_id: Option<String>,
    pub text: String,
}

/// Takes every line; called from a thread that may block.
pub type Sink = Arc<dyn Fn(Line) + Send + Sync>;

#[derive(Clone)]
pub(super) struct Log {
    state: Arc<Mutex<State>>,
    sink: Sink,
    function: String,
    version: String,
}

#[derive(Default)]
struct State {
    request_id: Option<String>,
    tail: VecDeque<u8>,
}

impl Log {
    pub fn new(function: &str, version: &str, sink: Sink) -> Log {
        Log { state: Arc::default(), sink, function: function.to_owned(), version: version.to_owned() }
    }

    /// Reads until the last process that holds the other end is gone.
    pub fn follow(&self, output: PipeReader) {
        let log = self.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(output);
            let mut line = Vec::new();
            while matches!(reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line), Ok(read) if read > 0) {
                log.put(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
    }

    pub fn begin(&self, request_id: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State { request_id: Some(request_id.to_owned()), tail: VecDeque::new() };
    }

    pub fn put(&self, line: &str) {
        let text = line.trim_end_matches(['\n', '\r']).to_owned();
        let request_id = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.tail.extend(text.bytes().chain([b'\n']));
            let above = state.tail.len().saturating_sub(TAIL_BYTES);
            state.tail.drain(..above);
            state.request_id.clone()
        };
        (self.sink)(Line { function: self.function.clone(), version: self.version.clone(), request_id, text });
    }

    /// The tail of the invocation that ends here.
    pub fn end(&self) -> String {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.request_id = None;
        let tail: Vec<u8> = std::mem::take(&mut state.tail).into();
        String::from_utf8_lossy(&tail).into_owned()
    }
}
