//! `${VARIABLES}` in the strings of a file, filled in before anything else looks at them.
//! A variable's value never becomes syntax: inside a connection's URL it is percent-encoded.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Report;

pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

pub fn strings(table: &mut DeTable<'_>, env: Env<'_>, report: &mut Report<'_>) {
    each(table, &mut Vec::new(), env, report);
}

fn each(table: &mut DeTable<'_>, path: &mut Vec<String>, env: Env<'_>, report: &mut Report<'_>) {
    for (key, value) in table.iter_mut() {
        path.push(key.get_ref().to_string());
        one(value, path, env, report);
        path.pop();
    }
}

fn one(value: &mut Spanned<DeValue<'_>>, path: &mut Vec<String>, env: Env<'_>, report: &mut Report<'_>) {
    let span = value.span();
    match value.get_mut() {
        DeValue::String(text) if text.contains('$') => {
            let is_url = path.len() == 3 && path[0] == "connections" && path[2] == "url";
            let (expanded, faults) = expand(text, env, is_url);
            let mut from = span.start;
            for fault in faults {
                from = fault.report(path, from..span.end, report);
            }
            *text = expanded.into();
        }
        DeValue::Table(inner) => each(inner, path, env, report),
        DeValue::Array(items) => {
            for item in items.iter_mut() {
                one(item, path, env, report);
            }
        }
        _ => {}
    }
}

struct Fault {
    /// The place's beginning as it is written, to find it in the file.
    written: String,
    what: String,
    hint: String,
    /// A variable that is not set: what is written is right, and another environment has it.
    is_unset: bool,
}

impl Fault {
    /// Returns where to look for the next.
    fn report(self, path: &[String], span: Range<usize>, report: &mut Report<'_>) -> usize {
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

/// With `is_url`, a value in the middle is one part of the URL, whatever characters it has; one at the very start
/// brings the scheme, so it is a URL already.
fn expand(text: &str, env: Env<'_>, is_url: bool) -> (String, Vec<Fault>) {
    let (mut expanded, mut faults, mut rest) = (String::with_capacity(text.len()), Vec::new(), text);
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
        let Some((name, behind)) = inside.split_once('}') else {
            faults.push(Fault {
                written: "${".to_owned() + inside,
                what: "`${` without its `}`".into(),
                hint: "write ${NAME}, or $$ for a dollar sign".into(),
                is_unset: false,
            });
            return (expanded, faults);
        };
        match value(name, env) {
            Ok(value) if is_url && !expanded.is_empty() => expanded.push_str(&encode(&value)),
            Ok(value) => expanded.push_str(&value),
            Err(fault) => faults.push(fault),
        }
        rest = behind;
    }
    expanded.push_str(rest);
    (expanded, faults)
}

fn value(name: &str, env: Env<'_>) -> Result<String, Fault> {
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let written = format!("${{{name}}}");
    if !is_name {
        // Not quoted: it may be a piece of a secret that was written with a dollar sign in it.
        let what = "what stands in `${}` can't be the name of an environment variable".into();
        return Err(Fault { written, what, hint: "write ${NAME}, or $$ for a dollar sign".into(), is_unset: false });
    }
    env(name).ok_or_else(|| {
        let what = format!("the environment variable {name} is not set");
        Fault { written, what, hint: format!("set it: export {name}=..."), is_unset: true }
    })
}

/// Percent-encoding that is safe in every part of a URL.
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
