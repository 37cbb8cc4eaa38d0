//! A partner whose clock, zone or unit is another than before.

use chrono::TimeDelta;
use platform::partner::PartnerAnswer;
use serde_json::json;

use super::{World, text, this_hour};

#[test]
fn values_of_the_future_and_of_a_clock_an_hour_off_are_quarantined() {
    let world = World::new("overlap = '30h'", "");
    let flow = |hour: i64| 50.0 + ((hour * 37) % 23) as f64;
    world.set_hours(2..60, flow);
    assert_eq!(world.collect()["new"], 116);
    // The clocks went back, and the partner's did not.
    world.set_hours(1..60, |hour| flow(hour + 1));
    let said = world.warehouse.run(&["run", "collect:flows"]);
    assert_eq!(said.code, 3);
    said.has("values are those known already, 1 hour later: is the partner's clock or zone right?")
        .has("2 quarantined");
    assert_eq!(world.warehouse.count("forecast.flows"), 116);
    world.set_hours(1..60, flow);
    assert_eq!(world.collect()["new"], 2);
    let future = text(this_hour() + TimeDelta::hours(2));
    world.partner.answer_by(move |request| {
        PartnerAnswer::ok(json!({"data": [{"station": request.path[7..], "at": future, "value": 1}]}).to_string())
    });
    world.warehouse.run(&["run", "collect:flows"]).has("`ahead` allows values of the future").has("2 quarantined");
    assert_eq!(world.warehouse.count("forecast.flows"), 118);
}

#[test]
fn a_clock_that_is_off_is_found_by_a_few_values() {
    // Six hours are asked for again.
    let world = World::new("", "");
    let flow = |hour: i64| 50.0 + ((hour * 37) % 23) as f64;
    world.set_hours(2..60, flow);
    assert_eq!(world.collect()["new"], 116);
    world.set_hours(1..60, |hour| flow(hour + 1));
    let said = world.warehouse.run(&["run", "collect:flows"]);
    assert_eq!(said.code, 3, "{}", said.text());
    said.has("8 of 8 values are those known already, 1 hour later").has("2 quarantined");
    world.set_hours(1..60, flow);
    assert_eq!(world.collect()["new"], 2);
}

#[test]
fn values_in_another_unit_are_quarantined() {
    let world = World::new("jump_max = 100", "");
    world.set_hours(20..60, |hour| 1000.0 + hour as f64);
    assert_eq!(world.collect()["new"], 80);
    // Cubic metres a second in place of litres.
    world.set_hours(1..20, |hour| (1000.0 + hour as f64) / 1000.0);
    let said = world.warehouse.run(&["run", "collect:flows"]);
    assert_eq!(said.code, 3);
    said.has("values of \"flow_ls\" are about").has("smaller than before: has the unit changed?").has("2 quarantined");
    // A flood is no other unit.
    world.set_hours(1..20, |hour| 20_000.0 + hour as f64);
    assert_eq!(world.collect()["new"], 38);
    // One new value among known ones.
    world.set_hours(0..1, |_| 1.0);
    world.warehouse.run(&["run", "collect:flows"]).has("has the unit changed?");
}
