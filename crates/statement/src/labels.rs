//! The words of a language, from a file of the user's.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::During;
use crate::number::Marks;
use crate::{Error, Kind, Result};

/// Words by what they name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// `fr`, for the page's own `lang`.
    pub(crate) language: String,
    /// Who issues the statement, line by line.
    #[serde(default)]
    pub(crate) issuer: Vec<String>,
    pub(crate) marks: Marks,
    /// In chrono's words: `%d/%m/%Y`.
    pub(crate) date: String,
    months: Vec<String>,
    pub(crate) texts: BTreeMap<String, String>,
    rules: BTreeMap<String, String>,
    kinds: BTreeMap<String, String>,
    qualities: BTreeMap<String, String>,
    vat: BTreeMap<String, String>,
    units: BTreeMap<String, String>,
}

impl Labels {
    /// Reads a labels file.
    pub fn parse(text: &str) -> Result<Labels> {
        let labels: Labels = toml::from_str(text).during(Kind::FixInput, "read the labels")?;
        if labels.months.len() != 12 {
            let what = format!("read the labels: \"months\" has {} names, not 12", labels.months.len());
            return Err(Error::new(Kind::FixInput, what));
        }
        Ok(labels)
    }

    /// Of a month from 1 to 12.
    pub(crate) fn month(&self, number: u32) -> Option<&str> {
        self.months.get(number.checked_sub(1)? as usize).map(String::as_str)
    }

    pub(crate) fn word(&self, of: &str, code: &str) -> Result<&str> {
        let (table, section) = match of {
            "text" => (&self.texts, "texts"),
            "rule" => (&self.rules, "rules"),
            "kind" => (&self.kinds, "kinds"),
            "quality" => (&self.qualities, "qualities"),
            "vat" => (&self.vat, "vat"),
            "unit" => (&self.units, "units"),
            other => {
                let what = format!("look up a label: there are text, rule, kind, quality, vat and unit, no {other:?}");
                return Err(Error::new(Kind::FixInput, what));
            }
        };
        table.get(code).map(String::as_str).ok_or_else(|| {
            Error::new(Kind::FixInput, format!("look up a label: add {code:?} to [{section}] of the labels"))
        })
    }
}
