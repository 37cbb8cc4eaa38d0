//! What the billing flow's jobs are written as: layers, functions' runs, controls.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use toml::Spanned;

use super::{Given, Rules, Trigger};

/// A layer made of what this machine has: a language, or packages on top of one.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "layers/NAME.toml", extend("required" = ["language"]))]
pub struct Layer {
    /// Whose packages they are.
    pub language: Given<Language>,
    /// With what they need themselves, by the names that they are installed under.
    #[schemars(with = "Vec<String>", inner(length(min = 1)))]
    pub packages: Given<Vec<String>>,
    /// Layers of `layers/` that this one lies over; what they have is left out. Without any, the layer holds the
    /// language itself.
    #[schemars(with = "Vec<String>", inner(length(min = 1)))]
    pub below: Given<Vec<Spanned<String>>>,
    /// A source package of one's own to build (R), relative to the warehouse.
    #[schemars(length(min = 1))]
    pub source: Given<String>,
    /// One process for all events, or one for each (R).
    #[schemars(extend("default" = "persistent"))]
    pub shape: Given<Shape>,
    /// Folders that Python packages are installed in, such as a virtual environment's `site-packages`.
    #[schemars(with = "Vec<String>", inner(length(min = 1)))]
    pub libraries: Given<Vec<String>>,
}

#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    R,
    Python,
}

#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// R starts once and answers event after event.
    Persistent,
    /// A shell asks for events and starts Rscript for each.
    Script,
}

/// When this warehouse runs the function, and on what. The function itself is in `function.toml` beside it.
/// In queries and parameters `{period}`, `{from}`, `{to}` and `{as_of}` stand for the run's own.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "functions/NAME/job.toml")]
pub struct Call {
    /// A version's number or an alias of the function.
    #[schemars(length(min = 1), extend("default" = "$LATEST"))]
    pub qualifier: Given<String>,
    /// Queries by name; their answers come with the event, as columns.
    #[schemars(with = "BTreeMap<String, String>")]
    pub inputs: BTreeMap<Spanned<String>, Spanned<String>>,
    /// Texts that come with the event as they are.
    pub parameters: BTreeMap<String, String>,
    /// What makes it run.
    #[schemars(with = "Vec<Trigger>")]
    pub triggers: Given<Vec<Spanned<Trigger>>>,
    /// How its runs are treated.
    pub run: Rules,
}

/// When the controls in the folder of the same name run.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "controls/NAME.toml")]
pub struct Controls {
    /// What makes them run.
    #[schemars(with = "Vec<Trigger>")]
    pub triggers: Given<Vec<Spanned<Trigger>>>,
    /// How their runs are treated.
    pub run: Rules,
}

/// A query that returns the rows that offend. `{period}`, `{from}`, `{to}` and `{tolerance}` are filled in.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "controls/NAME/CONTROL.sql", extend("required" = ["severity", "text"]))]
pub struct Control {
    /// What a row means for what follows.
    pub severity: Given<Severity>,
    /// What is wrong where there are rows, for people.
    #[schemars(length(min = 1))]
    pub text: Given<String>,
    /// `{tolerance}` in the query: a share, an amount.
    #[schemars(with = "f64", extend("default" = 0.0))]
    pub tolerance: Given<Number>,
    /// So many rows are let pass.
    #[schemars(range(min = 0), extend("default" = 0))]
    pub rows_max: Given<u32>,
    /// What the mend is.
    #[schemars(length(min = 1))]
    pub mend: Given<String>,
}

#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The run fails, and nothing that comes after it begins.
    Block,
    /// It is told.
    Warn,
}

/// `1` and `1.0` alike.
#[derive(Clone, Copy, serde::Deserialize)]
#[serde(untagged)]
pub enum Number {
    Whole(i64),
    Broken(f64),
}

impl Number {
    pub fn value(self) -> f64 {
        match self {
            Number::Whole(value) => value as f64,
            Number::Broken(value) => value,
        }
    }
}
