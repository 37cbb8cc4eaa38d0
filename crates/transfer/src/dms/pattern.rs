//! The wildcards of a locator: `%` is any sequence of characters, `_` any character, `[_]` that character itself,
//! `[ab]` a set, `[a-d]` a range. Case is significant.

use super::problem::RuleError;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    AnyText,
    AnyChar,
    /// Ranges of characters, each with its first and last one.
    Set(Vec<(char, char)>),
    Char(char),
}

/// A pattern for names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    /// As it stands in the mapping.
    pub(super) text: String,
    pieces: Vec<Piece>,
}

impl Pattern {
    /// Reads a pattern. A bracket without its end, and an empty or reversed set, are errors.
    pub(super) fn parse(text: &str) -> Result<Pattern, RuleError> {
        let mut pieces = Vec::new();
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            pieces.push(match c {
                '%' => Piece::AnyText,
                '_' => Piece::AnyChar,
                '[' => {
                    let (set, after) = rest
                        .as_str()
                        .split_once(']')
                        .ok_or_else(|| RuleError::new(format!("the pattern \"{text}\" has a [ without a ]")))?;
                    rest = after.chars();
                    set_of(set).ok_or_else(|| {
                        RuleError::new(format!("\"[{set}]\" in the pattern \"{text}\" is not a set of characters"))
                    })?
                }
                c => Piece::Char(c),
            });
        }
        Ok(Pattern { text: text.to_owned(), pieces })
    }

    /// Whether the pattern stands for a single name. `_` does not count as a wildcard here, since names with that
    /// character are usually written without brackets.
    pub(super) fn names_one(&self) -> bool {
        !self.pieces.iter().any(|p| matches!(p, Piece::AnyText | Piece::Set(_)))
    }

    /// The name that the pattern stands for, where it has no wildcards but `_`.
    pub(super) fn exact_name(&self) -> Option<String> {
        let name = |piece: &Piece| match piece {
            Piece::Char(c) => Some(*c),
            Piece::AnyChar => Some('_'),
            Piece::AnyText | Piece::Set(_) => None,
        };
        self.pieces.iter().map(name).collect()
    }

    /// The same pattern for names in lower case.
    pub(super) fn lowercase(&self) -> Pattern {
        Pattern::parse(&self.text.to_lowercase()).unwrap_or_else(|_| self.clone())
    }

    /// Whether a name matches. Takes at most as many steps as the product of the two lengths.
    pub(super) fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let (mut p, mut n) = (0, 0);
        // Where to go back to after a mismatch: after the last `%`, and where its text ended.
        let mut back: Option<(usize, usize)> = None;
        while n < name.len() {
            match self.pieces.get(p) {
                Some(Piece::AnyText) => {
                    p += 1;
                    back = Some((p, n));
                }
                Some(piece) if fits(piece, name[n]) => (p, n) = (p + 1, n + 1),
                _ => match back {
                    Some((after, end)) => {
                        (p, n) = (after, end + 1);
                        back = Some((after, end + 1));
                    }
                    None => return false,
                },
            }
        }
        self.pieces[p..].iter().all(|piece| *piece == Piece::AnyText)
    }
}

fn fits(piece: &Piece, c: char) -> bool {
    match piece {
        Piece::AnyText => false,
        Piece::AnyChar => true,
        Piece::Set(ranges) => ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)),
        Piece::Char(expected) => *expected == c,
    }
}

fn set_of(text: &str) -> Option<Piece> {
    let chars: Vec<char> = text.chars().collect();
    if let [c] = chars[..] {
        return Some(Piece::Char(c));
    }
    let (mut ranges, mut at) = (Vec::new(), 0);
    while at < chars.len() {
        let from = chars[at];
        let is_range = chars.get(at + 1) == Some(&'-') && at + 2 < chars.len();
        let to = if is_range { chars[at + 2] } else { from };
        if to < from {
            return None;
        }
        ranges.push((from, to));
        at += if is_range { 3 } else { 1 };
    }
    (!ranges.is_empty()).then_some(Piece::Set(ranges))
}
