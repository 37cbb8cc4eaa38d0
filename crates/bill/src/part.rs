//! The documents that a statement consists of: lines outside the scope of VAT may not stand beside others (BR-O-11), and
//! fees with a VAT of their own are what the company sells to the producer.

use crate::line::ParsedLine;
use crate::number::parse_decimal;

/// What a document of a statement is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// What the producer sells.
    Energy,
    /// What is outside the scope of VAT.
    OutOfScope,
    /// What the company sells to the producer.
    Fees,
}

impl Part {
    /// All of them, in the order of a statement.
    pub const ALL: [Part; 3] = [Part::Energy, Part::OutOfScope, Part::Fees];

    /// The document's number: the statement's, with a mark where it is not the one of the energy.
    pub fn number(self, statement: &str) -> String {
        match self {
            Part::Energy => statement.to_owned(),
            Part::OutOfScope => format!("{statement}-CR"),
            Part::Fees => format!("{statement}-F"),
        }
    }

    /// The lines of the document, among all of a statement.
    pub fn lines(self, all: &[ParsedLine]) -> Vec<&ParsedLine> {
        all.iter().filter(|line| Part::of(line, all) == self).collect()
    }

    fn of(parsed: &ParsedLine, all: &[ParsedLine]) -> Part {
        let line = &parsed.line;
        let is_fee = |rule: &str| matches!(rule, "fee" | "fee_power");
        let is_same_vat = |other: &&ParsedLine| {
            let other = &other.line;
            (&other.vat, parse_decimal(&other.vat_rate_pct)) == (&line.vat, parse_decimal(&line.vat_rate_pct))
        };
        let energy = all.iter().filter(|other| other.line.contract_id == line.contract_id && !is_fee(&other.line.rule));
        match line.vat.as_str() {
            "none" => Part::OutOfScope,
            _ if is_fee(&line.rule) && !energy.clone().any(|other| is_same_vat(&other)) => Part::Fees,
            _ => Part::Energy,
        }
    }
}

/// Whether an operation is a delivery of goods, a service, or both, which an invoice has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nature {
    /// Electricity is a good.
    Goods,
    /// Fees and guarantees of origin are services.
    Services,
    /// Both.
    Mixed,
}

impl Nature {
    /// Of the lines of a document.
    pub fn of(part: Part, lines: &[&ParsedLine]) -> Nature {
        let is_service = |parsed: &&&ParsedLine| parsed.line.rule == "guarantee_of_origin";
        match lines.iter().filter(is_service).count() {
            _ if part == Part::Fees => Nature::Services,
            0 => Nature::Goods,
            count if count == lines.len() => Nature::Services,
            _ => Nature::Mixed,
        }
    }

    /// The business process of French invoices (BT-23).
    pub fn process(self) -> &'static str {
        match self {
            Nature::Goods => "B1",
            Nature::Services => "S1",
            Nature::Mixed => "M1",
        }
    }

    /// The name of its text among the labels.
    pub fn text(self) -> &'static str {
        match self {
            Nature::Goods => "nature_goods",
            Nature::Services => "nature_services",
            Nature::Mixed => "nature_mixed",
        }
    }
}
