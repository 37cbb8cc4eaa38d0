//! Bodies of answers.

use bytes::Bytes;
use gateway::Body;
use http_body_util::{BodyExt, Full};

/// A body of these bytes.
pub(super) fn full(body: Bytes) -> Body {
    Full::new(body).boxed()
}
