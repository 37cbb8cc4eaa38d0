//! What the rows add up to, against what the file says that they do.

use super::cell::Cell;
use super::fault::{Fault, Faults, What};
use super::value::{self, Value};
use crate::layout::{Column, Layout, Trailer};
use crate::number::Number;

/// One column's, over all rows: also over those that are set aside.
#[derive(Clone)]
struct Total {
    column: usize,
    sum: Number,
    /// Rows whose value is not known.
    unread: u64,
}

struct Said {
    line: u64,
    count: Option<Number>,
    /// In the columns' units, as `Trailer::sums`.
    sums: Vec<Option<Number>>,
}

pub struct Totals<'a> {
    layout: &'a Layout,
    totals: Vec<Total>,
    /// For each trailer.
    said: Vec<Option<Said>>,
}

impl<'a> Totals<'a> {
    pub fn new(layout: &'a Layout) -> Totals<'a> {
        let mut columns: Vec<usize> =
            layout.trailers.iter().flat_map(|trailer| trailer.sums.iter().map(|sum| sum.column)).collect();
        columns.sort_unstable();
        columns.dedup();
        let totals = columns.into_iter().map(|column| Total { column, sum: Number::whole(0), unread: 0 }).collect();
        Totals { layout, totals, said: layout.trailers.iter().map(|_| None).collect() }
    }

    /// `None`: none of its values is known.
    pub fn add(&mut self, row: Option<(&[Option<Value<'_>>], &[bool])>) {
        for total in &mut self.totals {
            let Some((values, _)) = row.filter(|(_, unread)| !unread[total.column]) else {
                total.unread += 1;
                continue;
            };
            let Some(value) = &values[total.column] else { continue };
            let number = value.number(&self.layout.columns[total.column]);
            match number.and_then(|number| total.sum.plus(number)) {
                Some(sum) => total.sum = sum,
                None => total.unread += 1,
            }
        }
    }

    /// The fields of the trailer of this place.
    pub fn say(&mut self, at: usize, line: u64, fields: &[Cell<'_>], faults: &mut Faults) {
        let trailer = &self.layout.trailers[at];
        if let Some(first) = &self.said[at] {
            let expected = format!("one line {:?}; the first is line {}", trailer.starts_with, first.line);
            faults.add(Fault::at(What::Trailer, line, &trailer.starts_with, expected, "are these two files in one?"));
            return;
        }
        let count = trailer.count.and_then(|field| field_of(fields, field, None, line, faults));
        let sums = trailer
            .sums
            .iter()
            .map(|sum| field_of(fields, sum.field, Some(&self.layout.columns[sum.column]), line, faults));
        self.said[at] = Some(Said { line, count, sums: sums.collect() });
    }

    /// At the end of the file.
    pub fn check(&self, rows: u64, faults: &mut Faults) {
        for (trailer, said) in self.layout.trailers.iter().zip(&self.said) {
            match said {
                Some(said) => self.compare(trailer, said, rows, faults),
                None if trailer.required => {
                    let expected = format!("a line that begins with {:?}", trailer.starts_with);
                    faults.add(Fault::of_file(What::Trailer, expected, "was the file cut off? Ask for it again"));
                }
                None => {}
            }
        }
    }

    fn compare(&self, trailer: &Trailer, said: &Said, rows: u64, faults: &mut Faults) {
        if let Some(count) = said.count.filter(|count| *count != Number::whole(i128::from(rows))) {
            let expected = format!("{rows} rows, as there are in the file");
            faults.add(Fault::at(
                What::Total,
                said.line,
                &count.to_string(),
                expected,
                "are rows missing, or doubled?",
            ));
        }
        for (sum, said_sum) in trailer.sums.iter().zip(&said.sums) {
            let Some(said_sum) = said_sum else { continue };
            let Some(total) = self.totals.iter().find(|total| total.column == sum.column) else { continue };
            let column = &self.layout.columns[sum.column];
            let fault = |expected: String, hint: &str| {
                Fault::at(What::Total, said.line, &said_sum.to_string(), expected, hint).in_column(&column.headers[0])
            };
            if total.unread > 0 {
                let expected =
                    format!("a sum that can be checked: {} rows have no value that can be read", total.unread);
                faults.add(fault(expected, "hint the rows first"));
            } else if total.sum != *said_sum {
                let unit = if column.factor.is_some() { ", both in the column's unit" } else { "" };
                let expected = format!("{}, the sum of the rows{unit}", total.sum);
                faults.add(fault(expected, "are rows missing, doubled, or changed after the total was made?"));
            }
        }
    }
}

/// A number of a trailer; a column's is written as the column's are.
fn field_of(
    fields: &[Cell<'_>],
    field: usize,
    column: Option<&Column>,
    line: u64,
    faults: &mut Faults,
) -> Option<Number> {
    let cell = field.checked_sub(1).and_then(|at| fields.get(at));
    let number = cell.and_then(|cell| match column {
        Some(column) => value::digits(column, cell).ok().and_then(|number| value::in_unit(column, number)),
        None => match cell {
            Cell::Shown(number) => Number::parse_plain(&number.to_string()).ok(),
            other => Number::parse_plain(other.shown().trim()).ok(),
        },
    });
    if number.is_none() {
        let text = cell.map(Cell::shown).unwrap_or_default();
        let expected = format!("a number in field {field} of this line");
        let fault =
            Fault::at(What::Trailer, line, &text, expected, "check `field` and `count` of the layout's trailer");
        faults.add(match column {
            Some(column) => fault.in_column(&column.headers[0]),
            None => fault,
        });
    }
    number
}
