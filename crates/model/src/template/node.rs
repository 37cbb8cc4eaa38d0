//! A template as a tree, with the lines of its parts. JSON is YAML, so that one reader serves both.

use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};

/// The largest template, as on AWS.
const BYTES_MAX: usize = 1_000_000;
/// The deepest nesting.
const DEPTH_MAX: usize = 64;
/// The most parts, so that aliases of aliases do not fill the memory.
const NODES_MAX: usize = 100_000;

/// A part of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// From 1.
    pub line: usize,
    pub value: Value,
}

/// What a part is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// A text, a number or a flag, as a text; nothing where it is null.
    Text(Option<String>),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
    /// A function of CloudFormation, by its long name, such as `Fn::Sub`.
    Call(String, Box<Node>),
    /// A resource of the template, after functions were resolved.
    Reference(String),
}

impl Node {
    /// An empty map.
    pub fn empty(line: usize) -> Node {
        Node { line, value: Value::Map(Vec::new()) }
    }

    /// The entries of a map; none of another part.
    pub fn entries(&self) -> &[(String, Node)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; none of another part.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// An entry of a map.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// A text.
    pub fn text(&self) -> Option<String> {
        match &self.value {
            Value::Text(text) => text.clone(),
            _ => None,
        }
    }
}

/// Reads a template.
pub(super) fn parse(text: &str) -> Result<Node, (usize, String)> {
    if text.len() > BYTES_MAX {
        return Err((1, format!("the template has more than {BYTES_MAX} bytes")));
    }
    let documents = MarkedYaml::load_from_str(text)
        .map_err(|error| (error.marker().line(), format!("this is neither YAML nor JSON: {}", error.info())))?;
    let [document] = &documents[..] else { return Err((1, "the template must be one document".to_owned())) };
    let mut left = NODES_MAX;
    let root = node(document, 0, &mut left)?;
    match root.value {
        Value::Map(_) => Ok(root),
        _ => Err((root.line, "the template must be a map, with Resources".to_owned())),
    }
}

fn node(from: &MarkedYaml<'_>, depth: usize, left: &mut usize) -> Result<Node, (usize, String)> {
    let line = from.span.start.line();
    if depth > DEPTH_MAX || *left == 0 {
        return Err((line, "the template is nested too deeply, or too large".to_owned()));
    }
    *left -= 1;
    let value = match &from.data {
        YamlData::Value(scalar) => Value::Text(text(scalar)),
        YamlData::Representation(text, _, _) => Value::Text(Some(text.to_string())),
        YamlData::Sequence(items) => {
            Value::List(items.iter().map(|item| node(item, depth + 1, left)).collect::<Result<_, _>>()?)
        }
        YamlData::Mapping(entries) => {
            let mut read = Vec::new();
            for (key, value) in entries {
                let key = node(key, depth + 1, left)?;
                let key_text = key.text().ok_or((key.line, "a key must be a text".to_owned()))?;
                read.push((key_text, node(value, depth + 1, left)?));
            }
            // The long form of a function: a map with its name alone.
            match &read[..] {
                [(name, argument)] if name == "Ref" || name.starts_with("Fn::") => {
                    Value::Call(name.clone(), Box::new(argument.clone()))
                }
                _ => Value::Map(read),
            }
        }
        YamlData::Tagged(tag, inner) => {
            let mut inner = node(inner, depth + 1, left)?;
            // The reader gives the line of a tagged part to its tag only.
            inner.line = inner.line.max(line);
            let name = tag.suffix.as_str();
            let name = if name == "Ref" || name == "Condition" { name.to_owned() } else { format!("Fn::{name}") };
            Value::Call(name, Box::new(inner))
        }
        _ => return Err((line, "this can't be read".to_owned())),
    };
    Ok(Node { line, value })
}

fn text(scalar: &Scalar<'_>) -> Option<String> {
    match scalar {
        Scalar::Null => None,
        Scalar::Boolean(flag) => Some(flag.to_string()),
        Scalar::Integer(number) => Some(number.to_string()),
        Scalar::FloatingPoint(number) => Some(number.to_string()),
        Scalar::String(text) => Some(text.to_string()),
    }
}
