//! The whole history, over two connections: the 1-second series on one, the rest on the other.

use std::future::Future;

use tokio_postgres::{Client, Config, NoTls};

use crate::error::{During, Kind};
use crate::output::Output;
use crate::tables::{self, Pen, Stamp};
use crate::{Error, Result, Scale, registry};

/// A connection for [`fill`] to a private server, without TLS; the task that drives it ends with
/// the client. Needs a Tokio runtime.
pub async fn connect(config: &Config) -> Result<Client> {
    let (client, connection) = config.connect(NoTls).await.during("connect to the platform's database")?;
    // Its end is told to the client by the next statement's error.
    tokio::spawn(connection);
    Ok(client)
}

/// Fills the empty tables of [`crate::create`]; returns the rows of each. `progress` hears, table by
/// table, the rows sent so far. A failure leaves the tables partly filled: start again from an
/// empty database.
pub async fn fill<F, Fut, E>(
    connect: F,
    scale: &Scale,
    progress: &(dyn Fn(&str, u64) + Send + Sync),
) -> Result<Vec<(String, u64)>>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<Client, E>>,
    E: std::error::Error + Send + Sync + 'static,
{
    let first = session(connect().await).await?;
    let second = session(connect().await).await?;
    let output = Output::new(scale, 0);
    let pen = |client| Pen { client, scale, output: &output, stamp: Stamp::History, progress };

    let mut counts = registry::fill(&first, scale, progress).await?;
    let (seconds, others) = futures::try_join!(fast(pen(&first)), slow(pen(&second)))?;
    counts.push(seconds);
    counts.extend(others);
    first.batch_execute("analyze").await.during("analyze the platform's tables")?;
    Ok(counts)
}

async fn session<E>(client: Result<Client, E>) -> Result<Client>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let client = client.map_err(|source| Error {
        kind: Kind::Retry,
        context: "connect to the platform's database".into(),
        source: Some(Box::new(source)),
    })?;
    client.batch_execute("set synchronous_commit = off").await.during("prepare a session")?;
    Ok(client)
}

async fn fast(pen: Pen<'_>) -> Result<(String, u64)> {
    let end = pen.scale.end();
    let start = tables::seconds_kept_from(pen.scale, end).max(pen.scale.day_start(0));
    Ok((tables::SECONDS.to_owned(), tables::seconds(pen, start, end).await?))
}

async fn slow(pen: Pen<'_>) -> Result<Vec<(String, u64)>> {
    let days = pen.scale.days;
    let forecast = days.saturating_sub(pen.scale.forecast_days)..days;
    Ok(vec![
        (tables::MEASURED.to_owned(), tables::measured(pen, 0..days).await?),
        (tables::FORECASTS.to_owned(), tables::forecasts(pen, forecast).await?),
        (tables::AVAILABILITIES.to_owned(), tables::availabilities(pen, 0..days).await?),
        (tables::PRICES.to_owned(), tables::market_prices(pen, 0..days).await?),
        (tables::TENSION.to_owned(), tables::system_tension(pen, 0..days).await?),
    ])
}
