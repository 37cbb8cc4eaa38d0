//! SFTP sources: OpenSSH's server.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ingest::fetch::{fetch, list};
use ingest::objects::Hash;
use ingest::source::{HostKey, Login, Sftp, SftpServer, SkipReason, Source};
use ingest::{Error, Kind};
use tempfile::TempDir;

use crate::server::{DATE, QUICK, Server, UnreliableProxy, bytes_of, free_port, objects, templates};

/// A server with its own keys, for the user who runs the test.
struct SshServer {
    folder: TempDir,
    server: Server,
}

fn output_of(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn new_key(path: &Path, kind: &str, passphrase: &str) {
    output_of(Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", passphrase, "-f"]).arg(path));
}

impl SshServer {
    fn start() -> SshServer {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        new_key(&at("host"), "ed25519", "");
        new_key(&at("host_rsa"), "rsa", "");
        new_key(&at("user"), "ed25519", "");
        new_key(&at("user_rsa"), "rsa", "long phrase");
        new_key(&at("stranger"), "ed25519", "");
        let keys = ["user.pub", "user_rsa.pub"].map(|name| std::fs::read_to_string(at(name)).unwrap());
        std::fs::write(at("authorized_keys"), keys.concat()).unwrap();
        std::fs::create_dir(at("files")).unwrap();
        let port = free_port();
        let here = folder.path().display();
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {here}/host\nHostKey {here}/host_rsa\n\
             AuthorizedKeysFile {here}/authorized_keys\nStrictModes no\nUsePAM no\nPidFile none\n\
             PermitRootLogin yes\nPasswordAuthentication yes\nSubsystem sftp internal-sftp\n"
        );
        std::fs::write(at("config"), config).unwrap();
        let sshd = Path::new("/usr/sbin/sshd");
        assert!(sshd.exists(), "there is no sshd for the tests: run ./test, which installs it");
        // sshd of root needs this folder, which the system's service would create.
        if output_of(Command::new("id").arg("-u")) == "0" {
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        let server = Server::start(port, Command::new(sshd).arg("-D").arg("-f").arg(at("config")));
        SshServer { folder, server }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.at("files").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn fingerprint(&self, name: &str) -> String {
        let line = output_of(Command::new("ssh-keygen").arg("-lf").arg(self.at(name)));
        line.split(' ').nth(1).unwrap().to_owned()
    }

    /// A `known_hosts` file with these keys of the server.
    fn known_hosts(&self, port: u16, keys: &[&str]) -> HostKey {
        let line = |name: &&str| format!("[127.0.0.1]:{port} {}", std::fs::read_to_string(self.at(name)).unwrap());
        std::fs::write(self.at("known_hosts"), keys.iter().map(line).collect::<String>()).unwrap();
        HostKey::KnownHosts(self.at("known_hosts"))
    }

    fn known(&self) -> HostKey {
        HostKey::Fingerprints(vec![self.fingerprint("host.pub"), self.fingerprint("host_rsa.pub")])
    }

    fn key(&self) -> Login {
        Login::Key { file: self.at("user"), passphrase: None }
    }

    fn source(&self, port: u16, login: Login, host_key: HostKey, patterns: &[&str]) -> Sftp {
        let user = output_of(Command::new("id").arg("-un"));
        let server = SftpServer { host: "127.0.0.1".to_owned(), port, user, login, host_key };
        Sftp::new(server, self.at("files").to_str().unwrap(), templates(patterns))
    }

    async fn refusal(&self, login: Login, host_key: HostKey) -> Error {
        self.source(self.server.port, login, host_key, &["*"]).list(DATE).await.unwrap_err()
    }
}

#[tokio::test]
async fn files_of_a_folder_of_the_server() {
    let ssh = SshServer::start();
    let large = bytes_of(9 << 20);
    for (name, bytes) in
        [("2026-09/été.csv", b"prm;x".as_slice()), ("2026-09/deep/b.bin", &large), ("2026-10/c.csv", b"c")]
    {
        ssh.write(name, bytes);
    }
    ssh.write("2026-09/.part.csv", b"half");
    ssh.write("2026-09/empty.csv", b"");
    std::os::unix::fs::symlink("été.csv", ssh.at("files/2026-09/link.csv")).unwrap();
    let source = ssh.source(ssh.server.port, ssh.key(), ssh.known(), &["{date:%Y-%m}/**/*.{csv,bin}", "{date:%Y}/*"]);
    let listing = list(&source, DATE, Duration::ZERO, &QUICK).await.unwrap();
    let names: Vec<&str> = listing.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["2026-09/deep/b.bin", "2026-09/empty.csv", "2026-09/été.csv"]);
    assert_eq!((listing.skipped.len(), listing.skipped[0].reason), (1, SkipReason::NotPlainFile));
    let (_store, objects) = objects();
    for file in &listing.files {
        let object = fetch(&source, file, &objects, &QUICK).await.unwrap();
        let bytes = std::fs::read(ssh.at("files").join(&file.name)).unwrap();
        assert_eq!((object.sha256, Some(object.bytes)), (Hash::of(&bytes), file.size), "{}", file.name);
    }
    // From an offset, and after the file changed.
    let opened = source.open(&listing.files[2], 4).await.unwrap();
    let rest: Vec<_> = futures::TryStreamExt::try_collect(opened.bytes).await.unwrap();
    assert_eq!(rest.concat(), b"x");
    ssh.write("2026-09/été.csv", b"prm;other");
    let Err(error) = source.open(&listing.files[2], 0).await else { panic!() };
    assert_eq!(error.kind, Kind::Retry);
    std::fs::remove_file(ssh.at("files/2026-09/été.csv")).unwrap();
    let Err(error) = source.open(&listing.files[2], 0).await else { panic!() };
    assert_eq!(error.kind, Kind::FixInput, "{error}");
}

#[tokio::test]
async fn an_interrupted_connection_is_made_again() {
    let ssh = SshServer::start();
    let bytes = bytes_of(6 << 20);
    ssh.write("a.bin", &bytes);
    let proxy = UnreliableProxy::start(ssh.server.port, 2 << 20, 2);
    let source = ssh.source(proxy.port, ssh.key(), ssh.known(), &["*"]);
    let listing = list(&source, DATE, Duration::ZERO, &QUICK).await.unwrap();
    let (_store, objects) = objects();
    let object = fetch(&source, &listing.files[0], &objects, &QUICK).await.unwrap();
    assert_eq!(object.sha256, Hash::of(&bytes));
    assert_eq!(proxy.connections(), 3);
}

#[tokio::test]
async fn the_server_is_known_by_its_key() {
    let ssh = SshServer::start();
    ssh.write("a.csv", b"a");
    let port = ssh.server.port;
    // One of its two keys is known; the server would send the other first.
    for keys in [["host.pub"].as_slice(), &["host_rsa.pub"], &["host.pub", "host_rsa.pub"]] {
        let source = ssh.source(port, ssh.key(), ssh.known_hosts(port, keys), &["*"]);
        assert_eq!(source.list(DATE).await.unwrap().files.len(), 1, "{keys:?}");
    }
    let changed = ssh.refusal(ssh.key(), ssh.known_hosts(port, &["stranger.pub"])).await;
    assert_eq!(changed.kind, Kind::FixSetup);
    let message = changed.to_string();
    assert!(
        message.contains(&ssh.fingerprint("host.pub")) && message.contains("known_hosts:1 has another"),
        "{message}"
    );
    let unknown = ssh.refusal(ssh.key(), ssh.known_hosts(port + 1, &["host.pub"])).await;
    assert!(unknown.kind == Kind::FixSetup && unknown.to_string().contains("it is not in "), "{unknown}");
    let other = ssh.refusal(ssh.key(), HostKey::Fingerprints(vec![ssh.fingerprint("stranger.pub")])).await;
    assert!(other.kind == Kind::FixSetup && other.to_string().contains("is not the configured fingerprint"), "{other}");
    let none = ssh.refusal(ssh.key(), HostKey::KnownHosts(ssh.at("nothing"))).await;
    assert_eq!(none.kind, Kind::FixSetup);
}

#[tokio::test]
async fn who_may_log_in() {
    let ssh = SshServer::start();
    ssh.write("a.csv", b"a");
    let phrase = |text: &str| Login::Key { file: ssh.at("user_rsa"), passphrase: Some(text.to_owned()) };
    let source = ssh.source(ssh.server.port, phrase("long phrase"), ssh.known(), &["*"]);
    assert_eq!(source.list(DATE).await.unwrap().files.len(), 1, "RSA, under a passphrase");
    let refused = [
        (phrase("wrong"), "read the private key"),
        (Login::Key { file: ssh.at("stranger"), passphrase: None }, "refused; check the user"),
        (Login::Password("wrong".to_owned()), "refused; check the user"),
        (Login::Key { file: ssh.at("nothing"), passphrase: None }, "read the private key"),
    ];
    for (login, says) in refused {
        let error = ssh.refusal(login, ssh.known()).await;
        assert!(error.kind == Kind::FixSetup && error.to_string().contains(says), "{error}");
    }
    let unreachable = ssh.source(free_port(), ssh.key(), ssh.known(), &["*"]);
    assert_eq!(unreachable.list(DATE).await.unwrap_err().kind, Kind::Retry);
}
