//! Two private PostgreSQL servers with usual settings for their size: durable, with logical replication. They are
//! removed with their data when the benchmark ends.

use std::path::Path;

use anyhow::{Context, Result};
use pgserver::{Binaries, Options, Server};
use serde_json::{Value, json};

/// The database on the source server.
pub const DATABASE: &str = "bench";
/// The database on the target server; it is dropped after each run.
pub const COPY: &str = "copy";

const SETTINGS: [(&str, &str); 7] = [
    ("shared_buffers", "2GB"),
    ("max_wal_size", "8GB"),
    ("checkpoint_timeout", "15min"),
    ("wal_level", "logical"),
    ("max_wal_senders", "10"),
    ("max_replication_slots", "10"),
    // How long a subscription that is enabled again waits.
    ("wal_retrieve_retry_interval", "100ms"),
];

/// The source and the target server.
pub struct Servers {
    /// PostgreSQL's programs.
    pub bin: Binaries,
    pub source: Server,
    pub target: Server,
}

impl Servers {
    /// Starts both servers in folders of `work`.
    pub fn start(work: &Path) -> Result<Self> {
        let bin = Binaries::find(None).context("find PostgreSQL")?;
        let source = start_empty(&bin, &work.join("source"))?;
        let target = start_empty(&bin, &work.join("target"))?;
        Ok(Self { bin, source, target })
    }

    /// The URL of the source database.
    pub fn source_url(&self) -> String {
        self.source.tcp_url(DATABASE)
    }

    /// The URL of the target database.
    pub fn target_url(&self) -> String {
        self.target.tcp_url(COPY)
    }

    /// The servers' settings, for the results.
    pub fn settings(&self) -> Value {
        let mut all = json!({"fsync": "on"});
        for (name, value) in SETTINGS {
            all[name] = json!(value);
        }
        all
    }

    /// Stops and removes both servers.
    pub fn stop(self) -> Result<()> {
        for server in [self.source, self.target] {
            let dir = server.dir().to_owned();
            server.stop().context("stop a private server")?;
            pgserver::sweep(&self.bin, &dir).context("remove a private server")?;
        }
        Ok(())
    }
}

/// Starts an empty server in a folder; what an earlier run left there is removed.
pub fn start_empty(bin: &Binaries, dir: &Path) -> Result<Server> {
    // A killed run leaves its server's folder.
    pgserver::sweep(bin, dir).context("remove an earlier run's server")?;
    pgserver::init(bin, dir).context("create a private server")?;
    let settings = SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    pgserver::start(bin, dir, &Options { settings, fsync: true, ..Options::default() })
        .context("start a private server")
}
