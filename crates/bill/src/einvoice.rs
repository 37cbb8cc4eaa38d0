//! E-invoices of a statement by EN 16931, in the syntaxes UBL 2.1 and CII.
//!
//! The producer sells, and the company of the statement buys and issues the invoice in the producer's name: a self-billed
//! invoice (type 389; 471 where it replaces another one). Lines outside the scope of VAT may not stand beside others
//! (BR-O-11), so the complement of remuneration is on a document of its own. Fees with a VAT of their own are what the
//! company sells to the producer: an invoice of type 380.

use chrono::{Datelike, NaiveDate};
use en16931::invoice::{
    Code, InvoiceBuilder, Party, PaymentInstructions, Period, PostalAddress, PrecedingInvoice, PriceDetails,
};
use en16931::prelude::{Invoice, InvoiceLine, Validated};
use en16931::profiles::En16931;
use en16931::reconcile::Reconciler;
use en16931::{Date, DocumentReference, Identifier, InvoiceAmount, InvoiceNote, Percentage, Quantity, UnitPriceAmount};
use en16931_formats::{Syntax as XmlSyntax, write, write_unchecked};
use rust_decimal::{Decimal, RoundingStrategy};

use crate::company::Company;
use crate::content::Statement;
use crate::labels::Labels;
use crate::line::ParsedLine;
use crate::number::parse_decimal;
use crate::part::{Nature, Part};
use crate::{Error, Kind, Result};

const SPECIFICATION: &str = "urn:cen.eu:en16931:2017";
/// The scheme of SIREN numbers among legal identifiers.
const SIREN_SCHEME: &str = "0002";
/// The scheme of electronic addresses of the French directory.
const ADDRESS_SCHEME: &str = "0225";
/// Decimals of a price: French platforms take no more.
const PRICE_DECIMALS: u32 = 6;

/// How an e-invoice is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// UN/CEFACT Cross Industry Invoice.
    Cii,
    /// Universal Business Language 2.1.
    Ubl,
}

impl Syntax {
    /// The word for it in names of files.
    pub fn as_str(self) -> &'static str {
        match self {
            Syntax::Cii => "cii",
            Syntax::Ubl => "ubl",
        }
    }
}

/// An e-invoice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EInvoice {
    /// Its number.
    pub number: String,
    /// How it is written.
    pub syntax: Syntax,
    /// Its XML.
    pub xml: String,
}

/// The parties and terms of the e-invoices of a statement.
#[derive(Clone, Debug)]
pub struct InvoiceTerms<'a> {
    /// The company that buys, and issues the invoices.
    pub company: &'a Company,
    /// The producer.
    pub producer: &'a Company,
    /// When the e-invoice that this one replaces was issued; `None` where there is none.
    pub replaced_on: Option<NaiveDate>,
    /// When they are due.
    pub due_on: NaiveDate,
}

/// An e-invoice of zero in place of an earlier one, of which nothing is left: a part of a statement that has no lines any more.
///
/// # Errors
/// `FixInput` where the earlier one can't be read, or the new one does not meet the rules of EN 16931.
pub fn cancelled(
    labels: &Labels,
    earlier: &[u8],
    number: &str,
    (issued_on, replaced_on): (NaiveDate, NaiveDate),
    syntax: Syntax,
) -> Result<EInvoice> {
    let failed = |what: String| Error::new(Kind::FixInput, format!("cancel by the e-invoice {number}: {what}"));
    let read = en16931_formats::read(earlier).map_err(|error| failed(error.to_string()))?;
    let mut invoice = read.invoice;
    let replaced = invoice.number.replace(number.to_owned()).unwrap_or_default();
    let is_fees = matches!(invoice.type_code.as_ref().map(Code::as_str), Some("380" | "384"));
    invoice.type_code = Some(Code::new(if is_fees { "384" } else { "471" }));
    (invoice.issue_date, invoice.due_date) = (Some(date(issued_on)?), Some(date(issued_on)?));
    let reference = DocumentReference::new(replaced);
    invoice.preceding_invoices = vec![PrecedingInvoice { reference, issue_date: Some(date(replaced_on)?) }];
    let vat = invoice.lines.first().map(|line| line.vat.clone()).unwrap_or_default();
    let name = labels.label("text", "cancelled")?;
    let mut line =
        InvoiceLine::new("1", name, Quantity::new(Decimal::ONE), "C62", InvoiceAmount::from_minor_units(0), "O", None);
    line.vat = vat;
    invoice.lines = vec![line];
    invoice.vat_breakdown.clear();
    exemptions(labels)?.apply(&mut invoice).map_err(|error| failed(error.to_string()))?;
    let xml = written(&invoice, syntax, false).map_err(failed)?;
    Ok(EInvoice { number: number.to_owned(), syntax, xml })
}

/// Why no VAT is charged, by category.
fn exemptions(labels: &Labels) -> Result<Reconciler> {
    Ok(Reconciler::new()
        .exemption("AE", Some(labels.label("vat", "reverse_charge")?), Some("VATEX-EU-AE"))
        .exemption("E", Some(labels.label("vat", "exempt")?), Some("VATEX-FR-FRANCHISE"))
        .exemption("O", Some(labels.label("vat", "none")?), Some("VATEX-EU-O")))
}

/// The XML of an invoice; of a draft, the rules are not checked.
fn written(invoice: &Invoice, syntax: Syntax, is_draft: bool) -> Result<String, String> {
    let to = match syntax {
        Syntax::Cii => XmlSyntax::Cii,
        Syntax::Ubl => XmlSyntax::Ubl,
    };
    let written = if is_draft {
        write_unchecked(invoice, to).map_err(|error| error.to_string())?
    } else {
        write(&Validated::<En16931>::new(invoice.clone()).map_err(|error| error.to_string())?, to)
    };
    match written.entries.iter().find(|entry| entry.is_loss() && !is_draft) {
        Some(loss) => Err(format!("{} can't be written as {}", loss.path, syntax.as_str())),
        None => Ok(written.xml),
    }
}

/// The e-invoices of a statement: a document for each part of it that has lines, in each syntax.
///
/// # Errors
/// `FixInput` where a document does not meet the rules of EN 16931; of drafts, the rules are not checked.
pub fn einvoices(
    labels: &Labels,
    statement: &Statement,
    terms: &InvoiceTerms<'_>,
    syntaxes: &[Syntax],
) -> Result<Vec<EInvoice>> {
    let mut all = Vec::new();
    for part in Part::ALL {
        let lines = part.lines(&statement.lines);
        if lines.is_empty() {
            continue;
        }
        let document = Document { labels, statement, terms, part };
        let invoice = document.invoice(&lines)?;
        let number = document.number();
        let failed = |what: String| Error::new(Kind::FixInput, format!("write the e-invoice {number}: {what}"));
        for syntax in syntaxes {
            let xml = written(&invoice, *syntax, statement.head.is_draft).map_err(failed)?;
            all.push(EInvoice { number: number.clone(), syntax: *syntax, xml });
        }
    }
    Ok(all)
}

/// One document of a statement.
struct Document<'a> {
    labels: &'a Labels,
    statement: &'a Statement,
    terms: &'a InvoiceTerms<'a>,
    part: Part,
}

impl Document<'_> {
    /// The statement's number, with a mark where the document is not the only one.
    fn number(&self) -> String {
        self.part.number(&self.statement.head.number)
    }

    fn invoice(&self, lines: &[&ParsedLine]) -> Result<Invoice> {
        let head = &self.statement.head;
        let is_fees = self.part == Part::Fees;
        let (seller, buyer) = match is_fees {
            true => (self.terms.company, self.terms.producer),
            false => (self.terms.producer, self.terms.company),
        };
        let replaced = head.replaces.as_ref().zip(self.terms.replaced_on);
        let type_code = match (is_fees, replaced) {
            (true, None) => "380",
            (true, Some(_)) => "384",
            (false, None) => "389",
            (false, Some(_)) => "471",
        };
        let period = Period { start: Some(date(self.statement.month)?), end: Some(date(self.statement.last_day())?) };
        let mut builder = Invoice::builder(SPECIFICATION, self.number(), date(head.issued_on)?, type_code, "EUR")
            .business_process(Nature::of(self.part, lines).process())
            .seller(Party { additional_legal_information: seller.legal.clone(), ..self.party(seller) })
            .buyer(self.party(buyer))
            .due_date(date(self.terms.due_on)?)
            .invoicing_period(period);
        if let Some(iban) = &seller.iban {
            builder = builder.payment(PaymentInstructions::sepa_credit_transfer(iban.replace(' ', ""), None));
        }
        builder = self.with_notes(builder, is_fees)?;
        for (at, line) in lines.iter().enumerate() {
            builder = builder.line(self.line(at + 1, line)?);
        }
        let reasons = exemptions(self.labels)?;
        let mut invoice = builder.build_reconciled_with(&reasons).map_err(|error| {
            Error::new(Kind::FixInput, format!("sum up the e-invoice {}", self.number())).because(error)
        })?;
        if let Some((before, issued_on)) = replaced {
            let reference = DocumentReference::new(self.part.number(&before.number));
            invoice.preceding_invoices.push(PrecedingInvoice { reference, issue_date: Some(date(issued_on)?) });
        }
        Ok(invoice)
    }

    /// Mentions that the law asks for, by the codes of the French rules.
    fn with_notes(&self, mut builder: InvoiceBuilder, is_fees: bool) -> Result<InvoiceBuilder> {
        if self.statement.head.is_draft {
            builder = builder.note(InvoiceNote::new(self.labels.label("text", "draft")?));
        }
        let mentions = [("PMT", "recovery_fee"), ("PMD", "late_payment"), ("AAB", "no_discount")];
        for (code, label) in mentions {
            builder = builder.note(InvoiceNote::new(self.labels.label("text", label)?).with_subject(code));
        }
        if !is_fees {
            builder = builder.note(InvoiceNote::new(self.labels.label("text", "self_billing")?).with_subject("AAI"));
        }
        Ok(builder)
    }

    fn party(&self, company: &Company) -> Party {
        let address = PostalAddress {
            line1: company.address.clone(),
            city: company.city.clone(),
            post_code: company.postcode.clone(),
            country: Some(Code::new("FR")),
            ..PostalAddress::default()
        };
        let mut party = Party::new(company.name.clone(), address)
            .with_electronic_address(Identifier::schemed(company.siren.clone(), ADDRESS_SCHEME));
        party.legal_registration = Some(Identifier::schemed(company.siren.clone(), SIREN_SCHEME));
        // A document outside the scope of VAT names no VAT number (BR-O-02 to BR-O-04).
        if self.part != Part::OutOfScope {
            party.vat_identifier = company.vat_number.clone();
        }
        party
    }

    fn line(&self, number: usize, parsed: &ParsedLine) -> Result<InvoiceLine> {
        let line = &parsed.line;
        let cents = if self.part == Part::Fees { -parsed.cents } else { parsed.cents };
        let amount = Decimal::new(cents, 2);
        // A price is not negative (BR-27): the quantity has the sign of the amount.
        let (quantity, unit, price, base) = match (line.unit.as_str(), line.quantity) {
            ("Wh", wh) if wh != 0 => {
                let kwh = Decimal::new(wh.abs(), 3);
                let price = match parsed.price {
                    Some(price) => price.abs(),
                    None => rounded((amount.abs() * Decimal::from(1_000)).checked_div(kwh).unwrap_or_default()),
                };
                (kwh, "KWH", price, Some(Quantity::new(Decimal::from(1_000))))
            }
            _ => (Decimal::ONE, "C62", amount.abs(), None),
        };
        let quantity = if cents < 0 { -quantity } else { quantity };
        let (category, rate) = match line.vat.as_str() {
            "reverse_charge" => ("AE", Some(Percentage::new(Decimal::ZERO))),
            "exempt" => ("E", Some(Percentage::new(Decimal::ZERO))),
            "none" => ("O", None),
            _ => ("S", Some(Percentage::new(parse_decimal(&line.vat_rate_pct).unwrap_or_default().normalize()))),
        };
        let name = self.labels.label("rule", &line.rule)?;
        let base_quantity_code = base.map(|_| Code::new(unit));
        let details = PriceDetails {
            net_price: UnitPriceAmount::new(price),
            base_quantity: base,
            base_quantity_code,
            ..PriceDetails::default()
        };
        let invoice_line = InvoiceLine::new(
            number.to_string(),
            name,
            Quantity::new(quantity),
            unit,
            InvoiceAmount::from_minor_units(cents),
            category,
            rate,
        );
        let contract = self.labels.label("text", "contract")?;
        let point = self.labels.label("text", "prm")?;
        let mut note = format!("{contract} {}, {point} {}", line.contract_id, line.prm);
        if parsed.price.is_none() && line.unit == "Wh" {
            note.push_str(&format!(" ({})", self.labels.label("text", "mean_price")?));
        } else if line.unit != "Wh"
            && let Some(price) = &line.price
        {
            let unit = line.price_unit.as_deref().map(|unit| self.labels.label("unit", unit)).transpose()?;
            note.push_str(&format!(" ({} {} x {price} {})", line.quantity, line.unit, unit.unwrap_or_default()));
        }
        Ok(invoice_line.with_price(details).with_note(note))
    }
}

fn rounded(price: Decimal) -> Decimal {
    price.round_dp_with_strategy(PRICE_DECIMALS, RoundingStrategy::MidpointAwayFromZero)
}

fn date(day: NaiveDate) -> Result<Date> {
    let parts = (day.year(), u8::try_from(day.month()).unwrap_or(1), u8::try_from(day.day()).unwrap_or(1));
    Date::new(parts.0, parts.1, parts.2)
        .map_err(|error| Error::new(Kind::FixInput, format!("write the date {day}")).because(error))
}
