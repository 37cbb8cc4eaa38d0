//! `regexp_split_to_array`.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ListBuilder, StringArray, StringBuilder};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::exec_datafusion_err;
use datafusion::error::Result;
use regex::{Regex, RegexBuilder};

use super::json::texts;
use super::kernel::Kernel;

/// `regexp_split_to_array(text, pattern [, flags])`.
pub(super) const SPLIT: Kernel = Kernel {
    name: "regexp_split_to_array",
    result: |_| Ok(DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)))),
    run: |call| {
        let columns = call.args.iter().map(texts).collect::<Result<Vec<StringArray>>>()?;
        let mut lists = ListBuilder::new(StringBuilder::new());
        let mut last: Option<(String, String, Regex)> = None;
        for row in 0..call.rows {
            if columns.iter().any(|column| column.is_null(row)) {
                lists.append(false);
                continue;
            }
            let (pattern, flags) = (columns[1].value(row), columns.get(2).map_or("", |flags| flags.value(row)));
            if !last.as_ref().is_some_and(|(known, with, _)| known == pattern && with == flags) {
                last = Some((pattern.to_owned(), flags.to_owned(), compile(pattern, flags)?));
            }
            if let Some((_, _, regex)) = &last {
                split(regex, columns[0].value(row)).into_iter().for_each(|part| lists.values().append_value(part));
            }
            lists.append(true);
        }
        Ok(Arc::new(lists.finish()))
    },
};

fn compile(pattern: &str, flags: &str) -> Result<Regex> {
    let mut builder = RegexBuilder::new(pattern);
    for flag in flags.chars() {
        match flag {
            'i' => builder.case_insensitive(true),
            'n' | 'm' => builder.multi_line(true),
            's' => builder.dot_matches_new_line(true),
            'x' => builder.ignore_whitespace(true),
            other => return Err(exec_datafusion_err!("invalid regular expression option: {other:?}")),
        };
    }
    // In PostgreSQL a dot also matches a newline, unless the flag n is given.
    if !flags.contains(['n', 'm']) {
        builder.dot_matches_new_line(true);
    }
    builder.build().map_err(|error| exec_datafusion_err!("invalid regular expression: {error}"))
}

/// The parts of a text. An empty match splits between characters, but not at the ends, and not next to another match.
fn split<'a>(regex: &Regex, text: &'a str) -> Vec<&'a str> {
    let (mut parts, mut from) = (Vec::new(), 0);
    for found in regex.find_iter(text) {
        if found.is_empty() && (found.start() == from || found.start() == text.len()) {
            continue;
        }
        parts.push(&text[from..found.start()]);
        from = found.end();
    }
    parts.push(&text[from..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::{compile, split};

    #[test]
    fn parts_are_between_the_matches() {
        let parts = |text, pattern| split(&compile(pattern, "").unwrap(), text);
        assert_eq!(parts("a, b,c", ",\\s*"), ["a", "b", "c"]);
        assert_eq!(parts("abc", ""), ["a", "b", "c"]);
        assert_eq!(parts("", ","), [""]);
        assert_eq!(parts(",a,", ","), ["", "a", ""]);
        assert_eq!(parts("foo  bar", "\\s*"), ["f", "o", "o", "b", "a", "r"]);
        assert!(compile("a", "q").is_err());
    }
}
