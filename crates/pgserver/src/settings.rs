//! A private server's settings, and the three files that carry them.
//!
//! The files live beside the data, not in it: a restored base backup brings the platform's own
//! settings (archiving, preloaded libraries, a primary to follow, TLS keys), and none may apply.

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
    /// Settings of postgresql.conf; they go before the defaults, and never below a restored
    /// server's limits. The port, the socket's folder and the files' places are not for them.
    pub settings: Vec<(String, String)>,
    /// Whom `Server::url` names. `init` creates this role; a restored server has its own.
    pub superuser: String,
    /// A free one where absent.
    pub port: Option<u16>,
    /// False where the data may be lost with the machine: tests, restored copies.
    pub fsync: bool,
    /// Lines of pg_hba.conf. Where absent: anybody who can reach the socket, and 127.0.0.1 unless
    /// the server is a restored copy, which listens on its socket only.
    pub hba: Option<Vec<String>>,
    /// How long to wait for the server to accept connections; recovery of a backup counts.
    pub ready_within: Duration,
    /// Ends the start before that. A server that is ready is not reached any more.
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

/// Set by `start` alone: a server with other values would not be found again.
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
        values.insert(checked(name)?, value.clone());
    }
    for (name, floor) in restored.into_iter().flat_map(Limits::each) {
        let asked = values.get(name).and_then(|v| v.parse::<u64>().ok());
        values.insert(name.into(), asked.unwrap_or(0).max(floor).to_string());
    }
    let place = |path: &Path| path.to_string_lossy().into_owned();
    values.insert("port".into(), port.to_string());
    values.insert("unix_socket_directories".into(), quoted_list_item(&place(socket_folder)));
    values.insert("hba_file".into(), place(&folder.join("pg_hba.conf")));
    values.insert("ident_file".into(), place(&folder.join("pg_ident.conf")));

    let mut text = String::from("# Written anew by every start.\n");
    for (name, value) in &values {
        if value.contains(['\n', '\0']) {
            return Err(Error::input(format!("set {name}: its value has two lines")));
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
        // Not full_page_writes too: a standby's base backup needs them from its primary.
        values.push(("fsync", "off"));
    }
    if is_restored {
        values.extend([
            // The copy holds the platform's data, and trusts whoever reaches it.
            ("listen_addresses", ""),
            // The platform's subscriptions came along: their workers would take over its slots.
            ("max_logical_replication_workers", "0"),
            ("autovacuum", "off"),
        ]);
    }
    values.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn checked(name: &str) -> Result<String> {
    let name = name.to_ascii_lowercase();
    let well_formed = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
    if !well_formed {
        return Err(Error::input(format!("set {name:?}: not a setting's name")));
    }
    if RESERVED.contains(&name.as_str()) {
        return Err(Error::input(format!("set {name}: it is chosen for every private server by its start")));
    }
    Ok(name)
}

/// A folder's name may hold a comma or a space; the setting is a list.
fn quoted_list_item(item: &str) -> String {
    format!("\"{}\"", item.replace('"', "\"\""))
}
