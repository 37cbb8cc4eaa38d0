//! A collect whose file is another than before, and a partner whose answers are not what was asked for: nothing is left
//! out or there twice in silence.

use std::fs;

use chrono::TimeDelta;
use platform::partner::PartnerAnswer;
use serde_json::{Value, json};

use super::{LAYOUT, World, text, this_hour};

/// Replaces a part of the collect's file.
fn edit(world: &World, before: &str, after: &str) {
    let text = fs::read_to_string(world.warehouse.path().join("collects/flows.toml")).unwrap();
    assert!(text.contains(before), "{text}");
    world.warehouse.write("collects/flows.toml", &text.replace(before, after));
}

/// How many values were known an hour after their time.
fn history(world: &World, table: &str) -> u64 {
    let query = format!("select count(*) as n from {table} where known_at = starts_at + interval '1 hour'");
    world.warehouse.number(&query)
}

#[test]
fn an_earlier_beginning_is_asked_for_and_is_history() {
    let world = World::new("history_known_after = '1h'\nwindow = '2d'", "");
    world.set_hours(1..24 * 10, |hour| hour as f64);
    // Of three days.
    assert_eq!(world.collect()["new"], 2 * 71);
    edit(&world, "since = '3d'", "since = '8d'");
    assert_eq!(world.collect()["new"], 2 * 24 * 5);
    assert_eq!(history(&world, "forecast.flows"), 2 * (8 * 24 - 1));
    world.partner.take_requests();
    assert_eq!(world.collect()["new"], 0);
    assert_eq!(world.partner.take_requests().len(), 2);
    // A value that comes late is none.
    let world = World::new("history_known_after = '1h'\noverlap = '60h'", "");
    world.set_hours((1..70).filter(|hour| *hour != 50), |hour| hour as f64);
    world.collect();
    world.set_hours(50..51, |hour| hour as f64);
    assert_eq!(world.collect()["new"], 2);
    assert_eq!(history(&world, "forecast.flows"), 2 * 68);
}

#[test]
fn all_is_history_again_in_another_table() {
    let world = World::new("history_known_after = '1h'", "");
    world.set_hours(1..60, |hour| hour as f64);
    assert_eq!(world.collect()["new"], 118);
    edit(&world, "table = 'forecast.flows'", "table = 'forecast.other'");
    assert_eq!(world.collect()["new"], 118);
    assert_eq!((history(&world, "forecast.flows"), history(&world, "forecast.other")), (118, 118));
    assert_eq!(world.collect()["new"], 0);
    // What comes after it is not.
    world.set_hours(0..1, |hour| hour as f64);
    assert_eq!(world.collect()["new"], 2);
    assert_eq!(history(&world, "forecast.other"), 118);
    // A table that is gone is filled again.
    fs::remove_dir_all(world.warehouse.table("forecast.other")).unwrap();
    assert_eq!(world.collect()["new"], 120);
    assert!(history(&world, "forecast.other") >= 118);
}

#[test]
fn values_are_not_collected_a_second_time_under_another_key() {
    let world = World::new("", "");
    world.set_hours(1..30, |hour| hour as f64);
    assert_eq!(world.collect()["new"], 58);
    let longer = LAYOUT.replace("key = [\"station\", ", "key = [\"station\", \"kind\", ");
    world.warehouse.write("layouts/flows.toml", &format!("{longer}[columns.kind]\ntype = 'text'\n"));
    let refused = world.warehouse.run(&["run", "collect:flows"]);
    assert_eq!(refused.code, 4, "{}", refused.text());
    refused
        .has("the layout's key has a column \"kind\", which the values in forecast.flows lack")
        .has("another `table`");
    world.warehouse.write("layouts/flows.toml", LAYOUT);
    edit(&world, "/flows/{station}", "/flows/{station}?kind={kind}");
    edit(&world, "station = ['V1', 'V2']", "station = ['V1', 'V2']\nkind = ['Q']");
    let refused = world.warehouse.run(&["run", "collect:flows"]);
    assert_eq!(refused.code, 4, "{}", refused.text());
    refused
        .has("[each] has \"kind\", \"station\", and had \"station\" when the values in forecast.flows were collected");
    assert_eq!(world.warehouse.count("forecast.flows"), 58);
    edit(&world, "table = 'forecast.flows'", "table = 'forecast.kinds'");
    assert_eq!(world.collect()["new"], 58);
}

#[test]
fn rows_of_another_station_are_quarantined() {
    let world = World::new("", "");
    world.set_hours(1..30, |hour| hour as f64);
    let at = text(this_hour() - TimeDelta::hours(2));
    // Both are asked for, and answered by the first one's values.
    world
        .partner
        .answer_by(move |_| PartnerAnswer::ok(json!({"data": [{"station": "V1", "at": at, "value": 5}]}).to_string()));
    let said = world.warehouse.ok(&["run", "collect:flows"]);
    said.has("quarantined station=V2: it has rows of station \"V1\", and was asked for \"V2\"").has("1 new values");
    assert_eq!(world.warehouse.number("select count(*) as n from forecast.flows where item = 'station=V2'"), 0);
    world.answer_as_set();
    assert_eq!(world.collect()["new"], 28 + 29);
}

#[test]
fn an_answer_that_is_a_part_is_an_error() {
    let world = World::new("", "");
    world.set_hours(1..30, |hour| hour as f64);
    let answer_with = |status: u16, name: &'static str, value: &'static str| {
        let values = world.values();
        world.partner.answer_by(move |request| {
            let answer = super::answer(&values.lock().unwrap(), request);
            PartnerAnswer { status, ..answer }.with(name, value)
        });
        world.warehouse.run(&["run", "collect:flows"])
    };
    let refused = answer_with(206, "content-range", "bytes 0-499/1000");
    assert_eq!(refused.code, 4, "{}", refused.text());
    refused.has("it is a part only, bytes 0-499/1000").has("a smaller `window`");
    answer_with(206, "content-range", "items 0-24/319").has("write in `paging` how the next page is requested");
    answer_with(200, "content-encoding", "br").has("it is compressed (br)");
    assert_ne!(world.warehouse.run(&["sql", "select * from forecast.flows"]).code, 0);
    // Hub'Eau's 206 says that there are more pages, and a whole answer may say how long it is.
    let ok = answer_with(206, "content-range", "items 0-28/29");
    assert_eq!(ok.code, 0, "{}", ok.text());
    assert_eq!(world.warehouse.count("forecast.flows"), 58);
    let requests = world.partner.take_requests();
    assert!(requests.iter().all(|request| request.header("accept-encoding") == Some("identity")), "{requests:?}");
}

#[test]
fn a_path_to_the_next_page_that_is_not_there_is_an_error() {
    let world = World::new("", "paging = { next = 'paging/nxt' }");
    let at = text(this_hour() - TimeDelta::hours(2));
    let answer = move |next: Value| {
        let at = at.clone();
        move |request: &platform::partner::PartnerRequest| {
            let data = json!([{"station": &request.path[7..], "at": at, "value": 1}]);
            PartnerAnswer::ok(json!({"data": data, "paging": next}).to_string())
        }
    };
    world.partner.answer_by(answer(json!({"next": "/flows/V1?page=2", "total": 500})));
    let refused = world.warehouse.run(&["run", "collect:flows"]);
    assert_eq!(refused.code, 4, "{}", refused.text());
    refused
        .has("the answer has no text or number at \"paging/nxt\"")
        .has("nearest member: \"next\"")
        .has("optional = true");
    assert_ne!(world.warehouse.run(&["sql", "select * from forecast.flows"]).code, 0);
    // Where it is there, null is the end; so is its absence, where the collect says so.
    world.partner.answer_by(answer(json!({"nxt": null})));
    assert_eq!(world.collect()["new"], 2);
    edit(&world, "{ next = 'paging/nxt' }", "{ next = 'paging/nxt', optional = true }");
    world.partner.answer_by(answer(json!({})));
    assert_eq!(world.collect()["new"], 0);
}
