//! Kinesis Data Streams, by its HTTP interface: requests in JSON, signed with version 4.
//!
//! <https://docs.aws.amazon.com/kinesis/latest/APIReference/Welcome.html>

mod client;
mod publish;
mod read;
mod stored;

pub use publish::Publisher;
pub use read::{Reader, ShardReader};

/// The size of the largest message, with its key. <https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html>
pub const MESSAGE_BYTES_MAX: usize = (1 << 20) - KEY_BYTES_MAX;

/// The length of the longest partition key.
const KEY_BYTES_MAX: usize = 256;
