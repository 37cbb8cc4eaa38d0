//! Predicts with models that LightGBM has saved as text (`Booster.save_model`, `model_to_string`), in this process and
//! without LightGBM. A prediction is what LightGBM's own `predict` returns, to the last digits of a double.
//!
//! The format is that of `GBDT::SaveModelToString` in LightGBM's sources, versions `v2` to `v4`: numerical and
//! categorical splits, missing values, linear leaves, averaged forests, and the transforms of all objectives.
//!
//! A file is not trusted: its trees are checked to be trees before the first prediction.

mod columns;
mod objective;
mod text;
mod tree;

pub use columns::Columns;
pub use objective::Objective;

use tree::Tree;

/// A loaded model. It is immutable, so threads may share it.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    columns: Columns,
    objective: Objective,
    /// How many trees make one iteration: the outputs of a raw prediction.
    trees_per_iteration: usize,
    /// Whether outputs are the mean of the iterations instead of their sum, as in a random forest.
    is_averaged: bool,
    trees: Vec<Tree>,
}

/// What a prediction returns.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Options {
    /// The sum of the trees' outputs, also of a forest, and without the objective's transform.
    pub is_raw: bool,
    /// Only the first iterations count; all by default.
    pub iterations_max: Option<usize>,
    /// Stop adding trees when the answer is certain enough.
    pub early_stop: Option<EarlyStop>,
}

/// LightGBM's `pred_early_stop`: a prediction ends when its margin is greater than `margin`, checked every `period`
/// iterations. It applies to classifications; other objectives use all trees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EarlyStop {
    /// `pred_early_stop_freq`.
    pub period: usize,
    /// `pred_early_stop_margin`.
    pub margin: f64,
}

impl Model {
    /// Reads a model from its text.
    ///
    /// # Errors
    /// [`base::Kind::FixInput`] names the line, or the tree, that LightGBM would not have written: a file that was cut
    /// off, or is something else.
    pub fn parse(text: &str) -> base::Result<Model> {
        text::parse(text)
    }

    /// The columns that a row must have.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// What the model was trained for.
    pub fn objective(&self) -> Objective {
        self.objective
    }

    /// How many trees it has.
    pub fn trees(&self) -> usize {
        self.trees.len()
    }

    /// How many values the prediction of one row has: one, or one a class.
    pub fn outputs(&self) -> usize {
        self.trees_per_iteration
    }

    /// Predicts one row. A missing value is NaN.
    ///
    /// # Panics
    /// Where `row` has fewer values than the model has columns, or `into` has another length than [`Model::outputs`].
    pub fn predict(&self, row: &[f64], options: Options, into: &mut [f64]) {
        assert!(row.len() >= self.columns.len(), "a row needs a value a column");
        assert_eq!(into.len(), self.trees_per_iteration, "a row has one value an output");
        into.fill(0.0);
        let iterations = self.trees.len() / self.trees_per_iteration;
        let iterations = options.iterations_max.map_or(iterations, |most| most.min(iterations));
        let stop = options.early_stop.filter(|_| self.objective.stops_early());
        let iterations_of_trees = self.trees.chunks_exact(self.trees_per_iteration).take(iterations);
        for (done, trees) in (1..).zip(iterations_of_trees) {
            for (output, tree) in into.iter_mut().zip(trees) {
                *output += tree.predict(row);
            }
            if stop.is_some_and(|stop| done % stop.period.max(1) == 0 && margin(into) > stop.margin) {
                break;
            }
        }
        if options.is_raw {
            return;
        }
        if self.is_averaged && iterations > 0 {
            into.iter_mut().for_each(|output| *output /= iterations as f64);
        }
        self.objective.transform(into);
    }
}

/// How far apart the classes are, as LightGBM's `CreateBinary` and `CreateMulticlass` of prediction_early_stop.cpp have it.
fn margin(raw: &[f64]) -> f64 {
    if let [single] = raw {
        return 2.0 * single.abs();
    }
    let mut largest = [f64::NEG_INFINITY; 2];
    for &value in raw {
        if value > largest[0] {
            largest = [value, largest[0]];
        } else if value > largest[1] {
            largest[1] = value;
        }
    }
    largest[0] - largest[1]
}
