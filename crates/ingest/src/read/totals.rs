//! Compares the totals that a file states with those of its rows.

use super::cell::Cell;
use super::fault::{Fault, FaultKind, Faults};
use super::value::{self, Value};
use crate::layout::{Column, Layout, Trailer};
use crate::number::Number;

/// The sum of a column over all rows, including quarantined ones.
#[derive(Clone)]
struct Total {
    column: usize,
    sum: Number,
    /// How many rows have no readable value.
    unread: u64,
}

/// The totals of a trailer line.
struct StatedTotals {
    line: u64,
    count: Option<Number>,
    /// In the order of `Trailer::sums`, in the columns' units.
    sums: Vec<Option<Number>>,
}

/// The totals of the rows and of the trailers.
pub struct Totals<'a> {
    layout: &'a Layout,
    totals: Vec<Total>,
    /// For each trailer of the layout, what the file states.
    stated: Vec<Option<StatedTotals>>,
}

impl<'a> Totals<'a> {
    /// For the trailers of a layout.
    pub fn new(layout: &'a Layout) -> Totals<'a> {
        let mut columns: Vec<usize> =
            layout.trailers.iter().flat_map(|trailer| trailer.sums.iter().map(|sum| sum.column)).collect();
        columns.sort_unstable();
        columns.dedup();
        let totals = columns.into_iter().map(|column| Total { column, sum: Number::whole(0), unread: 0 }).collect();
        Totals { layout, totals, stated: layout.trailers.iter().map(|_| None).collect() }
    }

    /// Adds a row with its values and which of them could not be read; `None` for a row without readable fields.
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

    /// Adds the line of the trailer with this index.
    pub fn add_trailer(&mut self, at: usize, line: u64, fields: &[Cell<'_>], faults: &mut Faults) {
        let trailer = &self.layout.trailers[at];
        if let Some(first) = &self.stated[at] {
            let expected =
                format!("one line that begins with {:?}; the first is line {}", trailer.starts_with, first.line);
            faults.add(Fault::at(
                FaultKind::Trailer,
                line,
                &trailer.starts_with,
                expected,
                "are these two files in one?",
            ));
            return;
        }
        let count = trailer.count.and_then(|field| field_of(fields, field, None, line, faults));
        let sums = trailer
            .sums
            .iter()
            .map(|sum| field_of(fields, sum.field, Some(&self.layout.columns[sum.column]), line, faults));
        self.stated[at] = Some(StatedTotals { line, count, sums: sums.collect() });
    }

    /// Adds the faults of all trailers, at the end of the file.
    pub fn check(&self, rows: u64, faults: &mut Faults) {
        for (trailer, stated) in self.layout.trailers.iter().zip(&self.stated) {
            match stated {
                Some(stated) => self.compare(trailer, stated, rows, faults),
                None if trailer.required => {
                    let expected = format!("a line that begins with {:?}", trailer.starts_with);
                    faults.add(Fault::of_file(
                        FaultKind::Trailer,
                        expected,
                        "was the file truncated? Request it again",
                    ));
                }
                None => {}
            }
        }
    }

    fn compare(&self, trailer: &Trailer, stated: &StatedTotals, rows: u64, faults: &mut Faults) {
        if let Some(count) = stated.count.filter(|count| *count != Number::whole(i128::from(rows))) {
            let expected = format!("{rows} rows, as in the file");
            faults.add(Fault::at(
                FaultKind::Total,
                stated.line,
                &count.to_string(),
                expected,
                "are rows missing or duplicated?",
            ));
        }
        for (sum, stated_sum) in trailer.sums.iter().zip(&stated.sums) {
            let Some(stated_sum) = stated_sum else { continue };
            let Some(total) = self.totals.iter().find(|total| total.column == sum.column) else { continue };
            let column = &self.layout.columns[sum.column];
            let fault = |expected: String, hint: &str| {
                Fault::at(FaultKind::Total, stated.line, &stated_sum.to_string(), expected, hint)
                    .in_column(&column.headers[0])
            };
            if total.unread > 0 {
                let expected = format!("a sum that can be checked: {} rows have no valid value", total.unread);
                faults.add(fault(expected, "correct the rows first"));
            } else if total.sum != *stated_sum {
                let unit = if column.factor.is_some() { ", both in the column's unit" } else { "" };
                let expected = format!("{}, the sum of the rows{unit}", total.sum);
                faults.add(fault(expected, "are rows missing, duplicated, or changed after the total was computed?"));
            }
        }
    }
}

/// A number of a trailer; the sum of a column is written as the column's values are.
fn field_of(
    fields: &[Cell<'_>],
    field: usize,
    column: Option<&Column>,
    line: u64,
    faults: &mut Faults,
) -> Option<Number> {
    let cell = field.checked_sub(1).and_then(|at| fields.get(at));
    let number = cell.and_then(|cell| match column {
        Some(column) => value::written_number(column, cell).ok().and_then(|number| value::in_unit(column, number)),
        None => match cell {
            Cell::Displayed(number) => Number::parse_plain(&number.to_string()).ok(),
            other => Number::parse_plain(other.shown().trim()).ok(),
        },
    });
    if number.is_none() {
        let text = cell.map(Cell::shown).unwrap_or_default();
        let expected = format!("a number in field {field} of this line");
        let fault =
            Fault::at(FaultKind::Trailer, line, &text, expected, "check `field` and `count` of the layout's trailer");
        faults.add(match column {
            Some(column) => fault.in_column(&column.headers[0]),
            None => fault,
        });
    }
    number
}
