//! The content of a statement: its header, and the lines and days that the user's queries return, checked.

use std::collections::BTreeMap;

use chrono::{DateTime, Months, NaiveDate, Utc};
use rust_decimal::prelude::ToPrimitive;
use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Serialize};

use crate::line::{ParsedLine, StatementLine};
use crate::number::parse_decimal;
use crate::part::Part;
use crate::{Error, Kind, Result};

/// Whose statement it is, and of which month.
#[derive(Clone, Debug, Deserialize)]
pub struct StatementHeader {
    /// The month: `2026-03`.
    pub period: String,
    /// The producer's identifier.
    pub producer_id: String,
    /// The producer's name.
    pub producer: String,
    /// The producer's SIRET number.
    pub siret: Option<String>,
    /// The statement's number.
    pub number: String,
    /// The earlier statement that this one replaces.
    pub replaces: Option<ReplacedStatement>,
    /// When it is issued.
    pub issued_at: DateTime<Utc>,
    /// The local day on which it is issued, which is the one on paper.
    pub issued_on: NaiveDate,
    /// Whether it is marked as a draft.
    pub is_draft: bool,
}

/// The statement that another one replaces.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct ReplacedStatement {
    /// Its number.
    pub number: String,
    /// Its amount due with VAT, in cents; `None` where it is not known.
    pub due_cents: Option<i64>,
}

/// The energy of all contracts of a statement on one local day.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DayEnergy {
    /// The local day.
    pub day: NaiveDate,
    /// The energy.
    pub energy_wh: i64,
}

/// A statement that is valid and complete.
#[derive(Clone, Debug)]
pub struct Statement {
    /// The header.
    pub(crate) head: StatementHeader,
    /// The first day of the month.
    pub(crate) month: NaiveDate,
    /// The lines, in the order in which they were given.
    pub(crate) lines: Vec<ParsedLine>,
    /// The days of the month.
    pub(crate) days: Vec<DayEnergy>,
    /// The sum without VAT.
    pub(crate) cents: i64,
    /// The VAT by regime and rate.
    pub(crate) vat: Vec<VatTotal>,
    /// The sum of VAT.
    pub(crate) vat_cents: i64,
}

/// The VAT of all lines of a document with a regime and a rate: of their sum, rounded once.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub(crate) struct VatTotal {
    /// The regime, a code of the labels.
    pub vat: String,
    /// In percent.
    pub rate_pct: String,
    /// The sum of the lines without VAT.
    pub base_cents: i64,
    /// The VAT.
    pub cents: i64,
}

impl Statement {
    /// Checks the content of a statement; lines and days keep their order.
    ///
    /// # Errors
    /// `FixInput` where there are no lines and no statement is replaced, the period is not a month, a text is not a
    /// decimal, or an amount does not have whole cents.
    pub fn new(head: StatementHeader, lines: Vec<StatementLine>, days: Vec<DayEnergy>) -> Result<Statement> {
        let refuse = |what: String| Error::new(Kind::FixInput, what);
        let name = &head.period;
        let month = NaiveDate::parse_from_str(&format!("{name}-01"), "%Y-%m-%d")
            .map_err(|_| refuse(format!("make a statement: the period {name:?} is not a month such as 2026-03")))?;
        if lines.is_empty() && head.replaces.is_none() {
            return Err(refuse(format!("make a statement: {} has no lines in {name}", head.producer_id)));
        }
        let lines: Vec<ParsedLine> = lines.into_iter().map(ParsedLine::new).collect::<Result<_>>()?;
        let too_large = || refuse("make a statement: the sum of its amounts is too large".to_owned());
        let mut statement = Statement { head, month, lines, days, cents: 0, vat: Vec::new(), vat_cents: 0 };
        statement.sum().ok_or_else(too_large)?;
        Ok(statement)
    }

    /// Computes the sums of the lines; `None` where one is too large.
    pub(crate) fn sum(&mut self) -> Option<()> {
        self.cents = self.lines.iter().try_fold(0_i64, |sum, line| sum.checked_add(line.cents))?;
        let mut vat = Vec::new();
        for part in Part::ALL {
            vat.extend(vat_totals(&part.lines(&self.lines))?);
        }
        self.vat = vat;
        self.vat_cents = self.vat.iter().map(|total| total.cents).sum();
        Some(())
    }

    /// The last day of the month.
    pub(crate) fn last_day(&self) -> NaiveDate {
        let next = self.month.checked_add_months(Months::new(1));
        next.and_then(|next| next.pred_opt()).unwrap_or(self.month)
    }

    /// The sum of all lines without VAT, in cents.
    pub fn cents(&self) -> i64 {
        self.cents
    }

    /// The sum of VAT, in cents.
    pub fn vat_cents(&self) -> i64 {
        self.vat_cents
    }

    /// The amount due with VAT, in cents; negative where the producer has to pay it back.
    pub fn due_cents(&self) -> i64 {
        self.cents + self.vat_cents
    }

    /// Whether the sum without VAT is negative.
    pub fn is_credit_note(&self) -> bool {
        self.cents < 0
    }
}

/// The VAT of the lines of one document. EN 16931 (BR-CO-17) and the tax code have the VAT of a rate as its base times the
/// rate, not as a sum of lines' VAT.
fn vat_totals(lines: &[&ParsedLine]) -> Option<Vec<VatTotal>> {
    let mut bases: BTreeMap<(&str, Decimal), i64> = BTreeMap::new();
    for parsed in lines {
        let rate = parse_decimal(&parsed.line.vat_rate_pct)?.normalize();
        let base = bases.entry((&parsed.line.vat, rate)).or_default();
        *base = base.checked_add(parsed.cents)?;
    }
    let total = |((vat, rate), base_cents): ((&str, Decimal), i64)| {
        let exact = Decimal::from(base_cents).checked_mul(rate)? / Decimal::ONE_HUNDRED;
        let cents = exact.round_dp_with_strategy(0, RoundingStrategy::MidpointAwayFromZero).to_i64()?;
        Some(VatTotal { vat: vat.to_owned(), rate_pct: rate.to_string(), base_cents, cents })
    };
    bases.into_iter().map(total).collect()
}
