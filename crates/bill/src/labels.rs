//! The labels of statements in one language, from a file of the user.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::ErrorContext;
use crate::number::NumberFormat;
use crate::{Error, Kind, Result};

/// The texts of statements, and how numbers and dates are written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// The language's code, such as `fr`, for the page's `lang` attribute.
    pub(crate) language: String,
    /// The name and address of the issuer, line by line.
    #[serde(default)]
    pub(crate) issuer: Vec<String>,
    /// How numbers are written.
    pub(crate) marks: NumberFormat,
    /// How dates are written, in a format of chrono: `%d/%m/%Y`.
    pub(crate) date: String,
    months: Vec<String>,
    /// Texts by their names in templates.
    pub(crate) texts: BTreeMap<String, String>,
    rules: BTreeMap<String, String>,
    kinds: BTreeMap<String, String>,
    qualities: BTreeMap<String, String>,
    vat: BTreeMap<String, String>,
    /// The VAT regimes in a few letters, for tables.
    #[serde(default)]
    vat_short: BTreeMap<String, String>,
    units: BTreeMap<String, String>,
}

impl Labels {
    /// Parses a file of labels.
    ///
    /// # Errors
    /// `FixInput` where it is not valid TOML, has unknown keys, or does not have twelve months.
    pub fn parse(text: &str) -> Result<Labels> {
        let labels: Labels = toml::from_str(text).during(Kind::FixInput, "read the labels")?;
        if labels.months.len() != 12 {
            let what = format!("read the labels: \"months\" has {} names, not 12", labels.months.len());
            return Err(Error::new(Kind::FixInput, what));
        }
        Ok(labels)
    }

    /// The name of a month from 1 to 12.
    pub(crate) fn month(&self, number: u32) -> Option<&str> {
        self.months.get(number.checked_sub(1)? as usize).map(String::as_str)
    }

    /// The name and address of the issuer, line by line.
    pub fn issuer(&self) -> &[String] {
        &self.issuer
    }

    /// The labels of codes, for templates that are typeset.
    pub(crate) fn tables(&self) -> Value {
        json!({
            "rules": self.rules, "kinds": self.kinds, "qualities": self.qualities, "vat": self.vat,
            "vat_short": self.vat_short, "units": self.units,
        })
    }

    /// The label of `code` among those of one kind, such as `rule`.
    ///
    /// # Errors
    /// `FixInput` where there is no such kind or label.
    pub(crate) fn label(&self, of: &str, code: &str) -> Result<&str> {
        let (table, section) = match of {
            "text" => (&self.texts, "texts"),
            "rule" => (&self.rules, "rules"),
            "kind" => (&self.kinds, "kinds"),
            "quality" => (&self.qualities, "qualities"),
            "vat" => (&self.vat, "vat"),
            "unit" => (&self.units, "units"),
            other => {
                let what = format!(
                    "look up a label: there is no kind {other:?}; use one of text, rule, kind, quality, vat, unit"
                );
                return Err(Error::new(Kind::FixInput, what));
            }
        };
        table.get(code).map(String::as_str).ok_or_else(|| {
            Error::new(
                Kind::FixInput,
                format!("look up a label: there is no {code:?}; add it to [{section}] of the labels"),
            )
        })
    }
}
