//! Replaces `${VARIABLE}` in the strings of a configuration file, before its values are checked; `${VARIABLE:-text}` is
//! the text where the variable is not set.
//! A value can't change the syntax around it: inside a connection's URL it is percent-encoded, and its braces are doubled
//! in a collect's request, where they would be placeholders.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::FileProblems;

/// Looks up an environment variable; `None` where it is not set.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Expands all strings of a file. Variables that are not set or not well written become problems.
pub fn strings(table: &mut DeTable<'_>, env: Env<'_>, report: &mut FileProblems<'_>) {
    expand_table(table, &mut Vec::new(), env, report);
}

fn expand_table(table: &mut DeTable<'_>, path: &mut Vec<String>, env: Env<'_>, report: &mut FileProblems<'_>) {
    for (key, value) in table.iter_mut() {
        path.push(key.get_ref().to_string());
        expand_value(value, path, env, report);
        path.pop();
    }
}

fn expand_value(value: &mut Spanned<DeValue<'_>>, path: &mut Vec<String>, env: Env<'_>, report: &mut FileProblems<'_>) {
    let span = value.span();
    match value.get_mut() {
        DeValue::String(text) if text.contains('$') => {
            let (expanded, problems) = expand(text, env, Syntax::at(path));
            let mut from = span.start;
            for problem in problems {
                from = problem.report(path, from..span.end, report);
            }
            *text = expanded.into();
        }
        DeValue::Table(inner) => expand_table(inner, path, env, report),
        DeValue::Array(items) => {
            for item in items.iter_mut() {
                expand_value(item, path, env, report);
            }
        }
        _ => {}
    }
}

/// The syntax of a string, in which a value must stay one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Syntax {
    Text,
    /// A connection's URL. A value at its very start has the scheme, so it is a URL itself and is used unchanged.
    Url,
    /// A collect's request, with placeholders in braces.
    Template,
}

impl Syntax {
    fn at(path: &[String]) -> Syntax {
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        match names[..] {
            ["connections", _, "url"] => Syntax::Url,
            ["request", "url"] | ["request", "query", _] => Syntax::Template,
            _ => Syntax::Text,
        }
    }

    fn escaped(self, value: String, is_first: bool) -> String {
        match self {
            Syntax::Url if !is_first => encode(&value),
            Syntax::Template => value.replace('{', "{{").replace('}', "}}"),
            Syntax::Url | Syntax::Text => value,
        }
    }
}

struct ExpandProblem {
    /// The text of the variable as written, to find its place in the file.
    written: String,
    what: String,
    hint: String,
    /// The variable is not set: the file is right, and another environment may have it.
    is_unset: bool,
}

impl ExpandProblem {
    /// Adds the problem at its place within `span`. Returns the offset to search the next problem from.
    fn report(self, path: &[String], span: Range<usize>, report: &mut FileProblems<'_>) -> usize {
        let inside = report.text().get(span.clone()).and_then(|text| text.find(&self.written)).unwrap_or(0);
        let at = span.start + inside;
        if self.is_unset {
            report.add_unset(path, at..span.end, self.what, self.hint);
        } else {
            report.add(at..span.end, self.what, self.hint);
        }
        at + 1
    }
}

fn expand(text: &str, env: Env<'_>, syntax: Syntax) -> (String, Vec<ExpandProblem>) {
    let (mut expanded, mut problems, mut rest) = (String::with_capacity(text.len()), Vec::new(), text);
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(escaped) = after.strip_prefix('$') {
            expanded.push('$');
            rest = escaped;
            continue;
        }
        let Some(inside) = after.strip_prefix('{') else {
            expanded.push('$');
            rest = after;
            continue;
        };
        let Some((name, after)) = inside.split_once('}') else {
            problems.push(ExpandProblem {
                written: "${".to_owned() + inside,
                what: "`${` without its `}`".into(),
                hint: "write ${NAME}, or $$ for a dollar sign".into(),
                is_unset: false,
            });
            return (expanded, problems);
        };
        match value(name, env) {
            Ok(value) => {
                let is_first = expanded.is_empty();
                expanded.push_str(&syntax.escaped(value, is_first));
            }
            Err(problem) => problems.push(problem),
        }
        rest = after;
    }
    expanded.push_str(rest);
    (expanded, problems)
}

fn value(written: &str, env: Env<'_>) -> Result<String, ExpandProblem> {
    let (name, otherwise) = match written.split_once(":-") {
        Some((name, otherwise)) => (name, Some(otherwise)),
        None => (written, None),
    };
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let written = format!("${{{written}}}");
    if !is_name {
        // Not quoted: it may be a part of a secret that has a dollar sign in it.
        let what = "the text in `${}` is not a name of an environment variable".into();
        return Err(ExpandProblem {
            written,
            what,
            hint: "write ${NAME}, or $$ for a dollar sign".into(),
            is_unset: false,
        });
    }
    let set = env(name).filter(|value| otherwise.is_none() || !value.is_empty());
    set.or_else(|| otherwise.map(str::to_owned)).ok_or_else(|| {
        let what = format!("the environment variable {name} is not set");
        ExpandProblem { written, what, hint: format!("set it: export {name}=..."), is_unset: true }
    })
}

/// Percent-encodes a text for any part of a URL.
pub fn encode(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String can't fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}
