//! Writes rows by `COPY ... FROM STDIN`: in the binary format for large tables, in the text format for small ones.
//!
//! Rows of large tables are sent in chunks, so that memory does not grow with the table.

use std::fmt::Display;
use std::pin::Pin;

use bytes::{BufMut, Bytes, BytesMut};
use futures::SinkExt;
use tokio_postgres::{Client, CopyInSink};

use crate::Result;
use crate::error::ErrorContext;

const CHUNK_BYTES: usize = 256 * 1024;
/// Seconds from 1970 to 2000, from which PostgreSQL counts.
const EPOCH_2000_S: i64 = 946_684_800;
const EPOCH_2000_DAYS: i64 = EPOCH_2000_S / 86_400;

/// The options of a COPY in the binary format.
pub(crate) const BINARY: &str = "FORMAT binary";
/// The options of a COPY in the binary format into a table that was created in the same transaction.
pub(crate) const BINARY_FROZEN: &str = "FORMAT binary, FREEZE";

/// Called with a table's name and the number of its rows sent so far.
pub(crate) type Progress<'a> = &'a (dyn Fn(&str, u64) + Send + Sync);

/// A running COPY in the binary format. A row is written by a call of [`Rows::row`] and one call for each column.
pub(crate) struct Rows<'a> {
    sink: Pin<Box<CopyInSink<Bytes>>>,
    buffer: BytesMut,
    table: &'a str,
    count: u64,
    progress: Progress<'a>,
}

impl<'a> Rows<'a> {
    /// Starts a COPY. `options` are [`BINARY`] or [`BINARY_FROZEN`].
    pub async fn begin(
        client: &Client,
        table: &'a str,
        columns: &str,
        options: &str,
        progress: Progress<'a>,
    ) -> Result<Self> {
        let statement = format!("COPY {table} ({columns}) FROM STDIN ({options})");
        let sink = client.copy_in(&statement).await.during(format!("copy into {table}"))?;
        let mut buffer = BytesMut::with_capacity(CHUNK_BYTES + 4_096);
        buffer.put_slice(b"PGCOPY\n\xff\r\n\0");
        buffer.put_i32(0);
        buffer.put_i32(0);
        Ok(Self { sink: Box::pin(sink), buffer, table, count: 0, progress })
    }

    /// Sends the rows written so far where they fill a chunk. To be called between rows.
    pub async fn send_if_full(&mut self) -> Result<()> {
        if self.buffer.len() >= CHUNK_BYTES { self.send().await } else { Ok(()) }
    }

    /// Ends the COPY and returns the number of its rows.
    pub async fn finish(mut self) -> Result<u64> {
        self.buffer.put_i16(-1);
        self.send().await?;
        self.sink.as_mut().finish().await.during(format!("finish the copy into {}", self.table))
    }

    async fn send(&mut self) -> Result<()> {
        let chunk = self.buffer.split().freeze();
        self.sink.send(chunk).await.during(format!("copy rows into {}", self.table))?;
        (self.progress)(self.table, self.count);
        self.buffer.reserve(CHUNK_BYTES + 4_096);
        Ok(())
    }

    /// Begins a row with this number of columns.
    pub fn row(&mut self, columns: i16) {
        self.count += 1;
        self.buffer.put_i16(columns);
    }

    /// Writes a NULL.
    pub fn null(&mut self) {
        self.buffer.put_i32(-1);
    }

    /// Writes a boolean.
    pub fn bool(&mut self, value: bool) {
        self.buffer.put_i32(1);
        self.buffer.put_u8(value.into());
    }

    /// Writes a smallint.
    pub fn i16(&mut self, value: i16) {
        self.buffer.put_i32(2);
        self.buffer.put_i16(value);
    }

    /// Writes an integer.
    pub fn i32(&mut self, value: i32) {
        self.buffer.put_i32(4);
        self.buffer.put_i32(value);
    }

    /// Writes a bigint.
    pub fn i64(&mut self, value: i64) {
        self.buffer.put_i32(8);
        self.buffer.put_i64(value);
    }

    /// Writes a real.
    pub fn f32(&mut self, value: f32) {
        self.buffer.put_i32(4);
        self.buffer.put_f32(value);
    }

    /// Writes a double precision.
    pub fn f64(&mut self, value: f64) {
        self.buffer.put_i32(8);
        self.buffer.put_f64(value);
    }

    /// Writes a text, varchar, char or enum.
    pub fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    /// Writes a bytea, or a uuid of 16 bytes.
    pub fn bytes(&mut self, value: &[u8]) {
        // The values of this crate have at most some hundred bytes.
        self.buffer.put_i32(value.len() as i32);
        self.buffer.put_slice(value);
    }

    /// Writes a jsonb.
    pub fn jsonb(&mut self, value: &str) {
        self.buffer.put_i32(value.len() as i32 + 1);
        self.buffer.put_u8(1);
        self.buffer.put_slice(value.as_bytes());
    }

    /// Writes a timestamp with or without time zone: seconds since 1970, and microseconds to add.
    pub fn instant(&mut self, at: i64, micros: i64) {
        self.i64((at - EPOCH_2000_S) * 1_000_000 + micros);
    }

    /// Writes a date.
    pub fn date(&mut self, day_since_1970: i64) {
        self.i32((day_since_1970 - EPOCH_2000_DAYS) as i32);
    }

    /// Writes a numeric: `value` units of 10^-scale.
    pub fn numeric(&mut self, value: i64, scale: u16) {
        let (digits, weight) = base_10000(value.unsigned_abs(), scale);
        self.buffer.put_i32(8 + 2 * digits.len() as i32);
        self.buffer.put_i16(digits.len() as i16);
        self.buffer.put_i16(weight);
        self.buffer.put_u16(if value < 0 { 0x4000 } else { 0 });
        self.buffer.put_u16(scale);
        digits.iter().for_each(|d| self.buffer.put_i16(*d));
    }
}

/// The digits of a decimal in base 10,000, without zeros at either end, and the weight of the first one: the format of
/// PostgreSQL's numeric.
pub(crate) fn base_10000(value: u64, scale: u16) -> (Vec<i16>, i16) {
    let fraction_digits = scale.div_ceil(4);
    let padding = 10_u128.pow(u32::from(fraction_digits * 4 - scale));
    let mut rest = u128::from(value) * padding;
    let mut digits = Vec::with_capacity(8);
    while rest > 0 {
        digits.push((rest % 10_000) as i16);
        rest /= 10_000;
    }
    let weight = digits.len() as i16 - fraction_digits as i16 - 1;
    let zeros = digits.iter().take_while(|d| **d == 0).count();
    digits.drain(..zeros);
    digits.reverse();
    let weight = if digits.is_empty() { 0 } else { weight };
    (digits, weight)
}

/// A NULL among the values of [`Lines`]. It is displayed as a zero character, which PostgreSQL's texts never contain.
pub(crate) struct Null;

impl Display for Null {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("\u{0}")
    }
}

/// Rows of a small table in COPY's text format.
#[derive(Default)]
pub(crate) struct Lines {
    text: String,
}

impl Lines {
    /// Adds a row of values as texts that PostgreSQL reads.
    pub fn push(&mut self, values: &[&dyn Display]) {
        for (i, value) in values.iter().enumerate() {
            if i > 0 {
                self.text.push('\t');
            }
            for c in value.to_string().chars() {
                match c {
                    // The zero character of `Null`.
                    '\0' => self.text.push_str("\\N"),
                    '\\' => self.text.push_str("\\\\"),
                    '\t' => self.text.push_str("\\t"),
                    '\n' => self.text.push_str("\\n"),
                    c => self.text.push(c),
                }
            }
        }
        self.text.push('\n');
    }

    /// Copies the rows into a table, and returns their number.
    pub async fn copy(self, client: &Client, table: &str, columns: &str, progress: Progress<'_>) -> Result<u64> {
        let statement = format!("COPY {table} ({columns}) FROM STDIN");
        let sink = client.copy_in(&statement).await.during(format!("copy into {table}"))?;
        let mut sink = Box::pin(sink);
        sink.send(Bytes::from(self.text)).await.during(format!("copy rows into {table}"))?;
        let rows = sink.as_mut().finish().await.during(format!("finish the copy into {table}"))?;
        progress(table, rows);
        Ok(rows)
    }
}
