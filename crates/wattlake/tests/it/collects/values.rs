//! Values that are new, revised, late and delivered twice; pages; the instants from which they were known.

use chrono::{DateTime, TimeDelta, Utc};
use platform::partner::{Partner, PartnerAnswer};
use serde_json::json;

use super::{World, this_hour};
use crate::world::Warehouse;

#[test]
fn new_and_revised_values_are_versions_and_the_same_again_is_none() {
    let world = World::new("history_known_after = '90min'", "");
    world.set_hours(3..60, |hour| 100.0 + hour as f64);
    let figures = world.collect();
    assert_eq!((&figures["new"], &figures["revised"], &figures["items"]), (&json!(114), &json!(0), &json!(2)));
    let first = world.partner.take_requests();
    assert_eq!(first.iter().map(|request| request.path.as_str()).collect::<Vec<_>>(), ["/flows/V1", "/flows/V2"]);
    // Again: only the time from a little before the newest value on is asked for, and nothing is added.
    assert_eq!(world.collect()["new"], 0);
    let again = world.partner.take_requests();
    let from: DateTime<Utc> = again.last().unwrap().parameter("from").unwrap().parse().unwrap();
    assert_eq!(from, this_hour() - TimeDelta::hours(3 + 6));
    assert_eq!(world.warehouse.count("forecast.flows"), 114);
    // Two hours more, and a value that is revised, and back again.
    world.set_hours(1..3, |hour| 100.0 + hour as f64);
    let revised = this_hour() - TimeDelta::hours(4);
    world.set("V1", revised, Some(json!(7.25)));
    let figures = world.collect();
    assert_eq!((&figures["new"], &figures["revised"]), (&json!(4), &json!(1)));
    world.set("V1", revised, Some(json!(104.0)));
    assert_eq!(world.collect()["revised"], 1);
    assert_eq!(world.versions("V1", revised), [104.0, 7.25, 104.0]);
    assert_eq!(world.versions("V2", revised), [104.0]);
    // What was there before the first run was known a while after its time; the rest, when it was collected.
    let history = world
        .warehouse
        .number("select count(*) as n from forecast.flows where known_at = starts_at + interval '90 minutes'");
    assert_eq!(history, 114);
    let later = "select count(*) as n from forecast.flows where known_at between recorded_at - interval '1 minute' and recorded_at";
    assert_eq!(world.warehouse.number(later), 6);
    assert_eq!(world.warehouse.number("select count(*) as n from collect.answers where verdict <> 'accepted'"), 0);
}

#[test]
fn late_values_are_found_in_their_gaps() {
    let world = World::new("", "");
    world.set_hours((1..60).filter(|hour| !(20..24).contains(hour)), |_| 5.0);
    assert_eq!(world.collect()["new"], 110);
    world.partner.take_requests();
    assert_eq!(world.collect()["new"], 0);
    let windows: Vec<(String, String)> = world
        .partner
        .take_requests()
        .iter()
        .filter(|request| request.path == "/flows/V1")
        .map(|request| (request.parameter("from").unwrap().to_owned(), request.parameter("to").unwrap().to_owned()))
        .collect();
    // The time before the first value, the gap, and the newest time.
    assert_eq!(windows.len(), 3, "{windows:?}");
    assert_eq!(windows[1].0, super::text(this_hour() - TimeDelta::hours(23)));
    assert_eq!(windows[1].1, super::text(this_hour() - TimeDelta::hours(19)));
    world.set_hours(20..24, |_| 6.0);
    assert_eq!(world.collect()["new"], 8);
    assert_eq!(world.versions("V2", this_hour() - TimeDelta::hours(22)), [6.0]);
    // They are late, and were known when they came.
    let late =
        "select count(*) as n from forecast.flows where flow_ls = 6 and known_at > starts_at + interval '19 hours'";
    assert_eq!(world.warehouse.number(late), 8);
}

/// The partner's instant of publication, pages and a quota, as an API of a market has them.
#[test]
fn pages_are_followed_and_the_partners_instants_kept() {
    let partner = Partner::start(0, |request| match request.parameter("page").unwrap_or("1") {
        "1" => PartnerAnswer::ok(
            "{\"next\": \"/prices?page=2\", \"data\": [{\"at\": \"2026-01-01T00:00:00Z\", \"price\": 10.5, \"published\": \"2025-12-31T11:50:00Z\"}]}",
        ),
        _ => PartnerAnswer::ok(
            "{\"next\": null, \"data\": [{\"at\": \"2026-01-01T01:00:00Z\", \"price\": -3, \"published\": \"2025-12-31T11:50:00Z\"}]}",
        ),
    })
    .unwrap();
    let collect = format!(
        "layout = 'layouts/prices.toml'\ntable = 'market.prices'\nsince = '2026-01-01'\nahead = '2d'\nknown_at = 'published_at'\n\
         [request]\nurl = '{}/prices'\nrate = '20/s'\n[request.headers]\nx-key = \"${{PARTNER_KEY}}\"\n[request.paging]\nnext = 'next'\n",
        partner.url()
    );
    let layout = "format = 'json'\nrows = 'data'\nkey = ['starts_at']\n[columns.starts_at]\nheader = 'at'\ntype = 'timestamp'\n\
                  [columns.price]\ntype = 'decimal(10,2)'\nrequired = true\n\
                  [columns.published_at]\nheader = 'published'\ntype = 'timestamp'\n";
    let files =
        [("wattlake.toml", "lake.url = 'lake'\n"), ("layouts/prices.toml", layout), ("collects/prices.toml", &collect)];
    let warehouse = Warehouse::new(&files);
    let refused = warehouse.run(&["run", "collect:prices"]);
    assert_eq!(refused.code, 4, "{}", refused.text());
    refused.has("PARTNER_KEY");
    let warehouse = warehouse.with_env("PARTNER_KEY", "secret-key");
    warehouse.ok(&["run", "prices"]).has("1 item asked for: 2 new values, 0 revised");
    let requests = partner.take_requests();
    assert_eq!(requests.len(), 2);
    assert!(requests.iter().all(|request| request.header("x-key") == Some("secret-key")));
    let rows = warehouse.sql("select price, known_at from market.prices order by starts_at");
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["known_at"].as_str().unwrap().replace(' ', "T")[..19].to_owned(), "2025-12-31T11:50:00");
    assert!(!warehouse.ok(&["logs", "collect:prices"]).text().contains("secret-key"));
}

#[test]
fn a_value_that_was_not_there_when_its_window_was_asked_for_is_no_history() {
    let world = World::new("window = '1d'\nhistory_known_after = '1h'\noverlap = '80h'", "");
    world.set_hours((1..70).filter(|hour| *hour != 60), |hour| hour as f64);
    // The first run ends before its last windows.
    let missing = this_hour() - TimeDelta::hours(60);
    let values = world.values();
    world.partner.answer_by(move |request| {
        let from: DateTime<Utc> = request.parameter("from").unwrap().parse().unwrap();
        match from < missing {
            true => super::answer(&values.lock().unwrap(), request),
            false => PartnerAnswer::status(403),
        }
    });
    assert_eq!(world.warehouse.run(&["run", "collect:flows"]).code, 4);
    assert!(world.warehouse.count("forecast.flows") > 0);
    world.set("V1", missing, Some(json!(60)));
    world.answer_as_set();
    world.collect();
    let history = |station: &str| {
        let query = format!(
            "select count(*) as n from forecast.flows where station = '{station}' and known_at = starts_at + interval '1 hour'"
        );
        world.warehouse.number(&query)
    };
    assert_eq!((history("V1"), history("V2")), (68, 68));
    let late = "select count(*) as n from forecast.flows where known_at > starts_at + interval '1 hour'";
    assert_eq!(world.warehouse.number(late), 1);
}

#[test]
fn a_value_far_ahead_does_not_move_the_next_run_beyond_now() {
    let world = World::new("ahead = '5d'", "");
    world.set_hours(1..30, |_| 5.0);
    world.set_hours(-48..-40, |_| 5.0);
    assert_eq!(world.collect()["new"], 29 * 2 + 16);
    world.set_hours(-10..-5, |_| 6.0);
    assert_eq!(world.collect()["new"], 10);
}
