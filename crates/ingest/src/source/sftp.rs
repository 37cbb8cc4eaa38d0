//! A folder of an SFTP server as a source. The server's key is verified before the login is sent.

use std::path::PathBuf;
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use chrono::{DateTime, NaiveDate, Utc};
use futures::StreamExt;
use russh::client::{self, Handle};
use russh::keys::ssh_key::PublicKey;
use russh::keys::{HashAlg, PrivateKeyWithHashAlg, PublicKeyOrCertificate, known_hosts, load_secret_key};
use russh_sftp::client::SftpSession;
use russh_sftp::client::error::Error as SftpError;
use russh_sftp::client::fs::Metadata;
use russh_sftp::protocol::StatusCode;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::Mutex;

use super::{
    FILES_MAX, ListedFile, Listing, OpenedFile, Pattern, SkipReason, SkippedFile, Source, Template, file_changed,
};
use crate::error::ErrorContext;
use crate::{Error, Kind, Result};

const CONNECT_TIME_MAX: Duration = Duration::from_secs(30);
/// How long a request may take.
const REQUEST_TIME_MAX_S: u64 = 60;
const PIECE_BYTES: usize = 256 << 10;

/// How to connect to an SFTP server.
pub struct SftpServer {
    /// A name or an address.
    pub host: String,
    /// Usually 22.
    pub port: u16,
    /// The user to log in as.
    pub user: String,
    /// How the user is authenticated.
    pub login: Login,
    /// How the server is authenticated.
    pub host_key: HostKey,
}

/// How a user is authenticated.
pub enum Login {
    /// By a password.
    Password(String),
    /// By a private key in OpenSSH or PEM format.
    Key {
        /// The file of the key.
        file: PathBuf,
        /// What the file is encrypted with, if it is.
        passphrase: Option<String>,
    },
}

/// How the server is authenticated. There is no way to accept any key.
pub enum HostKey {
    /// By one of these fingerprints, as `ssh-keygen -l` writes them: `SHA256:...`.
    Fingerprints(Vec<String>),
    /// By a `known_hosts` file of OpenSSH.
    KnownHosts(PathBuf),
}

/// A folder of an SFTP server. Its connection is kept between calls.
pub struct Sftp {
    server: Arc<SftpServer>,
    folder: String,
    patterns: Vec<Template>,
    /// Replaced after it failed.
    session: Mutex<Option<Arc<Session>>>,
}

struct Session {
    /// Kept because dropping the handle closes the connection.
    _ssh: Handle<HostKeyCheck>,
    sftp: SftpSession,
}

impl Sftp {
    /// `folder` is a path on the server, absolute or relative to the user's home folder; empty for the home folder.
    pub fn new(server: SftpServer, folder: &str, patterns: Vec<Template>) -> Sftp {
        let folder = if folder.is_empty() { ".".to_owned() } else { folder.trim_end_matches('/').to_owned() };
        Sftp { server: Arc::new(server), folder, patterns, session: Mutex::default() }
    }

    async fn session(&self) -> Result<Arc<Session>> {
        let mut kept = self.session.lock().await;
        if let Some(session) = kept.as_ref().filter(|session| !session._ssh.is_closed()) {
            return Ok(Arc::clone(session));
        }
        let context = format!("connect to {}:{}", self.server.host, self.server.port);
        let late = Error::new(Kind::Retry, format!("{context}: no answer within {} s", CONNECT_TIME_MAX.as_secs()));
        let session =
            tokio::time::timeout(CONNECT_TIME_MAX, connect(&self.server, &context)).await.map_err(|_| late)??;
        Ok(Arc::clone(kept.insert(Arc::new(session))))
    }

    /// The error of a request. After one that may come from the connection, the session is not used again.
    async fn failed(&self, context: String, error: SftpError) -> Error {
        let kind = kind_of(&error);
        if kind == Kind::Retry {
            *self.session.lock().await = None;
        }
        Error::new(kind, context).because(error)
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }

    async fn list_one(&self, pattern: &Pattern, listing: &mut Listing) -> Result<()> {
        let session = self.session().await?;
        let mut pending = vec![(pattern.folder().to_owned(), 1)];
        while let Some((folder, depth)) = pending.pop() {
            let path = if folder.is_empty() { self.folder.clone() } else { self.path(&folder) };
            let entries = match session.sftp.read_dir(path.clone()).await {
                Ok(entries) => entries,
                // A folder in the source's own that does not exist yet, or was removed meanwhile.
                Err(SftpError::Status(status))
                    if status.status_code == StatusCode::NoSuchFile && !folder.is_empty() =>
                {
                    continue;
                }
                Err(error) => return Err(self.failed(format!("list {path}"), error).await),
            };
            for entry in entries {
                let name =
                    if folder.is_empty() { entry.file_name() } else { format!("{folder}/{}", entry.file_name()) };
                let metadata = entry.metadata();
                if kind(&metadata) == Some(DIRECTORY) {
                    if depth < pattern.depth_max() {
                        pending.push((name, depth + 1));
                    }
                } else if pattern.matches(&name) {
                    add_entry(name, &metadata, listing);
                }
            }
            if listing.files.len() > FILES_MAX {
                break;
            }
        }
        Ok(())
    }
}

const KIND: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const PLAIN_FILE: u32 = 0o100_000;

/// The file type's bits; all are compared, since those of a link include those of a file. Some servers don't send them.
fn kind(metadata: &Metadata) -> Option<u32> {
    metadata.permissions.map(|mode| mode & KIND).filter(|kind| *kind != 0)
}

fn add_entry(name: String, metadata: &Metadata, listing: &mut Listing) {
    if name.contains('\u{fffd}') {
        listing.skipped.push(SkippedFile { name, reason: SkipReason::NotUtf8 });
    } else if kind(metadata).is_some_and(|kind| kind != PLAIN_FILE) {
        listing.skipped.push(SkippedFile { name, reason: SkipReason::NotPlainFile });
    } else {
        listing.files.push(described(&name, metadata));
    }
}

#[async_trait]
impl Source for Sftp {
    async fn list(&self, date: NaiveDate) -> Result<Listing> {
        let mut listing = Listing::default();
        for pattern in &self.patterns {
            self.list_one(&Pattern::parse(&pattern.fill(date))?, &mut listing).await?;
        }
        listing.finish()
    }

    async fn open(&self, file: &ListedFile, from: u64) -> Result<OpenedFile> {
        let session = self.session().await?;
        let path = self.path(&file.name);
        let context = format!("read {path}");
        let mut handle = match session.sftp.open(path).await {
            Ok(handle) => handle,
            Err(error) => return Err(self.failed(context, error).await),
        };
        match handle.metadata().await {
            Ok(now) if described(&file.name, &now).is_like(file) => {}
            Ok(_) => return Err(file_changed(&file.name)),
            Err(error) => return Err(self.failed(context, error).await),
        }
        handle.seek(std::io::SeekFrom::Start(from)).await.during(Kind::Retry, context.clone())?;
        let pieces =
            futures::stream::try_unfold((handle, session, file.clone()), move |(mut handle, session, listed)| {
                let context = context.clone();
                async move {
                    let mut piece = BytesMut::with_capacity(PIECE_BYTES);
                    let read = handle.read_buf(&mut piece).await.during(Kind::Retry, context.clone())?;
                    if read > 0 {
                        return Ok(Some((piece.freeze(), (handle, session, listed))));
                    }
                    let last = handle.metadata().await.during(Kind::Retry, context)?;
                    if described(&listed.name, &last).is_like(&listed) {
                        Ok(None)
                    } else {
                        Err(file_changed(&listed.name))
                    }
                }
            });
        Ok(OpenedFile { from, bytes: pieces.boxed() })
    }
}

fn described(name: &str, metadata: &Metadata) -> ListedFile {
    let modified = metadata.mtime.and_then(|at| DateTime::<Utc>::from_timestamp(i64::from(at), 0));
    ListedFile { name: name.to_owned(), size: metadata.size, modified, etag: None }
}

fn kind_of(error: &SftpError) -> Kind {
    match error {
        SftpError::Status(status) => match status.status_code {
            StatusCode::NoSuchFile => Kind::FixInput,
            StatusCode::PermissionDenied | StatusCode::OpUnsupported => Kind::FixSetup,
            _ => Kind::Retry,
        },
        _ => Kind::Retry,
    }
}

async fn connect(server: &Arc<SftpServer>, context: &str) -> Result<Session> {
    let refusal = Arc::new(SyncMutex::new(None));
    let check = HostKeyCheck { server: Arc::clone(server), refusal: Arc::clone(&refusal) };
    let config = client::Config {
        keepalive_interval: Some(Duration::from_secs(15)),
        nodelay: true,
        preferred: preferred(server)?,
        ..client::Config::default()
    };
    let address = (server.host.as_str(), server.port);
    let mut ssh = match client::connect(Arc::new(config), address, check).await {
        Ok(ssh) => ssh,
        Err(error) => {
            let refused: Option<String> = refusal.lock().unwrap_or_else(PoisonError::into_inner).take();
            return Err(match refused {
                Some(why) => Error::new(Kind::FixSetup, format!("{context}: {why}")),
                None => Error::new(Kind::Retry, context).because(error),
            });
        }
    };
    log_in(&mut ssh, server).await?;
    let channel = ssh.channel_open_session().await.during(Kind::Retry, context)?;
    channel.request_subsystem(true, "sftp").await.during(Kind::Retry, context)?;
    let sftp = SftpSession::new(channel.into_stream()).await.during(Kind::Retry, format!("{context}: begin SFTP"))?;
    sftp.set_timeout(REQUEST_TIME_MAX_S);
    Ok(Session { _ssh: ssh, sftp })
}

async fn log_in(ssh: &mut Handle<HostKeyCheck>, server: &SftpServer) -> Result<()> {
    let context = format!("log in to {} as {}", server.host, server.user);
    let answer = match &server.login {
        Login::Password(password) => ssh.authenticate_password(&server.user, password).await,
        Login::Key { file, passphrase } => {
            let key = load_secret_key(file, passphrase.as_deref())
                .during(Kind::FixSetup, format!("read the private key {}", file.display()))?;
            // Only RSA keys use it. Servers that don't announce a hash, from before 2015, know SHA-1 only.
            let hash = ssh.best_supported_rsa_hash().await.during(Kind::Retry, context.clone())?.flatten();
            let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
            ssh.authenticate_publickey(&server.user, key).await
        }
    };
    let answer = answer.during(Kind::Retry, context.clone())?;
    if answer.success() {
        return Ok(());
    }
    Err(Error::new(Kind::FixSetup, format!("{context}: refused; check the user name and the password or key")))
}

/// The key algorithms to offer: those under which the server is in `known_hosts`. It may have other keys too, and would
/// send one of them first.
fn preferred(server: &SftpServer) -> Result<russh::Preferred> {
    let mut preferred = russh::Preferred::default();
    if let HostKey::KnownHosts(file) = &server.host_key {
        std::fs::metadata(file).during(Kind::FixSetup, format!("read {}", file.display()))?;
        let known = known_hosts::known_host_keys_path(&server.host, server.port, file)
            .during(Kind::FixSetup, format!("read {}", file.display()))?;
        let is_known = |algorithm: &russh::keys::Algorithm| {
            let same = |key: &PublicKey| {
                let of_key = key.algorithm();
                of_key == *algorithm || (of_key.is_rsa() && algorithm.clone().is_rsa())
            };
            known.iter().any(|(_, key)| same(key))
        };
        let kept: Vec<_> = preferred.key.iter().filter(|algorithm| is_known(algorithm)).cloned().collect();
        if !kept.is_empty() {
            preferred.key = kept.into();
        }
    }
    Ok(preferred)
}

/// Verifies the server's key while the connection is made.
struct HostKeyCheck {
    server: Arc<SftpServer>,
    refusal: Arc<SyncMutex<Option<String>>>,
}

impl HostKeyCheck {
    fn check_key(&self, key: &PublicKey) -> Result<(), String> {
        let shown = key.fingerprint(HashAlg::Sha256).to_string();
        let kind = key.algorithm().to_string();
        let ask = "ask its owner before you change the configuration";
        match &self.server.host_key {
            HostKey::Fingerprints(known) => {
                let is_known = known.iter().any(|one| one.trim_end_matches('=') == shown);
                let what = || format!("its {kind} key is {shown}, which is not the configured fingerprint; {ask}");
                is_known.then_some(()).ok_or_else(what)
            }
            HostKey::KnownHosts(file) => {
                let file_name = file.display();
                match known_hosts::check_known_hosts_path(&self.server.host, self.server.port, key, file) {
                    Ok(true) => Ok(()),
                    Ok(false) => Err(format!("it is not in {file_name}; its {kind} key is {shown}; {ask}")),
                    Err(russh::keys::Error::KeyChanged { line }) => {
                        Err(format!("its {kind} key is {shown}, and {file_name}:{line} has another; {ask}"))
                    }
                    Err(error) => Err(format!("{file_name} can't be read: {error}")),
                }
            }
        }
    }
}

impl client::Handler for HostKeyCheck {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        let verdict = match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => self.check_key(key),
            // A certificate was not requested, so it is not trusted.
            PublicKeyOrCertificate::Certificate(_) => Err("it sent a certificate, and a key is expected".to_owned()),
        };
        let is_known = verdict.is_ok();
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = verdict.err();
        Ok(is_known)
    }
}
