//! The fixture of the tests: one server, which the first test starts, and a database and a lake for each test.

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

use super::value_text;
use crate::plan::{ChangesSettings, Mode, OnNoCursor, Settings, TableSettings};
use crate::postgres::Endpoint;
use crate::read::NoProgress;
use crate::resume::Permission;
use crate::run::{Request, TableMode, TableReport, Target, TransferReport, run};

struct SharedServer {
    server: Server,
    /// Removes the server's folder after this process has ended: a static is never dropped.
    _sweeper: Child,
}

static COUNT: AtomicU64 = AtomicU64::new(0);

fn count() -> u64 {
    COUNT.fetch_add(1, Ordering::Relaxed)
}

fn shared() -> &'static SharedServer {
    static SHARED: OnceLock<SharedServer> = OnceLock::new();
    SHARED.get_or_init(|| {
        // The user postgres must be able to enter it.
        let mode = fs::Permissions::from_mode(0o755);
        let tmp = tempfile::Builder::new().prefix("wattlake-oracle-").permissions(mode).tempdir();
        let folder = tmp.unwrap().keep();
        let sweeper = Command::new("sh")
            .args(["-c", "read line; for i in 1 2 3 4 5 6 7 8 9; do sleep 0.3; rm -rf \"$0\" && exit; done"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // In another process group: a Ctrl-C ends the tests, and the sweeper must outlive them.
            .process_group(0)
            .spawn()
            .unwrap();
        let binaries = Binaries::find(None).unwrap();
        let dir = folder.join("server");
        pgserver::init(&binaries, &dir).unwrap();
        let settings = [
            ("max_connections", "300"),
            ("synchronous_commit", "off"),
            ("autovacuum", "off"),
            ("max_wal_size", "4GB"),
            ("wal_level", "logical"),
            ("max_replication_slots", "64"),
            ("max_wal_senders", "64"),
        ];
        let options = Options {
            settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            fsync: false,
            ..Options::default()
        };
        SharedServer { server: pgserver::start(&binaries, &dir, &options).unwrap(), _sweeper: sweeper }
    })
}

/// A source database of its own, and a lake.
pub struct Fixture {
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

impl Fixture {
    pub async fn new(sql: &str) -> Fixture {
        let fixture = Fixture::at(database().await).await;
        fixture.sql(sql).await;
        fixture
    }

    /// A fixture with an existing database.
    pub async fn at(url: String) -> Fixture {
        let source = Endpoint::parse(&url).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open(folder.path().to_str().unwrap(), std::collections::HashMap::new()).await.unwrap();
        Fixture { client: source.connect().await.unwrap(), url, source, lake, _folder: folder }
    }

    /// From now on, the source is another server.
    pub async fn move_to(&mut self, url: String) {
        self.source = Endpoint::parse(&url).unwrap();
        self.client = self.source.connect().await.unwrap();
        self.url = url;
    }

    /// Executes statements at the source; tables without a schema are created in `public`.
    pub async fn sql(&self, sql: &str) {
        execute(&self.client, sql).await;
    }

    /// Another session at the source, with `public` on its search path.
    pub async fn session(&self) -> Client {
        let client = self.source.connect().await.unwrap();
        client.batch_execute("SET search_path = public").await.unwrap();
        client
    }

    pub async fn run(&self, settings: &Settings) -> TransferReport {
        self.run_into(settings, Target::Lake(self.lake.clone())).await.unwrap()
    }

    pub async fn run_into(&self, settings: &Settings, target: Target) -> crate::Result<TransferReport> {
        run(&self.request(settings, target, Permission::AsConfigured)).await
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
            progress: Arc::new(NoProgress),
            scratch: std::env::temp_dir(),
        }
    }

    /// Runs into the lake with a permission.
    pub async fn run_with(&self, settings: &Settings, permission: Permission) -> TransferReport {
        run(&self.request(settings, Target::Lake(self.lake.clone()), permission)).await.unwrap()
    }

    /// Runs into the lake, and panics where a table has failed.
    #[track_caller]
    pub fn run_ok(&self, settings: &Settings) -> impl Future<Output = TransferReport> {
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

    /// The rows of a table in the lake as sorted texts `a|b|c`.
    pub async fn rows(&self, name: &str) -> Vec<String> {
        rows_of(&self.table(name).await).await
    }

    /// The first column of a query's rows, as text.
    pub async fn first_column(&self, sql: &str) -> Vec<String> {
        first_column(&self.client, sql).await
    }

    /// Waits until a query returns true.
    pub async fn wait_for(&self, sql: &str) {
        for _ in 0..36_000 {
            if self.client.query_one(sql, &[]).await.unwrap().get(0) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("this query did not become true in time: {sql}");
    }
}

pub async fn rows_of(table: &lake::Table) -> Vec<String> {
    let mut rows = Vec::new();
    let mut batches = table.read().await.unwrap();
    while let Some(batch) = batches.try_next().await.unwrap() {
        for at in 0..batch.num_rows() {
            rows.push(batch.columns().iter().map(|c| value_text::plain(c, at)).collect::<Vec<_>>().join("|"));
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

pub async fn first_column(client: &Client, sql: &str) -> Vec<String> {
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
        changes: ChangesSettings::of("nightly"),
        tables: BTreeMap::new(),
    }
}

pub fn incremental() -> Settings {
    Settings { mode: Mode::Incremental, ..initial() }
}

/// The settings with settings of one table.
pub fn with(mut settings: Settings, table: &str, own: TableSettings) -> Settings {
    settings.tables.insert(table.into(), own);
    settings
}

pub fn by_cursor(cursor: &str) -> TableSettings {
    TableSettings { cursor: vec![cursor.into()], ..TableSettings::default() }
}

/// The report of one table.
#[track_caller]
pub fn table_report<'a>(report: &'a TransferReport, table: &str) -> &'a TableReport {
    report.tables.iter().find(|t| t.source == table).unwrap_or_else(|| panic!("{table} is not in the report"))
}

/// Waits until no transaction on the server is older than the rows of `public.t`. With the cursor `xmin`, transactions
/// of other tests count, too.
pub async fn wait_for_writers(fixture: &Fixture) {
    let xmin = "(pg_snapshot_xmin(pg_current_snapshot())::text::bigint & 4294967295)::text::xid";
    fixture.wait_for(&format!("SELECT NOT EXISTS (SELECT FROM public.t WHERE age(xmin) <= age({xmin}))")).await;
}

/// The state in which a table was refused. The error must have a hint.
#[track_caller]
pub fn state(report: &TransferReport, table: &str) -> &'static str {
    let error = table_report(report, table).error.as_ref().unwrap_or_else(|| panic!("{table} was carried"));
    assert!(error.hint.is_some(), "{}", chain(error));
    error.state.unwrap_or_else(|| panic!("{}", chain(error)))
}

/// Runs a resync, and panics where a table has failed.
pub async fn resync(fixture: &Fixture, settings: &Settings) {
    let report = fixture.run_with(settings, Permission::Resync).await;
    for table in &report.tables {
        assert!(table.error.is_none(), "{}", chain(table.error.as_ref().unwrap()));
        assert_eq!(table.mode, TableMode::Resync);
    }
}

/// The error of one table with its causes, as users see it, and its hint.
#[track_caller]
pub fn error_of(report: &TransferReport, table: &str) -> (String, String) {
    let Some(error) = &table_report(report, table).error else { panic!("{table} was carried") };
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
