//! A database for one test, and SQL on it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use platform::Scale;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, Config, SimpleQueryMessage};

use super::server::server;

/// A database of the shared server, or of another one.
pub struct Source {
    name: String,
    url: String,
    runtime: Runtime,
    client: Client,
}

impl Source {
    /// An empty database.
    pub fn empty() -> Source {
        Source::like("template1")
    }

    /// A copy of the made-up platform after its history: 20 thousand rows.
    pub fn platform() -> Source {
        static TEMPLATE: OnceLock<String> = OnceLock::new();
        let template = TEMPLATE.get_or_init(|| {
            let source = Source::empty();
            source.fill();
            source.name
        });
        Source::like(template)
    }

    fn like(template: &str) -> Source {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let postgres = Source::open("postgres");
        // A client that has just left may still be counted as a user of the template.
        let deadline = Instant::now() + Duration::from_secs(180);
        while let Err(error) = postgres.try_execute(&format!("create database {name} template {template}")) {
            assert!(Instant::now() < deadline, "{error}");
            std::thread::sleep(Duration::from_millis(50));
        }
        Source::open(&name)
    }

    fn open(name: &str) -> Source {
        Source { name: name.to_owned(), ..Source::at(&server().tcp_url(name)) }
    }

    /// The database at this URL.
    pub fn at(url: &str) -> Source {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let config: Config = url.parse().unwrap();
        let client = runtime.block_on(platform::connect(&config)).unwrap();
        Source { name: config.get_dbname().unwrap().to_owned(), url: url.to_owned(), runtime, client }
    }

    fn fill(&self) {
        let config: Config = self.url().parse().unwrap();
        let filled = async {
            platform::create(&self.client, &Scale::tiny()).await?;
            platform::fill(|| platform::connect(&config), &Scale::tiny(), &|_, _| ()).await
        };
        self.runtime.block_on(filled).unwrap();
    }

    /// A day passes on the platform: new rows, late corrections, a purge.
    pub fn simulate_day(&self, day: u32) -> platform::Changes {
        self.runtime.block_on(platform::simulate_day(&self.client, &Scale::tiny(), day)).unwrap()
    }

    /// The database's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URL of the database, as postgres.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// The URL of the database with another user, and its password where it has one: `USER` or `USER:PASSWORD`.
    pub fn url_as(&self, user: &str) -> String {
        self.url().replacen("postgres@", &format!("{user}@"), 1)
    }

    /// Runs statements; panics where one fails.
    pub fn execute(&self, statements: &str) {
        self.try_execute(statements).unwrap();
    }

    /// Runs the statements of a transaction; one that fails is rolled back.
    #[cfg(feature = "failpoints")]
    pub fn attempt(&self, statements: &str) {
        if self.try_execute(statements).is_err() {
            self.execute("rollback");
        }
    }

    fn try_execute(&self, statements: &str) -> Result<(), tokio_postgres::Error> {
        self.runtime.block_on(self.client.batch_execute(statements))
    }

    /// The rows of a query, as PostgreSQL's texts; NULL as "NULL".
    pub fn rows(&self, query: &str) -> Vec<Vec<String>> {
        let messages = self.runtime.block_on(self.client.simple_query(query)).unwrap();
        let row = |message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|at| row.get(at).unwrap_or("NULL").to_owned()).collect())
            }
            _ => None,
        };
        messages.into_iter().filter_map(row).collect()
    }

    /// The first value of the first row.
    pub fn value(&self, query: &str) -> String {
        self.rows(query).swap_remove(0).swap_remove(0)
    }

    /// How many rows a table has, or a table with a `where`.
    pub fn count(&self, table: &str) -> u64 {
        self.value(&format!("select count(*) from {table}")).parse().unwrap()
    }
}
