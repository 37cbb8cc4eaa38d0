//! A private PostgreSQL server, whose results are the expected ones.

use pgserver::{Binaries, Options, Server};
use tokio_postgres::{Client, NoTls};

/// A running PostgreSQL server, and a connection to it.
pub(crate) struct Oracle {
    pub(crate) client: Client,
    pub(crate) server: Server,
    _folder: tempfile::TempDir,
}

impl Oracle {
    /// Starts a server.
    pub(crate) async fn new() -> Oracle {
        // The user postgres must be able to enter this folder.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        let folder = tempfile::Builder::new().permissions(open).tempdir().unwrap();
        let place = folder.path().join("oracle");
        let server = tokio::task::spawn_blocking(move || {
            let binaries = Binaries::find(None).unwrap();
            pgserver::init(&binaries, &place).unwrap();
            pgserver::start(&binaries, &place, &Options { fsync: false, ..Options::default() }).unwrap()
        });
        let server = server.await.unwrap();
        let (client, connection) = tokio_postgres::connect(&server.url("postgres"), NoTls).await.unwrap();
        tokio::spawn(connection);
        Oracle { client, server, _folder: folder }
    }
}
