//! `COPY ... TO STDOUT`: a query's rows as text, CSV or binary, one row a message.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::Schema;
use pgwire::api::portal::Format;
use pgwire::api::results::FieldInfo;
use pgwire::error::PgWireResult;
use sqlparser::ast::{CopyLegacyCsvOption, CopyLegacyOption, CopyOption, CopySource, CopyTarget, Statement};

use super::encode::{self, Columns, unwritable};
use super::problem::{self, NOT_SUPPORTED};
use super::values::{binary, sized};

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// What is asked for, and how.
#[derive(Debug, Clone)]
pub(crate) struct Copy {
    /// The rows, as a query.
    pub(crate) query: String,
    pub(crate) form: Form,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Form {
    Text { delimiter: u8, null: String, header: bool },
    Csv { delimiter: u8, quote: u8, escape: u8, null: String, header: bool, force_all: bool, force: Vec<String> },
    Binary,
}

impl Copy {
    /// `None` where the statement is no COPY.
    pub(crate) fn of(statement: &Statement) -> Option<PgWireResult<Copy>> {
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
        Some(form(options, legacy_options).map(|form| Copy { query, form }))
    }

    pub(crate) fn format(&self) -> Format {
        if self.form == Form::Binary { Format::UnifiedBinary } else { Format::UnifiedText }
    }
}

fn form(options: &[CopyOption], legacy: &[CopyLegacyOption]) -> PgWireResult<Form> {
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
            other => return Err(problem::error(NOT_SUPPORTED, format!("COPY TO does not take {other}"))),
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
                            return Err(problem::error(NOT_SUPPORTED, "FORCE NOT NULL is for COPY FROM"));
                        }
                    }
                }
            }
            other => return Err(problem::error(NOT_SUPPORTED, format!("COPY TO does not take {other}"))),
        }
    }
    let byte = |given: Option<char>, default: u8| match given.map(u8::try_from) {
        None => Ok(default),
        Some(Ok(byte)) if byte.is_ascii() && !matches!(byte, b'\n' | b'\r') => Ok(byte),
        Some(_) => Err(problem::error("22023", "COPY's delimiter, quote and escape must be one ASCII character")),
    };
    match name.as_str() {
        "binary" => Ok(Form::Binary),
        "text" => {
            let null = null.unwrap_or_else(|| "\\N".to_owned());
            Ok(Form::Text { delimiter: byte(delimiter, b'\t')?, null, header })
        }
        "csv" => {
            let quote = byte(quote, b'"')?;
            let (delimiter, escape) = (byte(delimiter, b',')?, byte(escape, quote)?);
            let null = null.unwrap_or_default();
            Ok(Form::Csv { delimiter, quote, escape, null, header, force_all, force })
        }
        other => Err(problem::error("22023", format!("COPY format \"{other}\" not recognized"))),
    }
}

/// Writes one batch after the other; the first message and the last are not rows.
pub(crate) struct Writer {
    form: Form,
    fields: Arc<Vec<FieldInfo>>,
    zone: String,
}

impl Writer {
    pub(crate) fn new(copy: &Copy, schema: &Schema, zone: String) -> PgWireResult<Writer> {
        let fields = Arc::new(encode::fields(schema, &copy.format())?);
        Ok(Writer { form: copy.form.clone(), fields, zone })
    }

    pub(crate) fn columns(&self) -> usize {
        self.fields.len()
    }

    pub(crate) fn is_binary(&self) -> bool {
        self.form == Form::Binary
    }

    /// What comes before all rows; in binary it goes with the first of them.
    pub(crate) fn first(&self) -> Option<Bytes> {
        let header = match &self.form {
            Form::Binary => {
                let mut bytes = BytesMut::from(SIGNATURE);
                bytes.extend_from_slice(&[0; 8]);
                return Some(bytes.freeze());
            }
            Form::Text { header, .. } | Form::Csv { header, .. } => *header,
        };
        header.then(|| {
            let mut line = Line::new(&self.form);
            for field in self.fields.iter() {
                line.value(Some(field.name().as_bytes()), field.name());
            }
            line.take()
        })
    }

    pub(crate) fn last(&self) -> Option<Bytes> {
        self.is_binary().then(|| Bytes::from_static(&[0xff, 0xff]))
    }

    pub(crate) fn rows(&self, batch: &RecordBatch) -> PgWireResult<Vec<Bytes>> {
        let columns = Columns::new(batch, &self.zone)?;
        let mut line = Line::new(&self.form);
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
                    sized(&mut line.out, |out| binary(column, row, field.datatype(), out)).map_err(unwritable)?;
                } else {
                    text.clear();
                    if !null {
                        column.text(row, &mut text).map_err(unwritable)?;
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
    form: &'a Form,
    out: BytesMut,
    started: bool,
}

impl<'a> Line<'a> {
    fn new(form: &'a Form) -> Line<'a> {
        Line { form, out: BytesMut::new(), started: false }
    }

    fn take(&mut self) -> Bytes {
        if *self.form != Form::Binary {
            self.out.extend_from_slice(b"\n");
        }
        self.started = false;
        self.out.split().freeze()
    }

    fn value(&mut self, value: Option<&[u8]>, column: &str) {
        let separate = std::mem::replace(&mut self.started, true);
        match self.form {
            Form::Binary => {}
            Form::Text { delimiter, null, .. } => {
                if separate {
                    self.out.extend_from_slice(&[*delimiter]);
                }
                match value {
                    None => self.out.extend_from_slice(null.as_bytes()),
                    Some(value) => escape_text(&mut self.out, value, *delimiter),
                }
            }
            Form::Csv { delimiter, quote, escape, null, force_all, force, .. } => {
                if separate {
                    self.out.extend_from_slice(&[*delimiter]);
                }
                let Some(value) = value else {
                    self.out.extend_from_slice(null.as_bytes());
                    return;
                };
                // A value that reads like NULL is quoted, and so an empty one by default.
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
