//! The numbers that make the names of hidden columns unique within a plan.

use std::cell::Cell;

/// Issues numbers for the names of hidden columns.
#[derive(Default)]
pub(super) struct Names {
    last: Cell<usize>,
}

impl Names {
    /// The next number.
    pub(super) fn next(&self) -> usize {
        self.last.set(self.last.get() + 1);
        self.last.get()
    }

    /// How many numbers were issued.
    pub(super) fn issued(&self) -> usize {
        self.last.get()
    }
}
