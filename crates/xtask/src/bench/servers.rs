//! Two private PostgreSQL servers, set as a server of this size normally is: durable, and with
//! logical replication on. They and their data are gone afterwards.

use std::path::Path;

use anyhow::{Context, Result};
use pgserver::{Binaries, Options, Server};
use serde_json::{Value, json};

pub const DATABASE: &str = "bench";
/// On the target server; dropped after each run.
pub const COPY: &str = "copy";

const SETTINGS: [(&str, &str); 6] = [
    ("shared_buffers", "2GB"),
    ("max_wal_size", "8GB"),
    ("checkpoint_timeout", "15min"),
    ("wal_level", "logical"),
    ("max_wal_senders", "10"),
    ("max_replication_slots", "10"),
];

pub struct Servers {
    pub bin: Binaries,
    pub source: Server,
    pub target: Server,
}

impl Servers {
    pub fn start(work: &Path) -> Result<Self> {
        let bin = Binaries::find(None).context("find PostgreSQL")?;
        let source = fresh(&bin, &work.join("source"))?;
        let target = fresh(&bin, &work.join("target"))?;
        Ok(Self { bin, source, target })
    }

    pub fn source_url(&self) -> String {
        self.source.tcp_url(DATABASE)
    }

    pub fn target_url(&self) -> String {
        self.target.tcp_url(COPY)
    }

    pub fn settings(&self) -> Value {
        let mut all = json!({"fsync": "on"});
        for (name, value) in SETTINGS {
            all[name] = json!(value);
        }
        all
    }

    pub fn stop(self) -> Result<()> {
        for server in [self.source, self.target] {
            let dir = server.dir().to_owned();
            server.stop().context("stop a private server")?;
            pgserver::sweep(&self.bin, &dir).context("remove a private server")?;
        }
        Ok(())
    }
}

/// An empty, running one; what an earlier run left in the folder is removed.
pub fn fresh(bin: &Binaries, dir: &Path) -> Result<Server> {
    // A run that was killed left its server's folder.
    pgserver::sweep(bin, dir).context("remove an earlier run's server")?;
    pgserver::init(bin, dir).context("create a private server")?;
    let settings = SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    pgserver::start(bin, dir, &Options { settings, fsync: true, ..Options::default() })
        .context("start a private server")
}
