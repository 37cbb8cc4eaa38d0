//! What a function prints: each line goes to whoever keeps it, the last ones stay at hand for the
//! caller who asks for the log's tail.

use std::collections::VecDeque;
use std::io::{PipeReader, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::ioctl_fionread;

/// What `X-Amz-Log-Result` holds at most.
const TAIL_BYTES: usize = 4096;
/// A longer line is cut into several: a function that prints no newline fills no memory.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// How long an answer waits for what was printed before it, on a machine that is busy.
const DRAIN_MAX: Duration = Duration::from_millis(50);

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
    /// Held while bytes are between the pipe and the log; the pipe once there is one.
    output: Arc<Mutex<Option<PipeReader>>>,
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
        Log {
            state: Arc::default(),
            output: Arc::default(),
            sink,
            function: function.to_owned(),
            version: version.to_owned(),
        }
    }

    /// Reads until the last process that holds the other end is gone.
    pub fn follow(&self, output: PipeReader) {
        *self.output.lock().unwrap_or_else(PoisonError::into_inner) = output.try_clone().ok();
        let log = self.clone();
        std::thread::spawn(move || {
            let mut buffer = vec![0; LINE_BYTES_MAX];
            let mut line = Vec::new();
            while poll(&mut [PollFd::new(&output, PollFlags::IN)], None).is_ok() {
                let _reading = log.output.lock().unwrap_or_else(PoisonError::into_inner);
                let Ok(read @ 1..) = (&output).read(&mut buffer) else { break };
                for piece in buffer[..read].split_inclusive(|byte| *byte == b'\n') {
                    line.extend_from_slice(piece);
                    if line.ends_with(b"\n") || line.len() >= LINE_BYTES_MAX {
                        log.put(&String::from_utf8_lossy(&line));
                        line.clear();
                    }
                }
            }
            if !line.is_empty() {
                log.put(&String::from_utf8_lossy(&line));
            }
            *log.output.lock().unwrap_or_else(PoisonError::into_inner) = None;
        });
    }

    /// Waits until what is printed already is in the log: it was before the answer.
    pub async fn drain(&self) {
        let began = Instant::now();
        while began.elapsed() < DRAIN_MAX && self.is_behind() {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    }

    fn is_behind(&self) -> bool {
        match self.output.try_lock() {
            Ok(output) => output.as_ref().is_some_and(|pipe| ioctl_fionread(pipe).is_ok_and(|bytes| bytes > 0)),
            Err(_) => true,
        }
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
