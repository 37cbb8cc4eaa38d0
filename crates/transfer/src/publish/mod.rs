//! CHANGES into a stream: the rows of the tables and the changes of the log as messages of AWS DMS.
//!
//! Reading order: [`target`] is the stream, with what was stored in it; [`encoder`] writes the messages of a table, by the
//! forms of [`value`]; [`load`] has the rows of a table before its changes, [`stream_applier`] the changes. The slot is
//! confirmed up to what the stream has stored.

mod encoder;
mod load;
mod record;
mod send_batches;
mod stream_applier;
mod target;
mod value;

pub use encoder::check_plan;
pub use load::into_stream;
pub use record::{PublishRecord, PublishedTable};
pub use stream_applier::StreamApplier;
pub use target::StreamTarget;
