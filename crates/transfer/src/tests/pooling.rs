//! Connection poolers between a transfer and its source.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio_postgres::Config;

use super::fixture::{Fixture, incremental};
use crate::postgres::Endpoint;

/// A PgBouncer in front of the tests' server.
struct Pooler {
    child: Child,
    url: String,
    _folder: TempDir,
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Pooler {
    fn start(fixture: &Fixture, mode: &str) -> Pooler {
        let folder = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().unwrap();
        let server: Config = fixture.url.parse().unwrap();
        let (name, user) = (server.get_dbname().unwrap(), server.get_user().unwrap());
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let users = folder.path().join("users.txt");
        fs::write(&users, format!("\"{user}\" \"\"\n")).unwrap();
        let upstream = server.get_ports()[0];
        let ini = format!(
            "[databases]\n{name} = host=127.0.0.1 port={upstream} dbname={name}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = {mode}\n",
            users.display()
        );
        let file = folder.path().join("pgbouncer.ini");
        fs::write(&file, ini).unwrap();
        let mut command = Command::new("/usr/sbin/pgbouncer");
        command.arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        // It refuses to run as root.
        if let Some((uid, gid)) = pooler_account() {
            for path in [folder.path(), &users, &file] {
                chown(path, Some(uid), Some(gid)).unwrap();
            }
            command.uid(uid).gid(gid);
        }
        let child = command.spawn().expect("pgbouncer, which ./test installs");
        for _ in 0..12_000 {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Pooler { child, url: format!("postgresql://{user}@127.0.0.1:{port}/{name}"), _folder: folder }
    }
}

/// The account of the pooler for tests that run as root: `postgres`, which the server's package creates.
fn pooler_account() -> Option<(u32, u32)> {
    let id = |option: &str, user: &[&str]| {
        let output = Command::new("id").arg(option).args(user).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse::<u32>().unwrap()
    };
    (id("-u", &[]) == 0).then(|| (id("-u", &["postgres"]), id("-g", &["postgres"])))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_of_sessions_works() {
    let mut fixture =
        Fixture::new("CREATE TABLE t (id bigserial PRIMARY KEY, v text); INSERT INTO t (v) VALUES ('a')").await;
    let pooler = Pooler::start(&fixture, "session");
    fixture.source = Endpoint::parse(&pooler.url).unwrap();
    fixture.run_ok(&incremental()).await;
    fixture.sql("INSERT INTO t (v) VALUES ('b')").await;
    fixture.run_ok(&incremental()).await;
    assert_eq!(fixture.rows("public.t").await, ["1|a", "2|b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_of_transactions_is_refused_and_unchanged() {
    let fixture = Fixture::new("CREATE TABLE t (id bigserial PRIMARY KEY)").await;
    for mode in ["transaction", "statement"] {
        let pooler = Pooler::start(&fixture, mode);
        let endpoint = Endpoint::parse(&pooler.url).unwrap();
        let error = endpoint.connect().await.err().unwrap_or_else(|| panic!("{mode}: connected"));
        assert!(error.to_string().contains("a pooler assigns sessions per transaction"), "{mode}: {error}");
        // The refused connection has not changed the settings of the pool's other clients.
        let (client, connection) = pooler.url.parse::<Config>().unwrap().connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let messages = client.simple_query("SHOW search_path").await.unwrap();
        let shown = messages.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        assert_eq!(shown.as_deref(), Some("\"$user\", public"), "{mode}");
    }
}
