//! The columns that order an INCREMENTAL transfer, and places in that order.
//!
//! A place is kept as PostgreSQL's own text of each column's value, and compared by PostgreSQL only: the order of a
//! numeric, a text with its collation or a uuid is never imitated here.

use std::time::Duration;

use chrono::NaiveDateTime;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::postgres::{literal, quote};

/// Values beyond this time ahead of the server's clock don't move the position: one of them would hide all rows that
/// come after it.
const AHEAD_MAX: &str = "interval '1 minute'";

/// As far as a local clock may be ahead of UTC's.
const LOCAL_AHEAD_MAX: &str = "interval '14 hours'";

/// Up to so many rows beyond their sequence's last value are outliers; more show that it does not give the values.
const BEYOND_MAX: u32 = 1000;

/// Without a sequence, up to so many of the greatest integers are looked at for a gap below them.
const OUTLIERS: u32 = 10;

/// A gap below this is none.
const GAP_MIN: u32 = 10_000;

/// So many of the greatest integers say how close together they lie.
const NEIGHBOURS: u32 = 1000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// In the order of their weight. One, but for orders such as `(updated_at, id)`.
    pub columns: Vec<CursorColumn>,
    /// The cursor is the whole of a key that the source enforces, and an integer: a value that was carried does not come again.
    pub is_key: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorColumn {
    /// At the source.
    pub column: String,
    /// In the target.
    pub name: String,
    pub kind: CursorKind,
    /// As `format_type()` gives it.
    pub type_name: String,
    pub nullable: bool,
    /// The sequence (`pg_class.oid`) that gives the column its values: a few greater ones were not given by it, and
    /// don't move the position.
    pub sequence: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorKind {
    Integer,
    Numeric,
    Date,
    Instant {
        utc: bool,
    },
    /// Version 7, which begins with the time.
    Uuid,
    /// Text that sorts, such as ISO 8601.
    Text,
    /// The system column `xmin`: which transaction wrote the row's newest version. Read by the whole table, and exact.
    Transaction,
}

/// The name by which the system column is asked for.
pub const TRANSACTION: &str = "xmin";

/// A place in the order: a text for each of the cursor's columns, or for the first of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Place(pub Vec<String>);

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

impl CursorColumn {
    fn literal(&self, text: &str) -> String {
        // A place less an overlap may lie beyond the smaller types.
        let type_name = if self.kind == CursorKind::Integer { "bigint" } else { self.type_name.as_str() };
        format!("CAST({} AS {type_name})", literal(text))
    }

    /// The condition under which a value has a place in the order and may move the position. `before` is the value up
    /// to which it has been moved.
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
            // Its first 48 bits are milliseconds since 1970.
            CursorKind::Uuid => format!(
                "{column} <= (lpad(to_hex((extract(epoch FROM now() + {AHEAD_MAX}) * 1000)::bigint), 12, '0') || \
                 'ffffffffffffffffffff')::uuid"
            ),
            // Of other texts than dates nothing says what lies far ahead.
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

    /// SQL for a value less the overlap, never below the type's least value; `None` where that is computed here.
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
    pub fn is_transaction(&self) -> bool {
        self.columns.iter().any(|column| column.kind == CursorKind::Transaction)
    }

    /// The single integer column whose growth shows which rows are new.
    pub fn integer(&self) -> Option<&CursorColumn> {
        match self.columns.as_slice() {
            [column] if column.kind == CursorKind::Integer => Some(column),
            _ => None,
        }
    }

    /// Target columns whose values tell a row's versions apart.
    pub fn names(&self) -> Vec<String> {
        let columns = self.columns.iter().filter(|column| column.kind != CursorKind::Transaction);
        columns.map(|column| column.name.clone()).collect()
    }

    /// For messages: `"updated_at"`, or `("updated_at", "id")`.
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

    fn literals(&self, place: &Place) -> Vec<String> {
        self.columns.iter().zip(&place.0).map(|(column, text)| column.literal(text)).collect()
    }

    /// The condition that takes the rows from `place` on, without those that have no place.
    pub fn from(&self, place: &Place, strict: bool) -> String {
        let sign = if strict { ">" } else { ">=" };
        let columns = &self.list("")[..place.0.len().min(self.columns.len())];
        match (columns, self.literals(place).as_slice()) {
            ([column], [value]) => format!("{column} {sign} {value}"),
            (columns, values) => format!("({}) {sign} ({})", columns.join(", "), values.join(", ")),
        }
    }

    /// The condition that takes the rows that have no place in the order: each run reads them, and matches them by key.
    pub fn placeless(&self) -> Vec<String> {
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

    /// The query for the greatest place: its texts, or no row where the table has none.
    pub fn greatest(&self, from: &str) -> String {
        // In one SELECT, ORDER BY would take the text of the same name.
        let texts: Vec<String> = self.list("h.").iter().map(|column| format!("{column}::text")).collect();
        let inner = self.list("").join(", ");
        format!("SELECT {} FROM (SELECT {inner} FROM {}) h", texts.join(", "), self.first(from, None))
    }

    fn first(&self, from: &str, before: Option<&Place>) -> String {
        let texts = |at: usize| before.and_then(|place| place.0.get(at)).map(String::as_str);
        let counts: Vec<String> =
            self.columns.iter().enumerate().map(|(at, column)| column.counts(from, texts(at))).collect();
        let order: Vec<String> = self.list("").iter().map(|column| format!("{column} DESC")).collect();
        format!("{from} WHERE {} ORDER BY {} LIMIT 1", counts.join(" AND "), order.join(", "))
    }

    /// The query that says, of a table's greatest place under the snapshot: the place itself, the place from which the
    /// next run reads again, and whether the greatest lies below `before`. `mark` is the greatest place from before the
    /// snapshot; the lesser of the two counts, less the overlap. Without a mark the low texts are NULL.
    pub fn cut(&self, from: &str, mark: Option<&Place>, before: Option<&Place>, overlap: i64) -> String {
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
            Some(place) => format!("{} < {}", row(&own), row(&self.literals(place))),
            None => "false".to_owned(),
        };
        let inner = self.list("").join(", ");
        format!("SELECT {}, {behind} FROM (SELECT {inner} FROM {}) h", texts.join(", "), self.first(from, before))
    }

    /// From [`Cursor::cut`]'s low texts: the place from which the next run reads again.
    pub fn low(&self, mut texts: Vec<String>, overlap: i64) -> Result<Place> {
        if overlap > 0 {
            // The overlap is a distance in the first column, which the others don't have.
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
        Ok(Place(texts))
    }
}

/// SQL for the last value of a sequence where a few rows lie beyond it. Where many do, the sequence says nothing. One
/// that was never used has given no value: all rows lie beyond it.
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

/// SQL for the greatest number that no gap separates from those below it, NULL without such a gap: one that is larger
/// than [`GAP_MIN`], and a thousand times the distance that the next thousand rows span. Where rows come after such a gap,
/// there is none above them. Until then a row beyond it is read again by each run, which does no harm. It is `before` at
/// least, the position of the last run.
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

/// The least uuid of version 7 whose time is so much earlier.
fn uuid_before(text: &str, overlap: Duration) -> Result<String> {
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let millis = digits.get(..12).and_then(|time| u64::from_str_radix(time, 16).ok());
    let Some(millis) = millis.filter(|_| digits.get(12..13) == Some("7")) else {
        return Err(Error::input(format!("go by the uuid {text}, which is not of version 7"))
            .hint("random uuids have no order: choose a timestamp as the cursor, or cursor = \"xmin\""));
    };
    let overlap = u64::try_from(overlap.as_millis()).unwrap_or(u64::MAX);
    let time = format!("{:012x}", millis.saturating_sub(overlap));
    Ok(format!("{}-{}-0000-0000-000000000000", &time[..8], &time[8..]))
}

/// An ISO 8601 text so much earlier, to the second or the day; `None` where it is no such text.
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
