//! `COPY ... FROM STDIN`: rows in PostgreSQL's binary format for what is large, text for the rest.
//!
//! Rows go out in chunks, so that memory stays the same whatever the table's size.

use std::fmt::Display;
use std::pin::Pin;

use bytes::{BufMut, Bytes, BytesMut};
use futures::SinkExt;
use tokio_postgres::{Client, CopyInSink};

use crate::Result;
use crate::error::During;

const CHUNK_BYTES: usize = 256 * 1024;
/// Seconds from 1970 to 2000, where PostgreSQL counts from.
const EPOCH_2000_S: i64 = 946_684_800;
const EPOCH_2000_DAYS: i64 = EPOCH_2000_S / 86_400;

pub(crate) const BINARY: &str = "FORMAT binary";
/// For a table created in the same transaction.
pub(crate) const BINARY_FROZEN: &str = "FORMAT binary, FREEZE";

pub(crate) type Progress<'a> = &'a (dyn Fn(&str, u64) + Send + Sync);

/// One COPY under way. Each row: `row`, then a call for each of its columns.
pub(crate) struct Rows<'a> {
    sink: Pin<Box<CopyInSink<Bytes>>>,
    buffer: BytesMut,
    table: &'a str,
    count: u64,
    progress: Progress<'a>,
}

impl<'a> Rows<'a> {
    /// `options` are those of the statement, [`BINARY`] or [`BINARY_FROZEN`].
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

    /// To be called between rows; sends what has gathered once it is a chunk.
    pub async fn flow(&mut self) -> Result<()> {
        if self.buffer.len() >= CHUNK_BYTES { self.send().await } else { Ok(()) }
    }

    /// The number of rows copied.
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

    pub fn row(&mut self, columns: i16) {
        self.count += 1;
        self.buffer.put_i16(columns);
    }

    pub fn null(&mut self) {
        self.buffer.put_i32(-1);
    }

    pub fn bool(&mut self, value: bool) {
        self.buffer.put_i32(1);
        self.buffer.put_u8(value.into());
    }

    pub fn i16(&mut self, value: i16) {
        self.buffer.put_i32(2);
        self.buffer.put_i16(value);
    }

    pub fn i32(&mut self, value: i32) {
        self.buffer.put_i32(4);
        self.buffer.put_i32(value);
    }

    pub fn i64(&mut self, value: i64) {
        self.buffer.put_i32(8);
        self.buffer.put_i64(value);
    }

    pub fn f32(&mut self, value: f32) {
        self.buffer.put_i32(4);
        self.buffer.put_f32(value);
    }

    pub fn f64(&mut self, value: f64) {
        self.buffer.put_i32(8);
        self.buffer.put_f64(value);
    }

    /// Text, varchar, char and enums.
    pub fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    pub fn bytes(&mut self, value: &[u8]) {
        // A value made here has at most some hundred bytes.
        self.buffer.put_i32(value.len() as i32);
        self.buffer.put_slice(value);
    }

    pub fn jsonb(&mut self, value: &str) {
        self.buffer.put_i32(value.len() as i32 + 1);
        self.buffer.put_u8(1);
        self.buffer.put_slice(value.as_bytes());
    }

    /// timestamptz, and timestamp without; seconds since 1970 and microseconds on top.
    pub fn instant(&mut self, at: i64, micros: i64) {
        self.i64((at - EPOCH_2000_S) * 1_000_000 + micros);
    }

    pub fn date(&mut self, day_since_1970: i64) {
        self.i32((day_since_1970 - EPOCH_2000_DAYS) as i32);
    }

    /// `value` counts units of 10^-scale.
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

/// PostgreSQL's digits of a decimal, without zeros at either end, and the first one's power of 10,000.
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

/// NULL among the values of [`Lines`]; written so that no text can be taken for it.
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
    /// Values as PostgreSQL reads them.
    pub fn push(&mut self, values: &[&dyn Display]) {
        for (i, value) in values.iter().enumerate() {
            if i > 0 {
                self.text.push('\t');
            }
            for c in value.to_string().chars() {
                match c {
                    // PostgreSQL's text never holds it.
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
