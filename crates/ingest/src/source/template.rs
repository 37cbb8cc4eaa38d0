//! Templates of the logical date: `{date:%Y-%m}` in a URL or in a pattern of names.

use chrono::NaiveDate;
use chrono::format::{Item, StrftimeItems};

use crate::{Error, Kind, Result};

/// A text with holes for a date; [`fill`](Template::fill) completes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Date(String),
}

const OPEN: &str = "{date";

impl Template {
    /// Parses a template. `{date}` means `{date:%Y-%m-%d}`; any other brace stands for itself.
    ///
    /// # Errors
    /// `FixInput` where a `{date` is not closed, or its format is not valid for a date.
    pub fn parse(text: &str) -> Result<Template> {
        let wrong = |what: &str| Error::new(Kind::FixInput, format!("read the template {text:?}: {what}"));
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some(at) = rest.find(OPEN) {
            let inside = &rest[at + OPEN.len()..];
            let (written, after) = inside.split_once('}').ok_or_else(|| wrong("`{date` without its `}`"))?;
            let format = match written {
                "" => "%Y-%m-%d",
                _ => written.strip_prefix(':').ok_or_else(|| wrong("write {date:%Y-%m-%d}, with a colon"))?,
            };
            if !is_date_format(format) {
                return Err(wrong("after `{date:` write specifiers of a date, such as %Y, %m, %d, without the time"));
            }
            pieces.push(Piece::Text(rest[..at].to_owned()));
            pieces.push(Piece::Date(format.to_owned()));
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Template { pieces })
    }

    /// The text with the date in place of each hole.
    pub fn fill(&self, date: NaiveDate) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Date(format) => date.format(format).to_string(),
        };
        self.pieces.iter().map(piece).collect()
    }
}

/// Whether a date without a time can be formatted with it. Checked by formatting one, because chrono reports an
/// unsuitable format only then.
fn is_date_format(format: &str) -> bool {
    use std::fmt::Write;
    let is_known = !format.is_empty() && StrftimeItems::new(format).all(|item| !matches!(item, Item::Error));
    is_known && write!(String::new(), "{}", NaiveDate::default().format(format)).is_ok()
}
