//! Tests of a server over a real lake with independent clients: tokio-postgres and psql.

mod catalogue;
mod framing;
mod limits;
mod queries;
mod rights;
mod sessions;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use tokio_util::sync::CancellationToken;

use super::{Bounds, Login, Server, Settings, Verifier};
use sql::Role;
use sql::testing::{Runs, TestLake};

/// A running server.
pub(super) struct Fixture {
    pub(super) test_lake: TestLake,
    pub(super) server: Arc<Server>,
    pub(super) port: u16,
    pub(super) stop: CancellationToken,
    pub(super) serving: JoinHandle<sql::Result<()>>,
}

fn login(name: &str, role: Role) -> Login {
    Login { role: Role { name: name.to_owned(), ..role }, verifier: Verifier::of_password("right") }
}

/// `analyst` reads all tables and the system schema, `producer` two rows of `sites`, `guest` only `measures`.
pub(super) fn settings(bounds: Bounds) -> Settings {
    let producer = Role {
        tables: vec!["platform.sites".to_owned()],
        filters: [("platform.sites".to_owned(), "id in (1, 2)".to_owned())].into(),
        ..Role::default()
    };
    let guest = Role { tables: vec!["platform.m*".to_owned()], ..Role::default() };
    let logins = vec![
        login("analyst", Role { system: true, ..Role::default() }),
        login("producer", producer),
        login("guest", guest),
    ];
    Settings { bounds, logins, ..Settings::default() }
}

pub(super) async fn fixture() -> Fixture {
    fixture_with(settings(Bounds::default())).await
}

pub(super) async fn fixture_with(settings: Settings) -> Fixture {
    let test_lake = TestLake::with_measures().await;
    let id: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3]));
    let name: ArrayRef = Arc::new(StringArray::from(vec![Some("Alpha"), Some("Beta, \"B\""), None]));
    test_lake.replace("platform", "sites", &RecordBatch::try_from_iter([("id", id), ("name", name)]).unwrap()).await;
    let server = Arc::new(Server::new(test_lake.lake.clone(), Arc::new(Runs), settings).unwrap());
    server.check().await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, stop) = (listener.local_addr().unwrap().port(), CancellationToken::new());
    let (serving, stopping) = (Arc::clone(&server), stop.clone());
    let serving = tokio::spawn(async move { serving.serve(listener, stopping).await });
    Fixture { test_lake, server, port, stop, serving }
}

impl Fixture {
    pub(super) async fn client(&self, user: &str) -> Client {
        self.connect(user, "right").await.unwrap()
    }

    pub(super) async fn connect(&self, user: &str, password: &str) -> Result<Client, tokio_postgres::Error> {
        let url = format!("host=127.0.0.1 port={} user={user} password={password} dbname=wattlake", self.port);
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// The unaligned output of psql.
    pub(super) async fn psql(&self, user: &str, commands: &[&str]) -> String {
        let mut psql = tokio::process::Command::new("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]).env("PGPASSWORD", "right");
        psql.arg(format!("host=127.0.0.1 port={} user={user} dbname=wattlake", self.port));
        commands.iter().for_each(|command| {
            psql.args(["-c", command]);
        });
        let output = psql.output().await.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{stderr}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// The rows of one statement, as texts.
pub(super) async fn rows(client: &Client, sql: &str) -> Vec<Vec<Option<String>>> {
    let messages = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {}", error_text(&error)));
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect::<Vec<_>>())
        }
        _ => None,
    });
    rows.collect()
}

/// The only value of the only row.
pub(super) async fn one_value(client: &Client, sql: &str) -> String {
    let rows = rows(client, sql).await;
    assert_eq!(rows.len(), 1, "{sql}: {rows:?}");
    rows[0][0].clone().unwrap_or_else(|| "NULL".to_owned())
}

/// Code, message and hint of the error that a statement must give.
pub(super) async fn refused(client: &Client, sql: &str) -> (String, String, Option<String>) {
    let error = client.simple_query(sql).await.expect_err(sql);
    let refusal = error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error}"));
    (refusal.code().code().to_owned(), refusal.message().to_owned(), refusal.hint().map(str::to_owned))
}

pub(super) fn error_text(error: &tokio_postgres::Error) -> String {
    error
        .as_db_error()
        .map_or_else(|| error.to_string(), |e| format!("{}: {} {:?}", e.code().code(), e.message(), e.hint()))
}

pub(super) async fn within<T>(time: Duration, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(time, work).await.expect("the time limit of the test is over")
}
