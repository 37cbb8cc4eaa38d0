//! `COPY ... TO STDOUT`: sends the rows of a query as text, CSV or binary, one row in each message.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::Schema;
use pgwire::api::portal::Format;
use pgwire::api::results::FieldInfo;
use pgwire::error::PgWireResult;
use sqlparser::ast::{CopyLegacyCsvOption, CopyLegacyOption, CopyOption, CopySource, CopyTarget, Statement};

use super::encode::{self, Columns, encoding_error};
use super::problem::{self, NOT_SUPPORTED};
use super::values::{put_binary, put_sized};

/// The first bytes of a binary copy.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// A `COPY ... TO STDOUT` statement.
#[derive(Debug, Clone)]
pub(crate) struct CopyOut {
    /// The query whose rows are sent; `COPY table` is one, too.
    pub(crate) query: String,
    /// The format of the rows.
    pub(crate) format: CopyFormat,
}

/// The format of a copy, with its options as ASCII bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum CopyFormat {
    Text { delimiter: u8, null: String, header: bool },
    Csv { delimiter: u8, quote: u8, escape: u8, null: String, header: bool, force_all: bool, force: Vec<String> },
    Binary,
}

impl CopyOut {
    /// The copy that a statement asks for; `None` if it is no COPY, an error if the COPY is not supported.
    pub(crate) fn of_statement(statement: &Statement) -> Option<PgWireResult<CopyOut>> {
        let Statement::Copy { source, to, target, options, legacy_options, .. } = statement else { return None };
        if !to {
            let message = "cannot execute COPY FROM in a read-only transaction";
            let hint = "the lake is written by transfers and marts, never by SQL sessions";
            return Some(Err(problem::with_hint(problem::READ_ONLY, message, hint)));
        }
        if *target != CopyTarget::Stdout {
            let hint = "use COPY ... TO STDOUT, or psql's \\copy, which writes on the client's side";
            return Some(Err(problem::with_hint("42501", "COPY to a file of the server is not allowed", hint)));
        }
        let query = match source {
            CopySource::Query(query) => query.to_string(),
            CopySource::Table { table_name, columns } if columns.is_empty() => format!("SELECT * FROM {table_name}"),
            CopySource::Table { table_name, columns } => {
                let columns: Vec<String> = columns.iter().map(ToString::to_string).collect();
                format!("SELECT {} FROM {table_name}", columns.join(", "))
            }
        };
        Some(copy_format(options, legacy_options).map(|format| CopyOut { query, format }))
    }

    /// The wire format of all columns: binary, or text for text and CSV.
    pub(crate) fn result_format(&self) -> Format {
        if self.format == CopyFormat::Binary { Format::UnifiedBinary } else { Format::UnifiedText }
    }
}

fn copy_format(options: &[CopyOption], legacy: &[CopyLegacyOption]) -> PgWireResult<CopyFormat> {
    let mut name = "text".to_owned();
    let (mut delimiter, mut null, mut header, mut quote, mut escape) = (None, None, false, None, None);
    let (mut force_all, mut force) = (false, Vec::new());
    for option in options {
        match option {
            CopyOption::Format(given) => name = given.value.to_lowercase(),
            CopyOption::Delimiter(given) => delimiter = Some(*given),
            CopyOption::Null(given) => null = Some(given.clone()),
            CopyOption::Header(given) => header = *given,
            CopyOption::Quote(given) => quote = Some(*given),
            CopyOption::Escape(given) => escape = Some(*given),
            CopyOption::ForceQuote(columns) => force.extend(columns.iter().map(|column| column.value.clone())),
            CopyOption::Encoding(given) if given.to_lowercase().replace('-', "") == "utf8" => {}
            other => return Err(problem::error(NOT_SUPPORTED, format!("COPY TO does not support {other}"))),
        }
    }
    for option in legacy {
        match option {
            CopyLegacyOption::Binary => name = "binary".to_owned(),
            CopyLegacyOption::Delimiter(given) => delimiter = Some(*given),
            CopyLegacyOption::Null(given) => null = Some(given.clone()),
            CopyLegacyOption::Header => header = true,
            CopyLegacyOption::Csv(options) => {
                name = "csv".to_owned();
                for option in options {
                    match option {
                        CopyLegacyCsvOption::Header => header = true,
                        CopyLegacyCsvOption::Quote(given) => quote = Some(*given),
                        CopyLegacyCsvOption::Escape(given) => escape = Some(*given),
                        CopyLegacyCsvOption::ForceQuote(columns) => {
                            force_all |= columns.is_empty();
                            force.extend(columns.iter().map(|column| column.value.clone()));
                        }
                        CopyLegacyCsvOption::ForceNotNull(_) => {
                            return Err(problem::error(
                                NOT_SUPPORTED,
                                "FORCE NOT NULL can only be used with COPY FROM",
                            ));
                        }
                    }
                }
            }
            other => return Err(problem::error(NOT_SUPPORTED, format!("COPY TO does not support {other}"))),
        }
    }
    let byte = |given: Option<char>, default: u8| match given.map(u8::try_from) {
        None => Ok(default),
        Some(Ok(byte)) if byte.is_ascii() && !matches!(byte, b'\n' | b'\r') => Ok(byte),
        Some(_) => {
            Err(problem::error("22023", "the delimiter, quote and escape of COPY must be single ASCII characters"))
        }
    };
    match name.as_str() {
        "binary" => Ok(CopyFormat::Binary),
        "text" => {
            let null = null.unwrap_or_else(|| "\\N".to_owned());
            Ok(CopyFormat::Text { delimiter: byte(delimiter, b'\t')?, null, header })
        }
        "csv" => {
            let quote = byte(quote, b'"')?;
            let (delimiter, escape) = (byte(delimiter, b',')?, byte(escape, quote)?);
            let null = null.unwrap_or_default();
            Ok(CopyFormat::Csv { delimiter, quote, escape, null, header, force_all, force })
        }
        other => Err(problem::error("22023", format!("COPY format \"{other}\" not recognized"))),
    }
}

/// Encodes the rows of a copy, with its header and trailer.
pub(crate) struct CopyWriter {
    format: CopyFormat,
    fields: Arc<Vec<FieldInfo>>,
    zone: String,
}

impl CopyWriter {
    /// A writer of rows with the columns of `schema`; `zone` is the time zone in which instants are written.
    ///
    /// # Errors
    /// If the columns cannot be described.
    pub(crate) fn new(copy: &CopyOut, schema: &Schema, zone: String) -> PgWireResult<CopyWriter> {
        let fields = Arc::new(encode::fields(schema, &copy.result_format())?);
        Ok(CopyWriter { format: copy.format.clone(), fields, zone })
    }

    /// The number of columns.
    pub(crate) fn columns(&self) -> usize {
        self.fields.len()
    }

    /// Whether the copy is in binary format.
    pub(crate) fn is_binary(&self) -> bool {
        self.format == CopyFormat::Binary
    }

    /// What is sent before all rows, if anything. In binary format it shares a message with the first row.
    pub(crate) fn header(&self) -> Option<Bytes> {
        let header = match &self.format {
            CopyFormat::Binary => {
                let mut bytes = BytesMut::from(SIGNATURE);
                bytes.extend_from_slice(&[0; 8]);
                return Some(bytes.freeze());
            }
            CopyFormat::Text { header, .. } | CopyFormat::Csv { header, .. } => *header,
        };
        header.then(|| {
            let mut line = Line::new(&self.format);
            for field in self.fields.iter() {
                line.value(Some(field.name().as_bytes()), field.name());
            }
            line.take()
        })
    }

    /// What is sent after all rows, if anything.
    pub(crate) fn trailer(&self) -> Option<Bytes> {
        self.is_binary().then(|| Bytes::from_static(&[0xff, 0xff]))
    }

    /// The encoded rows of a batch.
    ///
    /// # Errors
    /// If a value cannot be encoded.
    pub(crate) fn rows(&self, batch: &RecordBatch) -> PgWireResult<Vec<Bytes>> {
        let columns = Columns::new(batch, &self.zone)?;
        let mut line = Line::new(&self.format);
        let mut text = String::new();
        let mut rows = Vec::with_capacity(columns.rows());
        for row in 0..columns.rows() {
            if self.is_binary() {
                line.out.put_i16(i16::try_from(self.fields.len()).unwrap_or(i16::MAX));
            }
            for (column, field) in columns.iter().zip(self.fields.iter()) {
                let null = column.is_null(row);
                if self.is_binary() && null {
                    line.out.put_i32(-1);
                } else if self.is_binary() {
                    put_sized(&mut line.out, |out| put_binary(column, row, field.datatype(), out))
                        .map_err(encoding_error)?;
                } else {
                    text.clear();
                    if !null {
                        column.text(row, &mut text).map_err(encoding_error)?;
                    }
                    line.value((!null).then_some(text.as_bytes()), field.name());
                }
            }
            rows.push(line.take());
        }
        Ok(rows)
    }
}

struct Line<'a> {
    format: &'a CopyFormat,
    out: BytesMut,
    started: bool,
}

impl<'a> Line<'a> {
    fn new(format: &'a CopyFormat) -> Line<'a> {
        Line { format, out: BytesMut::new(), started: false }
    }

    fn take(&mut self) -> Bytes {
        if *self.format != CopyFormat::Binary {
            self.out.extend_from_slice(b"\n");
        }
        self.started = false;
        self.out.split().freeze()
    }

    fn value(&mut self, value: Option<&[u8]>, column: &str) {
        let separate = std::mem::replace(&mut self.started, true);
        match self.format {
            CopyFormat::Binary => {}
            CopyFormat::Text { delimiter, null, .. } => {
                if separate {
                    self.out.extend_from_slice(&[*delimiter]);
                }
                match value {
                    None => self.out.extend_from_slice(null.as_bytes()),
                    Some(value) => escape_text(&mut self.out, value, *delimiter),
                }
            }
            CopyFormat::Csv { delimiter, quote, escape, null, force_all, force, .. } => {
                if separate {
                    self.out.extend_from_slice(&[*delimiter]);
                }
                let Some(value) = value else {
                    self.out.extend_from_slice(null.as_bytes());
                    return;
                };
                // A value that equals the NULL marker is quoted; by default that is the empty text.
                let special = |byte: &u8| [*delimiter, *quote, b'\n', b'\r'].contains(byte);
                let forced = *force_all || force.iter().any(|name| name == column);
                if !forced && value != null.as_bytes() && !value.iter().any(special) && value != b"\\." {
                    self.out.extend_from_slice(value);
                    return;
                }
                self.out.extend_from_slice(&[*quote]);
                for byte in value {
                    if byte == quote || byte == escape {
                        self.out.extend_from_slice(&[*escape]);
                    }
                    self.out.extend_from_slice(&[*byte]);
                }
                self.out.extend_from_slice(&[*quote]);
            }
        }
    }
}

fn escape_text(out: &mut BytesMut, value: &[u8], delimiter: u8) {
    for &byte in value {
        let escaped = match byte {
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0b => b'v',
            0x0c => b'f',
            byte if byte == delimiter => byte,
            byte => {
                out.extend_from_slice(&[byte]);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', escaped]);
    }
}
