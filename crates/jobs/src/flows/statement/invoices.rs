//! The e-invoices of a statement: of its content, the company that issues it, and the producer.

use anyhow::{Context, Result};
use bill::{Company, EInvoice, InvoiceTerms, Statement, einvoices};
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
        let Some(settings) = &self.config.invoice else { return Ok(Vec::new()) };
        let (company, producer) = match (is_draft, &settings.company) {
            (true, company) => (company.clone().unwrap_or_else(unknown), content.company.clone()),
            (false, Some(company)) => (company.clone(), content.company.clone().checked()?),
            (false, None) if statement.vat_cents() == 0 => return Ok(Vec::new()),
            (false, None) => return Err(self.company_missing().into()),
        };
        let terms = InvoiceTerms {
            company: &company,
            producer: &producer,
            replaced_on: last.map(|last| last.issued_at.with_timezone(&self.zone).date_naive()),
            due_days: settings.due_days,
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

/// What people are told where e-invoices can't be written yet.
pub(super) fn notice(settings: Option<&InvoiceSettings>) -> Option<&'static str> {
    let is_missing = settings.is_some_and(|settings| settings.company.is_none());
    is_missing.then_some("no e-invoices are written: fill in [invoice.company] of the statement")
}

fn unknown() -> Company {
    Company { name: UNKNOWN.to_owned(), siren: UNKNOWN.to_owned(), ..Company::default() }
}
