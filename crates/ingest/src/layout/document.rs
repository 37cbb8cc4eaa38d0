//! Where the rows are in a document of nested values, JSON or XML: parsed from `rows`, `shape` and `[points]`.

use base::Problems;
use toml::Spanned;

use super::lookup::column_index;
use super::section::Section;
use super::{Column, Type};

/// A document whose rows are below its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The syntax of the document.
    pub syntax: Syntax,
    /// The names from the root to a row. Lists on the way, and elements of XML that are repeated, are gone through.
    pub rows: Vec<String>,
    /// What is at the end of that path.
    pub shape: Shape,
    /// Rows that have a position in a period in place of a time.
    pub points: Option<Points>,
}

/// The syntax of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// JSON.
    Json,
    /// XML, without a document type.
    Xml,
}

/// How values form rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A list has an object for each row.
    Rows,
    /// An object has a list for each column; the lists have the same length.
    Columns,
}

/// Points of a period, as the market documents of ENTSO-E have them: the time of a point is the period's start plus its
/// position, counted from 1, in steps. Where the curve's type is `A03`, a position that is left out has the value of
/// the one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Points {
    /// The index in [`super::Layout::columns`] of the timestamp column that gets a point's time.
    pub time: usize,
    /// The path of the point's position.
    pub position: ValuePath,
    /// The path of the period's start.
    pub start: ValuePath,
    /// The path of the period's end.
    pub end: ValuePath,
    /// The path of the step, an ISO 8601 duration.
    pub resolution: ValuePath,
    /// The path of the curve's type.
    pub curve: Option<ValuePath>,
}

/// The way from a row to a value: up to objects that have the row in them, then down by names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValuePath {
    /// How many levels up.
    pub up: usize,
    /// The names down from there; an attribute of XML is `@name`.
    pub names: Vec<String>,
}

impl ValuePath {
    /// Parses `../period/start`. Names are separated by `/`.
    pub fn parse(text: &str) -> ValuePath {
        let mut parts = text.split('/').map(str::trim).peekable();
        let mut up = 0;
        while parts.next_if_eq(&"..").is_some() {
            up += 1;
        }
        ValuePath { up, names: parts.filter(|name| !name.is_empty()).map(str::to_owned).collect() }
    }
}

/// The keys of a layout that describe a document.
pub struct DocumentKeys<'a> {
    rows: Option<Spanned<String>>,
    shape: Option<Shape>,
    points: Option<Section<'a>>,
}

impl<'a> DocumentKeys<'a> {
    /// Takes the keys from the layout's section.
    pub fn take(section: &mut Section<'a>, report: &mut Problems<'_>) -> DocumentKeys<'a> {
        DocumentKeys {
            rows: section.text("rows", report),
            shape: section.word("shape", &[("rows", Shape::Rows), ("columns", Shape::Columns)], report),
            points: section.section("points", report),
        }
    }

    /// Whether any of the keys is there.
    pub fn is_any(&self) -> bool {
        self.rows.is_some() || self.shape.is_some() || self.points.is_some()
    }

    /// Reports the keys, for a format that has none of them.
    pub fn refuse(self, report: &mut Problems<'_>) {
        let points = self.points.map(|section| section.span());
        for (key, span) in [("rows", self.rows.map(|rows| rows.span())), ("points", points)] {
            if let Some(span) = span {
                report.add(span, format!("{key:?} is for documents: format = \"json\" or \"xml\""), None);
            }
        }
    }

    /// The document, with its points' columns checked.
    pub fn document(self, syntax: Syntax, columns: &[Column], report: &mut Problems<'_>) -> Option<Document> {
        let rows = match &self.rows {
            Some(rows) => ValuePath::parse(rows.get_ref()),
            None => ValuePath { up: 0, names: Vec::new() },
        };
        let span = self.rows.as_ref().map_or(0..0, Spanned::span);
        if rows.up > 0 {
            report.add(span, "\"rows\" begins at the document's root, so it has no \"..\"", None);
        } else if syntax == Syntax::Xml && rows.names.len() < 2 {
            let hint = "write the names from the root's to the row's: \"Document/TimeSeries/Period/Point\"".to_owned();
            report.add(span, "\"rows\": expected the path of the elements that are rows", hint);
        }
        let points = match self.points {
            Some(section) => Some(points(section, columns, report)?),
            None => None,
        };
        Some(Document { syntax, rows: rows.names, shape: self.shape.unwrap_or(Shape::Rows), points })
    }
}

fn points(mut section: Section<'_>, columns: &[Column], report: &mut Problems<'_>) -> Option<Points> {
    let time = section.text("time", report);
    let mut path = |key: &'static str, report: &mut Problems<'_>| {
        section.text(key, report).map(|text| ValuePath::parse(text.get_ref()))
    };
    let (position, start, end) = (path("position", report), path("start", report), path("end", report));
    let (resolution, curve) = (path("resolution", report), path("curve", report));
    let given = [
        ("time", time.is_some()),
        ("position", position.is_some()),
        ("start", start.is_some()),
        ("end", end.is_some()),
        ("resolution", resolution.is_some()),
    ];
    for (key, _) in given.into_iter().filter(|(_, is_given)| !is_given) {
        report.add(section.span(), format!("[points] has no {key:?}"), None);
    }
    let column = time.as_ref().and_then(|name| column_index(columns, name, report));
    if let (Some(at), Some(name)) = (column, &time)
        && !matches!(columns[at].kind, Type::Timestamp { .. })
    {
        report.add(name.span(), format!("{:?} is not a timestamp", name.get_ref()), None);
    }
    section.finish(report);
    Some(Points { time: column?, position: position?, start: start?, end: end?, resolution: resolution?, curve })
}
