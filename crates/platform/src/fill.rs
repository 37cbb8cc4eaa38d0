//! Fills the tables with the history, over two connections: the 1-second series on one, the other tables on the other.

use std::future::Future;

use tokio_postgres::{Client, Config, NoTls};

use crate::error::ErrorContext;
use crate::output::Output;
use crate::tables::{self, Stamp, WriteContext};
use crate::{Error, Result, Scale, registry};

/// Connects to a private server, without TLS, for [`fill`]. The task of the connection ends with the client. Needs a
/// Tokio runtime.
pub async fn connect(config: &Config) -> Result<Client> {
    let (client, connection) = config.connect(NoTls).await.during("connect to the platform's database")?;
    // The result is ignored: where the connection fails, the client's next statement returns an error.
    tokio::spawn(connection);
    Ok(client)
}

/// Fills the empty tables of [`crate::create`] and returns the number of rows of each. `connect` is called twice.
/// `progress` is called with a table's name and the rows sent so far.
///
/// # Errors
/// Where a connection or a statement fails. The tables are then filled in part: start again with an empty database.
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
    let context = |client| WriteContext { client, scale, output: &output, stamp: Stamp::History, progress };

    let mut counts = registry::fill(&first, scale, progress).await?;
    let (seconds, others) = futures::try_join!(fast(context(&first)), slow(context(&second)))?;
    counts.push(seconds);
    counts.extend(others);
    first.batch_execute("analyze").await.during("analyze the platform's tables")?;
    Ok(counts)
}

async fn session<E>(client: Result<Client, E>) -> Result<Client>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let client = client.map_err(|source| Error::retry("connect to the platform's database").because(source))?;
    client.batch_execute("set synchronous_commit = off").await.during("prepare a session")?;
    Ok(client)
}

async fn fast(context: WriteContext<'_>) -> Result<(String, u64)> {
    let end = context.scale.end();
    let start = tables::seconds_kept_from(context.scale, end).max(context.scale.day_start(0));
    Ok((tables::SECONDS.to_owned(), tables::seconds(context, start, end).await?))
}

async fn slow(context: WriteContext<'_>) -> Result<Vec<(String, u64)>> {
    let days = context.scale.days;
    let forecast = days.saturating_sub(context.scale.forecast_days)..days;
    Ok(vec![
        (tables::MEASURED.to_owned(), tables::measured(context, 0..days).await?),
        (tables::FORECASTS.to_owned(), tables::forecasts(context, forecast).await?),
        (tables::AVAILABILITIES.to_owned(), tables::availabilities(context, 0..days).await?),
        (tables::PRICES.to_owned(), tables::market_prices(context, 0..days).await?),
        (tables::TENSION.to_owned(), tables::system_tension(context, 0..days).await?),
    ])
}
