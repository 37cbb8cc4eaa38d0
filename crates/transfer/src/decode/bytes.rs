//! Reads big-endian values from a slice of bytes.

/// A position in a slice of bytes. Its methods return `None`, and do not move it, where too few bytes are left.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the start of `rest`.
    #[inline]
    pub fn new(rest: &'a [u8]) -> Self {
        Reader { rest }
    }

    /// Whether all bytes are read.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The bytes that are not read yet.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads `length` bytes.
    #[inline]
    pub fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(head)
    }

    /// Reads `N` bytes.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*head)
    }

    /// Reads a byte.
    #[inline]
    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[b]| b)
    }

    /// Reads a 16-bit integer.
    #[inline]
    pub fn i16(&mut self) -> Option<i16> {
        self.array().map(i16::from_be_bytes)
    }

    /// Reads a 32-bit integer.
    #[inline]
    pub fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    /// Reads a 64-bit integer.
    #[inline]
    pub fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }

    /// Reads a length and that many bytes; a length of -1 is NULL, which is returned as `Some(None)`.
    #[inline]
    #[allow(clippy::option_option, reason = "the end of the bytes, NULL and a value are three cases")]
    pub fn value(&mut self) -> Option<Option<&'a [u8]>> {
        let length = self.i32()?;
        if length < 0 { Some(None) } else { self.take(length as usize).map(Some) }
    }
}
