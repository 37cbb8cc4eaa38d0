//! Renders a statement as a page by a Jinja template. The values and filters that templates can use are
//! in docs/billing.md.

use std::collections::BTreeMap;

use chrono::Datelike;
use minijinja::{AutoEscape, Environment, Error as Failure, ErrorKind, UndefinedBehavior, value::Serde};
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::Value;

use crate::chart::{Chart, chart};
use crate::content::{DayEnergy, Statement, VatTotal};
use crate::labels::Labels;
use crate::line::ParsedLine;
use crate::number::{NumberFormat, format_decimal, parse_decimal, rounded};
use crate::{Error, Kind, Result};

/// Renders a statement; `name` is the template's name in errors.
///
/// # Errors
/// `FixInput` with the template's line where it is not valid, uses a value that does not exist, or needs a label that
/// is missing.
pub fn page(name: &str, template: &str, labels: &Labels, statement: &Statement) -> Result<String> {
    let mut environment = environment();
    filters(&mut environment, labels);
    let lines = statement.lines.iter().map(LineValues::new).collect::<Vec<_>>();
    let values = PageValues::new(labels, statement, &lines);
    let rendered =
        environment.template_from_named_str(name, template).and_then(|template| template.render(Serde(&values)));
    rendered.map_err(|failure| template_error("render", name, failure))
}

/// The values of a page as JSON.
///
/// # Errors
/// `Bug` where they are not JSON.
pub(crate) fn values(labels: &Labels, statement: &Statement) -> Result<Value> {
    let lines = statement.lines.iter().map(LineValues::new).collect::<Vec<_>>();
    let values = serde_json::to_value(PageValues::new(labels, statement, &lines));
    values.map_err(|error| Error::new(Kind::Bug, "write the values of a page").because(error))
}

/// Checks the syntax of a template. Whether the values that it uses exist is known only when a page is rendered.
///
/// # Errors
/// `FixInput` with the template's line.
pub fn check_template(name: &str, template: &str) -> Result<()> {
    let read = environment().template_from_named_str(name, template).map(drop);
    read.map_err(|failure| template_error("read", name, failure))
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment
}

fn template_error(doing: &str, name: &str, failure: Failure) -> Error {
    let at = failure.line().map(|line| format!(", line {line}")).unwrap_or_default();
    let context = format!("{doing} {name}{at}");
    Error::new(Kind::FixInput, context).because(failure)
}

/// The values that templates can use.
#[derive(Serialize)]
struct PageValues<'a> {
    language: &'a str,
    issuer: &'a [String],
    texts: &'a BTreeMap<String, String>,
    period: PeriodValues<'a>,
    producer: ProducerValues<'a>,
    number: &'a str,
    replaces: Option<ReplacedValues<'a>>,
    issued_on: String,
    is_draft: bool,
    is_credit_note: bool,
    contracts: Vec<ContractValues<'a>>,
    vat_mentions: Vec<&'a str>,
    vat_totals: &'a [VatTotal],
    cents: i64,
    vat_cents: i64,
    due_cents: i64,
    energy_wh: i64,
    days: &'a [DayEnergy],
    chart: Chart,
}

/// The statement that this one replaces, and the difference of the amounts due.
#[derive(Serialize)]
struct ReplacedValues<'a> {
    number: &'a str,
    due_cents: Option<i64>,
    difference_cents: Option<i64>,
}

#[derive(Serialize)]
struct PeriodValues<'a> {
    month: Option<&'a str>,
    year: i32,
}

#[derive(Serialize)]
struct ProducerValues<'a> {
    id: &'a str,
    name: &'a str,
    siret: Option<&'a str>,
}

impl<'a> PageValues<'a> {
    fn new(labels: &'a Labels, statement: &'a Statement, lines: &'a [LineValues<'a>]) -> PageValues<'a> {
        let head = &statement.head;
        PageValues {
            language: &labels.language,
            issuer: &labels.issuer,
            texts: &labels.texts,
            period: PeriodValues { month: labels.month(statement.month.month()), year: statement.month.year() },
            producer: ProducerValues { id: &head.producer_id, name: &head.producer, siret: head.siret.as_deref() },
            number: &head.number,
            replaces: head.replaces.as_ref().map(|before| ReplacedValues {
                number: &before.number,
                due_cents: before.due_cents,
                difference_cents: before.due_cents.map(|due| statement.due_cents() - due),
            }),
            issued_on: head.issued_on.format(&labels.date).to_string(),
            is_draft: head.is_draft,
            is_credit_note: statement.is_credit_note(),
            contracts: contracts(lines),
            vat_mentions: mentions(lines),
            vat_totals: &statement.vat,
            cents: statement.cents,
            vat_cents: statement.vat_cents,
            due_cents: statement.due_cents(),
            energy_wh: statement.days.iter().map(|day| day.energy_wh).sum(),
            days: &statement.days,
            chart: chart(&statement.days),
        }
    }
}

/// A line, for templates.
#[derive(Serialize)]
struct LineValues<'a> {
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
    /// Where each step has its own price, their mean in EUR/MWh, with two decimals.
    mean_price: Option<String>,
    cents: i64,
    vat: &'a str,
    vat_rate_pct: &'a str,
    vat_cents: i64,
    quality: &'a str,
}

impl<'a> LineValues<'a> {
    fn new(counted: &'a ParsedLine) -> LineValues<'a> {
        let line = &counted.line;
        let has_mean = counted.price.is_none() && line.unit == "Wh" && line.quantity > 0;
        LineValues {
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
struct ContractValues<'a> {
    contract_id: &'a str,
    site_id: &'a str,
    prm: &'a str,
    kind: &'a str,
    cents: i64,
    lines: Vec<&'a LineValues<'a>>,
}

/// The metering points of contracts with their lines, in the order of their first lines.
fn contracts<'a>(lines: &'a [LineValues<'a>]) -> Vec<ContractValues<'a>> {
    let mut contracts: Vec<ContractValues<'a>> = Vec::new();
    for line in lines {
        let found = contracts.iter().position(|one| one.contract_id == line.contract_id && one.prm == line.prm);
        let at = found.unwrap_or_else(|| {
            let (site_id, prm, kind) = (line.site_id, line.prm, line.kind);
            contracts.push(ContractValues {
                contract_id: line.contract_id,
                site_id,
                prm,
                kind,
                cents: 0,
                lines: Vec::new(),
            });
            contracts.len() - 1
        });
        contracts[at].cents += line.cents;
        contracts[at].lines.push(line);
    }
    contracts
}

fn mentions<'a>(lines: &'a [LineValues<'a>]) -> Vec<&'a str> {
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
        let decimal = parse_decimal(text);
        let decimal = decimal.ok_or_else(|| refused(format!("{text:?} is not a decimal such as 1234.56")))?;
        Ok(format_decimal(decimal, 2, &marks))
    });
    let marks = labels.marks.clone();
    environment.add_filter(
        "quantity",
        move |amount: i64, unit: &str, digits: Option<u32>| -> Result<String, Failure> {
            quantity(amount, unit, digits, &marks)
                .ok_or_else(|| refused(format!("{unit:?} is not a unit; use Wh, W or s")))
        },
    );
    let own = labels.clone();
    environment.add_filter("label", move |code: &str, of: &str| -> Result<String, Failure> {
        own.label(of, code).map(str::to_owned).map_err(|error| refused(error.to_string()))
    });
    let date = labels.date.clone();
    environment.add_filter("date", move |text: &str| -> Result<String, Failure> {
        let day: chrono::NaiveDate =
            text.parse().map_err(|_| refused(format!("{text:?} is not a date such as 2026-03-01")))?;
        Ok(day.format(&date).to_string())
    });
}

fn refused(what: String) -> Failure {
    Failure::new(ErrorKind::InvalidOperation, what)
}

/// An amount with its currency.
pub(crate) fn euros(cents: i64, marks: &NumberFormat) -> String {
    format!("{}{}", format_decimal(Decimal::new(cents, 2), 2, marks), marks.currency)
}

/// A quantity in a common unit: Wh as MWh, W as kW, seconds as hours. Exact without `digits`, otherwise rounded to at
/// most so many decimals. `None` for another unit.
pub(crate) fn quantity(amount: i64, unit: &str, digits: Option<u32>, marks: &NumberFormat) -> Option<String> {
    let (decimal, least, unit) = match unit {
        // All decimals, so that a reader can check the amount.
        "Wh" => (Decimal::new(amount, 6), 6, "MWh"),
        "W" => (Decimal::new(amount, 3), 0, "kW"),
        // Hundredths of an hour, which are exact for quarters of an hour.
        "s" => (Decimal::new(amount.checked_mul(25)? / 900, 2), 0, "h"),
        _ => return None,
    };
    let shown = match digits {
        Some(digits) => format_decimal(rounded(decimal, digits), 0, marks),
        None => format_decimal(decimal, least, marks),
    };
    Some(format!("{shown}\u{a0}{unit}"))
}
