//! One server for all tests, started by the first of them; a database and a lake for each.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::TryStreamExt;
use lake::{Lake, TableName};
use pgserver::{Binaries, Options, Server};
use tempfile::TempDir;
use tokio_postgres::Client;

use super::shown;
use crate::plan::{Mode, OnNoCursor, Settings, TableSettings};
use crate::postgres::Endpoint;
use crate::read::Quiet;
use crate::resume::Permission;
use crate::run::{How, Report, Request, TableReport, Target, run};

struct Shared {
    server: Server,
    /// Removes the server's folder when our process is gone: a static is never dropped.
    _sweeper: Child,
}

static COUNT: AtomicU64 = AtomicU64::new(0);

fn count() -> u64 {
    COUNT.fetch_add(1, Ordering::Relaxed)
}

fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        // The user postgres must be able to pass through it.
        let mode = fs::Permissions::from_mode(0o755);
        let tmp = tempfile::Builder::new().prefix("wattlake-oracle-").permissions(mode).tempdir();
        let folder = tmp.unwrap().keep();
        let sweeper = Command::new("sh")
            .args(["-c", "read line; for i in 1 2 3 4 5 6 7 8 9; do sleep 0.3; rm -rf \"$0\" && exit; done"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Out of our group: a Ctrl-C is for us, who leave it the work.
            .process_group(0)
            .spawn()
            .unwrap();
        let binaries = Binaries::find(None).unwrap();
        let dir = folder.join("server");
        pgserver::init(&binaries, &dir).unwrap();
        let settings =
            [("max_connections", "300"), ("synchronous_commit", "off"), ("autovacuum", "off"), ("max_wal_size", "4GB")];
        let options = Options {
            settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            fsync: false,
            ..Options::default()
        };
        Shared { server: pgserver::start(&binaries, &dir, &options).unwrap(), _sweeper: sweeper }
    })
}

/// A source database of its own, and a lake.
pub struct World {
    pub client: Client,
    pub url: String,
    pub source: Endpoint,
    pub lake: Lake,
    _folder: TempDir,
}

/// A database of its own on the shared server.
pub async fn database() -> String {
    let server = &shared().server;
    let name = format!("d{}", count());
    let admin = Endpoint::parse(&server.url("postgres")).unwrap().connect().await.unwrap();
    admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    server.url(&name)
}

impl World {
    pub async fn new(sql: &str) -> World {
        let world = World::at(database().await).await;
        world.sql(sql).await;
        world
    }

    /// With a database that is there.
    pub async fn at(url: String) -> World {
        let source = Endpoint::parse(&url).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open(folder.path().to_str().unwrap(), std::collections::HashMap::new()).await.unwrap();
        World { client: source.connect().await.unwrap(), url, source, lake, _folder: folder }
    }

    /// The platform is on another server from now on.
    pub async fn moves(&mut self, url: String) {
        self.source = Endpoint::parse(&url).unwrap();
        self.client = self.source.connect().await.unwrap();
        self.url = url;
    }

    /// Statements; tables without a schema are made in `public`.
    pub async fn sql(&self, sql: &str) {
        execute(&self.client, sql).await;
    }

    /// Another session, with `public` on its path.
    pub async fn session(&self) -> Client {
        let client = self.source.connect().await.unwrap();
        client.batch_execute("SET search_path = public").await.unwrap();
        client
    }

    pub async fn run(&self, settings: &Settings) -> Report {
        self.run_into(settings, Target::Lake(self.lake.clone())).await.unwrap()
    }

    pub async fn run_into(&self, settings: &Settings, target: Target) -> crate::Result<Report> {
        run(&self.request(settings, target, Permission::File)).await
    }

    pub fn request(&self, settings: &Settings, target: Target, permission: Permission) -> Request {
        Request {
            settings: settings.clone(),
            source: self.source.clone(),
            target,
            run: format!("r{}", count()),
            tables: Vec::new(),
            permission,
            clears_changed: false,
            progress: Arc::new(Quiet),
        }
    }

    /// Runs into the lake with what a user has asked for by name.
    pub async fn run_with(&self, settings: &Settings, permission: Permission) -> Report {
        run(&self.request(settings, Target::Lake(self.lake.clone()), permission)).await.unwrap()
    }

    /// Runs, and every table must have been carried.
    #[track_caller]
    pub fn carries(&self, settings: &Settings) -> impl Future<Output = Report> {
        let caller = std::panic::Location::caller();
        async move {
            let report = self.run(settings).await;
            for table in &report.tables {
                if let Some(error) = &table.error {
                    panic!("{caller}: {}: {}", table.source, chain(error));
                }
            }
            report
        }
    }

    pub async fn table(&self, name: &str) -> lake::Table {
        let (schema, table) = name.split_once('.').unwrap();
        self.lake
            .table(&TableName::new(schema, table))
            .await
            .unwrap()
            .unwrap_or_else(|| panic!("{name} is not in the lake"))
    }

    /// The table's rows as the lake shows them, `a|b|c`, in order.
    pub async fn rows(&self, name: &str) -> Vec<String> {
        rows_of(&self.table(name).await).await
    }

    /// The first column of a query's rows, as text.
    pub async fn ask(&self, sql: &str) -> Vec<String> {
        ask(&self.client, sql).await
    }

    /// Waits until a query gives true.
    pub async fn until(&self, sql: &str) {
        for _ in 0..36_000 {
            if self.client.query_one(sql, &[]).await.unwrap().get(0) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("waited in vain for {sql}");
    }
}

pub async fn rows_of(table: &lake::Table) -> Vec<String> {
    let mut rows = Vec::new();
    let mut batches = table.read().await.unwrap();
    while let Some(batch) = batches.try_next().await.unwrap() {
        for at in 0..batch.num_rows() {
            rows.push(batch.columns().iter().map(|c| shown::plain(c, at)).collect::<Vec<_>>().join("|"));
        }
    }
    rows.sort();
    rows
}

pub async fn execute(client: &Client, sql: &str) {
    let sql = format!("SET search_path = public; {sql}; SET search_path = pg_catalog");
    if let Err(error) = client.batch_execute(&sql).await {
        panic!("{error}: {:?}\n{sql}", error.source().map(ToString::to_string));
    }
}

pub async fn ask(client: &Client, sql: &str) -> Vec<String> {
    let rows = client.query(sql, &[]).await.unwrap_or_else(|e| panic!("{e}: {:?}\n{sql}", e.as_db_error()));
    rows.iter().map(|row| row.get::<_, Option<String>>(0).unwrap_or_else(|| "NULL".into())).collect()
}

pub fn initial() -> Settings {
    Settings {
        name: "nightly".into(),
        program: "wattlake".into(),
        others: Vec::new(),
        mode: Mode::Initial,
        into: None,
        include: Vec::new(),
        exclude: Vec::new(),
        mapping: None,
        streams: 2,
        parallel_tables: 2,
        views: false,
        on_no_cursor: OnNoCursor::Error,
        overlap: Duration::from_secs(600),
        tables: BTreeMap::new(),
    }
}

pub fn incremental() -> Settings {
    Settings { mode: Mode::Incremental, ..initial() }
}

/// The settings with one table's own.
pub fn with(mut settings: Settings, table: &str, own: TableSettings) -> Settings {
    settings.tables.insert(table.into(), own);
    settings
}

pub fn by_cursor(cursor: &str) -> TableSettings {
    TableSettings { cursor: vec![cursor.into()], ..TableSettings::default() }
}

/// What became of one table.
#[track_caller]
pub fn of<'a>(report: &'a Report, table: &str) -> &'a TableReport {
    report.tables.iter().find(|t| t.source == table).unwrap_or_else(|| panic!("{table} is not in the report"))
}

/// No transaction on the server is older than the table's rows: those of other tests count for the order by `xmin`.
pub async fn all_ended(world: &World) {
    let xmin = "(pg_snapshot_xmin(pg_current_snapshot())::text::bigint & 4294967295)::text::xid";
    world.until(&format!("SELECT NOT EXISTS (SELECT FROM public.t WHERE age(xmin) <= age({xmin}))")).await;
}

/// The state in which a table was refused; one has a hint, always.
#[track_caller]
pub fn state(report: &Report, table: &str) -> &'static str {
    let error = of(report, table).error.as_ref().unwrap_or_else(|| panic!("{table} was carried"));
    assert!(error.hint.is_some(), "{}", chain(error));
    error.state.unwrap_or_else(|| panic!("{}", chain(error)))
}

pub async fn resynced(world: &World, settings: &Settings) {
    let report = world.run_with(settings, Permission::Resync).await;
    for table in &report.tables {
        assert!(table.error.is_none(), "{}", chain(table.error.as_ref().unwrap()));
        assert_eq!(table.how, How::Resync);
    }
}

/// The error of one table, as a user reads it, and its hint.
#[track_caller]
pub fn error_of(report: &Report, table: &str) -> (String, String) {
    let Some(error) = &of(report, table).error else { panic!("{table} was carried") };
    (chain(error), error.hint.clone().unwrap_or_default())
}

pub fn chain(error: &crate::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(&format!(": {inner}"));
        source = inner.source();
    }
    text
}
