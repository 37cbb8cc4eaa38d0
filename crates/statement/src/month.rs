//! What a statement is made of: the lines of `billing.bills` and the days of `billing.days`, checked.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use crate::number::Decimal;
use crate::{Error, Kind, Result};

/// Whose, and of which month.
#[derive(Clone, Debug, Deserialize)]
pub struct Head {
    /// "2026-03"
    pub period: String,
    pub producer_id: String,
    pub producer: String,
    pub siret: Option<String>,
    pub number: String,
    /// The statement of an earlier state, which this one is in place of.
    pub replaces: Option<Before>,
    pub issued_at: DateTime<Utc>,
    /// A statement that controls don't let out yet says so.
    pub is_draft: bool,
}

/// What was due by an earlier statement.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Before {
    pub number: String,
    pub due_cents: i64,
}

/// As it stands in `billing.bills`; decimals are texts.
#[derive(Clone, Debug, Deserialize)]
pub struct Line {
    pub contract_id: String,
    pub valid_from: String,
    pub site_id: String,
    pub prm: String,
    pub kind: String,
    pub rule: String,
    /// Of `unit`.
    pub quantity: i64,
    /// Wh, W or s.
    pub unit: String,
    /// None where each step has its own.
    pub price: Option<String>,
    pub price_unit: Option<String>,
    pub amount: String,
    pub vat: String,
    pub vat_rate_pct: String,
    pub vat_amount: String,
    pub quality: String,
}

/// The energy of a local day, of all contracts of the statement.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Day {
    pub day: NaiveDate,
    pub energy_wh: i64,
}

/// All that a statement shows.
#[derive(Clone, Debug)]
pub struct Statement {
    pub(crate) head: Head,
    pub(crate) month: NaiveDate,
    pub(crate) lines: Vec<Counted>,
    pub(crate) days: Vec<Day>,
    pub(crate) cents: i64,
    pub(crate) vat_cents: i64,
}

/// A line with its decimals read.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    pub line: Line,
    pub price: Option<Decimal>,
    pub cents: i64,
    pub vat_cents: i64,
}

impl Statement {
    /// In the order in which they are given.
    ///
    /// # Errors
    /// `FixInput` where there are no lines and nothing is replaced, the period is no month, or a text is no decimal.
    pub fn new(head: Head, lines: Vec<Line>, days: Vec<Day>) -> Result<Statement> {
        let refuse = |what: String| Error::new(Kind::FixInput, what);
        let name = &head.period;
        let month = NaiveDate::parse_from_str(&format!("{name}-01"), "%Y-%m-%d")
            .map_err(|_| refuse(format!("make a statement: the period {name:?} is no month such as 2026-03")))?;
        if lines.is_empty() && head.replaces.is_none() {
            return Err(refuse(format!("make a statement: {} has no lines in {name}", head.producer_id)));
        }
        let lines: Vec<Counted> = lines.into_iter().map(Counted::new).collect::<Result<_>>()?;
        let sum = |of: fn(&Counted) -> i64| lines.iter().try_fold(0_i64, |sum, line| sum.checked_add(of(line)));
        let too_large = || refuse("make a statement: its amounts add up to more than can be".to_owned());
        let cents = sum(|line| line.cents).ok_or_else(too_large)?;
        let vat_cents = sum(|line| line.vat_cents).ok_or_else(too_large)?;
        Ok(Statement { head, month, lines, days, cents, vat_cents })
    }

    /// Without VAT.
    pub fn cents(&self) -> i64 {
        self.cents
    }

    pub fn vat_cents(&self) -> i64 {
        self.vat_cents
    }

    pub fn due_cents(&self) -> i64 {
        self.cents + self.vat_cents
    }

    pub fn is_credit_note(&self) -> bool {
        self.cents < 0
    }
}

impl Counted {
    fn new(line: Line) -> Result<Counted> {
        let refuse = |column: &str, text: &str, wanted: &str| {
            let (contract, rule) = (&line.contract_id, &line.rule);
            Error::new(Kind::FixInput, format!("read {column} {text:?} of {contract}, {rule}: expected {wanted}"))
        };
        let decimal = |column: &str, text: &str| {
            Decimal::parse(text).ok_or_else(|| refuse(column, text, "a decimal such as 1234.56"))
        };
        let cents = |column: &str, text: &str| {
            decimal(column, text)?.cents().ok_or_else(|| refuse(column, text, "whole cents"))
        };
        let price = line.price.as_deref().map(|text| decimal("price", text)).transpose()?;
        decimal("vat_rate_pct", &line.vat_rate_pct)?;
        let (amount, vat) = (cents("amount", &line.amount)?, cents("vat_amount", &line.vat_amount)?);
        Ok(Counted { price, cents: amount, vat_cents: vat, line })
    }
}
