//! Opens the source of an ingest by its configuration.

use std::collections::HashMap;

use anyhow::Result;
use config::flow;
use config::{Ingest, UnsetVariables};
use ingest::source::{Folder, HostKey, Http, HttpUrl, Login, Sftp, SftpServer, Source, Store, Template};

/// Opens an ingest's source. Connects to nothing yet.
pub fn open(ingest: &Ingest) -> Result<Box<dyn Source>> {
    Ok(match ingest.source.as_ref().map_err(UnsetVariables::clone)? {
        flow::IngestSource::Folder { folder, files } => Box::new(Folder::new(folder, templates(files)?)),
        flow::IngestSource::Store { url, options, files } => {
            let options: HashMap<String, String> =
                options.iter().map(|(key, value)| (key.to_lowercase(), value.reveal().to_owned())).collect();
            Box::new(Store::open(url, &options, templates(files)?)?)
        }
        flow::IngestSource::Urls { urls, headers } => {
            let urls = templates(urls)?.into_iter().map(|url| HttpUrl { url, name: None }).collect();
            let headers: Vec<(String, String)> =
                headers.iter().map(|(key, value)| (key.clone(), value.reveal().to_owned())).collect();
            Box::new(Http::new(urls, &headers)?)
        }
        flow::IngestSource::Sftp { at, files } => Box::new(Sftp::new(server(at), &at.folder, templates(files)?)),
    })
}

fn server(at: &flow::Sftp) -> SftpServer {
    let login = match (&at.key, &at.password) {
        (Some(key), _) => {
            let passphrase = at.passphrase.as_ref().map(|text| text.reveal().to_owned());
            Login::Key { file: key.clone(), passphrase }
        }
        (None, password) => Login::Password(password.as_ref().map_or("", |text| text.reveal()).to_owned()),
    };
    let host_key = match (&at.fingerprint, &at.known_hosts) {
        (Some(fingerprint), _) => HostKey::Fingerprints(vec![fingerprint.clone()]),
        (None, file) => HostKey::KnownHosts(file.clone().unwrap_or_default()),
    };
    SftpServer { host: at.host.clone(), port: at.port, user: at.user.clone(), login, host_key }
}

fn templates(texts: &[String]) -> Result<Vec<Template>> {
    Ok(texts.iter().map(|text| Template::parse(text)).collect::<ingest::Result<_>>()?)
}
