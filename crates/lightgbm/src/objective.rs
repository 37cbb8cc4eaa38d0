//! What a model was trained for, and how the sum of its trees becomes a prediction.

use base::{Error, Result};

/// An objective, with the parameters that its transform needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Objective {
    /// The sum itself: regressions, rankings, and objectives that the user has written.
    Identity,
    /// The sum's square with its sign: regressions with `reg_sqrt`.
    SignedSquare,
    /// The exponential: `poisson`, `gamma` and `tweedie`.
    Exponential,
    /// A probability: `binary` and `cross_entropy`.
    Sigmoid {
        /// The factor of the sum.
        slope: f64,
        /// Whether LightGBM may stop a prediction early.
        is_binary: bool,
    },
    /// Probabilities that sum to one: `multiclass`.
    Softmax,
    /// A probability for each class: `multiclassova`.
    SigmoidEach {
        /// The factor of the sums.
        slope: f64,
    },
    /// `log(1 + exp(sum))`: `cross_entropy_lambda`.
    SoftPlus,
}

impl Objective {
    /// Reads the model's line `objective=`, such as `binary sigmoid:1`.
    pub(crate) fn parse(written: &str) -> Result<Objective> {
        let mut words = written.split_ascii_whitespace();
        let name = words.next().unwrap_or_default();
        let parameters: Vec<&str> = words.collect();
        let slope = || match parameters.iter().find_map(|word| word.strip_prefix("sigmoid:")) {
            Some(number) => number.parse().ok().filter(|slope: &f64| *slope > 0.0),
            None => Some(1.0),
        };
        let slope =
            slope().ok_or_else(|| Error::input(format!("objective {written:?}: sigmoid is no positive number")))?;
        Ok(match name {
            "poisson" | "gamma" | "tweedie" => Objective::Exponential,
            "binary" => Objective::Sigmoid { slope, is_binary: true },
            "cross_entropy" | "xentropy" => Objective::Sigmoid { slope: 1.0, is_binary: false },
            "cross_entropy_lambda" | "xentlambda" => Objective::SoftPlus,
            "multiclass" | "softmax" => Objective::Softmax,
            "multiclassova" => Objective::SigmoidEach { slope },
            "regression" | "regression_l1" | "huber" | "fair" | "quantile" | "mape" | "lambdarank" | "rank_xendcg"
            | "custom" | "none" | "" => match parameters.contains(&"sqrt") {
                true => Objective::SignedSquare,
                false => Objective::Identity,
            },
            other => {
                return Err(Error::input(format!("the objective {other:?} is not one of LightGBM's"))
                    .hint("write the model with LightGBM 4, or predict it in Python"));
            }
        })
    }

    /// Whether `pred_early_stop` applies.
    pub(crate) fn stops_early(self) -> bool {
        matches!(self, Objective::Sigmoid { is_binary: true, .. } | Objective::Softmax | Objective::SigmoidEach { .. })
    }

    /// Turns sums into predictions.
    pub(crate) fn transform(self, outputs: &mut [f64]) {
        let sigmoid = |slope: f64, sum: f64| 1.0 / (1.0 + (-slope * sum).exp());
        match self {
            Objective::Identity => {}
            Objective::SignedSquare => outputs.iter_mut().for_each(|sum| *sum *= sum.abs()),
            Objective::Exponential => outputs.iter_mut().for_each(|sum| *sum = sum.exp()),
            Objective::Sigmoid { slope, .. } | Objective::SigmoidEach { slope } => {
                outputs.iter_mut().for_each(|sum| *sum = sigmoid(slope, *sum));
            }
            Objective::Softmax => {
                let largest = outputs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                outputs.iter_mut().for_each(|sum| *sum = (*sum - largest).exp());
                let total: f64 = outputs.iter().sum();
                outputs.iter_mut().for_each(|sum| *sum /= total);
            }
            Objective::SoftPlus => outputs.iter_mut().for_each(|sum| *sum = sum.exp().ln_1p()),
        }
    }
}
