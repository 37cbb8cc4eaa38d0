//! Prepares a base backup to start as a private server. The server never follows its primary, never archives its log,
//! and never loads the primary's preloaded libraries.

use std::fs;
use std::path::Path;

use crate::account::{Account, remove_if_there};
use crate::error::{Error, ErrorContext};
use crate::folder::Folder;
use crate::{Binaries, Result};

const NOTE: &str = "restored";
/// Names of settings, each with its name in the output of pg_controldata.
const NAMES: [(&str, &str); 5] = [
    ("max_connections", "max_connections"),
    ("max_worker_processes", "max_worker_processes"),
    ("max_wal_senders", "max_wal_senders"),
    ("max_prepared_transactions", "max_prepared_xacts"),
    ("max_locks_per_transaction", "max_locks_per_xact"),
];
/// Files of the primary to remove: those that make a server a standby, the settings of ALTER SYSTEM, and the files of
/// its processes.
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

/// The primary's limits. Recovery refuses to replay its log under lower ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits(Vec<(&'static str, u64)>);

impl Limits {
    /// The limits, by the name of the setting.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().copied()
    }

    /// The limits in the output of pg_controldata: "max_connections setting:              100".
    pub fn from_controldata(output: &str) -> Result<Self> {
        NAMES
            .iter()
            .map(|&(setting, called)| {
                let value = value_after(output, &format!("{called} setting:"));
                value
                    .map(|value| (setting, value))
                    .ok_or_else(|| Error::setup(format!("read the restored server's control data: it has no {called}")))
            })
            .collect::<Result<_>>()
            .map(Self)
    }

    /// The limits that `prepare_restored` has written into this folder; `None` for a folder created by `init`.
    pub fn read_note(folder: &Folder) -> Option<Self> {
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

/// Prepares the base backup in `dir`/data for [`start`](crate::start). At its first start the server replays the log up
/// to the end of the backup, and then accepts reads and writes.
///
/// The primary's settings are ignored or removed. The limits that recovery depends on are read by pg_controldata and
/// stored in the folder, as the least values of these settings.
pub fn prepare_restored(bin: &Binaries, dir: &Path) -> Result<()> {
    let account = Account::current()?;
    let folder = Folder::open(dir)?;
    let mut command = account.command(&bin.path("pg_controldata"), &folder.path);
    let output = account.run(command.arg("-D").arg(folder.data()), "read the restored server's control data")?;
    let limits = Limits::from_controldata(&output)?;
    for name in PRIMARYS_FILES {
        remove_if_there(&folder.data().join(name))?;
    }
    account.create_file(&folder.join(NOTE), &limits.note())?.sync_all().during(|| "write the primary's limits".into())
}
