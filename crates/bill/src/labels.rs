//! The labels of statements in one language, from a file of the user.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::NaiveDate;
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
        labels.check_marks().map_err(|what| Error::new(Kind::FixInput, format!("read the labels: {what}")))?;
        let mut day = String::new();
        if write!(day, "{}", NaiveDate::default().format(&labels.date)).is_err() {
            let what =
                format!("read the labels: the date {:?} is no format of a day, such as \"%d/%m/%Y\"", labels.date);
            return Err(Error::new(Kind::FixInput, what));
        }
        Ok(labels)
    }

    /// Refuses marks with which an amount could be read as another one.
    fn check_marks(&self) -> std::result::Result<(), String> {
        let NumberFormat { decimal, thousands, .. } = &self.marks;
        let is_mark = |mark: &str| !mark.contains(|c: char| c.is_ascii_digit() || c == '-');
        match () {
            () if decimal.chars().count() != 1 || decimal.trim().is_empty() || !is_mark(decimal) => {
                Err(format!("the decimal mark {decimal:?} is not one sign such as \",\" or \".\""))
            }
            () if decimal == thousands => Err(format!("{decimal:?} can't be the mark of decimals and of thousands")),
            () if thousands.chars().count() > 1 || !is_mark(thousands) => {
                Err(format!("the mark of thousands {thousands:?} is not one sign or none"))
            }
            () => Ok(()),
        }
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
