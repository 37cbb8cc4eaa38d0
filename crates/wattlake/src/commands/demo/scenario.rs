//! The steps of the demo, each with its time.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use base::text;
use config::MartKind;
use jobs::flows::transfer::{self as transfer_flow, TransferOptions, settings};
use jobs::flows::{mart, upkeep};
use jobs::runs::RunRequest;
use jobs::warehouse::{Environment, Warehouse};
use platform::{Changes, Scale};
use transfer::run::TransferReport;
use transfer::validate::TableValidation;

use super::billing::Billing;
use super::forecast::{self, DemoPartner};
use super::live;
use crate::commands::mart::print_refresh;
use crate::commands::query_output::print_query;
use crate::commands::transfer::{report_text, validation_text};
use crate::program::{program, program_in, quoted};
use crate::progress::ProgressBars;

/// The rows of the closing table.
struct Steps {
    rows: Vec<Vec<String>>,
    started: Instant,
}

impl Steps {
    fn begin(&mut self, title: &str) {
        self.started = Instant::now();
        println!("\n== {title}");
    }

    fn end(&mut self, what: &str, rows: u64) {
        let seconds = self.started.elapsed().as_secs_f64();
        let rate = if rows > 0 { text::count((rows as f64 / seconds.max(0.001)) as u64) } else { String::new() };
        let count = if rows > 0 { text::count(rows) } else { String::new() };
        self.rows.push(vec![what.to_owned(), count, text::seconds(seconds), rate]);
    }
}

/// Opens the demo's warehouse: all that it needs of the environment are the URLs of the platform and of the partner.
fn open(dir: &Path, url: &str, partner: &DemoPartner) -> Result<Warehouse> {
    let platform = [("PLATFORM_URL".to_owned(), url.to_owned())];
    let variables = platform.into_iter().chain(partner.variables()).collect();
    let executable = std::env::current_exe().context("find the path of this program")?;
    Warehouse::open(dir, Environment { variables, command: program_in(dir), executable })
}

/// Runs all steps on the warehouse in `dir` with the platform at `url`, and prints the times at the end.
pub async fn run(dir: &Path, url: &str, scale: &Scale) -> Result<()> {
    let mut steps = Steps { rows: Vec::new(), started: Instant::now() };
    let config: tokio_postgres::Config = url.parse()?;
    let client = platform::connect(&config).await?;
    let partner = DemoPartner::start()?;
    let warehouse = open(dir, url, &partner)?;

    steps.begin("an aggregator's platform: producers, sites, contracts, measurements, forecasts, prices");
    let rows = fill(&client, &config, scale).await?;
    steps.end("fill the platform", rows);

    steps.begin("INITIAL: every table from one snapshot, one commit for each");
    let report = transfer(&warehouse).await?;
    steps.end("INITIAL", rows_of(&report));

    steps.begin("MARTS: named queries, their results kept as tables");
    refresh(&warehouse).await?;
    steps.end("marts, all of them", 0);

    steps.begin("a day at the source: new rows, late corrections, and a purge");
    let changes = platform::simulate_day(&client, scale, 0).await?;
    steps.end("a day at the source", 0);
    print!("{}", changes_text(&changes));

    steps.begin("INCREMENTAL: new and corrected rows; purged rows stay in the lake");
    let report = transfer(&warehouse).await?;
    steps.end("INCREMENTAL", rows_of(&report));

    steps.begin("MARTS again: only what new rows and corrections change");
    refresh(&warehouse).await?;
    steps.end("marts, what changed", 0);

    steps.begin("INCREMENTAL again, with nothing new");
    let report = transfer(&warehouse).await?;
    steps.end("INCREMENTAL, nothing new", 0);
    ensure!(rows_of(&report) == 0, "the third run found rows that the second run should have transferred");

    steps.begin("the lake against the source, row by row");
    let tables = validate(&warehouse).await?;
    steps.end("validate", tables.iter().map(|t| t.source_rows + t.lake_rows).sum());
    ensure!(tables.iter().all(TableValidation::is_ok), "the lake differs from the source");

    steps.begin("CHANGES: the platform goes on living, and the lake follows its write-ahead log");
    let changes = follow(dir, &|| open(dir, url, &partner), &client, scale).await?;
    steps.end("CHANGES", changes);

    steps.begin("UPKEEP: pack small files into big, sorted files and drop hidden rows, as every night");
    let figures = upkeep::run(&warehouse, &RunRequest::by("demo"), &|_| {}).await?;
    let size = |key: &str| text::bytes(figures[key].as_u64().unwrap_or_default());
    println!("{} files packed: {} became {}", figures["packed_files"], size("bytes_before"), size("bytes_after"));
    print_query(&warehouse, SIZES).await?;
    steps.end("upkeep", 0);

    if scale.days >= BILLING_DAYS_MIN {
        bill(&warehouse, dir, &mut steps).await?;
        predict(&warehouse, &mut steps).await?;
    }

    steps.begin("history that the platform no longer has");
    show(&warehouse, &HISTORY).await?;
    steps.begin("queries of a data scientist");
    show(&warehouse, &QUERIES).await?;
    steps.end("four queries", 0);

    println!("\n== all steps with their times\n");
    print!("{}", text::table(&["step", ">rows", ">took", ">rows/s"], &steps.rows));
    println!("{}", closing_text(dir));
    Ok(())
}

/// From this many days on, the platform has enough data for the billing part, which needs R; the tiny one has less.
/// The forecast part needs Python.
const BILLING_DAYS_MIN: u32 = 60;

async fn bill(warehouse: &Warehouse, dir: &Path, steps: &mut Steps) -> Result<()> {
    let mut billing = Billing::of(warehouse, dir)?;
    steps.begin("BILLING: build layers of R and two of its packages");
    billing.layers()?;
    steps.end("layers of R", 0);

    steps.begin("three months: files arrive, controls block what is wrong, bills and statements are issued");
    billing.bill_first_months().await?;
    steps.end("three months billed", 0);

    steps.begin("a correction after billing: a reversal, a new line, a second statement");
    billing.correct().await?;
    steps.end("correction", 0);

    steps.begin("three more months: a clock change, a wrong total, a price that is indexed");
    billing.bill_last_months().await?;
    steps.end("three more months billed", 0);
    Ok(())
}

async fn predict(warehouse: &Warehouse, steps: &mut Steps) -> Result<()> {
    steps.begin("FORECAST: a partner's flows and weather, a model trained on what was known, its forecasts judged");
    let issued = forecast::run(warehouse).await?;
    steps.end("forecasts", issued);
    Ok(())
}

/// Prints the results of queries below their titles.
async fn show(warehouse: &Warehouse, queries: &[(&str, &str)]) -> Result<()> {
    for (title, query) in queries {
        println!("\n{title}");
        print_query(warehouse, query).await?;
    }
    Ok(())
}

/// Follows the platform's log for a while.
async fn follow(
    dir: &Path,
    open: &dyn Fn() -> Result<Warehouse>,
    client: &tokio_postgres::Client,
    scale: &Scale,
) -> Result<u64> {
    live::prepare(dir, client).await?;
    let seconds = if scale.days >= BILLING_DAYS_MIN { 20 } else { 4 };
    let changes = live::follow(&open()?, client, seconds).await?;
    std::fs::remove_file(dir.join(live::FILE)).with_context(|| format!("remove {}", live::FILE))?;
    Ok(changes)
}

async fn refresh(warehouse: &Warehouse) -> Result<()> {
    for mart in warehouse.config.marts_in_order().into_iter().filter(|mart| mart.kind == MartKind::Table) {
        let figures = mart::refresh(warehouse, &RunRequest::by("demo"), &mart.name, false).await?;
        print_refresh(&mart.name, &figures, false);
    }
    Ok(())
}

/// For each table of a series, the bytes of a row on disk.
const SIZES: &str = "WITH series AS (SELECT * FROM system.tables WHERE \"schema\" = 'platform' AND rows > 100000)
    SELECT * FROM (SELECT \"table\", rows, round(bytes::double / rows, 2) AS bytes_a_row FROM series
        UNION ALL SELECT 'together', sum(rows), round(sum(bytes)::double / sum(rows), 2) FROM series) ORDER BY rows";

async fn fill(client: &tokio_postgres::Client, config: &tokio_postgres::Config, scale: &Scale) -> Result<u64> {
    platform::create(client, scale).await?;
    let tables = platform::fill(|| platform::connect(config), scale, &|_, _| {}).await?;
    client.batch_execute("ANALYZE").await.context("analyze the platform")?;
    let rows: Vec<Vec<String>> = tables.iter().map(|(name, rows)| vec![name.clone(), text::count(*rows)]).collect();
    print!("{}", text::table(&["table", ">rows"], &rows));
    Ok(tables.iter().map(|(_, rows)| rows).sum())
}

async fn transfer(warehouse: &Warehouse) -> Result<TransferReport> {
    let bars = Arc::new(ProgressBars::new());
    let options = TransferOptions {
        name: "platform",
        mode: None,
        permission: None,
        clears_changed: false,
        tables: Vec::new(),
        progress: bars.clone(),
    };
    let outcome = transfer_flow::run(warehouse, &RunRequest::by("demo"), options).await;
    bars.clear();
    let report = outcome?;
    print!("{}", report_text(&report));
    ensure!(report.tables.iter().all(|t| t.error.is_none()), "a table failed");
    Ok(report)
}

async fn validate(warehouse: &Warehouse) -> Result<Vec<TableValidation>> {
    let bars = Arc::new(ProgressBars::new());
    let progress: Arc<dyn transfer::read::Progress> = bars.clone();
    let config = warehouse.transfer("platform")?;
    let (source, lake) = (warehouse.endpoint(&config.source)?, warehouse.lake().await?);
    let outcome = transfer::validate::validate(&settings(warehouse, config), &source, &lake, &[], &progress).await;
    bars.clear();
    let mut tables = outcome?;
    // There are many purged rows: their number is shown, not their keys.
    tables.iter_mut().for_each(|table| table.samples.clear());
    print!("{}", validation_text(&tables));
    Ok(tables)
}

fn rows_of(report: &TransferReport) -> u64 {
    report.tables.iter().map(|table| table.rows).sum()
}

fn changes_text(changes: &Changes) -> String {
    let number = |n: u64| if n == 0 { String::new() } else { text::count(n) };
    let rows: Vec<Vec<String>> = changes
        .tables
        .iter()
        .map(|t| vec![t.table.clone(), number(t.inserted), number(t.corrected), number(t.purged)])
        .collect();
    text::table(&["table", ">inserted", ">corrected", ">purged"], &rows)
}

const HISTORY: [(&str, &str); 3] = [
    (
        "versions of the measurements",
        "SELECT version, operation, rows_added, rows_removed FROM system.versions \
         WHERE \"table\" = 'measurements_10min' ORDER BY version",
    ),
    (
        "one-second measurements, by day: the platform has the last days only, the lake has all",
        "SELECT CAST(date_trunc('day', ts) AS DATE) AS day, count(*) AS \"rows\", round(avg(value), 1) AS avg_value \
         FROM measurements_1s GROUP BY 1 ORDER BY 1 LIMIT 4",
    ),
    (
        "late corrections: what was known at first, and what is known now (time travel)",
        "SELECT n.series_id, n.ts, o.power_kw AS at_first, o.quality AS was, n.power_kw AS now, n.quality AS is_now \
         FROM measurements_10min n JOIN \"measurements_10min@v0\" o ON o.series_id = n.series_id AND o.ts = n.ts \
         WHERE n.quality = 'corrected' AND o.quality <> 'corrected' ORDER BY n.ts, n.series_id LIMIT 5",
    ),
];

const QUERIES: [(&str, &str); 4] = [
    (
        "energy and captured price by technology, while prices were hourly (to 2025-09-30)",
        "SELECT s.technology, round(sum(m.energy_wh) / 1e6, 0) AS mwh, \
                round(sum(m.energy_wh * CAST(p.price_eur_mwh AS DOUBLE)) / sum(m.energy_wh), 2) AS captured_eur_mwh \
         FROM measurements_10min m JOIN series r ON r.id = m.series_id JOIN sites s ON s.id = r.site_id \
         JOIN market_prices p ON p.zone = 'FR' AND p.delivery_start = date_trunc('hour', m.ts) \
         WHERE m.quality IN ('measured', 'corrected', 'estimated') AND m.ts < '2025-09-30 22:00' GROUP BY 1 ORDER BY 2 DESC",
    ),
    (
        "what was produced while the price was negative (to 2025-09-30)",
        "SELECT CAST(date_trunc('month', m.ts) AS DATE) AS month, count(DISTINCT p.delivery_start) AS hours, \
                round(sum(m.energy_wh) / 1e6, 1) AS mwh, min(p.price_eur_mwh) AS lowest_eur_mwh \
         FROM measurements_10min m JOIN market_prices p ON p.zone = 'FR' AND p.delivery_start = date_trunc('hour', m.ts) \
         WHERE p.price_eur_mwh < 0 AND m.ts < '2025-09-30 22:00' GROUP BY 1 ORDER BY 1",
    ),
    (
        "how forecasts worsen with the horizon",
        "SELECT CAST(floor(date_part('epoch', f.valid_at - f.issue_at) / 21600) * 6 AS INT) AS horizon_h, count(*) AS n, \
                round(avg(abs(f.power_kw - m.power_kw)) / avg(m.power_kw) * 100, 1) AS error_pct \
         FROM forecasts f JOIN series rf ON rf.id = f.series_id JOIN series rm ON rm.site_id = rf.site_id \
         JOIN measurements_10min m ON m.series_id = rm.id AND m.ts = f.valid_at \
         WHERE rm.source = 'SCADA' AND rm.step = 'PT10M' AND m.quality = 'measured' GROUP BY 1 ORDER BY 1 LIMIT 8",
    ),
    (
        "the sun's day: mean output of solar sites by hour (UTC), June",
        "SELECT CAST(date_part('hour', m.ts) AS INT) AS hour, round(avg(m.power_kw), 0) AS avg_kw, \
                repeat('#', CAST(avg(m.power_kw) / 300 AS INT)) AS shape \
         FROM measurements_10min m JOIN series r ON r.id = m.series_id JOIN sites s ON s.id = r.site_id \
         WHERE s.technology = 'solar' AND m.ts >= '2025-06-01' AND m.ts < '2025-07-01' GROUP BY 1 ORDER BY 1",
    ),
];

fn closing_text(dir: &Path) -> String {
    let lake = dir.join("lake");
    format!(
        "\nThe lake stays in {0}:\n\
         \x20 {2} -C {1} sql                      # interactive; \\? for help\n\
         \x20 {2} -C {1} lake list\n\
         \x20 {2} -C {1} statement list           # pages, PDFs and workbooks are in outbox/statements\n\
         From Python (pip install deltalake polars duckdb):\n\
         \x20 import polars as pl\n\
         \x20 pl.scan_delta(\"{0}/platform/sites\").collect()\n\
         \x20 from deltalake import DeltaTable, QueryBuilder\n\
         \x20 QueryBuilder().register(\"m\", DeltaTable(\"{0}/platform/measurements_10min\")).execute(\"select count(*) from m\").read_all()",
        lake.display(),
        quoted(dir),
        program()
    )
}
