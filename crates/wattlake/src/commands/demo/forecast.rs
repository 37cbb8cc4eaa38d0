//! The forecast part of the demo: a partner's daily flows and weather are collected, the forecaster is trained on what
//! was known two months ago, served, asked for the mornings since then, and judged by what came.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base::text;
use chrono::{DateTime, Days, NaiveTime, TimeZone, Utc};
use jobs::flows::moment::{AS_OF, instant_text};
use jobs::flows::{collect, control, prediction, training};
use jobs::runs::RunRequest;
use jobs::warehouse::Warehouse;
use jobs::{model_host, model_socket};
use platform::partner::{HydroPartner, Partner};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::commands::layer;
use crate::commands::query_output::print_query;

const MODEL: &str = "hydro";
const COLLECTS: [&str; 2] = ["flows", "weather"];
/// How many mornings are forecast, the last one this morning's.
const MORNINGS: u64 = 45;

/// The last forecast of each station as a picture: what was measured, then the forecast with its 80% interval.
const PICTURE: &str = "WITH last AS (SELECT max(issued_at) AS issued_at FROM forecast.predictions),
    days AS (
        SELECT station AS site, starts_at AS at, flow_ls AS flow, flow_ls AS low, flow_ls AS high, '#' AS mark FROM forecast.flows
        WHERE starts_at BETWEEN (SELECT issued_at FROM last) - INTERVAL '9 days' AND (SELECT issued_at FROM last) - INTERVAL '24 hours'
        UNION ALL SELECT site, at, mean, q10, q90, '>' FROM forecast.predictions WHERE issued_at = (SELECT issued_at FROM last)),
    scaled AS (SELECT *, 56.0 / max(high) OVER (PARTITION BY site) AS scale FROM days)
    SELECT site, at::date AS day, round(flow) AS flow_ls, round(low) AS q10, round(high) AS q90,
        rpad(repeat(mark, greatest(1, CAST(flow * scale AS INT))), CAST(high * scale AS INT), '.') AS picture
    FROM scaled ORDER BY site, at";

const SKILL: &str = "SELECT site, horizon, forecasts, round(skill, 2) AS skill, round(coverage, 2) AS covered_by_80_pct, round(mae) AS mae_ls
    FROM forecast.skill ORDER BY site, horizon";

const BACKTEST: &str = "SELECT site, horizon, round(max(nse) FILTER (WHERE method = 'forecast'), 3) AS nse,
    round(max(nse) FILTER (WHERE method = 'persistence'), 3) AS nse_persistence,
    round(max(skill_persistence) FILTER (WHERE method = 'forecast'), 2) AS skill,
    round(max(coverage) FILTER (WHERE method = 'forecast'), 2) AS coverage
    FROM forecast.scores GROUP BY site, horizon ORDER BY site, horizon";

/// The partner's server, which runs until this is dropped.
pub struct DemoPartner {
    partner: Partner,
}

impl DemoPartner {
    /// Starts it, with the days that are over.
    pub fn start() -> Result<DemoPartner> {
        let hydro = HydroPartner::demo(Utc::now());
        Ok(DemoPartner { partner: Partner::start(0, move |request| hydro.answer(request))? })
    }

    /// The variables by which the example's collects find it.
    pub fn variables(&self) -> [(String, String); 2] {
        [("HUBEAU_URL".to_owned(), self.partner.url()), ("WEATHER_URL".to_owned(), self.partner.url())]
    }
}

/// Collects, trains, serves, predicts and judges. Returns how many forecasts were issued.
pub async fn run(warehouse: &Warehouse) -> Result<u64> {
    for name in COLLECTS {
        let report = collect::run(warehouse, &RunRequest::by("demo"), name, &mut |_| {}).await?;
        let figures = report.figures();
        ensure!(figures["failed"] == 0 && figures["quarantined"] == 0, "the collect {name} failed: {figures}");
        println!("  collect:{name}: {} values of {} stations", figures["new"], figures["items"]);
    }
    layer::build_named(warehouse, &["python"])?;
    let zone: chrono_tz::Tz = warehouse.config.serve.timezone.parse().context("read the time zone")?;
    let mornings = mornings(zone)?;
    let known = mornings.first().copied().context("find the first morning")?;
    println!("\n  training on what was known at {}: its backtest", instant_text(known));
    let trained = training::run(warehouse, &as_of(known), MODEL, std::sync::Arc::new(|_| ())).await?;
    print_query(warehouse, BACKTEST).await?;
    let version = trained["version"].as_i64().context("find the version that was trained")?;
    warehouse.ledger.approve_model(MODEL, version, model::APPROVED)?;
    warehouse.ledger.point_model_alias(MODEL, "champion", version)?;
    println!(
        "  version {version} of model {MODEL} after {}, promoted; its report is in outbox/forecasts",
        text::seconds(trained["seconds"].as_f64().unwrap_or_default())
    );
    let issued = with_endpoints(warehouse, async || {
        let mut issued = 0;
        for morning in &mornings {
            let figures = prediction::run(warehouse, &as_of(*morning), MODEL).await?;
            issued += figures["rows"].as_u64().unwrap_or_default();
        }
        Ok(issued)
    })
    .await?;
    println!(
        "\n  {} forecasts of {} mornings, each from what was known then; judged by what came",
        issued,
        mornings.len()
    );
    print_query(warehouse, SKILL).await?;
    println!("\n  the last forecast: # measured, > forecast, . up to the upper end of its 80% interval");
    print_query(warehouse, PICTURE).await?;
    let report = control::run(warehouse, &RunRequest::by("demo"), "forecast").await?;
    for verdict in &report.verdicts {
        println!("  {}", verdict.summary().lines().next().unwrap_or_default());
    }
    ensure!(report.blocking().is_empty(), "a control of the forecasts blocks");
    Ok(issued)
}

fn as_of(at: DateTime<Utc>) -> RunRequest {
    RunRequest { parameters: json!({AS_OF: instant_text(at)}), ..RunRequest::by("demo") }
}

/// Half past seven on the last mornings that are over, the earliest first.
fn mornings(zone: chrono_tz::Tz) -> Result<Vec<DateTime<Utc>>> {
    let time = NaiveTime::from_hms_opt(7, 30, 0).context("make a time")?;
    let today = Utc::now().with_timezone(&zone).date_naive();
    let all = (0..=MORNINGS).rev().filter_map(|days| today.checked_sub_days(Days::new(days)));
    let all = all.filter_map(|day| zone.from_local_datetime(&day.and_time(time)).earliest());
    Ok(all.map(|at| at.to_utc()).filter(|at| *at <= Utc::now()).collect())
}

/// Applies the declared endpoint, and serves it while the work is done, as `wattlake serve` does: its model stays started.
async fn with_endpoints<T>(warehouse: &Warehouse, work: impl AsyncFnOnce() -> Result<T>) -> Result<T> {
    let resources = model_host::resources(warehouse)?;
    let definition = warehouse.config.endpoints.get(MODEL).context("find the endpoint of the example")?;
    let plan = resources.plan(definition)?;
    resources.carry_out(&plan)?;
    let endpoints = model_host::endpoints(warehouse)?;
    let end = CancellationToken::new();
    let serving = async {
        tokio::join!(endpoints.run(end.cancelled()), model_socket::serve(warehouse, endpoints.clone(), end.clone()))
    };
    let working = async {
        let result = async {
            while resources.ledger().endpoint(MODEL)?.is_some_and(|row| row.state.is_pending()) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            work().await
        };
        let result = result.await;
        end.cancel();
        result
    };
    let (((), served), result) = tokio::join!(serving, working);
    served?;
    result
}
