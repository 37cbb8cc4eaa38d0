//! Log sequence numbers.

use std::fmt;
use std::str::FromStr;

/// A position in the write-ahead log, in bytes. Its text is PostgreSQL's, such as `0/3000060`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The position as the lake stores it.
    pub fn to_i64(self) -> i64 {
        // The log of a server never reaches 2^63 bytes.
        self.0.cast_signed()
    }

    /// The position that [`Lsn::to_i64`] returned.
    pub fn from_i64(value: i64) -> Lsn {
        Lsn(value.cast_unsigned())
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

/// The text is not a position.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAnLsn;

impl FromStr for Lsn {
    type Err = NotAnLsn;

    fn from_str(text: &str) -> Result<Lsn, NotAnLsn> {
        let (high, low) = text.split_once('/').ok_or(NotAnLsn)?;
        let part = |hex: &str| u32::from_str_radix(hex, 16).map_err(|_| NotAnLsn);
        Ok(Lsn(u64::from(part(high)?) << 32 | u64::from(part(low)?)))
    }
}
