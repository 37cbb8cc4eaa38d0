//! The address of a PostgreSQL server and the settings of connections to it. Both kinds of connections are made by it:
//! those of tokio-postgres for queries, and those of [`super::wire`] for the rows of tables.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::sync::OnceCell;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config};

use super::pooling;
use crate::error::{Context, Error, Result};

/// libpq's `sslmode`. `allow` is read as `prefer`, and `verify-ca` as `verify-full`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// Without TLS.
    Disable,
    /// With TLS where the server offers it; the certificate is not checked.
    Prefer,
    /// With TLS; the certificate is not checked, as in libpq.
    Require,
    /// With TLS; the certificate and the host's name are checked.
    VerifyFull,
}

/// A database on a PostgreSQL server, with the user and the settings of connections to it.
#[derive(Clone)]
pub struct Endpoint {
    /// The address, the user and the password.
    pub(crate) config: Config,
    /// Whether connections use TLS.
    pub(crate) tls: Tls,
    /// The settings of TLS.
    pub(crate) client_config: Arc<ClientConfig>,
    lock_timeout: Duration,
    /// Set once it is known that each connection has a session of its own.
    has_sessions: Arc<OnceCell<()>>,
}

/// How long to wait for a lock by default: long enough for locks that are held briefly, short enough that one table
/// does not block a run.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.display())
    }
}

impl Endpoint {
    /// Reads a `postgresql://` URL with the parameters of libpq, `sslmode` and `sslrootcert` included.
    ///
    /// # Errors
    /// Where the URL is malformed, or the certificates can't be read.
    pub fn parse(url: &str) -> Result<Self> {
        let mut parsed = url::Url::parse(url).map_err(|e| Error::setup("read the connection's URL").because(e))?;
        let (mut tls, mut root_cert, mut rest) = (Tls::Prefer, None, Vec::new());
        for (key, value) in parsed.query_pairs() {
            match key.as_ref() {
                "sslmode" => tls = parse_mode(&value)?,
                "sslrootcert" => root_cert = Some(value.into_owned()),
                _ => rest.push((key.into_owned(), value.into_owned())),
            }
        }
        parsed.set_query(None);
        if !rest.is_empty() {
            parsed.query_pairs_mut().extend_pairs(&rest);
        }
        let mut config: Config = parsed.as_str().parse::<Config>().context("read the connection's URL")?;
        config.ssl_mode(match tls {
            Tls::Disable => SslMode::Disable,
            Tls::Prefer => SslMode::Prefer,
            Tls::Require | Tls::VerifyFull => SslMode::Require,
        });
        if config.get_user().is_none() {
            // Both kinds of connections must use the same user. The name of the system's user is not looked up.
            config.user("postgres");
        }
        if config.get_application_name().is_none() {
            config.application_name("wattlake");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(10));
        }
        let client_config = Arc::new(client_config(tls, root_cert.as_deref())?);
        Ok(Endpoint { config, tls, client_config, lock_timeout: LOCK_TIMEOUT, has_sessions: Arc::default() })
    }

    /// The database and user of `like` on a private server, by its Unix socket, without TLS and without a password.
    pub fn socket(folder: &std::path::Path, port: u16, like: &Endpoint) -> Result<Self> {
        let mut config = Config::new();
        config.host_path(folder).port(port).user(like.user()).dbname(like.database()).application_name("wattlake");
        config.ssl_mode(SslMode::Disable);
        let client_config = Arc::new(client_config(Tls::Disable, None)?);
        let lock_timeout = like.lock_timeout;
        Ok(Endpoint { config, tls: Tls::Disable, client_config, lock_timeout, has_sessions: Arc::default() })
    }

    /// The user's name.
    pub fn user(&self) -> &str {
        self.config.get_user().unwrap_or("postgres")
    }

    /// The database's name.
    pub fn database(&self) -> &str {
        self.config.get_dbname().unwrap_or_else(|| self.user())
    }

    /// `host:port/database` for messages, without user and password.
    pub fn display(&self) -> String {
        let host = match self.config.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            #[cfg(unix)]
            Some(Host::Unix(path)) => path.display().to_string(),
            None => "localhost".into(),
        };
        let port = self.config.get_ports().first().copied().unwrap_or(5432);
        format!("{host}:{port}/{}", self.config.get_dbname().unwrap_or("postgres"))
    }

    /// A connection for queries, with the settings of [`SESSION`].
    ///
    /// # Errors
    /// Where the connection fails, and where a pooler shares sessions between connections.
    pub async fn connect(&self) -> Result<Client> {
        let tls = tokio_postgres_rustls::MakeRustlsConnect::new((*self.client_config).clone());
        let connected = self.config.connect(tls).await;
        let hint = connected.as_ref().err().and_then(connect_hint);
        let connected = connected.context(format!("connect to PostgreSQL at {}", self.display()));
        let (client, connection) = match hint {
            Some(hint) => connected.map_err(|error| error.hint(hint))?,
            None => connected?,
        };
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
        // Before any setting is changed: it would affect other clients of the pooler.
        self.has_sessions.get_or_try_init(|| pooling::refuse_shared_sessions(self)).await?;
        client.batch_execute(&self.session()).await.context("set up the session")?;
        Ok(client)
    }

    /// The SQL that every session starts with.
    pub(crate) fn session(&self) -> String {
        format!("{SESSION}; SET lock_timeout = '{}ms'", self.lock_timeout.as_millis())
    }

    /// Sets how long to wait for a lock before its table fails. Zero waits without a limit.
    #[must_use]
    pub fn with_lock_timeout(mut self, lock_timeout: Duration) -> Self {
        self.lock_timeout = lock_timeout;
        self
    }
}

/// The settings of every session: the texts of dates, intervals and floats don't depend on the settings of the server
/// or the role, and nothing but a lock may time out. Settings that an older server lacks are not set.
pub(crate) const SESSION: &str = "SET datestyle = 'ISO, YMD'; SET intervalstyle = 'iso_8601'; SET timezone = 'UTC'; \
     SET extra_float_digits = 1; SET bytea_output = 'hex'; SET client_encoding = 'UTF8'; \
     SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET search_path = pg_catalog; SET row_security = off; \
     SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN ('idle_session_timeout', 'transaction_timeout')";

fn parse_mode(value: &str) -> Result<Tls> {
    match value {
        "disable" => Ok(Tls::Disable),
        "prefer" | "allow" => Ok(Tls::Prefer),
        "require" => Ok(Tls::Require),
        "verify-full" | "verify-ca" => Ok(Tls::VerifyFull),
        other => Err(Error::setup(format!("read sslmode {other:?} of the connection's URL"))
            .hint("use disable, prefer, require or verify-full")),
    }
}

fn client_config(tls: Tls, root_cert: Option<&str>) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::bug("set up TLS").because(e))?;
    if tls != Tls::VerifyFull && root_cert.is_none() {
        let verifier = Arc::new(AnyCertificate(provider));
        return Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth());
    }
    let mut roots = RootCertStore::empty();
    match root_cert {
        Some(path) => {
            let certs = CertificateDer::pem_file_iter(path)
                .map_err(|e| Error::setup(format!("read sslrootcert {path}")).because(e))?;
            for cert in certs {
                let cert = cert.map_err(|e| Error::setup(format!("read sslrootcert {path}")).because(e))?;
                roots.add(cert).map_err(|e| Error::setup(format!("read sslrootcert {path}")).because(e))?;
            }
        }
        None => {
            for cert in rustls_native_certs::load_native_certs().certs {
                // A certificate of the system's store that rustls can't read can't verify a server either.
                let _ = roots.add(cert);
            }
        }
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Accepts every certificate: `sslmode=require` encrypts and does not verify, as in libpq.
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What a user can do about a connection that failed, where its error tells.
fn connect_hint(error: &tokio_postgres::Error) -> Option<&'static str> {
    use tokio_postgres::error::SqlState;
    Some(match error.code() {
        Some(code) if [SqlState::INVALID_PASSWORD, SqlState::INVALID_AUTHORIZATION_SPECIFICATION].contains(code) => {
            "check `user` and `password` of the connection in wattlake.toml, and the server's pg_hba.conf"
        }
        Some(code) if *code == SqlState::INVALID_CATALOG_NAME => "check `database` of the connection in wattlake.toml",
        Some(code) if *code == SqlState::TOO_MANY_CONNECTIONS => {
            "lower `streams` or `parallel_tables` of the transfer, or raise max_connections of the server"
        }
        Some(_) => return None,
        None => {
            let mut cause: &dyn std::error::Error = error;
            while let Some(next) = cause.source() {
                cause = next;
            }
            let kind = cause.downcast_ref::<std::io::Error>()?.kind();
            let is_refused = matches!(kind, std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::NotFound);
            return is_refused
                .then_some("check `host` and `port` of the connection in wattlake.toml, and that the server runs");
        }
    })
}
