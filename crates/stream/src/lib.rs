//! Streams of changes: the messages of AWS DMS, and the two systems that carry them, NATS JetStream and Kinesis.
//!
//! [`message`] has the format. [`Address`] names a stream; [`Publisher`] stores messages in it, in their order, and
//! [`Reader`] reads its shards from a position. Messages with the same partition key are in the same shard, in the order
//! in which they were stored.
//!
//! It knows neither PostgreSQL nor the lake: what a message changes is decided by its caller.

mod address;
mod broker;
pub mod credentials;
mod error;
mod kinesis;
pub mod message;
mod nats;
mod partition;
mod record;

pub use address::{Address, Broker};
pub use broker::{Publisher, Reader, ShardReader};
pub use credentials::{AwsCredentials, AwsEnvironment, CredentialsProvider};
pub use error::{Error, Result};
pub use partition::{hash_key, shard_of};
pub use record::{
    Batch, Delivery, Destination, Lag, LastMessage, LogPoint, Record, ShardState, Start, StartPosition, StreamOptions,
};
