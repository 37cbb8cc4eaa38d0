//! The values of the pages of a statement's documents, for a template that is typeset. They are those of the HTML page,
//! with the labels and the parties.

use chrono::NaiveDate;
use serde_json::{Value, json};

use crate::company::Company;
use crate::content::Statement;
use crate::labels::Labels;
use crate::line::ParsedLine;
use crate::page::values;
use crate::part::{Nature, Part};
use crate::{Error, Kind, Result};

/// A document of a statement that is typeset.
#[derive(Clone, Debug)]
pub struct PrintedDocument {
    /// Its number, which is that of its e-invoice.
    pub number: String,
    /// What its template reads.
    pub values: Value,
}

/// The parties and terms of a statement's documents.
#[derive(Clone, Debug)]
pub struct PrintedTerms<'a> {
    /// The company that buys, and issues the documents.
    pub company: &'a Company,
    /// The producer.
    pub producer: &'a Company,
    /// When they are due.
    pub due_on: NaiveDate,
    /// Whether each part of the statement is a document of its own, as e-invoices are; otherwise there is one.
    pub by_part: bool,
}

/// The documents of a statement: one for each part of it that has lines. A statement without lines, which replaces
/// another one, is one document.
///
/// # Errors
/// `FixInput` where a sum is too large or a label is missing.
pub fn printed(labels: &Labels, statement: &Statement, terms: &PrintedTerms<'_>) -> Result<Vec<PrintedDocument>> {
    let parts: Vec<Part> = Part::ALL.into_iter().filter(|part| !part.lines(&statement.lines).is_empty()).collect();
    if !terms.by_part {
        let lines: Vec<&ParsedLine> = statement.lines.iter().collect();
        return Ok(vec![document(labels, statement, terms, Part::Energy, Nature::of(Part::Energy, &lines))?]);
    }
    let is_one = parts.len() == 1;
    let document_of = |part: Part| {
        let lines = part.lines(&statement.lines);
        let own = part_of(statement, part, &lines, is_one)?;
        document(labels, &own, terms, part, Nature::of(part, &lines))
    };
    parts.into_iter().map(document_of).collect()
}

/// The document of a number that cancels an earlier one, of which nothing is left.
///
/// # Errors
/// `FixInput` where a label is missing.
pub fn printed_cancellation(
    labels: &Labels,
    statement: &Statement,
    terms: &PrintedTerms<'_>,
    number: &str,
) -> Result<PrintedDocument> {
    let mut own = statement.clone();
    let part = Part::ALL.into_iter().find(|part| part.number(&own.head.number) == number).unwrap_or(Part::Energy);
    if let Some(before) = &mut own.head.replaces {
        (before.number, before.due_cents) = (part.number(&before.number), None);
    }
    own.head.number = number.to_owned();
    own.lines.clear();
    own.days.clear();
    own.sum().ok_or_else(|| Error::new(Kind::FixInput, format!("sum up {number}: too large")))?;
    let mut document = document(labels, &own, terms, part, Nature::of(part, &[]))?;
    if let Some(Value::Array(mentions)) = document.values.get_mut("mentions") {
        mentions.insert(0, json!(labels.label("text", "cancelled")?));
    }
    Ok(document)
}

/// A part as a statement of its own.
fn part_of(statement: &Statement, part: Part, lines: &[&ParsedLine], is_one: bool) -> Result<Statement> {
    let too_large = || Error::new(Kind::FixInput, format!("sum up {}: too large", statement.head.number));
    let mut own = statement.clone();
    own.head.number = part.number(&statement.head.number);
    if let Some(before) = &mut own.head.replaces {
        before.number = part.number(&before.number);
        // What was due by an earlier part is not known.
        if !is_one {
            before.due_cents = None;
        }
    }
    own.lines = lines.iter().map(|line| if part == Part::Fees { sold(line) } else { (*line).clone() }).collect();
    if part != Part::Energy && !is_one {
        own.days.clear();
    }
    own.sum().ok_or_else(too_large)?;
    Ok(own)
}

/// A fee as what the company sells: the producer's statement has it as a deduction.
fn sold(parsed: &ParsedLine) -> ParsedLine {
    let mut line = parsed.clone();
    (line.cents, line.vat_cents) = (-line.cents, -line.vat_cents);
    line.price = line.price.map(|price| -price);
    line.line.price = line.line.price.as_deref().map(|price| match price.strip_prefix('-') {
        Some(positive) => positive.to_owned(),
        None => format!("-{price}"),
    });
    line
}

fn document(
    labels: &Labels,
    statement: &Statement,
    terms: &PrintedTerms<'_>,
    part: Part,
    nature: Nature,
) -> Result<PrintedDocument> {
    let mut all = values(labels, statement)?;
    let (seller, buyer) = match part {
        Part::Fees => (terms.company, terms.producer),
        Part::Energy | Part::OutOfScope => (terms.producer, terms.company),
    };
    let mut mentions: Vec<&str> = Vec::new();
    if part != Part::OutOfScope {
        mentions.push(labels.label("text", nature.text())?);
    }
    if part != Part::Fees {
        mentions.push(labels.label("text", "self_billing")?);
    }
    for name in ["late_payment", "recovery_fee", "no_discount"] {
        mentions.push(labels.label("text", name)?);
    }
    let (first, last) = (statement.month, statement.last_day());
    let day = |day: NaiveDate| day.format(&labels.date).to_string();
    let own = json!({
        "labels": labels.tables(), "marks": labels.marks, "mentions": mentions,
        "seller": party(seller), "buyer": party(buyer), "company": party(terms.company),
        "due_on": day(terms.due_on), "period_from": day(first), "period_to": day(last),
    });
    if let (Value::Object(all), Value::Object(own)) = (&mut all, own) {
        all.extend(own);
    }
    Ok(PrintedDocument { number: statement.head.number.clone(), values: all })
}

fn party(company: &Company) -> Value {
    json!({
        "name": company.name, "siren": company.siren, "vat_number": company.vat_number, "address": company.address,
        "postcode": company.postcode, "city": company.city, "legal": company.legal, "iban": company.iban,
    })
}
