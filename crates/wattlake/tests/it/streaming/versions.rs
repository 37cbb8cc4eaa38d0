//! Sources of the oldest and the newest PostgreSQL that transfers support: INITIAL, INCREMENTAL and CHANGES. ./test
//! downloads the servers; without them, nothing is tested here.

use std::path::{Path, PathBuf};
use std::process::Command;

use pgserver::{Binaries, Options};

use crate::world::{Source, Warehouse, test_folder};

const TABLES: &str = "create type mood as enum ('low', 'high');
    create table t (id bigint primary key, v text, n numeric(10, 2), f float8, at timestamptz, b bytea, j jsonb, e mood,
        a int[], i interval, d date, g bigint generated always as (id * 2) stored);
    create table k (a int, b text);
    alter table k replica identity full;
    insert into t (id, v, n, f, at, b, j, e, a, i, d) select g, 'v' || g, g / 3.0, g / 7.0,
        timestamptz '2026-03-29 00:30Z' + g * interval '1h', '\\x00ff', '{\"a\":1}', 'low', '{1,NULL,3}', '1 day -2 hours',
        'infinity' from generate_series(1, 500) g;
    insert into k values (1, 'x'), (1, 'x'), (2, null)";

const CHANGE: [&str; 4] = [
    "update t set v = 'u', f = f + 1 where id % 10 = 0; delete from t where id % 10 = 1; delete from k where a = 2",
    "insert into t (id, v, n, f, at, b, j, e, a, i, d) select g, 'w', 1e5, 'NaN', 'infinity', '\\x', 'null', 'high', '{}',
        '-1 day 2 hours 3.5 sec', '2026-10-25' from generate_series(2001, 2050) g",
    "alter table t add column z text default 'zz'; insert into t (id) values (5000)",
    "update t set id = 6000 where id = 2; delete from k where ctid = (select min(ctid) from k)",
];

/// The folders of servers that ./test has downloaded.
fn downloaded() -> Vec<PathBuf> {
    let Some(folder) = std::env::var_os("WATTLAKE_TEST_POSTGRES") else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.join("bin/postgres").is_file()).collect()
}

/// A copy that the user postgres may read.
fn readable_copy(of: &Path) -> PathBuf {
    let copy = test_folder().join(format!("postgres-{}", of.file_name().unwrap().to_str().unwrap()));
    let copied = Command::new("cp").arg("-r").arg(of).arg(&copy).status().unwrap();
    assert!(copied.success());
    copy
}

#[test]
fn the_oldest_and_the_newest_server_are_followed() {
    for downloaded in downloaded() {
        let copy = readable_copy(&downloaded);
        let binaries = Binaries::find(Some(&copy.join("bin"))).unwrap();
        let folder = test_folder().join(format!("server-{}", binaries.major_version().unwrap()));
        pgserver::init(&binaries, &folder).unwrap();
        let settings = [("wal_level", "logical")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let options = Options { settings: settings.to_vec(), fsync: false, ..Options::default() };
        let server = pgserver::start(&binaries, &folder, &options).unwrap();
        let source = Source::at(&server.tcp_url("postgres"));
        source.execute(TABLES);
        let toml = format!("lake.url = 'lake'\nconnections.source.url = '{}'\n", source.url());
        let of_mode =
            |mode: &str| format!("source = 'source'\ninclude = ['public.*']\ninto = '{mode}'\nmode = '{mode}'\n");
        let incremental = of_mode("incremental") + "on_no_cursor = 'reload'\n";
        let warehouse = Warehouse::new(&[
            ("wattlake.toml", &toml),
            ("transfers/initial.toml", &of_mode("initial")),
            ("transfers/incremental.toml", &incremental),
            ("transfers/changes.toml", &of_mode("changes")),
        ]);
        warehouse.ok(&["check"]);
        carry(&warehouse);
        for sql in CHANGE {
            source.execute(sql);
        }
        carry(&warehouse);
        for transfer in ["initial", "changes"] {
            warehouse.ok(&["transfer", "validate", transfer]);
        }
        let rows = |schema: &str| warehouse.number(&format!("select count(*) as n from {schema}.t"));
        assert_eq!((rows("changes"), rows("initial")), (source.count("t"), source.count("t")));
        assert!(rows("incremental") > source.count("t"), "what was deleted stays");
        server.stop().unwrap();
    }
}

fn carry(warehouse: &Warehouse) {
    warehouse.ok(&["transfer", "run", "initial"]);
    warehouse.ok(&["transfer", "run", "incremental"]);
    warehouse.ok(&["transfer", "run", "changes", "--until-caught-up"]);
}
