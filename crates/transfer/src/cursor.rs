//! The cursor of an INCREMENTAL transfer: the columns that order a table's changes, and values in that order.
//!
//! A value is stored as PostgreSQL's own text of each column, and compared by PostgreSQL only: this module never
//! reimplements the order of a numeric, of a text with its collation or of a uuid.

use std::time::Duration;

use chrono::NaiveDateTime;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::postgres::{literal, quote};

/// Values further ahead of the server's clock don't move the position: one such value would hide all rows that come
/// after it.
const AHEAD_MAX: &str = "interval '1 minute'";

/// The greatest offset of a local clock ahead of UTC.
const LOCAL_AHEAD_MAX: &str = "interval '14 hours'";

/// Up to this many rows above their sequence's last value are outliers. More of them show that the values don't come
/// from the sequence.
const BEYOND_MAX: u32 = 1000;

/// Without a sequence, how many of the greatest integers may be outliers above a gap.
const OUTLIERS: u32 = 10;

/// The least distance between two neighbours that counts as a gap.
const GAP_MIN: u32 = 10_000;

/// How many of the greatest integers are read to find their usual distance.
const NEIGHBOURS: u32 = 1000;

/// The columns that order a table's changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The most significant first. Usually one; several in orders such as `(updated_at, id)`.
    pub columns: Vec<CursorColumn>,
    /// The cursor is an integer, and by itself a key that the source enforces: a value that was read never comes again.
    pub is_key: bool,
}

/// One column of a [`Cursor`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorColumn {
    /// The column's name at the source.
    pub column: String,
    /// The column's name in the target.
    pub name: String,
    /// How the values are compared.
    pub kind: CursorKind,
    /// The type at the source, as `format_type()` gives it.
    pub type_name: String,
    /// Rows may have NULL in the column: each run reads those again.
    pub nullable: bool,
    /// The sequence (`pg_class.oid`) that the column's values come from: a few values above its last one are outliers,
    /// and don't move the position.
    pub sequence: Option<u32>,
}

/// The kinds of cursor columns, by how their values are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorKind {
    /// smallint, integer and bigint.
    Integer,
    /// numeric of any precision.
    Numeric,
    /// date
    Date,
    /// timestamptz where `utc` is true, else timestamp.
    Instant { utc: bool },
    /// A uuid of version 7, which begins with the time.
    Uuid,
    /// A text whose order is that of the changes, such as a time in ISO 8601.
    Text,
    /// The system column `xmin`, the transaction that wrote the row's current version. It is exact, but each run reads
    /// the whole table at the source.
    Transaction,
}

/// The name of the system column with a row's transaction, as a setting and in SQL.
pub const TRANSACTION: &str = "xmin";

/// A value of the cursor: PostgreSQL's text for each of its columns, or for the first of them alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CursorValue(pub Vec<String>);

impl std::fmt::Display for CursorValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

impl CursorColumn {
    fn literal(&self, text: &str) -> String {
        // A value less the overlap may be outside the range of the smaller types.
        let type_name = if self.kind == CursorKind::Integer { "bigint" } else { self.type_name.as_str() };
        format!("CAST({} AS {type_name})", literal(text))
    }

    /// The condition under which a row's value may move the position. `before` is the value of the current position.
    fn counts(&self, from: &str, before: Option<&str>) -> String {
        let column = quote(&self.column);
        let present = format!("{column} IS NOT NULL");
        let more = match self.kind {
            CursorKind::Instant { utc: true } => format!("{column} <= now() + {AHEAD_MAX}"),
            CursorKind::Instant { utc: false } => {
                format!("{column} <= (now() AT TIME ZONE 'UTC') + {LOCAL_AHEAD_MAX}")
            }
            CursorKind::Date => format!("{column} <= ((now() AT TIME ZONE 'UTC') + {LOCAL_AHEAD_MAX})::date"),
            CursorKind::Numeric => {
                let finite =
                    format!("{column} < CAST('NaN' AS numeric) AND {column}::text NOT IN ('Infinity', '-Infinity')");
                let before = before.map(|before| self.literal(before));
                let ceiling = ceiling_of_values(from, &column, &finite, before.as_deref());
                format!("{finite} AND COALESCE({column} <= {ceiling}, true)")
            }
            CursorKind::Integer => match self.sequence {
                Some(sequence) => format!("{column} <= {}", ceiling(sequence, from, &column)),
                None => {
                    let before = before.map(|before| self.literal(before));
                    let ceiling = ceiling_of_values(from, &column, "true", before.as_deref());
                    format!("COALESCE({column} <= {ceiling}, true)")
                }
            },
            // The first 48 bits of version 7 are milliseconds since 1970.
            CursorKind::Uuid => format!(
                "{column} <= (lpad(to_hex((extract(epoch FROM now() + {AHEAD_MAX}) * 1000)::bigint), 12, '0') || \
                 'ffffffffffffffffffff')::uuid"
            ),
            // A text that does not begin with a date can't be compared with the clock.
            CursorKind::Text => format!(
                "({column} COLLATE \"C\" !~ '^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}' OR {column} COLLATE \"C\" <= \
                 to_char((now() AT TIME ZONE 'UTC') + {LOCAL_AHEAD_MAX}, 'YYYY-MM-DD\"~\"'))"
            ),
            CursorKind::Transaction => return present,
        };
        let finite = match self.kind {
            CursorKind::Instant { .. } | CursorKind::Date => format!(" AND {column} > '-infinity'"),
            _ => String::new(),
        };
        format!("{present} AND {more}{finite}")
    }

    /// SQL for a value less the overlap, never below the type's least value; `None` where [`Cursor::low_value`]
    /// computes it.
    fn less(&self, value: &str, overlap: i64) -> Option<String> {
        Some(match self.kind {
            _ if overlap == 0 => value.to_owned(),
            CursorKind::Integer => {
                format!("greatest({value}::numeric - {overlap}, -9223372036854775808)")
            }
            CursorKind::Numeric => format!("{value} - {overlap}"),
            CursorKind::Instant { .. } | CursorKind::Date => {
                let type_name = &self.type_name;
                let span = format!("interval '{overlap} microseconds'");
                format!(
                    "CASE WHEN {value} > CAST('4713-01-01 BC' AS {type_name}) + {span} \
                     THEN CAST({value} - {span} AS {type_name}) ELSE CAST('-infinity' AS {type_name}) END"
                )
            }
            CursorKind::Uuid | CursorKind::Text | CursorKind::Transaction => return None,
        })
    }
}

impl Cursor {
    /// Whether the cursor is the system column `xmin`.
    pub fn is_transaction(&self) -> bool {
        self.columns.iter().any(|column| column.kind == CursorKind::Transaction)
    }

    /// The cursor's column where it is a single integer.
    pub fn integer(&self) -> Option<&CursorColumn> {
        match self.columns.as_slice() {
            [column] if column.kind == CursorKind::Integer => Some(column),
            _ => None,
        }
    }

    /// The columns of the target that hold the cursor's values; none for `xmin`, which the target does not have.
    pub fn names(&self) -> Vec<String> {
        let columns = self.columns.iter().filter(|column| column.kind != CursorKind::Transaction);
        columns.map(|column| column.name.clone()).collect()
    }

    /// The cursor for messages: `"updated_at"`, or `("updated_at", "id")`.
    pub fn display(&self) -> String {
        match self.columns.as_slice() {
            [column] => format!("{:?}", column.column),
            columns => {
                let names: Vec<String> = columns.iter().map(|column| format!("{:?}", column.column)).collect();
                format!("({})", names.join(", "))
            }
        }
    }

    fn list(&self, prefix: &str) -> Vec<String> {
        self.columns.iter().map(|column| format!("{prefix}{}", quote(&column.column))).collect()
    }

    fn literals(&self, value: &CursorValue) -> Vec<String> {
        self.columns.iter().zip(&value.0).map(|(column, text)| column.literal(text)).collect()
    }

    /// The SQL condition for rows from this value on, or above it where `strict`. Rows without a cursor value don't
    /// fulfil it: [`Cursor::unordered_rows`] finds those.
    pub fn rows_from(&self, value: &CursorValue, strict: bool) -> String {
        let sign = if strict { ">" } else { ">=" };
        let columns = &self.list("")[..value.0.len().min(self.columns.len())];
        match (columns, self.literals(value).as_slice()) {
            ([column], [value]) => format!("{column} {sign} {value}"),
            (columns, values) => format!("({}) {sign} ({})", columns.join(", "), values.join(", ")),
        }
    }

    /// The SQL conditions for rows that have no value in the cursor's order, such as NULL: each run reads those again
    /// and matches them by key.
    pub fn unordered_rows(&self) -> Vec<String> {
        let mut conditions = Vec::new();
        for column in &self.columns {
            let name = quote(&column.column);
            if column.nullable {
                conditions.push(format!("{name} IS NULL"));
            }
            if matches!(column.kind, CursorKind::Instant { .. } | CursorKind::Date) {
                conditions.push(format!("{name} = '-infinity'"));
            }
            if column.kind == CursorKind::Numeric {
                conditions.push(format!("{name}::text = '-Infinity'"));
            }
        }
        conditions
    }

    /// The query for the greatest cursor value in `from`: a row of texts, or no row where no row has a value.
    pub fn greatest_query(&self, from: &str) -> String {
        // In a single SELECT, ORDER BY would sort by the output column of the same name, which is the text.
        let texts: Vec<String> = self.list("h.").iter().map(|column| format!("{column}::text")).collect();
        let inner = self.list("").join(", ");
        format!("SELECT {} FROM (SELECT {inner} FROM {}) h", texts.join(", "), self.first(from, None))
    }

    fn first(&self, from: &str, before: Option<&CursorValue>) -> String {
        let texts = |at: usize| before.and_then(|before| before.0.get(at)).map(String::as_str);
        let counts: Vec<String> =
            self.columns.iter().enumerate().map(|(at, column)| column.counts(from, texts(at))).collect();
        let order: Vec<String> = self.list("").iter().map(|column| format!("{column} DESC")).collect();
        format!("{from} WHERE {} ORDER BY {} LIMIT 1", counts.join(" AND "), order.join(", "))
    }

    /// The query for the bounds of an increment under the snapshot: the texts of the table's greatest value, the texts
    /// of the value from which the next run reads again, and whether the greatest value is below `before`.
    ///
    /// `mark` is the greatest value from before the snapshot. The next run reads from the lesser of the two on, less
    /// the overlap; without a mark, the second texts are NULL.
    pub fn bounds_query(
        &self,
        from: &str,
        mark: Option<&CursorValue>,
        before: Option<&CursorValue>,
        overlap: i64,
    ) -> String {
        let own = self.list("h.");
        let row =
            |parts: &[String]| if parts.len() == 1 { parts[0].clone() } else { format!("({})", parts.join(", ")) };
        let mut texts: Vec<String> = own.iter().map(|column| format!("{column}::text")).collect();
        let marks = mark.map(|mark| self.literals(mark));
        for (at, column) in self.columns.iter().enumerate() {
            let Some(marks) = &marks else {
                texts.push("NULL".into());
                continue;
            };
            let is_less = format!("{} < {}", row(&own), row(marks));
            let least = format!("(CASE WHEN {is_less} THEN {} ELSE {} END)", own[at], marks[at]);
            let overlap = if at == 0 { overlap } else { 0 };
            let low = column.less(&least, overlap).unwrap_or(least);
            texts.push(format!("({low})::text"));
        }
        let behind = match before {
            Some(before) => format!("{} < {}", row(&own), row(&self.literals(before))),
            None => "false".to_owned(),
        };
        let inner = self.list("").join(", ");
        format!("SELECT {}, {behind} FROM (SELECT {inner} FROM {}) h", texts.join(", "), self.first(from, before))
    }

    /// The value from which the next run reads again, by the second texts of [`Cursor::bounds_query`]. The overlap is
    /// subtracted here for the kinds that SQL can't subtract from.
    ///
    /// # Errors
    /// Where a uuid is not of version 7.
    pub fn low_value(&self, mut texts: Vec<String>, overlap: i64) -> Result<CursorValue> {
        if overlap > 0 {
            // The overlap is a distance in the first column: the other columns have no part in it.
            texts.truncate(1);
            let micros = Duration::from_micros(overlap.unsigned_abs());
            if let (Some(column), Some(text)) = (self.columns.first(), texts.first_mut()) {
                match column.kind {
                    CursorKind::Uuid => *text = uuid_before(text, micros)?,
                    CursorKind::Text => *text = iso_before(text, micros).unwrap_or_else(|| text.clone()),
                    _ => {}
                }
            }
        }
        Ok(CursorValue(texts))
    }
}

/// SQL for the last value of a sequence where at most [`BEYOND_MAX`] rows are above it; the greatest integer where more
/// are, since the values then don't come from the sequence. All rows are above a sequence that was never used.
fn ceiling(sequence: u32, from: &str, column: &str) -> String {
    format!(
        "(SELECT CASE WHEN (SELECT count(*) FROM (SELECT FROM {from} WHERE {column} > s.last LIMIT {BEYOND_MAX} + 1) beyond) \
             BETWEEN 1 AND {BEYOND_MAX} THEN s.last ELSE {greatest} END \
         FROM (SELECT COALESCE(pg_sequence_last_value({sequence}::oid::regclass), greatest(seqmin, {least}) - 1) AS last \
             FROM pg_sequence WHERE seqrelid = {sequence}) s)",
        least = i64::MIN + 1,
        greatest = i64::MAX
    )
}

/// SQL for the greatest number below the outliers, NULL where there are none. Outliers are separated from the rest by a
/// gap that is larger than [`GAP_MIN`], and than a thousand times the distance that the next thousand rows span. The
/// result is at least `before`, the position of the last run. Each run reads an outlier again, until more rows follow
/// above the gap.
fn ceiling_of_values(from: &str, column: &str, condition: &str, before: Option<&str>) -> String {
    let floor = before.map_or_else(|| "below".to_owned(), |before| format!("greatest(below, {before}::numeric)"));
    format!(
        "(SELECT min({floor}) FILTER (WHERE place <= {OUTLIERS} AND value - below > {GAP_MIN} \
             AND value - below > 1000 * (below - least)) \
         FROM (SELECT row_number() OVER greatest AS place, value, lead(value) OVER greatest AS below, min(value) OVER () AS least \
             FROM (SELECT {column}::numeric AS value FROM {from} WHERE {column} IS NOT NULL AND {condition} \
                 ORDER BY {column} DESC LIMIT {NEIGHBOURS}) top \
             WINDOW greatest AS (ORDER BY value DESC)) ranked)"
    )
}

/// The least uuid of version 7 whose time is `overlap` before that of `text`.
fn uuid_before(text: &str, overlap: Duration) -> Result<String> {
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let millis = digits.get(..12).and_then(|time| u64::from_str_radix(time, 16).ok());
    let Some(millis) = millis.filter(|_| digits.get(12..13) == Some("7")) else {
        return Err(Error::input(format!("use the uuid {text} as a cursor value: it is not of version 7"))
            .hint("random uuids have no order: set a timestamp as the cursor, or cursor = \"xmin\""));
    };
    let overlap = u64::try_from(overlap.as_millis()).unwrap_or(u64::MAX);
    let time = format!("{:012x}", millis.saturating_sub(overlap));
    Ok(format!("{}-{}-0000-0000-000000000000", &time[..8], &time[8..]))
}

/// The text in ISO 8601 that is `overlap` before `text`, to the second or the day; `None` for other texts.
fn iso_before(text: &str, overlap: Duration) -> Option<String> {
    let overlap = chrono::TimeDelta::from_std(overlap).ok()?;
    if let Some(head) = text.get(..19)
        && let separator @ ("T" | " ") = head.get(10..11)?
    {
        let at = NaiveDateTime::parse_from_str(&head.replace('T', " "), "%Y-%m-%d %H:%M:%S").ok()?;
        return Some(at.checked_sub_signed(overlap)?.format(&format!("%Y-%m-%d{separator}%H:%M:%S")).to_string());
    }
    let day = chrono::NaiveDate::parse_from_str(text.get(..10)?, "%Y-%m-%d").ok()?;
    Some(day.and_hms_opt(0, 0, 0)?.checked_sub_signed(overlap)?.format("%Y-%m-%d").to_string())
}

#[cfg(test)]
mod tests;
