//! kill -9 of the publisher, the reader and the server in turn, while changes go on.

use std::time::Duration;

use super::{Running, TABLES, assert_equal, catch_up, warehouse_of};
use crate::world::{Nats, Python, Source};

/// Where a program is stopped, to be killed there.
const PUBLISHER: [&str; 3] = ["publish-load=sleep(3600000)", "mid-copy=sleep(3600000)", "after-slot=sleep(3600000)"];
const READER: [&str; 4] = [
    "before-commit=sleep(3600000)",
    "before-commit=3*off->sleep(3600000)",
    "after-commit=sleep(3600000)",
    "after-commit=2*off->sleep(3600000)",
];

/// Changes that can be told apart where one of them is lost, or comes twice.
fn change(source: &Source, round: usize) {
    for step in 0..20 {
        let id = round * 100 + step;
        source.execute(&format!(
            "update measure set site = site + 1, note = '{round}' where id % 13 = {step} % 13; \
             insert into keyless values ({id}, 'round {round}'); delete from keyless where ctid in (select ctid from keyless where a = {step} limit 1); \
             insert into measure (id, site, at) values ({id} + 10000, 0, now()) on conflict do nothing"
        ));
    }
    if round % 4 == 3 {
        source.execute("truncate keyless; insert into keyless values (-1, 'after')");
    }
}

#[test]
fn after_kills_of_publisher_reader_and_server_source_and_lake_are_equal() {
    let (source, mut nats) = (Source::empty(), Nats::start());
    source.execute(TABLES);
    let warehouse = warehouse_of(&source, &nats.stream("platform"), "", "commit_interval = '1s'");
    for round in 0..9 {
        let publisher = Running::start(&warehouse, &["transfer", "run", "out"], PUBLISHER.get(round).copied());
        let reader = Running::start(&warehouse, &["transfer", "run", "t"], READER.get(round % 6).copied());
        std::thread::sleep(Duration::from_millis(700));
        change(&source, round);
        std::thread::sleep(Duration::from_millis(100 * (round as u64 % 5)));
        match round % 3 {
            0 => drop(publisher),
            1 => drop(reader),
            _ => {
                nats.kill();
                change(&source, round + 50);
                nats.restart();
                std::thread::sleep(Duration::from_millis(1500));
            }
        }
        if round % 4 == 2 {
            // Dropped first where they still run: one run a job.
            continue;
        }
    }
    catch_up(&warehouse);
    assert_equal(&source, &warehouse, "after the kills");
    assert_eq!(warehouse.run(&["transfer", "quarantine", "list", "t", "--json"]).out, "");
}

#[test]
fn after_kills_of_a_publisher_into_a_kinesis_that_refuses_records_nothing_is_stored_twice() {
    let (source, (_moto, url)) = (Source::empty(), Python::kinesis_that_refuses(17));
    source.execute(TABLES);
    let stream = format!("kinesis://platform?region=eu-west-3&endpoint={url}");
    let warehouse = warehouse_of(&source, &stream, "shards = 2", "commit_interval = '1s'")
        .with_env("AWS_ACCESS_KEY_ID", "test")
        .with_env("AWS_SECRET_ACCESS_KEY", "test");
    catch_up(&warehouse);
    let reader = Running::start(&warehouse, &["transfer", "run", "t"], None);
    for round in [0, 1, 2, 4, 5] {
        let publisher = Running::start(&warehouse, &["transfer", "run", "out"], None);
        change(&source, round);
        std::thread::sleep(Duration::from_millis(500 + 350 * (round as u64 % 4)));
        drop(publisher);
    }
    drop(reader);
    catch_up(&warehouse);
    assert_equal(&source, &warehouse, "after the kills");
    change(&source, 7);
    catch_up(&warehouse);
    assert_equal(&source, &warehouse, "after the truncate");
    assert_eq!(warehouse.run(&["transfer", "quarantine", "list", "t", "--json"]).out, "");
}
