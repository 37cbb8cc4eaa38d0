//! The page: the statement through a template in Jinja's language. What a template can say is in
//! docs/billing.md.

use chrono::Datelike;
use minijinja::{AutoEscape, Environment, Error as Failure, ErrorKind, UndefinedBehavior, context};
use serde::Serialize;

use crate::chart::chart;
use crate::labels::Labels;
use crate::month::{Counted, Statement};
use crate::number::{Decimal, Marks};
use crate::{Error, Kind, Result};

/// Renders a template; `name` is what its errors call it.
///
/// # Errors
/// `FixInput` with the template's line where it can't be read, asks for what there isn't, or a label is missing.
pub fn page(name: &str, template: &str, labels: &Labels, statement: &Statement) -> Result<String> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    filters(&mut environment, labels);
    let lines = statement.lines.iter().map(Shown::new).collect::<Vec<_>>();
    let values = context! {
        language => &labels.language,
        texts => &labels.texts,
        period => context! { month => labels.month(statement.month.month()), year => statement.month.year() },
        producer => context! {
            id => &statement.head.producer_id, name => &statement.head.producer, siret => &statement.head.siret
        },
        number => &statement.head.number,
        issued_on => statement.head.issued_at.format(&labels.date).to_string(),
        is_draft => statement.head.is_draft,
        is_credit_note => statement.cents < 0,
        contracts => contracts(&lines),
        vat_mentions => mentions(&lines),
        cents => statement.cents,
        vat_cents => statement.vat_cents,
        due_cents => statement.cents + statement.vat_cents,
        energy_wh => statement.days.iter().map(|day| day.energy_wh).sum::<i64>(),
        days => &statement.days,
        chart => chart(&statement.days),
    };
    let rendered = environment.template_from_named_str(name, template).and_then(|template| template.render(values));
    rendered.map_err(|failure| {
        let at = failure.line().map(|line| format!(", line {line}")).unwrap_or_default();
        let context = format!("render {name}{at}");
        Error { kind: Kind::FixInput, context, source: Some(Box::new(failure)) }
    })
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

fn mentions<'a>(lines: &[Shown<'a>]) -> Vec<&'a str> {
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
    environment.add_filter("quantity", move |amount: i64, unit: &str| -> Result<String, Failure> {
        quantity(amount, unit, &marks).ok_or_else(|| refused(format!("{unit:?} is no unit of Wh, W, s")))
    });
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

/// Wh as MWh, W as kW, seconds as hours: what people read.
pub(crate) fn quantity(amount: i64, unit: &str, marks: &Marks) -> Option<String> {
    let (decimal, unit) = match unit {
        "Wh" => (Decimal { digits: amount, scale: 6 }.shown(3, marks), "MWh"),
        "W" => (Decimal { digits: amount, scale: 3 }.shown(0, marks), "kW"),
        // Quarters of an hour.
        "s" => (Decimal { digits: amount.checked_mul(25)? / 900, scale: 2 }.shown(0, marks), "h"),
        _ => return None,
    };
    Some(format!("{decimal}\u{a0}{unit}"))
}
