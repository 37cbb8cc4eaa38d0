//! A document as a tree of values, the same for JSON and XML.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::super::cell::Cell;
use super::super::fault::{Fault, FaultKind};
use super::super::json::{self, Fields};
use super::Stop;
use crate::layout::ValuePath;

/// Deeper documents are refused: no interface needs them, and each level of JSON is read a further time.
const DEPTH_MAX: usize = 64;
/// The name of an element's own text, where it has attributes or elements too.
const TEXT: &str = "#text";

/// A value of a document.
#[derive(Debug)]
pub enum Tree<'a> {
    /// Named values: an object, or an element with its attributes as `@name`. A name may be repeated.
    Object(Vec<(Cow<'a, str>, Tree<'a>)>),
    /// Values without names.
    List(Vec<Tree<'a>>),
    /// A value that has no parts.
    Value(Cell<'a>),
}

impl<'a> Tree<'a> {
    /// The values with a name, of an object.
    pub fn named<'t, 'n>(&'t self, name: &'n str) -> impl Iterator<Item = &'t Tree<'a>> + use<'t, 'n, 'a> {
        let fields = match self {
            Tree::Object(fields) => fields.as_slice(),
            _ => &[],
        };
        fields.iter().filter(move |(field, _)| field == name).map(|(_, value)| value)
    }

    /// The cell at the end of some names below this value; empty where one of them is missing.
    fn down(&self, names: &[String]) -> Cell<'a> {
        let Some((name, rest)) = names.split_first() else { return self.cell() };
        match self {
            Tree::List(items) => match items.as_slice() {
                [] => Cell::Empty,
                [item] => item.down(names),
                _ => several(),
            },
            _ => {
                let mut found = self.named(name);
                match (found.next(), found.next()) {
                    (Some(value), None) => value.down(rest),
                    (None, _) => Cell::Empty,
                    _ => several(),
                }
            }
        }
    }

    /// The value as a cell.
    pub fn cell(&self) -> Cell<'a> {
        match self {
            Tree::Value(cell) => cell.clone(),
            Tree::List(items) => match items.as_slice() {
                [] => Cell::Empty,
                [item] => item.cell(),
                _ => several(),
            },
            Tree::Object(_) => self.named(TEXT).next().map_or_else(several, Tree::cell),
        }
    }
}

fn several<'a>() -> Cell<'a> {
    Cell::Invalid(String::new(), "one value, found several")
}

/// The cell that a path leads to, from a row and the objects that have it in them, the outermost first.
pub fn at<'a>(row: &Tree<'a>, parents: &[&Tree<'a>], path: &ValuePath) -> Cell<'a> {
    match path.up {
        0 => row.down(&path.names),
        up => parents.len().checked_sub(up).map_or(Cell::Empty, |at| parents[at].down(&path.names)),
    }
}

/// The cells of a row, in the order of the layout's columns: of each column the first path that leads to a value.
pub fn cells<'a>(row: &Tree<'a>, parents: &[&Tree<'a>], paths: &[Vec<ValuePath>]) -> Vec<Cell<'a>> {
    let cell = |paths: &Vec<ValuePath>| {
        let mut found = paths.iter().map(|path| at(row, parents, path));
        found.find(|cell| !matches!(cell, Cell::Empty)).unwrap_or(Cell::Empty)
    };
    paths.iter().map(cell).collect()
}

/// Reads JSON.
pub fn json(text: &str) -> Result<Tree<'_>, Stop> {
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| {
        let hint = if error.is_eof() { "was the document truncated? Request it again" } else { "" };
        Fault::at(FaultKind::Unreadable, error.line() as u64, &beginning(text), "JSON", hint)
    })?;
    json_value(raw, DEPTH_MAX)
}

fn json_value(raw: &RawValue, depth: usize) -> Result<Tree<'_>, Stop> {
    let text = raw.get();
    let unreadable = |error: serde_json::Error| Fault::of_file(FaultKind::Unreadable, format!("JSON ({error})"), "");
    let below = || depth.checked_sub(1).ok_or_else(too_deep);
    Ok(match text.as_bytes().first() {
        Some(b'{') => {
            let (fields, depth): (Fields<'_>, usize) = (serde_json::from_str(text).map_err(unreadable)?, below()?);
            let fields = fields.0.into_iter().map(|(name, value)| Ok((name.into(), json_value(value, depth)?)));
            Tree::Object(fields.collect::<Result<_, Stop>>()?)
        }
        Some(b'[') => {
            let (items, depth): (Vec<&RawValue>, usize) = (serde_json::from_str(text).map_err(unreadable)?, below()?);
            Tree::List(items.into_iter().map(|item| json_value(item, depth)).collect::<Result<_, Stop>>()?)
        }
        _ => Tree::Value(json::cell(raw)),
    })
}

/// Parses XML. A document type is refused, since its entities could expand to any size.
pub fn parse_xml(text: &str) -> Result<roxmltree::Document<'_>, Fault> {
    roxmltree::Document::parse(text).map_err(|error| {
        let line = u64::from(error.pos().row);
        let hint = match error {
            roxmltree::Error::DtdDetected => {
                "it has a document type (DTD): is it a page of HTML? Of XML, ask for documents without one".to_owned()
            }
            error => format!("{error}: was the document truncated? Request it again"),
        };
        Fault::at(FaultKind::Unreadable, line, &beginning(text), "XML", hint)
    })
}

/// The tree of a document of XML; the root's name is its only name.
pub fn xml<'a>(document: &'a roxmltree::Document<'a>) -> Result<Tree<'a>, Stop> {
    let root = document.root_element();
    Ok(Tree::Object(vec![(root.tag_name().name().into(), element(root, DEPTH_MAX)?)]))
}

fn element<'a>(node: roxmltree::Node<'a, 'a>, depth: usize) -> Result<Tree<'a>, Stop> {
    let depth = depth.checked_sub(1).ok_or_else(too_deep)?;
    let mut fields: Vec<(Cow<'a, str>, Tree<'a>)> = node
        .attributes()
        .map(|attribute| (format!("@{}", attribute.name()).into(), Tree::Value(Cell::Text(attribute.value().into()))))
        .collect();
    for child in node.children().filter(roxmltree::Node::is_element) {
        fields.push((child.tag_name().name().into(), element(child, depth)?));
    }
    let text: String = node.children().filter(roxmltree::Node::is_text).filter_map(|child| child.text()).collect();
    let text = text.trim();
    let value = if text.is_empty() { Cell::Empty } else { Cell::Text(text.to_owned().into()) };
    if fields.is_empty() {
        return Ok(Tree::Value(value));
    }
    fields.push((TEXT.into(), Tree::Value(value)));
    Ok(Tree::Object(fields))
}

fn too_deep() -> Stop {
    Fault::of_file(FaultKind::Unreadable, format!("at most {DEPTH_MAX} values within one another"), "").into()
}

/// The first characters of a document, which tell what it is instead: a page of HTML, a message.
fn beginning(text: &str) -> String {
    text.trim_start().chars().take(100).collect()
}
