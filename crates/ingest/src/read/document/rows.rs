//! Finds the rows of a document, and the values of their columns.

use base::{nearest, quoted_list};

use super::super::cell::Cell;
use super::super::fault::{Fault, FaultKind};
use super::super::row_checker::RowChecker;
use super::Stop;
use super::points::PeriodPoints;
use super::tree::{Tree, cells};
use crate::layout::{Document, ExtraColumns, Layout, Shape, ValuePath};

/// Reads all rows of the document.
pub fn read<'a>(root: &Tree<'a>, format: &Document, checker: &mut RowChecker<'_>) -> Result<(), Stop> {
    let paths = paths_of(checker.layout);
    let points = format.points.as_ref().map(PeriodPoints::new);
    let mut reader = RowReader { format, paths, points, row: 0, checker };
    let mut parents = Vec::new();
    reader.walk(root, &format.rows, &mut parents, false)?;
    match reader.points.take() {
        Some(mut points) => points.finish(&reader.paths, reader.checker),
        None => Ok(()),
    }
}

/// The paths of each column.
fn paths_of(layout: &Layout) -> Vec<Vec<ValuePath>> {
    let headers = |column: &crate::layout::Column| column.headers.iter().map(|text| ValuePath::parse(text)).collect();
    layout.columns.iter().map(headers).collect()
}

struct RowReader<'r, 'c, 't, 'a> {
    format: &'r Document,
    paths: Vec<Vec<ValuePath>>,
    points: Option<PeriodPoints<'r, 't, 'a>>,
    /// The number of the last row, from 1.
    row: u64,
    checker: &'r mut RowChecker<'c>,
}

impl<'t, 'a> RowReader<'_, '_, 't, 'a> {
    /// Goes down the path of the rows. Below a list, an object may lack the next name.
    fn walk(
        &mut self,
        value: &'t Tree<'a>,
        names: &[String],
        parents: &mut Vec<&'t Tree<'a>>,
        is_in_list: bool,
    ) -> Result<(), Stop> {
        if let Tree::List(items) = value {
            return items.iter().try_for_each(|item| self.walk(item, names, parents, true));
        }
        let Some((name, rest)) = names.split_first() else {
            // Below a list, a list of no rows may be written as null; at the top, errors may be what the answer has.
            if matches!(value, Tree::Value(Cell::Empty)) {
                return if is_in_list { Ok(()) } else { Err(null_rows()) };
            }
            return match self.format.shape {
                Shape::Rows => self.row(value, parents),
                Shape::Columns => self.columns(value, parents),
            };
        };
        let found: Vec<&'t Tree<'a>> = match value {
            Tree::Object(fields) => fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value).collect(),
            _ => Vec::new(),
        };
        if found.is_empty() && !is_in_list {
            return Err(missing(value, name));
        }
        parents.push(value);
        let is_in_list = is_in_list || found.len() > 1;
        let read = found.into_iter().try_for_each(|value| self.walk(value, rest, parents, is_in_list));
        parents.pop();
        read
    }

    fn row(&mut self, row: &'t Tree<'a>, parents: &[&'t Tree<'a>]) -> Result<(), Stop> {
        self.row += 1;
        let Tree::Object(fields) = row else {
            let text = row.cell().shown();
            self.checker.reject_row(Fault::at(FaultKind::Fields, self.row, &text, "an object with named values", ""));
            return Ok(());
        };
        if self.checker.layout.extra_columns == ExtraColumns::Refuse {
            let known =
                || self.paths.iter().flatten().filter(|path| path.up == 0).filter_map(|path| path.names.first());
            if let Some((name, _)) = fields.iter().find(|(name, _)| known().all(|one| one != name)) {
                let hint = nearest(name, known().map(String::as_str)).map(|near| format!("nearest: {near:?}"));
                let fault =
                    Fault::at(FaultKind::Fields, self.row, name, "only names of the layout", hint.unwrap_or_default());
                self.checker.reject_row(fault.in_column(name));
                return Ok(());
            }
        }
        match &mut self.points {
            Some(points) => points.add(self.row, row, parents, &self.paths, self.checker),
            None => Ok(self.checker.row(self.row, &cells(row, parents, &self.paths))?),
        }
    }

    /// Rows whose values are in a list for each column.
    fn columns(&mut self, value: &'t Tree<'a>, parents: &[&'t Tree<'a>]) -> Result<(), Stop> {
        let lists: Vec<Option<&Vec<Tree<'a>>>> =
            self.paths.iter().map(|paths| paths.iter().find_map(|path| list_of(value, path))).collect();
        let mut lengths: Vec<usize> = lists.iter().flatten().map(|items| items.len()).collect();
        lengths.sort_unstable();
        lengths.dedup();
        let [length] = lengths[..] else {
            let expected = match lengths.is_empty() {
                true => "a list for each column".to_owned(),
                false => {
                    let lengths: Vec<String> = lengths.iter().map(usize::to_string).collect();
                    format!("lists of the same length, found {}", lengths.join(", "))
                }
            };
            return Err(
                Fault::of_file(FaultKind::Unreadable, expected, "is \"rows\" the path of an object of lists?").into()
            );
        };
        let beside = cells(value, parents, &self.paths);
        for at in 0..length {
            self.row += 1;
            let row = lists.iter().zip(&beside).map(|(list, beside)| match list {
                Some(items) => items[at].cell(),
                None => beside.clone(),
            });
            let row: Vec<Cell<'_>> = row.collect();
            self.checker.row(self.row, &row)?;
        }
        Ok(())
    }
}

/// The list that has the values of a column.
fn list_of<'t, 'a>(value: &'t Tree<'a>, path: &ValuePath) -> Option<&'t Vec<Tree<'a>>> {
    let (0, [name]) = (path.up, path.names.as_slice()) else { return None };
    value.named(name).find_map(|one| match one {
        Tree::List(items) => Some(items),
        _ => None,
    })
}

/// The fault of a document with null where its rows should be.
fn null_rows() -> Stop {
    let hint = "does the answer have an error? An answer without rows is told by `empty` of a collect";
    Fault::of_file(FaultKind::Unreadable, "rows, found null", hint).into()
}

/// The fault of a document without one of the names on the way to its rows.
fn missing(value: &Tree<'_>, name: &str) -> Stop {
    let hint = match value {
        Tree::Object(fields) => {
            let names = quoted_list(fields.iter().map(|(name, _)| name.as_ref()).take(20));
            if fields.is_empty() { "the object is empty".to_owned() } else { format!("it has {names}") }
        }
        _ => "it is no object".to_owned(),
    };
    Fault::of_file(FaultKind::Unreadable, format!("{name:?} on the way to the rows"), hint).into()
}
