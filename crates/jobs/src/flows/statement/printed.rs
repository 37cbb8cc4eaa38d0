//! The documents of a statement as PDF, each with its e-invoice in it where there is one: then it is a Factur-X.

use std::path::Path;

use anyhow::{Context, Result};
use bill::{Company, EInvoice, PrintedTerms, Statement, Syntax, printed, printed_cancellation};
use chrono::{Days, NaiveDate};
use config::flow::DUE_DAYS;
use typeset::{Fonts, Input};

use super::StatementRun;
use super::content::Content;

/// The folder beside the template whose fonts it can use.
const FONTS: &str = "fonts";

/// A PDF of a statement.
pub(super) struct PrintedFile {
    pub name: String,
    pub bytes: Vec<u8>,
}

impl StatementRun<'_> {
    /// The PDFs of a statement; none where it has no template for them.
    ///
    /// # Errors
    /// `FixInput` where the template has an error, with its line.
    pub(super) fn pdfs(
        &self,
        statement: &Statement,
        content: &Content,
        issued_on: NaiveDate,
        invoices: &[EInvoice],
    ) -> Result<Vec<PrintedFile>> {
        let Some(template) = &self.config.pdf else { return Ok(Vec::new()) };
        let company = self.config.invoice.as_ref().and_then(|invoice| invoice.company.clone());
        let company = company.unwrap_or_else(|| Company {
            name: self.config.labels.issuer().first().cloned().unwrap_or_default(),
            ..Company::default()
        });
        // With the VAT number that e-invoices compute.
        let producer = content.company.clone();
        let producer = producer.clone().checked().unwrap_or(producer);
        let mut producer = Company { name: content.producer.clone(), ..producer };
        if producer.siren.is_empty() {
            producer.siren = content.siret.as_deref().map(|siret| siret.chars().take(9).collect()).unwrap_or_default();
        }
        let terms = PrintedTerms {
            company: &company,
            producer: &producer,
            due_on: self.due_on(issued_on),
            by_part: !invoices.is_empty(),
        };
        let folder = template.file.parent().unwrap_or(Path::new("."));
        let name = template.file.file_name().unwrap_or_default().to_string_lossy();
        let fonts = fonts(&folder.join(FONTS))?;
        let mut files = Vec::new();
        let labels = &self.config.labels;
        let mut documents = printed(labels, statement, &terms)?;
        for number in invoices.iter().map(|one| &one.number) {
            if documents.iter().all(|document| document.number != *number) {
                documents.push(printed_cancellation(labels, statement, &terms, number)?);
            }
        }
        for document in documents {
            let of_it = |one: &&EInvoice| one.number == document.number && one.syntax == Syntax::Cii;
            let invoice = invoices.iter().find(of_it).map(|one| one.xml.as_bytes());
            let input = Input {
                name: &name,
                template: &template.text,
                folder: Some(folder),
                data: &document.values,
                invoice,
                issued: issued_on,
            };
            let made = typeset::pdf(&fonts, &input).map_err(|error| {
                let hint = match base::chain(&error).contains("font") {
                    true => format!("put a font that has these letters into {}", folder.join(FONTS).display()),
                    false => format!("texts that it lacks belong into {}", self.config.labels_file.display()),
                };
                error.hint(hint)
            });
            let made = made.with_context(|| format!("print {}", document.number))?;
            for warning in &made.warnings {
                tracing::debug!(number = document.number, warning, "typeset");
            }
            files.push(PrintedFile { name: format!("{}.pdf", document.number), bytes: made.bytes });
        }
        Ok(files)
    }

    /// When a statement of this day is due.
    pub(super) fn due_on(&self, issued_on: NaiveDate) -> NaiveDate {
        let days = self.config.invoice.as_ref().map_or(DUE_DAYS, |invoice| invoice.due_days);
        issued_on.checked_add_days(Days::new(days.into())).unwrap_or(issued_on)
    }
}

/// The fonts of a folder, which need not exist.
fn fonts(folder: &Path) -> Result<Fonts> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(Fonts::new([])) };
    let is_font = |path: &Path| {
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        ["ttf", "otf", "ttc"].iter().any(|one| extension == *one)
    };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| is_font(path)).collect();
    paths.sort();
    let read =
        |path: &std::path::PathBuf| std::fs::read(path).with_context(|| format!("read the font {}", path.display()));
    Ok(Fonts::new(paths.iter().map(read).collect::<Result<Vec<_>>>()?))
}
