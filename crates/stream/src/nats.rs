//! NATS JetStream. A stream has a subject a shard, `NAME.0`, `NAME.1` and so on, so that the messages of a shard can be
//! read by themselves. All messages of the stream are in one order, whichever shard they belong to.

mod publish;
mod read;

use std::time::Duration;

use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::{self, stream};
use async_nats::{Client, ConnectOptions};

use crate::address::{Address, Broker};
use crate::error::{Context, Error, Kind, Result};
use crate::record::StreamOptions;

pub use publish::Publisher;
pub use read::{Reader, ShardReader};

/// How long a server may take to answer a request, and to store a batch.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// How many commands wait for the connection: a batch of messages is sent without a pause.
const COMMANDS_MAX: usize = 8192;

async fn connect(address: &Address) -> Result<Client> {
    let Broker::Nats { server, tls, credentials } = &address.broker else {
        return Err(Error::bug("connect to NATS: the address is of another system"));
    };
    let context = || format!("connect to {}", address.display());
    let mut options = ConnectOptions::new().name("wattlake").client_capacity(COMMANDS_MAX);
    if let Some(file) = credentials {
        options = options.credentials_file(file).await.during(Kind::FixSetup, context())?;
    }
    if *tls {
        options = options.require_tls(true);
    }
    options.request_timeout(Some(ANSWER_WAIT)).connect(server.as_str()).await.map_err(|error| {
        let kind = match error.kind() {
            async_nats::ConnectErrorKind::Authentication | async_nats::ConnectErrorKind::AuthorizationViolation => {
                Kind::FixSetup
            }
            _ => Kind::Retry,
        };
        Error::new(kind, context()).because(error)
    })
}

fn context_of(client: Client) -> jetstream::Context {
    jetstream::ContextBuilder::new().timeout(ANSWER_WAIT).ack_timeout(ANSWER_WAIT).build(client)
}

/// The stream, which is created with `options` where it does not exist; without them, its absence is an error.
async fn open(
    jetstream: &jetstream::Context,
    address: &Address,
    options: Option<&StreamOptions>,
) -> Result<stream::Stream> {
    let (name, context) = (&address.stream, format!("open the stream {}", address.display()));
    let error = match (jetstream.get_stream(name).await, options) {
        (Ok(stream), _) => return Ok(stream),
        (Err(error), Some(options)) if is_missing(&error) => {
            let config = stream::Config {
                name: name.clone(),
                subjects: (0..options.shards).map(|shard| subject(name, shard)).collect(),
                max_age: options.retention,
                num_replicas: options.replicas,
                storage: stream::StorageType::File,
                ..stream::Config::default()
            };
            return jetstream
                .create_stream(config)
                .await
                .map_err(|error| Error::setup(format!("create the stream {}", address.display())).because(error));
        }
        (Err(error), _) => error,
    };
    if is_missing(&error) {
        let hint = "the transfer that publishes into it creates it: start that first";
        return Err(Error::retry(format!("{context}: there is no such stream")).state("missing").hint(hint));
    }
    let is_disabled = matches!(error.kind(), GetStreamErrorKind::JetStream(ref cause) if cause.code() == 503);
    let error = Error::new(if is_disabled { Kind::FixSetup } else { Kind::Retry }, context).because(error);
    Err(if is_disabled { error.hint("start nats-server with JetStream: nats-server -js") } else { error })
}

fn is_missing(error: &jetstream::context::GetStreamError) -> bool {
    let missing = jetstream::ErrorCode::STREAM_NOT_FOUND;
    matches!(error.kind(), GetStreamErrorKind::JetStream(cause) if cause.error_code() == missing)
}

/// What tells a stream from another one: its name, and when it was created.
fn identity(stream: &stream::Stream) -> String {
    let info = stream.cached_info();
    format!("{} {}", info.config.name, info.created)
}

/// The subject of a shard.
fn subject(stream: &str, shard: u32) -> String {
    format!("{stream}.{shard}")
}

/// The number of a stream's shards, by its subjects.
fn shards(stream: &stream::Stream, address: &Address) -> Result<u32> {
    let config = &stream.cached_info().config;
    let count = config.subjects.len() as u32;
    let is_ours = (0..count).all(|shard| config.subjects.contains(&subject(&config.name, shard)));
    if count > 0 && is_ours {
        return Ok(count);
    }
    let what = format!(
        "open the stream {}: its subjects are {}, and not {}.0, {}.1 and so on, one a shard",
        address.display(),
        config.subjects.join(", "),
        config.name,
        config.name
    );
    Err(Error::setup(what).state("stream").hint("use another name: the transfer that publishes creates the stream"))
}
