//! The address of a stream: `nats://HOST:PORT/STREAM` or `kinesis://STREAM?region=REGION`.

use base::suggestion;
use url::Url;

use crate::error::{Context, Error, Kind, Result};

const NATS_PORT: u16 = 4222;

/// The address of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Where it is.
    pub broker: Broker,
    /// Its name.
    pub stream: String,
}

/// The system that carries a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broker {
    /// NATS with JetStream.
    Nats {
        /// The server's URL, with the user and the password.
        server: String,
        /// Whether TLS is required.
        tls: bool,
        /// A file of credentials, as `nsc` writes it.
        credentials: Option<String>,
    },
    /// Amazon Kinesis Data Streams, or a server with the same interface.
    Kinesis {
        /// The region; that of the credentials' profile where it is absent.
        region: Option<String>,
        /// The server's URL, in place of the region's.
        endpoint: Option<String>,
        /// The profile of the credentials, in place of `AWS_PROFILE`.
        profile: Option<String>,
    },
}

impl Address {
    /// Parses an address.
    ///
    /// # Errors
    /// `FixSetup` where it is not one, with what is expected.
    pub fn parse(text: &str) -> Result<Address> {
        let invalid = |what: String| {
            let hint = "write nats://HOST:4222/STREAM, tls://HOST:4222/STREAM or kinesis://STREAM?region=REGION";
            Error::setup(format!("the address of a stream: {what}")).hint(hint)
        };
        let url = Url::parse(text).map_err(|error| invalid(error.to_string()))?;
        match url.scheme() {
            "nats" | "tls" => nats(&url).map_err(invalid),
            "kinesis" => kinesis(&url).map_err(invalid),
            other => Err(invalid(format!("{other:?} is not a system that carries streams"))),
        }
    }

    /// The address without a password, for messages.
    pub fn display(&self) -> String {
        match &self.broker {
            Broker::Nats { server, .. } => {
                let mut url = match Url::parse(server) {
                    Ok(url) => url,
                    Err(_) => return self.stream.clone(),
                };
                // A token is the user's name.
                let _ = url.set_username("");
                let _ = url.set_password(None);
                format!("{}/{}", url.as_str().trim_end_matches('/'), self.stream)
            }
            Broker::Kinesis { .. } => format!("kinesis://{}", self.stream),
        }
    }
}

fn nats(url: &Url) -> std::result::Result<Address, String> {
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or("the server is missing")?;
    let stream = url.path().trim_start_matches('/');
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if stream.is_empty() || !stream.chars().all(is_name) {
        return Err(format!("the stream's name {stream:?} is not of letters, digits, - and _"));
    }
    let mut credentials = None;
    for (name, value) in url.query_pairs() {
        match name.as_ref() {
            "credentials" => credentials = Some(value.into_owned()),
            other => return Err(unknown(other, &["credentials"])),
        }
    }
    let (tls, mut server) = (url.scheme() == "tls", format!("{}://", url.scheme()));
    if !url.username().is_empty() {
        server.push_str(url.username());
        if let Some(password) = url.password() {
            server.push(':');
            server.push_str(password);
        }
        server.push('@');
    }
    server.push_str(&format!("{host}:{}", url.port().unwrap_or(NATS_PORT)));
    Ok(Address { broker: Broker::Nats { server, tls, credentials }, stream: stream.to_owned() })
}

fn kinesis(url: &Url) -> std::result::Result<Address, String> {
    let stream = url.host_str().unwrap_or_default().to_owned();
    if stream.is_empty() || !matches!(url.path(), "" | "/") {
        return Err("the stream's name is missing, or is followed by a path".to_owned());
    }
    let (mut region, mut endpoint, mut profile) = (None, None, None);
    for (name, value) in url.query_pairs() {
        match name.as_ref() {
            "region" => region = Some(value.into_owned()),
            "endpoint" => {
                Url::parse(&value).map_err(|error| format!("endpoint {value:?}: {error}"))?;
                endpoint = Some(value.trim_end_matches('/').to_owned());
            }
            "profile" => profile = Some(value.into_owned()),
            other => return Err(unknown(other, &["region", "endpoint", "profile"])),
        }
    }
    Ok(Address { broker: Broker::Kinesis { region, endpoint, profile }, stream })
}

fn unknown(parameter: &str, known: &[&str]) -> String {
    let hint = suggestion("parameter", parameter, known).map(|hint| format!("; {hint}")).unwrap_or_default();
    format!("unknown parameter {parameter:?}{hint}")
}

/// Kinesis's URL in a region.
pub fn kinesis_endpoint(region: &str) -> Result<Url> {
    let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
    Url::parse(&format!("https://kinesis.{region}.amazonaws.com{suffix}"))
        .during(Kind::FixSetup, format!("the region {region:?}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::{Address, Broker};

    #[test]
    fn addresses_are_read() {
        let nats = Address::parse("nats://user:pa%40ss@broker/platform").unwrap();
        assert_eq!(nats.display(), "nats://broker:4222/platform");
        let Broker::Nats { server, tls: false, .. } = &nats.broker else { unreachable!("it is of NATS") };
        assert_eq!(server, "nats://user:pa%40ss@broker:4222");
        let kinesis = Address::parse("kinesis://platform?region=eu-west-3&endpoint=http://127.0.0.1:4567/").unwrap();
        let expected = Broker::Kinesis {
            region: Some("eu-west-3".to_owned()),
            endpoint: Some("http://127.0.0.1:4567".to_owned()),
            profile: None,
        };
        assert_eq!((kinesis.broker, kinesis.stream.as_str()), (expected, "platform"));
    }

    #[test]
    fn what_is_not_an_address_is_an_error() {
        for (text, expected) in [
            ("kafka://broker/topic", "\"kafka\" is not a system"),
            ("nats://broker", "the stream's name \"\""),
            ("nats://broker/a.b", "the stream's name \"a.b\""),
            ("kinesis://s?regoin=x", "nearest parameter: \"region\""),
            ("broker:4222/x", "is not a system"),
        ] {
            let error = Address::parse(text).unwrap_err();
            assert!(error.context.contains(expected), "{text}: {}", error.context);
        }
    }
}
