//! Reading the bodies of requests, in bounds of size and time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;

/// How long a sender may take between two parts of a body.
const BODY_TIME_MAX: Duration = Duration::from_secs(20);
/// How long it may take for the whole body.
const WHOLE_TIME_MAX: Duration = Duration::from_secs(300);
/// A body that is too large is read to its end, but not kept, up to this many times its limit: so its sender receives
/// the error.
const DRAIN_FACTOR: usize = 10;

/// Why a body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    /// It has more bytes than allowed.
    TooLarge,
    /// The connection ended before the body did, or nothing came for too long.
    Interrupted,
}

/// Reads a body of at most `most` bytes.
///
/// # Errors
/// [`BodyError`].
pub async fn read_body<B>(body: B, most: usize) -> Result<Bytes, BodyError>
where
    B: hyper::body::Body<Data = Bytes>,
{
    let reading = tokio::time::timeout(WHOLE_TIME_MAX, read_frames(body, most));
    reading.await.unwrap_or(Err(BodyError::Interrupted))
}

async fn read_frames<B>(body: B, most: usize) -> Result<Bytes, BodyError>
where
    B: hyper::body::Body<Data = Bytes>,
{
    let mut body = std::pin::pin!(body);
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX).min(most);
    let mut read = BodyBuffer { most, ..BodyBuffer::default() };
    loop {
        let frame = tokio::time::timeout(BODY_TIME_MAX, body.frame()).await.map_err(|_| BodyError::Interrupted)?;
        let Some(frame) = frame else { break };
        if let Ok(data) = frame.map_err(|_| BodyError::Interrupted)?.into_data() {
            read.add(data, expected);
            if read.bytes > most.saturating_mul(DRAIN_FACTOR) {
                break;
            }
        }
    }
    if read.bytes > most { Err(BodyError::TooLarge) } else { Ok(read.finish()) }
}

/// Collects a body. Most bodies arrive in one piece, which is not copied.
#[derive(Default)]
struct BodyBuffer {
    most: usize,
    bytes: usize,
    first: Bytes,
    all: BytesMut,
}

impl BodyBuffer {
    fn add(&mut self, data: Bytes, expected: usize) {
        self.bytes += data.len();
        if self.bytes > self.most {
            return;
        }
        if self.first.is_empty() && self.all.is_empty() {
            self.first = data;
            return;
        }
        if self.all.is_empty() {
            self.all.reserve(expected.max(self.bytes));
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.all.extend_from_slice(&data);
    }

    fn finish(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }
}
