//! Texts with holes for the window of time that is asked for, and for the item that it is asked for. A brace of the text
//! is written twice.

use std::collections::BTreeMap;

use base::suggestion;
use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, SecondsFormat, Utc};
use chrono_tz::Tz;

use crate::{Error, Kind, Result};

/// What is asked for: a window of time of one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestWindow {
    /// The window's first instant.
    pub from: DateTime<Utc>,
    /// The first instant after it.
    pub to: DateTime<Utc>,
    /// The item by its parts: `station` is `Y862000101`.
    pub item: BTreeMap<String, String>,
}

/// A text with holes: `{from}`, `{to}`, `{from:%Y-%m-%d}`, `{station}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowTemplate {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Instant { is_end: bool, format: Option<String> },
    Part(String),
}

impl WindowTemplate {
    /// Parses a template whose items have these parts.
    ///
    /// # Errors
    /// `FixInput` where a hole is not closed, has no known name, or has a format that is not one of an instant.
    pub fn parse(text: &str, parts: &[&str]) -> Result<WindowTemplate> {
        let wrong = |what: String| Error::new(Kind::FixInput, format!("read the template {text:?}: {what}"));
        let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            if let Some(after) = rest[at..].strip_prefix("{{").or_else(|| rest[at..].strip_prefix("}}")) {
                plain.push_str(&rest[at..=at]);
                rest = after;
                continue;
            }
            if rest[at..].starts_with('}') {
                return Err(wrong("`}` without its `{`; a brace of the text is written twice".to_owned()));
            }
            let (hole, after) =
                rest[at + 1..].split_once('}').ok_or_else(|| wrong("`{` without its `}`".to_owned()))?;
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
            let (name, format) = match hole.split_once(':') {
                Some((name, format)) => (name, Some(format)),
                None => (hole, None),
            };
            pieces.push(match (name, format) {
                ("from" | "to", format) => {
                    if let Some(format) = format.filter(|format| !is_format(format)) {
                        return Err(wrong(format!("{format:?} is not a format of an instant, such as %Y-%m-%dT%H:%M")));
                    }
                    Piece::Instant { is_end: name == "to", format: format.map(str::to_owned) }
                }
                (name, None) if parts.contains(&name) => Piece::Part(name.to_owned()),
                (name, _) => {
                    let known: Vec<&str> = ["from", "to"].into_iter().chain(parts.iter().copied()).collect();
                    let error = wrong(format!("unknown placeholder {{{name}}}"));
                    return Err(match suggestion("placeholder", name, &known) {
                        Some(hint) => error.hint(hint),
                        None => error,
                    });
                }
            });
            rest = after;
        }
        plain.push_str(rest);
        pieces.push(Piece::Text(plain));
        Ok(WindowTemplate { pieces })
    }

    /// The text around its holes.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// Whether it has a hole for the window.
    pub fn has_window(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Instant { .. }))
    }

    /// Whether it has a hole for a part of items.
    pub fn has_part(&self, name: &str) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Part(part) if part == name))
    }

    /// The text for a window. Instants are written in the zone; without a format, as RFC 3339 in UTC. Parts of items
    /// are written by `escape`.
    pub fn fill(&self, window: &RequestWindow, zone: Tz, escape: impl Fn(&str) -> String) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Part(name) => escape(window.item.get(name).map_or("", String::as_str)),
            Piece::Instant { is_end, format } => {
                let at = if *is_end { window.to } else { window.from };
                match format {
                    Some(format) => at.with_timezone(&zone).format(format).to_string(),
                    None => at.to_rfc3339_opts(SecondsFormat::Secs, true),
                }
            }
        };
        self.pieces.iter().map(piece).collect()
    }
}

fn is_format(format: &str) -> bool {
    !format.is_empty() && StrftimeItems::new(format).all(|item| !matches!(item, Item::Error))
}
