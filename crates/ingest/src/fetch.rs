//! One file from its source into the objects. What is transient is tried again, a few times and
//! from where it broke off; whatever else fails is told at once.

use std::time::Duration;

use futures::StreamExt;
use rand::Rng;

use crate::objects::{Incoming, Object, Objects};
use crate::source::{Listed, Listing, Source};
use crate::{Error, Kind, Result};

/// How often what failed is tried again.
#[derive(Debug, Clone, Copy)]
pub struct Retries {
    /// After the first try.
    pub times: u32,
    pub first_pause: Duration,
    pub pause_max: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Retries { times: 4, first_pause: Duration::from_secs(1), pause_max: Duration::from_secs(60) }
    }
}

impl Retries {
    /// How long to wait after so many failures, twice as long each time; `None`: give up.
    /// Each pause is shortened by up to a quarter, so that many who failed together don't come back together.
    pub fn pause(&self, failures: u32) -> Option<Duration> {
        if failures > self.times {
            return None;
        }
        let factor = 2_u32.saturating_pow(failures.saturating_sub(1));
        let pause = self.first_pause.saturating_mul(factor).min(self.pause_max);
        Some(pause.mul_f64(rand::rng().random_range(0.75..=1.0)))
    }

    /// `act` again as long as it says `Retry`.
    async fn through<T>(&self, mut act: impl AsyncFnMut() -> Result<T>) -> Result<T> {
        let mut failures = 0;
        loop {
            let error = match act().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            failures += 1;
            let Some(pause) = self.pause(failures).filter(|_| error.kind == Kind::Retry) else { return Err(error) };
            tracing::warn!(%error, failures, "trying again");
            tokio::time::sleep(pause).await;
        }
    }
}

/// What the source has, of what stood still for `still`.
///
/// # Errors
/// Those of [`Source::list`], the last of them.
pub async fn list(source: &dyn Source, date: chrono::NaiveDate, still: Duration, retries: &Retries) -> Result<Listing> {
    retries.through(async || crate::source::settled(source, date, still).await).await
}

/// The file that was listed becomes an object. A crash meanwhile leaves none, or the whole.
///
/// # Errors
/// Those of [`Source::open`] and of [`Objects::put`], the last of them.
pub async fn fetch(source: &dyn Source, file: &Listed, objects: &Objects, retries: &Retries) -> Result<Object> {
    let mut incoming = objects.begin();
    retries.through(async || pull(source, file, &mut incoming).await).await?;
    // A store that is away is a reason of its own to try again, and the bytes are here already.
    retries.through(async || incoming.finish().await).await
}

async fn pull(source: &dyn Source, file: &Listed, incoming: &mut Incoming) -> Result<()> {
    let mut opened = source.open(file, incoming.bytes()).await?;
    if opened.from != incoming.bytes() {
        incoming.restart();
    }
    while let Some(piece) = opened.bytes.next().await {
        incoming.write(&piece?).await?;
    }
    match file.size {
        Some(size) if size != incoming.bytes() => {
            let came = incoming.bytes();
            // What came can't be the beginning of the file that was listed.
            incoming.restart();
            Err(Error::new(Kind::Retry, format!("read {}: {came} bytes came, and {size} were listed", file.name)))
        }
        _ => Ok(()),
    }
}
