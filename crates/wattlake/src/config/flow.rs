//! The billing flow's jobs as the configuration has them: layers, functions, controls.

use std::collections::BTreeMap;
use std::path::PathBuf;

use function::definition::Definition;

use super::job::Rules;

/// `layers/NAME.toml`
#[derive(Debug, Clone)]
pub struct Layer {
    pub name: String,
    pub language: Language,
    pub packages: Vec<String>,
    /// Names of other layers. Empty: this one holds the language.
    pub below: Vec<String>,
    pub source: Option<PathBuf>,
    pub is_script: bool,
    pub libraries: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    R,
    Python,
}

/// `functions/NAME/`
#[derive(Debug, Clone)]
pub struct Function {
    pub name: String,
    pub definition: Definition,
    /// It runs as a job only where it has a `job.toml`.
    pub call: Option<Call>,
}

/// `functions/NAME/job.toml`
#[derive(Debug, Clone)]
pub struct Call {
    pub file: PathBuf,
    pub qualifier: String,
    /// SQL by name, with `{period}` and its kin still in it.
    pub inputs: BTreeMap<String, String>,
    pub parameters: BTreeMap<String, String>,
    pub rules: Rules,
}

/// `controls/NAME/*.sql`, with `controls/NAME.toml`.
#[derive(Debug, Clone)]
pub struct Controls {
    pub name: String,
    /// The TOML, or the first of its controls.
    pub file: PathBuf,
    /// By name.
    pub controls: BTreeMap<String, Control>,
    pub rules: Rules,
}

#[derive(Debug, Clone)]
pub struct Control {
    pub name: String,
    pub blocks: bool,
    pub text: String,
    pub mend: Option<String>,
    pub tolerance: f64,
    pub rows_max: u64,
    /// The whole file, so that a line of it is the line of an error.
    pub sql: String,
}
