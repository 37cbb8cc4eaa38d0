//! The metrics of functions and endpoints, which are counted in the server's memory since it started.

use anyhow::Result;
use prometheus_client::registry::Registry;

use super::ServerState;
use super::metric_families::{counters, gauges, seconds, single};

/// Adds the metrics of functions: invocations, errors, throttles, cold starts, time, and the queue of events.
pub fn functions(registry: &mut Registry, server: &ServerState) -> Result<()> {
    let invocations = counters(registry, "function_invocations", "Events that ran");
    let errors = counters(registry, "function_errors", "Events that failed");
    let throttles = counters(registry, "function_throttles", "Events that were refused by a concurrency limit");
    let cold_starts = counters(registry, "function_cold_starts", "Events that waited for a new instance");
    let seconds = seconds(registry, "function_time", "Spent in events, without cold starts");
    let running = gauges(registry, "function_events_running", "Events that run now", None);
    for figures in server.functions.figures() {
        let labels = vec![("function", figures.function.clone())];
        invocations.get_or_create(&labels).inc_by(figures.invocations);
        errors.get_or_create(&labels).inc_by(figures.errors);
        throttles.get_or_create(&labels).inc_by(figures.throttles);
        cold_starts.get_or_create(&labels).inc_by(figures.cold_starts);
        seconds.get_or_create(&labels).inc_by(figures.seconds);
        running.get_or_create(&labels).set(figures.running as f64);
    }
    let kept = server.warehouse.ledger.invocation_totals()?;
    single(
        registry,
        "function_events_kept",
        "Asynchronous events that wait, run or are dead letters",
        None,
        kept.kept as f64,
    );
    Ok(())
}

/// Adds the metrics of endpoints, by variant.
pub fn endpoints(registry: &mut Registry, server: &ServerState) {
    let invocations = counters(registry, "endpoint_invocations", "Requests that a variant has got");
    let errors = counters(registry, "endpoint_model_errors", "Requests that a model has answered with an error");
    let refused = counters(registry, "endpoint_refused", "Requests that were refused, or whose model did not start");
    let starts = counters(registry, "endpoint_starts", "Starts of a variant's program");
    let seconds = seconds(registry, "endpoint_time", "Spent in requests, starts included");
    let running = gauges(registry, "endpoint_running", "1 where a variant holds a process or a loaded model", None);
    let weight = gauges(registry, "endpoint_weight", "A variant's part of the requests", None);
    for figures in server.endpoints.figures() {
        let labels = vec![("endpoint", figures.endpoint.clone()), ("variant", figures.variant.clone())];
        invocations.get_or_create(&labels).inc_by(figures.invocations);
        errors.get_or_create(&labels).inc_by(figures.model_errors);
        refused.get_or_create(&labels).inc_by(figures.refused);
        starts.get_or_create(&labels).inc_by(figures.starts);
        seconds.get_or_create(&labels).inc_by(figures.seconds);
        running.get_or_create(&labels).set(f64::from(u8::from(figures.is_running)));
        weight.get_or_create(&labels).set(figures.weight);
    }
}
