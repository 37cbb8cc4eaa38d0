//! Over tables that change: after each refresh a mart holds exactly the rows that its query returns.

use crate::runs::RunRequest;
use std::fs;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use lake::{HiddenRows, Lake, PackOptions, TableName};
use serde_json::{Value, json};
use sql::Session;
use sql::output::{self, Format};
use tempfile::TempDir;

use super::refresh;
use crate::system::LedgerTables;
use crate::warehouse::{Environment, Warehouse};

const RUN: &str = "run-1";
const HOUR: i64 = 3_600_000_000;
/// 2026-03-01, in microseconds; the clocks of Paris change in the days after it.
const START: i64 = 1_772_323_200_000_000;

/// A small generator of random numbers that is the same on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(self.0 >> 33).unwrap() % bound
    }
}

struct World {
    folder: TempDir,
    dice: Dice,
    next_hour: i64,
}

impl World {
    async fn new(seed: u64, marts: &[(&str, &str)]) -> World {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("wattlake.toml"), "lake.url = 'lake'\n").unwrap();
        fs::create_dir(folder.path().join("marts")).unwrap();
        for (name, text) in marts {
            fs::write(folder.path().join("marts").join(format!("{name}.sql")), text).unwrap();
        }
        let mut world = World { folder, dice: Dice(seed), next_hour: 0 };
        world.replace("sites", &world.sites(&["north", "south"])).await;
        for table in ["readings", "prices"] {
            let rows = world.rows(0, 200);
            world.replace(table, &rows).await;
        }
        world.next_hour = 200;
        world
    }

    fn warehouse(&self) -> Warehouse {
        Warehouse::open(self.folder.path(), Environment::default()).unwrap()
    }

    async fn lake(&self) -> Lake {
        self.warehouse().lake().await.unwrap()
    }

    fn sites(&self, names: &[&str]) -> RecordBatch {
        let ids: Int64Array = (0..names.len() as i64).collect();
        let names = StringArray::from(names.to_vec());
        RecordBatch::try_from_iter([("site_id", Arc::new(ids) as _), ("name", Arc::new(names) as _)]).unwrap()
    }

    /// A row an hour and site.
    fn rows(&mut self, from: i64, hours: i64) -> RecordBatch {
        let (mut sites, mut instants, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for hour in from..from + hours {
            for site in 0..2 {
                sites.push(site);
                instants.push(START + hour * HOUR);
                values.push((self.dice.below(10) > 0).then(|| self.dice.below(1_000)));
            }
        }
        let instants = TimestampMicrosecondArray::from(instants).with_timezone("UTC");
        RecordBatch::try_new(
            schema(),
            vec![Arc::new(Int64Array::from(sites)), Arc::new(instants), Arc::new(Int64Array::from(values))],
        )
        .unwrap()
    }

    async fn files(&self, lake: &Lake, table: &TableName, batch: &RecordBatch) -> Vec<lake::DataFile> {
        let mut writer = lake.writer(table, RUN, batch.schema(), tokio::runtime::Handle::current());
        let batch = batch.clone();
        let written = tokio::task::spawn_blocking(move || {
            writer.write(&batch)?;
            writer.finish()
        });
        written.await.unwrap().unwrap()
    }

    async fn replace(&self, table: &str, batch: &RecordBatch) {
        let (lake, name) = (self.lake().await, TableName::new("platform", table));
        let files = self.files(&lake, &name, batch).await;
        lake.replace(&name, batch.schema(), RUN, "initial").await.unwrap().files(files).write().await.unwrap();
    }

    /// New rows, and new versions of older ones, as a transfer writes them.
    async fn increment(&mut self, table: &str, from: i64, hours: i64) {
        let batch = self.rows(from, hours);
        let (lake, name) = (self.lake().await, TableName::new("platform", table));
        let files = self.files(&lake, &name, &batch).await;
        let table = lake.table(&name).await.unwrap().unwrap();
        let keys = lake::KeySet::of(&batch, &["site_id".to_owned(), "ts".to_owned()]).unwrap();
        let mut hidden = HiddenRows::default();
        for row in table.find(&keys, &lake::OrderColumns::default(), &hidden).await.unwrap() {
            hidden.insert(&row.path, row.position);
        }
        table.commit(RUN, "incremental").files(files).hide(hidden).write().await.unwrap();
    }

    async fn step(&mut self) {
        let table = ["readings", "prices"][usize::try_from(self.dice.below(2)).unwrap()];
        match self.dice.below(10) {
            0..=3 => {
                let hours = 1 + self.dice.below(30);
                self.increment(table, self.next_hour, hours).await;
                self.next_hour += hours;
            }
            // Corrections of some hours, long ago or lately.
            4..=6 => {
                let from = self.dice.below(self.next_hour);
                let hours = 1 + self.dice.below(10);
                self.increment(table, from, hours).await;
            }
            7 | 8 => {
                let (lake, name) = (self.lake().await, TableName::new("platform", table));
                let table = lake.table(&name).await.unwrap().unwrap();
                table.pack("run-2", &PackOptions { files_min: 2, ..PackOptions::default() }).await.unwrap();
            }
            _ => {
                let names: &[&str] = if self.dice.below(2) == 0 { &["north", "west"] } else { &["north"] };
                let sites = self.sites(names);
                self.replace("sites", &sites).await;
            }
        }
    }

    async fn query(&self, sql: &str) -> String {
        let warehouse = self.warehouse();
        let session = Session::new(self.lake().await, Arc::new(LedgerTables::of(&warehouse.ledger)), None).unwrap();
        let session = session.with_views(warehouse.config.views());
        let stream = session.run(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let mut out = Vec::new();
        output::write(stream, Format::Csv, &mut out, u64::MAX).await.unwrap();
        let text = String::from_utf8(out).unwrap();
        let mut lines: Vec<&str> = text.lines().skip(1).collect();
        lines.sort_unstable();
        lines.join("\n")
    }

    async fn refresh(&self, mart: &str, full: bool) -> Value {
        refresh(&self.warehouse(), &RunRequest::by_hand(), mart, full)
            .await
            .unwrap_or_else(|error| panic!("{mart}: {error:?}"))
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("site_id", DataType::Int64, true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("value", DataType::Int64, true),
    ]))
}

/// By name: a query, and whether it can ever be refreshed in part.
const QUERIES: [(&str, &str, bool); 7] = [
    ("hourly", "SELECT site_id, ts AS day, value FROM platform.readings WHERE value IS NOT NULL", true),
    (
        "daily",
        "SELECT site_id, name, date_trunc('day', ts) AS day, sum(value) AS total, count(*) AS n
         FROM platform.readings JOIN platform.sites USING (site_id) GROUP BY 1, 2, 3",
        true,
    ),
    (
        "local_days",
        "SELECT site_id, time_bucket('1 day', ts, 'Europe/Paris') AS day, max(value) AS most
         FROM platform.readings GROUP BY 1, 2",
        true,
    ),
    (
        "revenue",
        "SELECT r.site_id, date_trunc('day', r.ts) AS day, sum(r.value * p.value) AS cents
         FROM platform.readings r LEFT JOIN platform.prices p ON p.ts = r.ts AND p.site_id = 0 GROUP BY 1, 2",
        true,
    ),
    (
        "both",
        "SELECT ts AS day, value FROM platform.readings UNION SELECT ts, -value FROM platform.prices WHERE value < 500",
        true,
    ),
    (
        "steps",
        "SELECT site_id, ts AS day, value - lag(value) OVER (PARTITION BY site_id ORDER BY ts) AS step FROM platform.readings",
        false,
    ),
    ("newest", "SELECT site_id, max(ts) AS day, count(value) AS n FROM platform.readings GROUP BY 1", false),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_in_part_is_a_refresh_of_all() {
    let texts: Vec<(&str, String)> = QUERIES
        .iter()
        .map(|(name, query, _)| (*name, format!("--| kind = 'table'\n--| since = 'day'\n{query}\n")))
        .collect();
    let texts: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let mut in_part = std::collections::BTreeSet::new();
    for seed in 1..=3 {
        let mut world = World::new(seed, &texts).await;
        for step in 0..12 {
            for (name, query, _) in QUERIES {
                let figures = world.refresh(name, false).await;
                if figures["how"] == "part" {
                    in_part.insert(name);
                }
                let (stored, expected) =
                    (world.query(&format!("SELECT * FROM marts.{name}")).await, world.query(query).await);
                assert!(stored == expected, "seed {seed}, step {step}, {name}: {figures}\n{stored}\n---\n{expected}");
                assert_eq!(world.refresh(name, false).await["how"], "nothing", "seed {seed}, step {step}, {name}");
            }
            for _ in 0..=world.dice.below(2) {
                world.step().await;
            }
        }
    }
    let expected = QUERIES.iter().filter(|(.., in_part)| *in_part).map(|(name, ..)| *name).collect();
    assert_eq!(in_part, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn marts_read_marts() {
    let daily = "--| kind = 'table'\n--| since = 'day'\n--| order = ['site_id']\nSELECT site_id, date_trunc('day', ts) AS day, sum(value) AS total FROM good GROUP BY 1, 2";
    let monthly = "--| kind = 'table'\n--| since = 'month'\nSELECT date_trunc('month', day) AS month, sum(total) AS total FROM marts.daily GROUP BY 1";
    let good = "SELECT * FROM platform.readings WHERE value > 100";
    let mut world = World::new(9, &[("daily", daily), ("monthly", monthly), ("good", good)]).await;
    let order: Vec<String> = world.warehouse().config.marts_in_order().iter().map(|mart| mart.name.clone()).collect();
    assert_eq!(order, ["good", "daily", "monthly"]);
    let answer =
        "SELECT date_trunc('month', ts) AS month, sum(value) FROM platform.readings WHERE value > 100 GROUP BY 1";
    for _ in 0..4 {
        world.refresh("daily", false).await;
        world.refresh("monthly", false).await;
        assert_eq!(world.query("SELECT * FROM marts.monthly").await, world.query(answer).await);
        let from = world.next_hour - 5;
        world.increment("readings", from, 40).await;
        world.next_hour += 35;
    }
    let states = "SELECT mart, kind, state, why FROM system.marts ORDER BY 1";
    let warehouse = world.warehouse();
    let lake = world.lake().await;
    let system = LedgerTables::of(&warehouse.ledger).with_marts(warehouse.config.clone(), lake.clone());
    let session = Session::new(lake, Arc::new(system), None).unwrap();
    let mut out = Vec::new();
    output::write(session.run(states).await.unwrap(), Format::Csv, &mut out, 100).await.unwrap();
    let expected =
        "mart,kind,state,why\ndaily,table,stale,platform.readings changed\ngood,view,fresh,\nmonthly,table,fresh,\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    // A changed query is computed whole, and so is a refresh with `full`.
    world.refresh("daily", false).await;
    fs::write(world.folder.path().join("marts/good.sql"), "SELECT * FROM platform.readings").unwrap();
    assert_eq!(world.refresh("daily", false).await["why"], "the query changed");
    assert_eq!(world.refresh("daily", true).await["why"], "asked for");
    // A description is no part of the query.
    let text = format!("--| description = 'By day'\n{daily}").replace("platform.readings", "good");
    fs::write(world.folder.path().join("marts/daily.sql"), text).unwrap();
    assert_eq!(world.refresh("daily", false).await["how"], "nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mart_is_pending_until_its_inputs_are_filled() {
    let early = "--| kind = 'table'\nSELECT * FROM weather.forecasts";
    let daily = "--| kind = 'table'\nSELECT site_id, sum(value) AS total FROM platform.readings GROUP BY 1";
    let second = "--| kind = 'table'\nSELECT max(total) AS greatest FROM marts.daily";
    let world = World::new(9, &[("early", early), ("daily", daily), ("second", second)]).await;
    for (mart, table) in [("early", "weather.forecasts"), ("second", "marts.daily")] {
        let figures = world.refresh(mart, false).await;
        assert_eq!(
            (&figures["how"], &figures["why"]),
            (&json!("pending"), &json!(format!("not in the lake yet: {table}")))
        );
    }
    world.refresh("daily", false).await;
    assert_eq!(world.refresh("second", false).await["rows"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_name_what_can_not_be_stored() {
    let table = |query: &str| format!("--| kind = 'table'\n{query}");
    let marts = [
        ("unnamed", table("SELECT value * 2 FROM platform.readings"), "add AS name"),
        ("twice", table("SELECT r.ts, p.ts FROM platform.readings r, platform.prices p"), "two of that name"),
        ("gone", table("SELECT * FROM platform.reading"), "the nearest are platform.readings"),
        ("spans", table("SELECT ts - ts AS span FROM platform.readings"), "a table has no type"),
        ("view", "SELECT 1 AS one".to_owned(), "it is a view"),
        ("order", format!("--| order = ['x']\n{}", table("SELECT 1 AS one")), "returns no such column; it returns one"),
        ("since", format!("--| since = 'x'\n{}", table("SELECT 1 AS one")), "returns no such column; it returns one"),
    ];
    let texts: Vec<(&str, &str)> = marts.iter().map(|(name, text, _)| (*name, text.as_str())).collect();
    let world = World::new(1, &texts).await;
    for (name, _, message) in &marts {
        let error = refresh(&world.warehouse(), &RunRequest::by_hand(), name, false).await.unwrap_err();
        assert!(format!("{error:#}").contains(message), "{name}: {error:#}");
        let run = world.warehouse().ledger.runs(1, Some(&format!("mart:{name}"))).unwrap().pop();
        let state = run.as_ref().map(|run| run.state.as_str());
        assert_eq!(state, (*name != "view").then_some("failed"), "a view is no job");
    }
    // A table that no mart made is never overwritten.
    world.replace("taken", &world.sites(&["north"])).await;
    fs::create_dir(world.folder.path().join("marts/platform")).unwrap();
    fs::write(world.folder.path().join("marts/platform/taken.sql"), table("SELECT 1 AS one")).unwrap();
    let error = refresh(&world.warehouse(), &RunRequest::by_hand(), "platform.taken", false).await.unwrap_err();
    assert!(format!("{error:#}").contains("a table that no mart made"), "{error:#}");
    // A result without rows is a table too.
    fs::write(world.folder.path().join("marts/none.sql"), table("SELECT value FROM platform.readings WHERE false"))
        .unwrap();
    assert_eq!(world.refresh("none", false).await["rows"], 0);
    assert_eq!(world.query("SELECT count(*) FROM marts.none").await, "0");
}
