//! The server's metrics in the OpenMetrics format. Each request computes them from the ledger, the
//! lake and the SQL server's counts, so that there is no other state to keep.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::Result;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::metric_families::{counter, gauges, single};
use super::{ServerState, service_metrics};

/// All metrics as text.
pub async fn text(server: &Arc<ServerState>) -> Result<String> {
    let mut registry = Registry::with_prefix("wattlake");
    registry.register("build", "The program", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
    single(
        &mut registry,
        "uptime",
        "Since the server started",
        Some(Unit::Seconds),
        server.since.elapsed().as_secs_f64(),
    );
    if let Some(bytes) = resident_bytes() {
        single(&mut registry, "memory", "Of the server's process", Some(Unit::Bytes), bytes);
    }
    jobs(&mut registry, server)?;
    queries(&mut registry, server);
    tables(&mut registry, server).await?;
    service_metrics::functions(&mut registry, server)?;
    service_metrics::endpoints(&mut registry, server);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn jobs(registry: &mut Registry, server: &ServerState) -> Result<()> {
    let counts = server.warehouse.ledger.counts()?;
    let runs = gauges(registry, "runs", "Runs that the ledger has, by job and state", None);
    let last = gauges(registry, "last_success_timestamp", "When a job last succeeded", Some(Unit::Seconds));
    let took = gauges(registry, "last_success_duration", "How long that run took", Some(Unit::Seconds));
    for job in &counts.jobs {
        let states = [
            ("running", job.running),
            ("succeeded", job.succeeded),
            ("failed", job.failed),
            ("cancelled", job.cancelled),
            ("crashed", job.crashed),
        ];
        for (state, count) in states {
            let labels = vec![("job", job.job.clone()), ("state", state.to_owned())];
            runs.get_or_create(&labels).set(count as f64);
        }
        let labels = vec![("job", job.job.clone())];
        if let Some(at) = job.last_success_at {
            last.get_or_create(&labels).set(at.timestamp_millis() as f64 / 1e3);
        }
        if let Some(seconds) = job.last_success_seconds {
            took.get_or_create(&labels).set(seconds);
        }
    }
    let queue = gauges(registry, "queue_entries", "What is to be run or under way", None);
    for (state, count) in [("waiting", counts.queue_waiting), ("running", counts.queue_running)] {
        queue.get_or_create(&vec![("state", state.to_owned())]).set(count as f64);
    }
    counter(registry, "events", "Events that happened", counts.events);
    let next = gauges(registry, "schedule_next_timestamp", "When a cron trigger is due next", Some(Unit::Seconds));
    let paused = gauges(registry, "schedule_paused", "1 where a trigger is paused", None);
    for row in server.warehouse.ledger.schedules()? {
        let labels = vec![("job", row.job), ("trigger", row.name)];
        if let Some(at) = row.next_at {
            next.get_or_create(&labels).set(at.timestamp_millis() as f64 / 1e3);
        }
        paused.get_or_create(&labels).set(f64::from(u8::from(row.paused)));
    }
    Ok(())
}

fn queries(registry: &mut Registry, server: &ServerState) {
    let Some(figures) = server.sql.as_ref().map(pg::Server::figures) else { return };
    single(registry, "sql_connections", "Open now", None, figures.connections as f64);
    single(registry, "sql_queries_running", "Queries under way", None, figures.queries_running as f64);
    single(registry, "sql_memory", "Held by queries", Some(Unit::Bytes), figures.memory_bytes as f64);
    counter(registry, "sql_connections_opened", "Connections since the start", figures.connections_total);
    counter(registry, "sql_queries", "Queries since the start", figures.queries);
    counter(registry, "sql_errors", "Queries that failed", figures.errors);
    counter(registry, "sql_cancelled", "Queries that were cancelled", figures.cancelled);
    counter(registry, "sql_rows", "Rows sent", figures.rows);
    let seconds = Counter::<f64, AtomicU64>::default();
    seconds.inc_by(figures.seconds);
    registry.register_with_unit("sql_query_time", "Spent in queries", Unit::Seconds, seconds);
}

async fn tables(registry: &mut Registry, server: &ServerState) -> Result<()> {
    let files = gauges(registry, "table_files", "Data files of a table", None);
    let bytes = gauges(registry, "table_size", "On disk", Some(Unit::Bytes));
    let rows = gauges(registry, "table_rows", "Rows to be seen", None);
    for name in server.lake.tables().await? {
        let Some(table) = server.lake.table(&name).await? else { continue };
        let size = table.size()?;
        let labels = vec![("table", name.to_string())];
        files.get_or_create(&labels).set(size.files as f64);
        bytes.get_or_create(&labels).set(size.bytes as f64);
        rows.get_or_create(&labels).set(size.rows as f64);
    }
    Ok(())
}

fn resident_bytes() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024.0)
}
