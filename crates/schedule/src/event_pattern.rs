//! Patterns of events, for triggers: of the event's name and of its fields, with the wildcards `*` and `?`.

use std::collections::BTreeMap;

use serde_json::Value;

/// A pattern of events: an event matches where its name and all of the given fields do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventPattern {
    /// The pattern of the event's name: "transfer.finished", "file.*".
    pub name: String,
    /// The patterns of the values of fields as text, by the dotted path of the field: "source", "file.name".
    pub fields: BTreeMap<String, String>,
}

impl EventPattern {
    /// Whether an event of this name and with these fields matches.
    pub fn matches(&self, name: &str, fields: &Value) -> bool {
        glob(&self.name, name) && self.fields.iter().all(|(path, pattern)| field_matches(fields, path, pattern))
    }
}

/// An absent field and null match no pattern, not even `*`.
fn field_matches(fields: &Value, path: &str, pattern: &str) -> bool {
    let found = path.split('.').try_fold(fields, |value, key| value.get(key));
    match found {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => glob(pattern, text),
        Some(other) => glob(pattern, &other.to_string()),
    }
}

/// Whether the whole text matches the pattern: `*` stands for any characters, also none, `?` for exactly one, and each
/// other character for itself.
pub fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if p < pattern.len() && (pattern[p] == '?' || (pattern[p] != '*' && pattern[p] == text[t])) {
            p += 1;
            t += 1;
        } else if p < pattern.len() && pattern[p] == '*' {
            star = Some((p, t));
            p += 1;
        } else if let Some((star_p, star_t)) = star {
            // The last `*` stands for one character more.
            star = Some((star_p, star_t + 1));
            p = star_p + 1;
            t = star_t + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}
