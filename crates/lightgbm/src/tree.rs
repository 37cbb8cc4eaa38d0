//! One tree: its splits and leaves, and the way of a row through them.

use base::{Error, Result};

/// LightGBM's `kZeroThreshold`: a value this close to zero is zero. It is a float there.
const ZERO: f64 = 1e-35_f32 as f64;

/// How a split treats a value that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// A NaN counts as zero.
    None,
    /// Zeros and NaNs are missing, and go to the default side.
    Zero,
    /// NaNs are missing, and go to the default side.
    Nan,
}

/// Where a side of a split leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Child {
    Split(u32),
    Leaf(u32),
}

/// A condition on one column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Split {
    pub column: u32,
    pub left: Child,
    pub right: Child,
    pub test: Test,
}

/// The condition of a split.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Test {
    /// Left where the value is at most the threshold.
    Number { threshold: f64, missing: Missing, default_left: bool },
    /// Left where the value, as a whole number, is in the set: words `from..to` of [`Tree::sets`].
    Category { from: u32, to: u32 },
}

/// What a leaf returns.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Leaves {
    /// A value each.
    Constant(Vec<f64>),
    /// A linear function each, and the value where one of its columns is missing.
    Linear(Vec<LinearLeaf>),
}

/// A leaf of a tree that was trained with `linear_tree`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LinearLeaf {
    pub constant: f64,
    pub terms: Vec<(u32, f64)>,
    pub otherwise: f64,
}

/// A decision tree.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tree {
    splits: Vec<Split>,
    leaves: Leaves,
    sets: Vec<u32>,
}

impl Tree {
    /// Checks that splits and leaves are one tree, whose root is the first split: every one of them is reached, once, and
    /// no column is beyond `columns`.
    pub fn new(splits: Vec<Split>, leaves: Leaves, sets: Vec<u32>, columns: usize) -> Result<Tree> {
        let leaf_count = match &leaves {
            Leaves::Constant(values) => values.len(),
            Leaves::Linear(leaves) => leaves.len(),
        };
        if leaf_count != splits.len() + 1 {
            let what = format!("it has {leaf_count} leaves and {} splits: there must be one more leaf", splits.len());
            return Err(Error::input(what));
        }
        let mut leaf_seen = vec![false; leaf_count];
        let mut split_seen = vec![false; splits.len()];
        let mut to_visit = vec![if splits.is_empty() { Child::Leaf(0) } else { Child::Split(0) }];
        while let Some(child) = to_visit.pop() {
            let seen = match child {
                Child::Split(number) => split_seen.get_mut(number as usize),
                Child::Leaf(number) => leaf_seen.get_mut(number as usize),
            };
            match seen {
                Some(seen) if !*seen => *seen = true,
                Some(_) => return Err(Error::input(format!("{child:?} is reached twice: its splits are no tree"))),
                None => return Err(Error::input(format!("it has no {child:?}"))),
            }
            if let Child::Split(number) = child {
                let split = splits[number as usize];
                to_visit.extend([split.left, split.right]);
            }
        }
        // With one leaf more than splits, all are reached where none is reached twice.
        let mut used = splits.iter().map(|split| split.column).collect::<Vec<_>>();
        if let Leaves::Linear(leaves) = &leaves {
            used.extend(leaves.iter().flat_map(|leaf| leaf.terms.iter().map(|(column, _)| *column)));
        }
        if let Some(column) = used.into_iter().find(|column| *column as usize >= columns) {
            return Err(Error::input(format!("it uses column {column}, but the model has {columns} columns")));
        }
        Ok(Tree { splits, leaves, sets })
    }

    /// The tree's value for a row, which has a value for each column of the model.
    #[inline]
    pub fn predict(&self, row: &[f64]) -> f64 {
        let leaf = self.leaf(row);
        match &self.leaves {
            Leaves::Constant(values) => values[leaf],
            Leaves::Linear(leaves) => leaves[leaf].value(row),
        }
    }

    #[inline]
    fn leaf(&self, row: &[f64]) -> usize {
        if self.splits.is_empty() {
            return 0;
        }
        let mut at = 0;
        loop {
            let split = &self.splits[at];
            let left = match split.test {
                Test::Number { threshold, missing, default_left } => {
                    is_left(row[split.column as usize], threshold, missing, default_left)
                }
                Test::Category { from, to } => {
                    is_in(row[split.column as usize], &self.sets[from as usize..to as usize])
                }
            };
            match if left { split.left } else { split.right } {
                Child::Split(number) => at = number as usize,
                Child::Leaf(number) => return number as usize,
            }
        }
    }
}

impl LinearLeaf {
    fn value(&self, row: &[f64]) -> f64 {
        let mut sum = self.constant;
        for (column, coefficient) in &self.terms {
            let value = row[*column as usize];
            if value.is_nan() {
                return self.otherwise;
            }
            sum += coefficient * value;
        }
        sum
    }
}

#[inline]
fn is_left(value: f64, threshold: f64, missing: Missing, default_left: bool) -> bool {
    match missing {
        Missing::Nan if value.is_nan() => default_left,
        Missing::Zero if value.is_nan() || value.abs() <= ZERO => default_left,
        Missing::None if value.is_nan() => 0.0 <= threshold,
        _ => value <= threshold,
    }
}

#[inline]
fn is_in(value: f64, set: &[u32]) -> bool {
    // A cast of C++ to int: towards zero. Beyond it there are no categories.
    if value.is_nan() || value <= -1.0 || value >= f64::from(i32::MAX) {
        return false;
    }
    let category = value as u32;
    set.get(category as usize / 32).is_some_and(|word| (word >> (category % 32)) & 1 == 1)
}
