//! A collect that is killed around its commits, and run again: no value is lost or there twice.

use super::World;

#[test]
fn a_collect_that_is_killed_goes_on() {
    let world = World::new("window = '1d'\nhistory_known_after = '1h'", "");
    world.set_hours(1..60, |hour| hour as f64);
    for (number, point) in ["collect-before-commit", "collect-after-commit"].iter().cycle().take(8).enumerate() {
        let mut command = world.warehouse.command(&["run", "collect:flows"]);
        // A commit later each time.
        let points = format!("{point}={}*off->panic", number / 2);
        let output = command.env("FAILPOINTS", points).output().unwrap();
        assert!(!output.status.success() || number >= 6, "{number}");
    }
    world.collect();
    assert_eq!(world.warehouse.count("forecast.flows"), 118);
    let keys = "select count(*) as n from (select distinct station, starts_at from forecast.flows) as k";
    assert_eq!(world.warehouse.number(keys), 118);
    // What was there before the first run is history, also where a later run has collected it.
    let history = "select count(*) as n from forecast.flows where known_at = starts_at + interval '1 hour'";
    assert!(world.warehouse.number(history) >= 116, "{}", world.warehouse.number(history));
}
