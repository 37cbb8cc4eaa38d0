//! The settings of a private server, and the files postgresql.conf, pg_hba.conf and pg_ident.conf.
//!
//! The files are outside the data folder: a restored base backup contains the platform's own settings there (archiving,
//! preloaded libraries, a primary to follow, TLS keys), and none of them may apply.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use crate::Result;
use crate::cancellation::Cancellation;
use crate::error::Error;
use crate::restored::Limits;

/// How to start a server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Settings of postgresql.conf, which replace the defaults. The limits of a restored server are never lower than
    /// its primary's. The port and the paths of files and sockets can't be set here.
    pub settings: Vec<(String, String)>,
    /// The role in `Server::url`. `init` creates it; a restored server must have it.
    pub superuser: String,
    /// The port; `None` chooses a free one.
    pub port: Option<u16>,
    /// PostgreSQL's setting `fsync`. False where the data may be lost in a crash of the machine: tests, restored
    /// copies.
    pub fsync: bool,
    /// Lines of pg_hba.conf. `None` accepts connections without authentication on the socket, and on 127.0.0.1 unless
    /// the server is a restored copy, which listens on its socket only.
    pub hba: Option<Vec<String>>,
    /// How long to wait until the server accepts connections, the recovery of a backup included.
    pub ready_within: Duration,
    /// Cancels the start. Without effect once the server is ready.
    pub cancellation: Cancellation,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            settings: Vec::new(),
            superuser: "postgres".into(),
            port: None,
            fsync: true,
            hba: None,
            ready_within: Duration::from_secs(60),
            cancellation: Cancellation::default(),
        }
    }
}

/// The settings that only `start` may set: with other values the server would not be found.
const RESERVED: [&str; 7] =
    ["port", "unix_socket_directories", "data_directory", "config_file", "hba_file", "ident_file", "external_pid_file"];

/// The text of postgresql.conf.
pub(crate) fn server_conf(
    options: &Options,
    restored: Option<&Limits>,
    port: u16,
    socket_folder: &Path,
    folder: &Path,
) -> Result<String> {
    let mut values = defaults(options.fsync, restored.is_some());
    for (name, value) in &options.settings {
        values.insert(checked_name(name)?, value.clone());
    }
    for (name, floor) in restored.into_iter().flat_map(Limits::each) {
        let set = values.get(name).and_then(|v| v.parse::<u64>().ok());
        values.insert(name.into(), set.unwrap_or(0).max(floor).to_string());
    }
    let place = |path: &Path| path.to_string_lossy().into_owned();
    values.insert("port".into(), port.to_string());
    values.insert("unix_socket_directories".into(), quoted_list_item(&place(socket_folder)));
    values.insert("hba_file".into(), place(&folder.join("pg_hba.conf")));
    values.insert("ident_file".into(), place(&folder.join("pg_ident.conf")));

    let mut text = String::from("# Written by every start.\n");
    for (name, value) in &values {
        if value.contains(['\n', '\0']) {
            return Err(Error::input(format!("set {name}: its value contains a line feed or a zero character")));
        }
        let value = value.replace('\\', "\\\\").replace('\'', "''");
        // Writing to a String can't fail.
        let _ = writeln!(text, "{name} = '{value}'");
    }
    Ok(text)
}

/// The text of pg_hba.conf.
pub(crate) fn hba_conf(options: &Options, is_restored: bool) -> String {
    let lines = match &options.hba {
        Some(lines) => lines.clone(),
        None => {
            let mut lines = vec!["local all all trust".to_owned(), "local replication all trust".to_owned()];
            if !is_restored {
                lines.push("host all all 127.0.0.1/32 trust".to_owned());
                lines.push("host replication all 127.0.0.1/32 trust".to_owned());
            }
            lines
        }
    };
    lines.join("\n") + "\n"
}

fn defaults(fsync: bool, is_restored: bool) -> BTreeMap<String, String> {
    let mut values = vec![
        ("wal_level", "logical"),
        ("max_wal_senders", "10"),
        ("max_replication_slots", "10"),
        ("listen_addresses", "127.0.0.1"),
        ("lc_messages", "C"),
        ("log_line_prefix", "%m [%p] "),
    ];
    if !fsync {
        // full_page_writes stays on: the base backup of a standby needs them from its primary.
        values.push(("fsync", "off"));
    }
    if is_restored {
        values.extend([
            // The copy contains the platform's data, and accepts connections without authentication.
            ("listen_addresses", ""),
            // The copy has the platform's subscriptions: their workers would use the platform's replication slots.
            ("max_logical_replication_workers", "0"),
            ("autovacuum", "off"),
        ]);
    }
    values.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn checked_name(name: &str) -> Result<String> {
    let name = name.to_ascii_lowercase();
    let well_formed = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
    if !well_formed {
        return Err(Error::input(format!("set {name:?}: it is not the name of a setting")));
    }
    if RESERVED.contains(&name.as_str()) {
        return Err(Error::input(format!("set {name}: the start of a private server sets it itself")));
    }
    Ok(name)
}

/// An item of a setting that is a list, quoted because a folder's name may contain a comma or a space.
fn quoted_list_item(item: &str) -> String {
    format!("\"{}\"", item.replace('"', "\"\""))
}
