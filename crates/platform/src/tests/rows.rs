//! Tests in a real PostgreSQL.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;
use std::time::Instant;

use pgserver::{Binaries, Options, Server};
use tempfile::TempDir;
use tokio_postgres::{Client, Config};

use crate::*;

struct Database {
    server: Server,
    // Removed after the server has stopped.
    _dir: TempDir,
}

impl Database {
    fn new() -> Self {
        let dir = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().unwrap();
        let binaries = Binaries::find(None).unwrap();
        let place = dir.path().join("pg");
        pgserver::init(&binaries, &place).unwrap();
        let settings = vec![("max_wal_size".to_owned(), "4GB".to_owned())];
        let options = Options { fsync: false, settings, ..Options::default() };
        Self { server: pgserver::start(&binaries, &place, &options).unwrap(), _dir: dir }
    }

    fn config(&self, name: &str) -> Config {
        self.server.url(name).parse().unwrap()
    }

    /// An empty database of this name, and a connection to it.
    async fn empty(&self, name: &str) -> Client {
        let admin = connect(&self.config("postgres")).await.unwrap();
        admin.batch_execute(&format!("create database {name}")).await.unwrap();
        connect(&self.config(name)).await.unwrap()
    }
}

async fn text(client: &Client, sql: &str) -> String {
    let sql = format!("select coalesce(string_agg(t::text, '|' order by t::text), '') from ({sql}) t");
    client.query_one(&sql, &[]).await.unwrap_or_else(|e| panic!("{sql}: {e:?}")).get(0)
}

async fn number(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap_or_else(|e| panic!("{sql}: {e:?}")).get(0)
}

const TABLES: [&str; 12] = [
    "producers",
    "sites",
    "units",
    "contracts",
    "metering_points",
    "series",
    "measurements_10min",
    "measurements_1s",
    "forecasts",
    "availabilities",
    "market_prices",
    "system_tension",
];

async fn content(client: &Client) -> Vec<(String, String)> {
    let mut content = Vec::new();
    for table in TABLES {
        let sql = format!("select md5(string_agg(t::text, '|' order by t::text)) from platform.{table} t");
        content.push((table.to_owned(), text(client, &sql).await));
    }
    content
}

#[tokio::test(flavor = "multi_thread")]
async fn fills_twice_equally_and_simulates_days() {
    let database = Database::new();
    let scale = Scale::tiny();
    let mut contents = Vec::new();
    for name in ["one", "two"] {
        let client = database.empty(name).await;
        create(&client, &scale).await.unwrap();
        let heard = Mutex::new(BTreeMap::<String, u64>::new());
        let progress = |table: &str, rows: u64| {
            let mut heard = heard.lock().unwrap();
            let last = heard.entry(table.to_owned()).or_default();
            assert!(rows >= *last);
            *last = rows;
        };
        let config = database.config(name);
        let counts = fill(|| connect(&config), &scale, &progress).await.unwrap();
        assert_eq!(counts.len(), TABLES.len());
        for (table, rows) in &counts {
            assert!(*rows > 0, "{table}");
            assert_eq!(number(&client, &format!("select count(*) from {table}")).await, *rows as i64, "{table}");
            assert_eq!(heard.lock().unwrap()[table], *rows);
        }
        let total: u64 = counts.iter().map(|(_, rows)| rows).sum();
        assert!((15_000..30_000).contains(&total), "{total}");
        contents.push(content(&client).await);
    }
    assert_eq!(contents[0], contents[1]);

    let client = connect(&database.config("one")).await.unwrap();
    check_filled(&client).await;
    let error = create(&client, &scale).await.unwrap_err();
    assert_eq!(error.kind, Kind::FixInput);
    check_simulated_days(&client, &scale).await;
    let other = connect(&database.config("two")).await.unwrap();
    for day in 0..2 {
        simulate_day(&other, &scale, day).await.unwrap();
    }
    // Only the clocks differ.
    let sql = "select md5(string_agg((series_id, ts, power_kw, energy_wh, quality)::text, '|' order by series_id, ts)) \
               from platform.measurements_10min";
    assert_eq!(text(&client, sql).await, text(&other, sql).await);
}

/// Checks the filled tables by SQL.
async fn check_filled(client: &Client) {
    let none = [
        "select 1 from platform.measurements_10min m join platform.series s on s.id = m.series_id \
         join (select site_id, sum(pmax_kw) as pmax_kw from platform.units group by 1) u using (site_id) \
         where quality <> 'invalid' and not power_kw between 0 and pmax_kw",
        "select 1 from platform.measurements_10min where (quality = 'missing') <> (power_kw is null)",
        "select 1 from platform.measurements_10min where updated_at <= ts or updated_at > now()",
        "select 1 from platform.measurements_10min m join platform.series s on s.id = m.series_id \
         join platform.sites p on p.id = s.site_id where technology = 'solar' and quality = 'measured' \
         and extract(hour from ts at time zone 'UTC') in (22, 23, 0, 1, 2, 3) and power_kw <> 0",
        "select 1 from platform.measurements_10min where quality = 'measured' \
         and abs(power_kw * 1000 / 6 - energy_wh) > 1",
        "select 1 from platform.forecasts where valid_at <= issue_at or valid_at > issue_at + interval '48 hours'",
        "select 1 from platform.forecasts where p10 > power_kw or power_kw > p90",
        "select 1 from platform.measurements_1s group by series_id having count(*) <> count(distinct ts) \
         or max(ts) - min(ts) <> interval '59 minutes 59 seconds'",
        "select 1 from platform.market_prices group by zone having sum(step) <> interval '336 hours'",
        "select 1 from platform.series s left join platform.measurements_10min m on m.series_id = s.id \
         where step = interval '10 minutes' group by s.id having count(m.ts) <> 14 * 144",
    ];
    for sql in none {
        assert_eq!(number(client, &format!("select count(*) from ({sql}) t")).await, 0, "{sql}");
    }
    let qualities = text(client, "select distinct quality from platform.measurements_10min").await;
    for quality in ["measured", "corrected", "estimated"] {
        assert!(qualities.contains(quality), "{qualities}");
    }
    assert_eq!(text(client, "select nextval('platform.sites_id_seq')").await, "(5)");
}

async fn check_simulated_days(client: &Client, scale: &Scale) {
    for day in 0..2 {
        let (from, to) = (scale.day_start(scale.days + day), scale.day_start(scale.days + day + 1));
        let clock = text(client, "select max(updated_at)::text from platform.measurements_10min").await;
        let changes = simulate_day(client, scale, day).await.unwrap();
        let measured = changes.of("platform.measurements_10min");
        assert_eq!((measured.inserted, measured.purged), (4 * 144, 4 * 144));
        assert!(measured.corrected > 0);
        let newer = format!(
            "select count(*) from platform.measurements_10min where updated_at > '{}'",
            &clock.replace(['(', ')', '"'], "")
        );
        assert_eq!(number(client, &newer).await as u64, measured.inserted + measured.corrected);
        let fixed = "select count(*) from platform.measurements_10min where quality = 'corrected' \
                     and ts < to_timestamp($) and updated_at > now() - interval '1 hour'";
        assert!(number(client, &fixed.replace('$', &from.to_string())).await as u64 >= measured.corrected);
        let seconds = changes.of("platform.measurements_1s");
        assert_eq!((seconds.inserted, seconds.purged), (2 * 3_600, 2 * 3_600));
        let last = number(client, "select extract(epoch from max(ts))::bigint from platform.measurements_1s").await;
        assert_eq!(last, to - 1);
        assert_eq!(changes.of("platform.forecasts").inserted, 4 * 4 * 96);
        assert_eq!(changes.of("platform.market_prices").inserted, 4 * 24);
        assert_eq!(changes.of("platform.market_prices").corrected, 4);
    }
    let rows = number(client, "select count(*) from platform.measurements_10min").await;
    let again = simulate_day(client, scale, 1).await.unwrap_err();
    assert_eq!(again.kind, Kind::FixInput);
    assert_eq!(number(client, "select count(*) from platform.measurements_10min").await, rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn bench_tables() {
    let database = Database::new();
    let client = database.empty("bench").await;
    for _ in 0..2 {
        bench_measures(&client, 20_000).await.unwrap();
        bench_wide(&client, 20_000).await.unwrap();
    }
    let shape = "select count(*), count(distinct series_id), count(distinct ts), min(id), max(id), \
                 bool_and(value = round(value::numeric, 3)) from bench.measures";
    assert_eq!(text(&client, shape).await, "(20000,500,40,1,20000,t)");
    let columns = "select count(*), count(distinct data_type) from information_schema.columns \
                   where table_schema = 'bench' and table_name = 'wide'";
    assert_eq!(text(&client, columns).await, "(16,15)");
    let bytes = number(&client, "select pg_relation_size('bench.wide') / 20000").await;
    assert!((250..290).contains(&bytes), "{bytes}");
    // PostgreSQL reads the values that were written in the binary format.
    let values = "select count(*) from bench.wide where price between -60 and 220 and amount between -9000 and 900000 \
         and scale(price) = 6 and scale(amount) = 2 and day = (recorded_at at time zone 'UTC')::date \
         and local_at - interval '1 hour' = date_trunc('second', recorded_at at time zone 'UTC') \
         and attributes->>'statut' = 'DÉFINITIF'";
    assert_eq!(number(&client, values).await, 20_000);
    assert!(number(&client, "select count(*) from bench.wide where price < 0").await > 1_000);
    assert!(number(&client, "select count(distinct trunc(price))  from bench.wide").await > 200);
    assert!(number(&client, "select count(*) from bench.wide where payload is null").await > 1_000);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "5.5 million rows: run by hand, on a quiet machine"]
async fn the_demo_fills_within_its_time() {
    let database = Database::new();
    let scale = Scale::demo();
    let client = database.empty("demo").await;
    create(&client, &scale).await.unwrap();
    let config = database.config("demo");
    let begun = Instant::now();
    let counts = fill(|| connect(&config), &scale, &|_, _| {}).await.unwrap();
    let taken = begun.elapsed();
    let total: u64 = counts.iter().map(|(_, rows)| rows).sum();
    let begun = Instant::now();
    let changes = simulate_day(&client, &scale, 0).await.unwrap();
    let day = begun.elapsed();
    let begun = Instant::now();
    bench_measures(&client, 1_000_000).await.unwrap();
    let measures = begun.elapsed();
    let begun = Instant::now();
    bench_wide(&client, 1_000_000).await.unwrap();
    println!("{taken:?}: {total} rows, {counts:#?}\n{day:?}: {changes:#?}\n{measures:?} {:?}", begun.elapsed());
    assert!(total >= 5_000_000, "{total}");
    assert!(taken.as_secs() <= 45, "{taken:?}");
}

/// Callers spawn these futures as tasks.
#[test]
fn futures_can_move_between_threads() {
    fn is_send<T: Send>(_: T) {}
    async fn all(client: &Client, scale: &Scale, config: &Config) {
        is_send(create(client, scale));
        is_send(fill(|| connect(config), scale, &|_, _| {}));
        is_send(simulate_day(client, scale, 0));
        is_send(bench_measures(client, 1));
        is_send(bench_wide(client, 1));
    }
    let _ = all;
}
