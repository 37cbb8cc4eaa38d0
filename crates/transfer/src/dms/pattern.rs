//! The wildcards of a locator: `%` any run, `_` one character, `[_]` that character itself,
//! `[ab]` a set, `[a-d]` a range. Names are compared by case.

use super::Fault;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Run,
    One,
    Set(Vec<(char, char)>),
    Char(char),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) text: String,
    pieces: Vec<Piece>,
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Pattern, Fault> {
        let mut pieces = Vec::new();
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            pieces.push(match c {
                '%' => Piece::Run,
                '_' => Piece::One,
                '[' => {
                    let (set, after) = rest
                        .as_str()
                        .split_once(']')
                        .ok_or_else(|| Fault::new(format!("the pattern \"{text}\" has a [ without its ]")))?;
                    rest = after.chars();
                    set_of(set).ok_or_else(|| Fault::new(format!("\"[{set}]\" of \"{text}\" is no set")))?
                }
                c => Piece::Char(c),
            });
        }
        Ok(Pattern { text: text.to_owned(), pieces })
    }

    /// Whether it can only mean one name; `_` counts, since most who write it mean the character.
    pub(super) fn names_one(&self) -> bool {
        !self.pieces.iter().any(|p| matches!(p, Piece::Run | Piece::Set(_)))
    }

    /// The name as it stands, for rules that take no wildcards.
    pub(super) fn exact_name(&self) -> Option<String> {
        let name = |piece: &Piece| match piece {
            Piece::Char(c) => Some(*c),
            Piece::One => Some('_'),
            Piece::Run | Piece::Set(_) => None,
        };
        self.pieces.iter().map(name).collect()
    }

    /// The same pattern for names in lower case.
    pub(super) fn lowercase(&self) -> Pattern {
        Pattern::parse(&self.text.to_lowercase()).unwrap_or_else(|_| self.clone())
    }

    /// At most pattern × name steps, whatever the pattern.
    pub(super) fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let (mut p, mut n) = (0, 0);
        // Where to go back to: after the last run, and where that run ended.
        let mut back: Option<(usize, usize)> = None;
        while n < name.len() {
            match self.pieces.get(p) {
                Some(Piece::Run) => {
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
        self.pieces[p..].iter().all(|piece| *piece == Piece::Run)
    }
}

fn fits(piece: &Piece, c: char) -> bool {
    match piece {
        Piece::Run => false,
        Piece::One => true,
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
