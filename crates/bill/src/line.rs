//! A line of a statement, and the same with its decimals parsed.

use rust_decimal::Decimal;
use serde::Deserialize;

use crate::number::{parse_decimal, whole_cents};
use crate::{Error, Kind, Result};

/// A line of a statement, as `billing.bills` has it. Decimals are texts.
#[derive(Clone, Debug, Deserialize)]
pub struct StatementLine {
    /// The contract.
    pub contract_id: String,
    /// The first day of the contract's version.
    pub valid_from: String,
    /// The site.
    pub site_id: String,
    /// The metering point.
    pub prm: String,
    /// The kind of contract, a code of the labels.
    pub kind: String,
    /// What is paid for, a code of the labels.
    pub rule: String,
    /// In `unit`.
    pub quantity: i64,
    /// `Wh`, `W` or `s`.
    pub unit: String,
    /// In `price_unit`; `None` where each step has its own price.
    pub price: Option<String>,
    /// A code of the labels, such as `EUR/MWh`.
    pub price_unit: Option<String>,
    /// Without VAT, in euros with whole cents.
    pub amount: String,
    /// The VAT regime, a code of the labels.
    pub vat: String,
    /// In percent.
    pub vat_rate_pct: String,
    /// In euros with whole cents.
    pub vat_amount: String,
    /// The quality of the quantity, a code of the labels.
    pub quality: String,
}

/// A line with its decimals parsed.
#[derive(Clone, Debug)]
pub(crate) struct ParsedLine {
    /// The line itself.
    pub line: StatementLine,
    /// The price.
    pub price: Option<Decimal>,
    /// The amount without VAT.
    pub cents: i64,
    /// The line's amount of VAT.
    pub vat_cents: i64,
}

impl ParsedLine {
    /// Parses the decimals of a line.
    ///
    /// # Errors
    /// `FixInput` where a text is not a decimal, or an amount does not have whole cents.
    pub fn new(line: StatementLine) -> Result<ParsedLine> {
        let refuse = |column: &str, text: &str, wanted: &str| {
            let (contract, rule) = (&line.contract_id, &line.rule);
            Error::new(Kind::FixInput, format!("read {column} {text:?} of {contract}, {rule}: expected {wanted}"))
        };
        let decimal = |column: &str, text: &str| {
            parse_decimal(text).ok_or_else(|| refuse(column, text, "a decimal such as 1234.56"))
        };
        let cents = |column: &str, text: &str| {
            whole_cents(decimal(column, text)?).ok_or_else(|| refuse(column, text, "whole cents"))
        };
        let price = line.price.as_deref().map(|text| decimal("price", text)).transpose()?;
        decimal("vat_rate_pct", &line.vat_rate_pct)?;
        let (amount, vat) = (cents("amount", &line.amount)?, cents("vat_amount", &line.vat_amount)?);
        Ok(ParsedLine { price, cents: amount, vat_cents: vat, line })
    }
}
