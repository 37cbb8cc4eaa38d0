//! Reads documents of nested values, JSON or XML: the rows are below the root, and a column may be of an object that
//! has the row in it. A document is in memory as a whole, so its size is bounded.

mod points;
mod rows;
mod tree;

use std::fs::File;
use std::io::Read;

use super::fault::{Fault, FaultKind};
use super::row_checker::RowChecker;
use crate::error::ErrorContext;
use crate::layout::{Document, Syntax};
use crate::{Kind, Result};

const BYTES_MAX: u64 = 64 << 20;
/// How files begin that are compressed by gzip.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Reads all rows of a document.
pub fn read(file: File, format: &Document, checker: &mut RowChecker<'_>) -> Result<()> {
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).during(Kind::FixSetup, "read the file")?;
    if bytes.len() as u64 > BYTES_MAX {
        let expected = format!("a document of at most {} MiB", BYTES_MAX >> 20);
        checker.faults.add(Fault::of_file(FaultKind::Unreadable, expected, "ask for a shorter period at a time"));
        return Ok(());
    }
    if bytes.starts_with(&GZIP) {
        let hint = "it is compressed by gzip: have it written without compression";
        checker.faults.add(Fault::of_file(FaultKind::Unreadable, "a text in UTF-8", hint));
        return Ok(());
    }
    let text = match std::str::from_utf8(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes)) {
        Ok(text) => text,
        Err(_) => {
            checker.faults.add(Fault::of_file(FaultKind::Unreadable, "a text in UTF-8", ""));
            return Ok(());
        }
    };
    let read = match format.syntax {
        Syntax::Json => tree::json(text).and_then(|tree| rows::read(&tree, format, checker)),
        Syntax::Xml => match tree::parse_xml(text) {
            Ok(document) => tree::xml(&document).and_then(|tree| rows::read(&tree, format, checker)),
            Err(fault) => Err(fault.into()),
        },
    };
    match read {
        Ok(()) => Ok(()),
        Err(Stop::Fault(fault)) => {
            checker.faults.add(*fault);
            Ok(())
        }
        Err(Stop::Error(error)) => Err(error),
    }
}

pub use tree::Tree;

/// Calls `then` with the tree of a document; `None` where it can't be read.
pub fn with_tree<T>(text: &str, syntax: Syntax, then: impl FnOnce(&Tree<'_>) -> T) -> Option<T> {
    match syntax {
        Syntax::Json => tree::json(text).ok().map(|tree| then(&tree)),
        Syntax::Xml => {
            let document = tree::parse_xml(text).ok()?;
            tree::xml(&document).ok().map(|tree| then(&tree))
        }
    }
}

/// Why the reading of a document ends before its end.
pub enum Stop {
    /// The document can't be read further.
    Fault(Box<Fault>),
    /// An error of the receiver of rows.
    Error(crate::Error),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Stop {
        Stop::Fault(Box::new(fault))
    }
}

impl From<crate::Error> for Stop {
    fn from(error: crate::Error) -> Stop {
        Stop::Error(error)
    }
}
