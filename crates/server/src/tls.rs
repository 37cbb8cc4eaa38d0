//! Loads the server's certificate and key.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Reads the certificate chain and the key of `[serve]`, and checks that they belong together.
pub fn load(tls: &config::Tls) -> Result<Arc<ServerConfig>> {
    let read = || format!("read the certificates of {}", tls.cert.display());
    let chain = CertificateDer::pem_file_iter(&tls.cert)
        .with_context(read)?
        .collect::<Result<Vec<_>, _>>()
        .with_context(read)?;
    if chain.is_empty() {
        bail!("{}: the file has no certificate; a certificate starts with -----BEGIN CERTIFICATE-----", read());
    }
    let key =
        PrivateKeyDer::from_pem_file(&tls.key).with_context(|| format!("read the key of {}", tls.key.display()))?;
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .with_context(|| format!("use {} with {}", tls.cert.display(), tls.key.display()))?;
    Ok(Arc::new(config))
}
