//! Proposes a layout for JSON and XML: finds where most objects are, and what values they and their parents have.

use std::collections::BTreeMap;

use super::Proposal;
use super::column::NamedColumn;
use super::sample::ROWS_MAX;
use super::table::propose_columns;
use super::toml_text::quoted;
use crate::layout::Syntax;
use crate::read::{Cell, Tree, with_tree};

/// How deep values below a row are looked for.
const BELOW_MAX: usize = 2;

/// Objects at the end of a path, each with the objects that have it in them.
type Rows<'t, 'a> = Vec<(&'t Tree<'a>, Vec<&'t Tree<'a>>)>;

/// Proposes a layout for a document; none where it has no objects.
pub fn propose(text: &str, syntax: Syntax, name: &str) -> Option<Proposal> {
    if let Some(lines) = (syntax == Syntax::Json).then(|| json_lines(text)).flatten() {
        return with_tree(&lines, Syntax::Json, |tree| proposal("format = \"ndjson\"\n", tree, Syntax::Json, name))?;
    }
    let format = match syntax {
        Syntax::Json => "format = \"json\"\n",
        Syntax::Xml => "format = \"xml\"\n",
    };
    with_tree(text, syntax, |tree| proposal(format, tree, syntax, name))?
}

/// Lines of objects as one array; none where the text is something else.
fn json_lines(text: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).take(ROWS_MAX).collect();
    let is_object = |line: &&str| line.trim().starts_with('{') && line.trim().ends_with('}');
    (lines.len() > 1 && lines.iter().all(is_object)).then(|| format!("[{}]", lines.join(",")))
}

fn proposal(format: &str, tree: &Tree<'_>, syntax: Syntax, name: &str) -> Option<Proposal> {
    let mut found: BTreeMap<Vec<String>, Rows<'_, '_>> = BTreeMap::new();
    walk(tree, &mut Vec::new(), &mut Vec::new(), &mut found);
    // Most objects; of as many, the outer ones.
    let best = found.into_iter().filter(|(path, _)| syntax == Syntax::Json || path.len() > 1);
    let (path, rows) = best.max_by_key(|(path, rows)| (rows.len(), usize::MAX - path.len()))?;
    let is_lines = format.contains("ndjson");
    let is_array = syntax == Syntax::Json && path.is_empty();
    let format = match is_lines || (is_array && rows.iter().all(|(row, _)| is_flat(row))) {
        true => format.to_owned(),
        false => format!("{format}rows = {}\n", quoted(&path.join("/"))),
    };
    Some(propose_columns(&format, columns(&rows), name))
}

/// Finds objects in lists, and repeated elements.
fn walk<'t, 'a>(
    value: &'t Tree<'a>,
    path: &mut Vec<String>,
    parents: &mut Vec<&'t Tree<'a>>,
    found: &mut BTreeMap<Vec<String>, Rows<'t, 'a>>,
) {
    match value {
        Tree::List(items) => items.iter().for_each(|item| walk(item, path, parents, found)),
        Tree::Object(fields) => {
            let rows = found.entry(path.clone()).or_default();
            if rows.len() < ROWS_MAX {
                rows.push((value, parents.clone()));
            }
            parents.push(value);
            for (name, below) in fields.iter().filter(|(name, _)| !name.starts_with('@')) {
                path.push(name.to_string());
                walk(below, path, parents, found);
                path.pop();
            }
            parents.pop();
        }
        Tree::Value(_) => {}
    }
}

fn is_flat(row: &Tree<'_>) -> bool {
    matches!(row, Tree::Object(fields) if fields.iter().all(|(_, value)| matches!(value, Tree::Value(_))))
}

/// The values of rows and of the objects around them, each by its path.
fn columns(rows: &Rows<'_, '_>) -> Vec<NamedColumn> {
    let mut columns: Vec<NamedColumn> = Vec::new();
    for (at, (row, parents)) in rows.iter().enumerate() {
        let mut values = Vec::new();
        below(row, "", BELOW_MAX, &mut values);
        for (up, parent) in parents.iter().rev().enumerate() {
            let prefix = "../".repeat(up + 1);
            below(parent, &prefix, 1, &mut values);
        }
        for (path, cell) in values {
            let known = columns.iter().position(|column| column.header == path);
            let known = known.unwrap_or_else(|| {
                columns.push(NamedColumn { header: path, values: Vec::new() });
                columns.len() - 1
            });
            columns[known].values.resize(at, Cell::Empty);
            columns[known].values.push(cell);
        }
    }
    columns.iter_mut().for_each(|column| column.values.resize(rows.len(), Cell::Empty));
    columns
}

/// The values of an object by their paths, so many levels deep.
fn below(value: &Tree<'_>, prefix: &str, depth: usize, values: &mut Vec<(String, Cell<'static>)>) {
    let Tree::Object(fields) = value else { return };
    for (name, value) in fields {
        let path = format!("{prefix}{name}");
        match value {
            Tree::Value(cell) if !values.iter().any(|(known, _)| *known == path) => {
                values.push((path, cell.to_owned_cell()));
            }
            Tree::Object(_) if depth > 1 => below(value, &format!("{path}/"), depth - 1, values),
            _ => {}
        }
    }
}
