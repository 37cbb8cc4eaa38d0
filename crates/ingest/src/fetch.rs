//! Fetches one file from its source into the objects. A transient error is retried a few times, from
//! the byte at which the connection was interrupted; any other error is returned at once.

use std::time::Duration;

use futures::StreamExt;
use rand::Rng;

use crate::objects::{Object, ObjectWriter, Objects};
use crate::source::{ListedFile, Listing, Source};
use crate::{Error, Kind, Result};

/// How often a transient error is retried, and how long each retry waits.
#[derive(Debug, Clone, Copy)]
pub struct Retries {
    /// The number of retries after the first attempt.
    pub times: u32,
    /// The wait before the first retry.
    pub first_pause: Duration,
    /// The longest wait.
    pub pause_max: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Retries { times: 4, first_pause: Duration::from_secs(1), pause_max: Duration::from_secs(60) }
    }
}

impl Retries {
    /// How long to wait after this many failures, twice as long each time; `None` means to give up.
    /// Each pause is shortened by up to a quarter at random, so that clients that failed together don't retry together.
    pub fn pause(&self, failures: u32) -> Option<Duration> {
        if failures > self.times {
            return None;
        }
        let factor = 2_u32.saturating_pow(failures.saturating_sub(1));
        let pause = self.first_pause.saturating_mul(factor).min(self.pause_max);
        Some(pause.mul_f64(rand::rng().random_range(0.75..=1.0)))
    }

    /// Repeats `act` while it fails with [`Kind::Retry`].
    async fn retry<T>(&self, mut act: impl AsyncFnMut() -> Result<T>) -> Result<T> {
        let mut failures = 0;
        loop {
            let error = match act().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            failures += 1;
            let Some(pause) = self.pause(failures).filter(|_| error.kind == Kind::Retry) else { return Err(error) };
            tracing::warn!(%error, failures, "a step of a fetch failed, and is retried");
            tokio::time::sleep(pause).await;
        }
    }
}

/// Lists the files of the source that did not change for the time `still`, with retries.
///
/// # Errors
/// The last error of [`Source::list`].
pub async fn list(source: &dyn Source, date: chrono::NaiveDate, still: Duration, retries: &Retries) -> Result<Listing> {
    retries.retry(async || crate::source::list_stable(source, date, still).await).await
}

/// Stores a listed file as an object, with retries. A crash leaves no object, or the whole one.
///
/// # Errors
/// The last error of [`Source::open`] or of [`ObjectWriter::finish`].
pub async fn fetch(source: &dyn Source, file: &ListedFile, objects: &Objects, retries: &Retries) -> Result<Object> {
    let mut incoming = objects.begin();
    retries.retry(async || download(source, file, &mut incoming).await).await?;
    // Retried separately: where only the store is not reachable, the bytes need not be fetched again.
    retries.retry(async || incoming.finish().await).await
}

async fn download(source: &dyn Source, file: &ListedFile, incoming: &mut ObjectWriter) -> Result<()> {
    let mut opened = source.open(file, incoming.bytes()).await?;
    if opened.from != incoming.bytes() {
        incoming.restart();
    }
    while let Some(piece) = opened.bytes.next().await {
        incoming.write(&piece?).await?;
    }
    match file.size {
        Some(size) if size != incoming.bytes() => {
            let received = incoming.bytes();
            // The bytes received can't be the beginning of the file that was listed.
            incoming.restart();
            Err(Error::new(
                Kind::Retry,
                format!("read {}: received {received} bytes, expected {size} as listed", file.name),
            ))
        }
        _ => Ok(()),
    }
}
