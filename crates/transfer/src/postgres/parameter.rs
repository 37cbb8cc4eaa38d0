//! Parameters of statements.

use bytes::BytesMut;
use postgres_protocol::IsNull;

/// A value of a statement's parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter<'a> {
    /// Its format: the type's binary format, or its text.
    pub is_binary: bool,
    /// `None` is NULL.
    pub value: Option<&'a [u8]>,
}

impl Parameter<'_> {
    /// Writes the value as the protocol's Bind message has it.
    pub(crate) fn write(&self, out: &mut BytesMut) -> IsNull {
        match self.value {
            None => IsNull::Yes,
            Some(value) => {
                out.extend_from_slice(value);
                IsNull::No
            }
        }
    }
}
