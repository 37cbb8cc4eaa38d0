//! A restored base backup, made startable as a private server of its own.
//! It never follows its primary, never archives, never runs what the primary preloaded.

use std::fs;
use std::path::Path;

use crate::account::{Account, remove_if_there};
use crate::error::{During, Error};
use crate::folder::Folder;
use crate::{Binaries, Result};

const NOTE: &str = "restored";
/// A setting, and what pg_controldata calls it.
const NAMES: [(&str, &str); 5] = [
    ("max_connections", "max_connections"),
    ("max_worker_processes", "max_worker_processes"),
    ("max_wal_senders", "max_wal_senders"),
    ("max_prepared_transactions", "max_prepared_xacts"),
    ("max_locks_per_transaction", "max_locks_per_xact"),
];
/// What makes a server a standby, what ALTER SYSTEM set on the primary, what its processes left.
const PRIMARYS_FILES: [&str; 8] = [
    "standby.signal",
    "recovery.signal",
    "recovery.conf",
    "postgresql.auto.conf",
    "postmaster.pid",
    "postmaster.opts",
    "current_logfiles",
    "logging_collector.pid",
];

/// The primary's limits: recovery replays what ran under them, and refuses to do so under less.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits(Vec<(&'static str, u64)>);

impl Limits {
    pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().copied()
    }

    /// From pg_controldata: "max_connections setting:              100".
    pub fn from_controldata(said: &str) -> Result<Self> {
        NAMES
            .iter()
            .map(|&(setting, called)| {
                let value = value_after(said, &format!("{called} setting:"));
                value
                    .map(|value| (setting, value))
                    .ok_or_else(|| Error::setup(format!("read the restored server's control data: no {called} in it")))
            })
            .collect::<Result<_>>()
            .map(Self)
    }

    /// What `prepare_restored` noted in this folder; None for a folder made by `init`.
    pub fn noted(folder: &Folder) -> Option<Self> {
        let note = fs::read_to_string(folder.join(NOTE)).ok()?;
        let values =
            NAMES.iter().filter_map(|&(setting, _)| Some((setting, value_after(&note, &format!("{setting} ="))?)));
        Some(Self(values.collect()))
    }

    fn note(&self) -> String {
        self.each().map(|(name, value)| format!("{name} = {value}\n")).collect()
    }
}

fn value_after(text: &str, label: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(label)?.trim().parse().ok())
}

/// Makes the base backup in `dir`/data startable by [`start`](crate::start): at its first start it
/// replays the log up to the end of the backup, then opens for reading and writing.
///
/// The settings that came along are ignored or removed; the limits recovery depends on are read
/// from pg_controldata and kept as a floor.
pub fn prepare_restored(bin: &Binaries, dir: &Path) -> Result<()> {
    let account = Account::current()?;
    let folder = Folder::open(dir)?;
    let mut command = account.command(&bin.path("pg_controldata"), &folder.path);
    let said = account.run(command.arg("-D").arg(folder.data()), "read the restored server's control data")?;
    let limits = Limits::from_controldata(&said)?;
    for name in PRIMARYS_FILES {
        remove_if_there(&folder.data().join(name))?;
    }
    account.fresh_file(&folder.join(NOTE), &limits.note())?.sync_all().during(|| "note the primary's limits".into())
}
