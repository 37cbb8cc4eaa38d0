//! Texts with the logical date in them: `{date:%Y-%m}` in a URL or in a pattern of names.

use chrono::NaiveDate;
use chrono::format::{Item, StrftimeItems};

use crate::{Error, Kind, Result};

/// A text that `fill` completes with a date.
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
    /// `{date}` is `{date:%Y-%m-%d}`; any other brace is a brace.
    ///
    /// # Errors
    /// `FixInput` where a `{date` is not closed, or holds what is no format of a date.
    pub fn parse(text: &str) -> Result<Template> {
        let wrong = |what: &str| Error::new(Kind::FixInput, format!("read the template {text:?}: {what}"));
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some(at) = rest.find(OPEN) {
            let inside = &rest[at + OPEN.len()..];
            let (written, behind) = inside.split_once('}').ok_or_else(|| wrong("`{date` without its `}`"))?;
            let format = match written {
                "" => "%Y-%m-%d",
                _ => written.strip_prefix(':').ok_or_else(|| wrong("write {date:%Y-%m-%d}, with a colon"))?,
            };
            if !is_of_a_date(format) {
                return Err(wrong("what follows `{date:` must be made of %Y, %m, %d and their like, without the time"));
            }
            pieces.push(Piece::Text(rest[..at].to_owned()));
            pieces.push(Piece::Date(format.to_owned()));
            rest = behind;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Template { pieces })
    }

    pub fn fill(&self, date: NaiveDate) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Date(format) => date.format(format).to_string(),
        };
        self.pieces.iter().map(piece).collect()
    }
}

/// True where a date alone fills it: chrono fails only while it writes, which is too late.
fn is_of_a_date(format: &str) -> bool {
    use std::fmt::Write;
    let is_known = !format.is_empty() && StrftimeItems::new(format).all(|item| !matches!(item, Item::Error));
    is_known && write!(String::new(), "{}", NaiveDate::default().format(format)).is_ok()
}
