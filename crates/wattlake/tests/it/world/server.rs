//! The PostgreSQL servers. Statics are never dropped: the kernel ends the server with this process,
//! and a shell that waits for this process's end removes the folder, also after a kill.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use pgserver::{Binaries, Options, Server};

/// Waits for its input's end, then for the server's, five seconds at most.
const REMOVE: &str = "read -r _; tries=0
    while [ -e \"$0/server/data/postmaster.pid\" ] && [ $tries -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done
    rm -rf \"$0\"";

/// The folder for all files of this process's tests, removed when the process ends. The user postgres
/// can enter it, as base backups need.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("wattlake-it-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let mut remover = Command::new("sh");
        remover.arg("-c").arg(REMOVE).arg(&folder).current_dir("/");
        remover.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // Its standard input stays open until this process ends.
        std::mem::forget(remover.spawn().unwrap());
        folder
    })
}

/// The server that holds the databases of all tests.
pub fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let (binaries, folder) = (Binaries::find(None).unwrap(), folder().join("server"));
        pgserver::init(&binaries, &folder).unwrap();
        let settings = [
            ("max_connections", "200"),
            ("max_wal_senders", "64"),
            ("synchronous_commit", "off"),
            ("wal_keep_size", "1GB"),
            ("wal_level", "logical"),
            ("max_replication_slots", "64"),
        ];
        // `locked` and `reader` are the roles that need a password.
        let hba = [
            "local all,replication all trust",
            "host all locked,reader 127.0.0.1/32 scram-sha-256",
            "host all,replication all 127.0.0.1/32 trust",
        ];
        let hba = Some(hba.map(str::to_owned).to_vec());
        pgserver::start(&binaries, &folder, &Options { hba, ..options(&settings) }).unwrap()
    })
}

fn options(settings: &[(&str, &str)]) -> Options {
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Options { settings: settings.collect(), fsync: false, ..Options::default() }
}

/// A standby of [`server`].
pub struct Standby {
    server: Server,
}

impl Standby {
    /// Starts a standby in a folder of this name.
    pub fn start(name: &str) -> Standby {
        let (binaries, folder) = (Binaries::find(None).unwrap(), folder().join(name));
        pgserver::base_backup(&binaries, &server().tcp_url("postgres"), &folder, &mut |_, _| ()).unwrap();
        pgserver::prepare_restored(&binaries, &folder).unwrap();
        fs::write(folder.join("data/standby.signal"), "").unwrap();
        let primary = format!("host=127.0.0.1 port={} user=postgres", server().port());
        let settings = [("primary_conninfo", primary.as_str()), ("listen_addresses", "127.0.0.1")];
        let hba = Some(vec!["local all all trust".to_owned(), "host all all 127.0.0.1/32 trust".to_owned()]);
        let server = pgserver::start(&binaries, &folder, &Options { hba, ..options(&settings) }).unwrap();
        Standby { server }
    }

    /// The URL of a database of the standby.
    pub fn url(&self, database: &str) -> String {
        self.server.tcp_url(database)
    }
}
