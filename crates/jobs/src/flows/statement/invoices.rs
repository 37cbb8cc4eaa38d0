//! The e-invoices of a statement: of its content, the company that issues it, and the producer.

use std::io::Read;

use anyhow::{Context, Result};
use bill::{Company, EInvoice, InvoiceTerms, Statement, Syntax, cancelled, einvoices, is_siret};
use config::flow::InvoiceSettings;

use super::content::Content;
use super::{Entry, StatementRun};

/// What stands in a draft for a company that is not filled in.
const UNKNOWN: &str = "?";

impl StatementRun<'_> {
    /// The e-invoices of a statement. There are none where the statement has no `[invoice]`, or where no company is filled
    /// in and no VAT is charged.
    ///
    /// # Errors
    /// VAT is charged and no company is filled in, a number of a company is not valid, or a document breaks a rule.
    pub(super) fn invoices(
        &self,
        statement: &Statement,
        content: &Content,
        last: Option<&Entry>,
        is_draft: bool,
    ) -> Result<Vec<EInvoice>> {
        let Some(settings) = self.config.invoice.as_ref().filter(|_| !content.lines.is_empty()) else {
            return Ok(Vec::new());
        };
        let (company, producer) = match (is_draft, &settings.company) {
            (true, company) => (company.clone().unwrap_or_else(unknown), content.company.clone()),
            (false, Some(company)) => (company.clone(), identified(content)?),
            (false, None) if statement.vat_cents() == 0 => return Ok(Vec::new()),
            (false, None) => return Err(self.company_missing().into()),
        };
        let terms = InvoiceTerms {
            company: &company,
            producer: &producer,
            replaced_on: last
                .filter(|last| last.has_einvoices())
                .map(|last| last.issued_at.with_timezone(&self.zone).date_naive()),
            due_on: self.due_on(self.issued_on()),
        };
        let all = einvoices(&self.config.labels, statement, &terms, &settings.syntaxes);
        all.with_context(|| format!("write the e-invoices of {}", content.producer_id))
    }

    fn company_missing(&self) -> base::Error {
        let file = self.config.file.file_name().unwrap_or_default().to_string_lossy();
        let error = base::Error::setup("an invoice that charges VAT names who issues it");
        error.hint(format!("fill in name and siren of [invoice.company] in statements/{file}"))
    }
}

impl StatementRun<'_> {
    /// The e-invoices of a statement that is issued, and those that cancel what is left of the one before.
    pub(super) async fn all_invoices(
        &self,
        statement: &Statement,
        content: &Content,
        last: Option<&Entry>,
    ) -> Result<Vec<EInvoice>> {
        let mut all = self.invoices(statement, content, last, false)?;
        let cancellations = self.cancellations(last, &self.number(content), &all).await?;
        all.extend(cancellations);
        Ok(all)
    }

    /// E-invoices of zero in place of those of the statement before that have none among `now`: of them nothing is left.
    pub(super) async fn cancellations(
        &self,
        last: Option<&Entry>,
        number: &str,
        now: &[EInvoice],
    ) -> Result<Vec<EInvoice>> {
        let Some(last) = last else { return Ok(Vec::new()) };
        let day = |at: chrono::DateTime<chrono::Utc>| at.with_timezone(&self.zone).date_naive();
        let days = (day(self.moment.as_of), day(last.issued_at));
        let mut all = Vec::new();
        for earlier in &last.invoices {
            let syntax =
                [Syntax::Cii, Syntax::Ubl].into_iter().find(|syntax| earlier.name.ends_with(&extension(*syntax)));
            let Some(syntax) = syntax else { continue };
            let name = earlier.name.strip_suffix(&extension(syntax)).unwrap_or(&earlier.name);
            let part = name.strip_prefix(last.number.as_str()).unwrap_or(name);
            let number = format!("{number}{part}");
            if now.iter().any(|one| one.number == number) {
                continue;
            }
            let mut xml = Vec::new();
            self.objects.get(&earlier.sha256.parse()?).await?.read_to_end(&mut xml).context("read an e-invoice")?;
            all.push(cancelled(&self.config.labels, &xml, &number, days, syntax)?);
        }
        Ok(all)
    }

    /// Whether a statement that was issued lacks its e-invoices, which can be written now.
    pub(super) fn lacks_invoices(&self, content: &Content, last: &Entry) -> bool {
        let can_write = self.config.invoice.as_ref().is_some_and(|settings| settings.company.is_some());
        can_write && !last.has_einvoices() && !content.lines.is_empty()
    }
}

fn extension(syntax: Syntax) -> String {
    format!(".{}.xml", syntax.as_str())
}

/// The producer on an invoice.
fn identified(content: &Content) -> Result<Company> {
    let siret = content.siret.as_deref().unwrap_or_default();
    if !is_siret(siret) {
        let error = base::Error::input(format!("{siret:?} is not a SIRET number"));
        return Err(error
            .hint("correct the column \"siret\" of the statement's lines; the example has it from the contracts")
            .into());
    }
    Ok(content.company.clone().checked()?)
}

/// What people are told where e-invoices can't be written yet.
pub(super) fn notice(settings: Option<&InvoiceSettings>) -> Option<&'static str> {
    let is_missing = settings.is_some_and(|settings| settings.company.is_none());
    is_missing.then_some("no e-invoices are written: fill in [invoice.company] of the statement")
}

fn unknown() -> Company {
    Company { name: UNKNOWN.to_owned(), siren: UNKNOWN.to_owned(), ..Company::default() }
}
