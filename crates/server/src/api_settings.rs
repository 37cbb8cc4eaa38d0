//! How AWS's APIs are served: who may call, and over what.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use gateway::{AccessControl, Binding, RequestLog};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};

/// What the APIs of functions and models share. Cheap to clone.
#[derive(Clone)]
pub struct ApiSettings {
    pub access: AccessControl,
    /// Requests to functions.
    pub lambda_requests: RequestLog,
    /// Requests to models.
    pub sagemaker_requests: RequestLog,
    tls: Option<Arc<ServerConfig>>,
}

impl ApiSettings {
    /// The settings of `[serve]`. A key whose variables are not set can't be used; with `[serve.keys]`, nobody is let in
    /// without a key for that.
    pub fn new(serve: &config::Serve, tls: Option<Arc<ServerConfig>>) -> Result<ApiSettings> {
        let access = match serve.keys.is_empty() {
            true => AccessControl::default(),
            false => {
                let usable = serve.keys.values().filter_map(|key| key.as_ref().ok().cloned());
                AccessControl::new(usable.collect()).context("check [serve.keys] of wattlake.toml")?
            }
        };
        let (lambda_requests, sagemaker_requests) = (RequestLog::default(), RequestLog::default());
        Ok(ApiSettings { access, lambda_requests, sagemaker_requests, tls })
    }

    /// `https` for an address that other machines reach, where there is a certificate: on this machine, TLS is no use.
    pub fn scheme(&self, address: SocketAddr) -> &'static str {
        if self.tls_for(address).is_some() { "https" } else { "http" }
    }

    /// The listener with its TLS; `first` is a connection that was accepted already.
    pub fn binding(&self, listener: TcpListener, first: Option<TcpStream>) -> Binding {
        let tls = listener.local_addr().ok().and_then(|address| self.tls_for(address));
        Binding { listener, tls, first }
    }

    fn tls_for(&self, address: SocketAddr) -> Option<Arc<ServerConfig>> {
        self.tls.clone().filter(|_| !address.ip().is_loopback())
    }
}
