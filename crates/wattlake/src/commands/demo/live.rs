//! The demo's stream: the platform goes on living, and the lake follows its write-ahead log.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base::text;
use chrono::{DateTime, SecondsFormat, Utc};
use jobs::flows::stream::{self, StreamOptions, StreamState};
use jobs::runs::RunRequest;
use jobs::warehouse::Warehouse;
use sql::output::{self, Format};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use transfer::changes::StreamEnd;
use transfer::resume::Permission;

use crate::commands::query_output::{print_query, session};
use crate::progress::ProgressBars;

/// The transfer's file. It is removed at the end of the demo, with the platform.
pub const FILE: &str = "transfers/live.toml";
const TRANSFER: &str = "# Follows the platform's write-ahead log; docs/changes.md\n\
    source = \"platform\"\nmode = \"changes\"\ninclude = [\"live.*\"]\nhistory = true\n";

/// How many sites are read each second.
const SITES: u32 = 2_000;

const TABLE: &str = "CREATE SCHEMA live; CREATE TABLE live.readings (site_id int, ts timestamptz, power_kw float8 NOT NULL, \
    quality text NOT NULL, PRIMARY KEY (site_id, ts))";

/// Writes the transfer's file, and the table at the source.
pub async fn prepare(dir: &Path, client: &Client) -> Result<()> {
    std::fs::write(dir.join(FILE), TRANSFER).with_context(|| format!("write {FILE}"))?;
    client.batch_execute(TABLE).await.context("create the table of live readings")
}

/// Streams while the platform writes for some seconds, and compares at the end. Returns the number of changes.
pub async fn follow(warehouse: &Warehouse, client: &Client, seconds: u32) -> Result<u64> {
    let stop = CancellationToken::new();
    let bars = Arc::new(ProgressBars::new());
    let shown = Arc::clone(&bars);
    let on_status = move |state: &StreamState| {
        shown.clear();
        let counts = state.status.tables.iter().map(|table| table.counts);
        let sum = counts.fold((0, 0, 0), |sum, c| (sum.0 + c.inserts, sum.1 + c.updates, sum.2 + c.deletes));
        let lag = state.status.tables.iter().map(|table| table.lag_seconds).fold(0.0, f64::max);
        println!(
            "{} inserts, {} updates, {} deletes received; the oldest change that the lake lacks is {} old",
            text::count(sum.0),
            text::count(sum.1),
            text::count(sum.2),
            text::seconds(lag)
        );
    };
    let options = StreamOptions {
        name: "live",
        end: StreamEnd::Never,
        tables: Vec::new(),
        permission: Permission::AsConfigured,
        progress: bars.clone(),
        on_status: Arc::new(on_status),
        stop: stop.clone(),
    };
    let request = RunRequest::by("demo");
    let streaming = stream::run(warehouse, &request, options);
    let living = async {
        let lived = live(client, seconds).await;
        stop.cancel();
        lived
    };
    let (streamed, lived) = tokio::join!(streaming, living);
    let (state, moment) = (streamed?, lived?);
    // What was committed a moment ago.
    let options = StreamOptions {
        name: "live",
        end: StreamEnd::CaughtUp,
        tables: Vec::new(),
        permission: Permission::AsConfigured,
        progress: bars,
        on_status: Arc::new(|_: &StreamState| {}),
        stop: CancellationToken::new(),
    };
    stream::run(warehouse, &request, options).await?;
    println!();
    print_query(warehouse, STATE).await?;
    compare(warehouse, client).await?;
    if let Some(moment) = moment {
        compare_as_of(warehouse, &moment).await?;
    }
    stream::drop_slot(warehouse, "live").await?;
    Ok(state.status.tables.iter().map(|t| t.counts.inserts + t.counts.updates + t.counts.deletes).sum())
}

/// What the stream's tables counted.
const STATE: &str = "SELECT source_table, rows AS rows_written, position FROM system.transfers WHERE transfer = 'live'";

/// What the platform had at an instant in the middle.
struct Moment {
    at: DateTime<Utc>,
    rows: i64,
    corrected: i64,
}

/// How many readings there are, and of them how many were corrected.
const COUNTS: &str = "SELECT count(*), count(*) FILTER (WHERE quality = 'corrected') FROM live.readings";

/// Each second new readings, corrections of earlier ones, and a purge of the oldest.
async fn live(client: &Client, seconds: u32) -> Result<Option<Moment>> {
    let started = Instant::now();
    let mut moment = None;
    for second in 0..seconds {
        let statements = format!(
            "INSERT INTO live.readings SELECT s, date_trunc('second', now()), 1000 * random(), 'measured' \
                 FROM generate_series(1, {SITES}) s ON CONFLICT DO NOTHING; \
             UPDATE live.readings SET power_kw = power_kw * 1.01, quality = 'corrected' \
                 WHERE site_id % 50 = {second} % 50 AND quality = 'measured'; \
             DELETE FROM live.readings WHERE ts < now() - interval '15 seconds'"
        );
        client.batch_execute(&statements).await.context("write live readings")?;
        if second == seconds / 2 {
            let row = client.query_one(COUNTS, &[]).await.context("count the live readings")?;
            moment = Some(Moment { at: Utc::now(), rows: row.get(0), corrected: row.get(1) });
        }
        tokio::time::sleep((Duration::from_secs(1) * (second + 1)).saturating_sub(started.elapsed())).await;
    }
    Ok(moment)
}

/// From the history of the rows, the lake must have what the platform had then.
async fn compare_as_of(warehouse: &Warehouse, moment: &Moment) -> Result<()> {
    let at = moment.at.to_rfc3339_opts(SecondsFormat::Micros, true);
    let sql = format!("{COUNTS} FOR SYSTEM_TIME AS OF '{at}'");
    println!("\nthe platform had {} readings at {at}; the lake, as of then:", text::count(moment.rows.unsigned_abs()));
    print_query(warehouse, &sql).await?;
    let session = session(warehouse, None).await?;
    let mut found = Vec::new();
    output::write(session.run(&sql).await?, Format::Csv, &mut found, 1).await?;
    let (found, wanted) = (String::from_utf8(found)?, format!("{},{}", moment.rows, moment.corrected));
    ensure!(
        found.lines().nth(1) == Some(wanted.as_str()),
        "as of {at}: the lake has {found} and the platform had {wanted}"
    );
    Ok(())
}

/// The lake must have the rows of the source.
async fn compare(warehouse: &Warehouse, client: &Client) -> Result<()> {
    let row = client.query_one(COUNTS, &[]).await.context("count the live readings")?;
    let (rows, corrected): (i64, i64) = (row.get(0), row.get(1));
    let table = warehouse.lake().await?.table(&lake::TableName::new("live", "readings")).await?;
    let found = table.context("the lake has no live readings")?.size()?.rows;
    println!(
        "the source has {} readings, of them {} corrected; the lake has {}",
        text::count(rows.unsigned_abs()),
        text::count(corrected.unsigned_abs()),
        text::count(found)
    );
    ensure!(found == rows.unsigned_abs(), "the lake has {found} of {rows} live readings");
    Ok(())
}
