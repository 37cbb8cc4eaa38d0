//! Where a PostgreSQL server is and how it wants to be spoken to.
//! Both ways in start here: tokio-postgres for questions, [`super::wire`] for bulk rows.

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

/// libpq's `sslmode`, without its two rarely used shades (`allow`, `verify-ca`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    Disable,
    Prefer,
    /// Encrypted, the certificate not checked: what libpq does for `require`.
    Require,
    VerifyFull,
}

#[derive(Clone)]
pub struct Endpoint {
    pub(crate) config: Config,
    pub(crate) tls: Tls,
    pub(crate) client_config: Arc<ClientConfig>,
    lock_timeout: Duration,
    /// Set once it is known that each connection has a session of its own.
    has_sessions: Arc<OnceCell<()>>,
}

/// Long enough for what holds a lock in passing, short enough for a run not to hang on one table.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.display())
    }
}

impl Endpoint {
    /// Reads a `postgresql://` URL, `sslmode` and `sslrootcert` included.
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
            // Both ways in must take the same, and the name of the system's user is not ours to look up.
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

    /// The same database and user on a private server that trusts its socket.
    pub fn socket(folder: &std::path::Path, port: u16, like: &Endpoint) -> Result<Self> {
        let mut config = Config::new();
        config.host_path(folder).port(port).user(like.user()).dbname(like.database()).application_name("wattlake");
        config.ssl_mode(SslMode::Disable);
        let client_config = Arc::new(client_config(Tls::Disable, None)?);
        let lock_timeout = like.lock_timeout;
        Ok(Endpoint { config, tls: Tls::Disable, client_config, lock_timeout, has_sessions: Arc::default() })
    }

    pub fn user(&self) -> &str {
        self.config.get_user().unwrap_or("postgres")
    }

    pub fn database(&self) -> &str {
        self.config.get_dbname().unwrap_or_else(|| self.user())
    }

    /// `host:port/database`, never the user's password.
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

    /// A connection for questions, with the session set so that texts are exact and portable.
    pub async fn connect(&self) -> Result<Client> {
        let tls = tokio_postgres_rustls::MakeRustlsConnect::new((*self.client_config).clone());
        let (client, connection) =
            self.config.connect(tls).await.context(format!("connect to PostgreSQL at {}", self.display()))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
        // Before any setting is made: it would reach other clients of the pool.
        self.has_sessions.get_or_try_init(|| pooling::refuse_shared_sessions(self)).await?;
        client.batch_execute(&self.session()).await.context("set up the session")?;
        Ok(client)
    }

    /// The statements that every session starts with.
    pub(crate) fn session(&self) -> String {
        format!("{SESSION}; SET lock_timeout = '{}ms'", self.lock_timeout.as_millis())
    }

    /// How long a lock is waited for, before the table that it is on fails. Zero waits without an end.
    #[must_use]
    pub fn with_lock_timeout(mut self, lock_timeout: Duration) -> Self {
        self.lock_timeout = lock_timeout;
        self
    }
}

/// Texts of dates, intervals and floats must not depend on the server's or the role's settings, and nothing but a lock
/// may time out. Settings that an older server does not know are left out.
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
                // A certificate of the system's store that rustls can't read is of no use to anybody.
                let _ = roots.add(cert);
            }
        }
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// `sslmode=require` encrypts and does not verify, as in libpq.
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
