//! The text of an array as PostgreSQL writes it: `{a,"b c",NULL}`, `{{1,2},{3,4}}`.

use std::iter::Peekable;
use std::str::Chars;

/// How deeply arrays may be nested, as in PostgreSQL.
const DEPTH_MAX: usize = 6;

/// An element of an array.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Element {
    Null,
    Text(String),
    Array(Vec<Element>),
}

/// The elements of an array's text; `None` where the text is not one.
pub(super) fn elements(text: &str) -> Option<Vec<Element>> {
    let mut rest = text.chars().peekable();
    skip_spaces(&mut rest);
    let elements = array(&mut rest, DEPTH_MAX)?;
    skip_spaces(&mut rest);
    (rest.next().is_none() && lengths(&elements).is_some()).then_some(elements)
}

/// The lengths of the dimensions; `None` where arrays of one dimension differ in length, or stand beside values.
fn lengths(elements: &[Element]) -> Option<Vec<usize>> {
    let mut inner = elements.iter().map(|element| match element {
        Element::Array(elements) => lengths(elements),
        _ => Some(Vec::new()),
    });
    let first = inner.next().unwrap_or_else(|| Some(Vec::new()))?;
    inner.all(|other| other.as_ref() == Some(&first)).then(|| [vec![elements.len()], first].concat())
}

/// The spaces that are no part of an element; others, such as U+00A0, are.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

fn skip_spaces(rest: &mut Peekable<Chars<'_>>) {
    while rest.next_if(|c| is_space(*c)).is_some() {}
}

fn array(rest: &mut Peekable<Chars<'_>>, depth: usize) -> Option<Vec<Element>> {
    rest.next_if_eq(&'{')?;
    let mut elements = Vec::new();
    skip_spaces(rest);
    if rest.next_if_eq(&'}').is_some() {
        return Some(elements);
    }
    loop {
        skip_spaces(rest);
        elements.push(match rest.peek()? {
            '{' => Element::Array(array(rest, depth.checked_sub(1)?)?),
            '"' => Element::Text(quoted(rest)?),
            _ => plain(rest)?,
        });
        skip_spaces(rest);
        match rest.next()? {
            ',' => {}
            '}' => return Some(elements),
            _ => return None,
        }
    }
}

fn quoted(rest: &mut Peekable<Chars<'_>>) -> Option<String> {
    rest.next_if_eq(&'"')?;
    let mut text = String::new();
    loop {
        match rest.next()? {
            '"' => return Some(text),
            '\\' => text.push(rest.next()?),
            c => text.push(c),
        }
    }
}

fn plain(rest: &mut Peekable<Chars<'_>>) -> Option<Element> {
    let (mut text, mut is_escaped) = (String::new(), false);
    while let Some(c) = rest.next_if(|c| !matches!(c, ',' | '{' | '}' | '"')) {
        is_escaped |= c == '\\';
        text.push(if c == '\\' { rest.next()? } else { c });
    }
    let text = text.trim_end_matches(is_space);
    match text {
        "" => None,
        _ if !is_escaped && text.eq_ignore_ascii_case("null") => Some(Element::Null),
        _ => Some(Element::Text(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::{Element, elements};

    #[test]
    fn texts_of_arrays_are_parsed() {
        let texts = |list: &[&str]| Some(list.iter().map(|text| Element::Text((*text).to_owned())).collect::<Vec<_>>());
        assert_eq!(elements("{a, b}"), texts(&["a", "b"]));
        assert_eq!(elements(r#"{"a b","c,\"d\\"}"#), texts(&["a b", "c,\"d\\"]));
        assert_eq!(elements("{NULL,\"NULL\"}"), Some(vec![Element::Null, Element::Text("NULL".to_owned())]));
        assert_eq!(elements(" {} "), Some(Vec::new()));
        let one = |text: &str| Element::Array(vec![Element::Text(text.to_owned())]);
        assert_eq!(elements("{{1},{2}}"), Some(vec![one("1"), one("2")]));
        assert_eq!(elements("{a\u{a0}}"), texts(&["a\u{a0}"]));
        for wrong in ["{{1},{2,3}}", "{1,{2}}", "{a", "{\"a}", "{a,}", "{,a}", "a", "{a}b", "{{{{{{{{1}}}}}}}}"] {
            assert_eq!(elements(wrong), None, "{wrong}");
        }
    }
}
