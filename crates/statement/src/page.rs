//! The page: the statement through a template in Jinja's language. What a template can say is in
//! docs/billing.md.

use std::collections::BTreeMap;

use chrono::Datelike;
use minijinja::{AutoEscape, Environment, Error as Failure, ErrorKind, UndefinedBehavior, value::Serde};
use serde::Serialize;

use crate::chart::{Chart, chart};
use crate::labels::Labels;
use crate::month::{Counted, Day, Statement};
use crate::number::{Decimal, Marks};
use crate::{Error, Kind, Result};

/// Renders a template; `name` is what its errors call it.
///
/// # Errors
/// `FixInput` with the template's line where it can't be read, asks for what there isn't, or a label is missing.
pub fn page(name: &str, template: &str, labels: &Labels, statement: &Statement) -> Result<String> {
    let mut environment = environment();
    filters(&mut environment, labels);
    let lines = statement.lines.iter().map(Shown::new).collect::<Vec<_>>();
    let values = Page::new(labels, statement, &lines);
    let rendered =
        environment.template_from_named_str(name, template).and_then(|template| template.render(Serde(&values)));
    rendered.map_err(|failure| wrong("render", name, failure))
}

/// Whether a template can be read; what it asks for only shows when a page is made.
///
/// # Errors
/// `FixInput` with the template's line.
pub fn check(name: &str, template: &str) -> Result<()> {
    let read = environment().template_from_named_str(name, template).map(drop);
    read.map_err(|failure| wrong("read", name, failure))
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment
}

fn wrong(doing: &str, name: &str, failure: Failure) -> Error {
    let at = failure.line().map(|line| format!(", line {line}")).unwrap_or_default();
    let context = format!("{doing} {name}{at}");
    Error { kind: Kind::FixInput, context, source: Some(Box::new(failure)) }
}

/// All that templates see.
#[derive(Serialize)]
struct Page<'a> {
    language: &'a str,
    issuer: &'a [String],
    texts: &'a BTreeMap<String, String>,
    period: Period<'a>,
    producer: Producer<'a>,
    number: &'a str,
    replaces: Option<Replaced<'a>>,
    issued_on: String,
    is_draft: bool,
    is_credit_note: bool,
    contracts: Vec<Contract<'a>>,
    vat_mentions: Vec<&'a str>,
    cents: i64,
    vat_cents: i64,
    due_cents: i64,
    energy_wh: i64,
    days: &'a [Day],
    chart: Chart,
}

/// The statement that this one is in place of, and what is due on top of it.
#[derive(Serialize)]
struct Replaced<'a> {
    number: &'a str,
    due_cents: i64,
    difference_cents: i64,
}

#[derive(Serialize)]
struct Period<'a> {
    month: Option<&'a str>,
    year: i32,
}

#[derive(Serialize)]
struct Producer<'a> {
    id: &'a str,
    name: &'a str,
    siret: Option<&'a str>,
}

impl<'a> Page<'a> {
    fn new(labels: &'a Labels, statement: &'a Statement, lines: &'a [Shown<'a>]) -> Page<'a> {
        let head = &statement.head;
        Page {
            language: &labels.language,
            issuer: &labels.issuer,
            texts: &labels.texts,
            period: Period { month: labels.month(statement.month.month()), year: statement.month.year() },
            producer: Producer { id: &head.producer_id, name: &head.producer, siret: head.siret.as_deref() },
            number: &head.number,
            replaces: head.replaces.as_ref().map(|before| Replaced {
                number: &before.number,
                due_cents: before.due_cents,
                difference_cents: statement.due_cents() - before.due_cents,
            }),
            issued_on: head.issued_at.format(&labels.date).to_string(),
            is_draft: head.is_draft,
            is_credit_note: statement.is_credit_note(),
            contracts: contracts(lines),
            vat_mentions: mentions(lines),
            cents: statement.cents,
            vat_cents: statement.vat_cents,
            due_cents: statement.due_cents(),
            energy_wh: statement.days.iter().map(|day| day.energy_wh).sum(),
            days: &statement.days,
            chart: chart(&statement.days),
        }
    }
}

/// A line as templates see it.
#[derive(Serialize)]
struct Shown<'a> {
    contract_id: &'a str,
    valid_from: &'a str,
    site_id: &'a str,
    prm: &'a str,
    kind: &'a str,
    rule: &'a str,
    quantity: i64,
    unit: &'a str,
    price: Option<&'a str>,
    price_unit: Option<&'a str>,
    /// The mean of prices by step: text of EUR/MWh with two decimals.
    mean_price: Option<String>,
    cents: i64,
    vat: &'a str,
    vat_rate_pct: &'a str,
    vat_cents: i64,
    quality: &'a str,
}

impl<'a> Shown<'a> {
    fn new(counted: &'a Counted) -> Shown<'a> {
        let line = &counted.line;
        let has_mean = counted.price.is_none() && line.unit == "Wh" && line.quantity > 0;
        Shown {
            contract_id: &line.contract_id,
            valid_from: &line.valid_from,
            site_id: &line.site_id,
            prm: &line.prm,
            kind: &line.kind,
            rule: &line.rule,
            quantity: line.quantity,
            unit: &line.unit,
            price: line.price.as_deref(),
            price_unit: line.price_unit.as_deref(),
            mean_price: has_mean.then(|| mean_price(counted.cents, line.quantity)),
            cents: counted.cents,
            vat: &line.vat,
            vat_rate_pct: &line.vat_rate_pct,
            vat_cents: counted.vat_cents,
            quality: &line.quality,
        }
    }
}

/// EUR/MWh, rounded half away from zero, as a text.
fn mean_price(cents: i64, wh: i64) -> String {
    let (sum, wh) = (i128::from(cents) * 1_000_000, i128::from(wh));
    let rounded = (sum.abs() * 2 + wh) / (wh * 2);
    let sign = if sum < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", rounded / 100, rounded % 100)
}

#[derive(Serialize)]
struct Contract<'a> {
    contract_id: &'a str,
    site_id: &'a str,
    prm: &'a str,
    kind: &'a str,
    cents: i64,
    lines: Vec<&'a Shown<'a>>,
}

/// In the order of their first lines.
fn contracts<'a>(lines: &'a [Shown<'a>]) -> Vec<Contract<'a>> {
    let mut contracts: Vec<Contract<'a>> = Vec::new();
    for line in lines {
        let found = contracts.iter().position(|one| one.contract_id == line.contract_id);
        let at = found.unwrap_or_else(|| {
            let (site_id, prm, kind) = (line.site_id, line.prm, line.kind);
            contracts.push(Contract { contract_id: line.contract_id, site_id, prm, kind, cents: 0, lines: Vec::new() });
            contracts.len() - 1
        });
        contracts[at].cents += line.cents;
        contracts[at].lines.push(line);
    }
    contracts
}

fn mentions<'a>(lines: &'a [Shown<'a>]) -> Vec<&'a str> {
    let mut mentions: Vec<&str> = lines.iter().map(|line| line.vat).collect();
    mentions.sort_unstable();
    mentions.dedup();
    mentions
}

fn filters(environment: &mut Environment<'_>, labels: &Labels) {
    let marks = labels.marks.clone();
    environment.add_filter("euros", move |cents: i64| euros(cents, &marks));
    let marks = labels.marks.clone();
    environment.add_filter("decimal", move |text: &str| -> Result<String, Failure> {
        let decimal = Decimal::parse(text);
        let decimal = decimal.ok_or_else(|| refused(format!("{text:?} is no decimal such as 1234.56")))?;
        Ok(decimal.shown(2, &marks))
    });
    let marks = labels.marks.clone();
    environment.add_filter(
        "quantity",
        move |amount: i64, unit: &str, digits: Option<u32>| -> Result<String, Failure> {
            quantity(amount, unit, digits, &marks).ok_or_else(|| refused(format!("{unit:?} is no unit of Wh, W, s")))
        },
    );
    let own = labels.clone();
    environment.add_filter("label", move |code: &str, of: &str| -> Result<String, Failure> {
        own.word(of, code).map(str::to_owned).map_err(|error| refused(error.to_string()))
    });
    let date = labels.date.clone();
    environment.add_filter("date", move |text: &str| -> Result<String, Failure> {
        let day: chrono::NaiveDate =
            text.parse().map_err(|_| refused(format!("{text:?} is no date such as 2026-03-01")))?;
        Ok(day.format(&date).to_string())
    });
}

fn refused(what: String) -> Failure {
    Failure::new(ErrorKind::InvalidOperation, what)
}

pub(crate) fn euros(cents: i64, marks: &Marks) -> String {
    format!("{}{}", Decimal { digits: cents, scale: 2 }.shown(2, marks), marks.currency)
}

/// Wh as MWh, W as kW, seconds as hours: what people read. All of it, or rounded to so many digits
/// without zeros behind them.
pub(crate) fn quantity(amount: i64, unit: &str, digits: Option<u32>, marks: &Marks) -> Option<String> {
    let (decimal, least, unit) = match unit {
        // To the Wh, so that what is shown can be multiplied out.
        "Wh" => (Decimal { digits: amount, scale: 6 }, 6, "MWh"),
        "W" => (Decimal { digits: amount, scale: 3 }, 0, "kW"),
        // Quarters of an hour.
        "s" => (Decimal { digits: amount.checked_mul(25)? / 900, scale: 2 }, 0, "h"),
        _ => return None,
    };
    let shown = match digits {
        Some(digits) => decimal.rounded(digits).shown(0, marks),
        None => decimal.shown(least, marks),
    };
    Some(format!("{shown}\u{a0}{unit}"))
}
