//! Which events a trigger is for: a name and fields, with `*` and `?`.

use std::collections::BTreeMap;

use serde_json::Value;

/// All of it must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pattern {
    /// Over the event's name: "transfer.finished", "file.*".
    pub name: String,
    /// Over its fields by dotted path ("source", "file.name"), as text.
    pub fields: BTreeMap<String, String>,
}

impl Pattern {
    pub fn matches(&self, name: &str, fields: &Value) -> bool {
        glob(&self.name, name) && self.fields.iter().all(|(path, pattern)| field_matches(fields, path, pattern))
    }
}

/// A field that is absent matches nothing, not even `*`.
fn field_matches(fields: &Value, path: &str, pattern: &str) -> bool {
    let found = path.split('.').try_fold(fields, |value, key| value.get(key));
    match found {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => glob(pattern, text),
        Some(other) => glob(pattern, &other.to_string()),
    }
}

/// `*` is any run of characters, none included; `?` is one. All else is itself.
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
            // The star takes one character more.
            star = Some((star_p, star_t + 1));
            p = star_p + 1;
            t = star_t + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}
