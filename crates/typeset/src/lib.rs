//! Typesets a page from a template in Typst's language as a PDF/A-3, and as Factur-X where an e-invoice is embedded.
//!
//! The template is the user's. It reads its values from `data.json`, and can use other files of its folder; it has no
//! network, no packages, no clock (today is the day of issue) and no fonts but the given ones. The same input gives the
//! same bytes. How long a template runs is not bounded: who writes it has the rights of the warehouse.

mod factur_x;
mod input;
mod world;

#[cfg(test)]
mod tests;

use base::{Error, Kind, Result};
use chrono::Datelike;
use typst::diag::SourceDiagnostic;
use typst::foundations::{Bytes, Datetime, Smart};
use typst::text::Font;
use typst_layout::PagedDocument;
use typst_pdf::{PdfOptions, PdfStandard, PdfStandards, Timestamp};

pub use crate::input::Input;
use crate::input::{Diagnostic, plain};
pub use crate::world::Fonts;
use crate::world::Page;

/// How many problems of a template a message has.
const PROBLEMS_SHOWN: usize = 5;

/// A page that was typeset.
#[derive(Clone, Debug)]
pub struct Pdf {
    /// The file.
    pub bytes: Vec<u8>,
    /// How many pages it has.
    pub pages: usize,
    /// What is not an error, such as a picture without a text for those who can't see it.
    pub warnings: Vec<String>,
}

/// Typesets a page.
///
/// # Errors
/// `FixInput` with what is wrong in the template, and where.
pub fn pdf(fonts: &Fonts, input: &Input<'_>) -> Result<Pdf> {
    let made = make(fonts, input);
    // What typst remembers is global, and grows with each page. Two pages share little: it is faster without.
    typst::comemo::evict(0);
    made.map_err(|problems| {
        let shown: Vec<String> = problems.iter().take(PROBLEMS_SHOWN).map(ToString::to_string).collect();
        Error::new(Kind::FixInput, format!("typeset {}: {}", input.name, shown.join("; ")))
    })
}

fn make(fonts: &Fonts, input: &Input<'_>) -> std::result::Result<Pdf, Vec<Diagnostic>> {
    let day = input.issued;
    let today = u8::try_from(day.month()).ok().zip(u8::try_from(day.day()).ok());
    let today = today.and_then(|(month, of_month)| Datetime::from_ymd_hms(day.year(), month, of_month, 0, 0, 0));
    let today = today.ok_or_else(|| vec![plain(format!("{day} is not a date of a document"))])?;
    let world = Page::new(fonts, input, today)?;
    let compiled = typst::compile::<PagedDocument>(&world);
    let placed = |all: &[SourceDiagnostic]| -> Vec<Diagnostic> { all.iter().map(|one| world.placed(one)).collect() };
    let document = compiled.output.map_err(|errors| placed(&errors))?;
    let mut warnings = placed(&compiled.warnings);
    // Text that no font has would be left out in silence.
    let is_missing_font = |warning: &Diagnostic| warning.message.starts_with("unknown font family");
    let no_font: Vec<Diagnostic> = warnings.iter().filter(|warning| is_missing_font(warning)).cloned().collect();
    if !no_font.is_empty() {
        return Err(no_font);
    }
    let options = |standards: &[PdfStandard]| -> std::result::Result<PdfOptions, Vec<Diagnostic>> {
        Ok(PdfOptions {
            // Only a hash of it is written: the same content has the same identifier.
            ident: Smart::Custom(world.identity()),
            creator: Smart::Custom(Some("Wattlake".to_owned())),
            timestamp: Some(Timestamp::new_utc(today)),
            standards: PdfStandards::new(standards).map_err(|error| vec![plain(error.message().to_string())])?,
            ..PdfOptions::default()
        })
    };
    // Level B, since some readers of Factur-X take level A for no PDF/A-3 at all. PDF/UA is declared where the template
    // has all that a screen reader needs, such as the text of a picture.
    let accessible = options(&[PdfStandard::A_3b, PdfStandard::Ua_1])?;
    let mut bytes = match typst_pdf::pdf(&document, &accessible) {
        Ok(bytes) => bytes,
        Err(lacking) => {
            warnings.extend(placed(&lacking));
            let options = options(&[PdfStandard::A_3b])?;
            typst_pdf::pdf(&document, &options).map_err(|errors| placed(&errors))?
        }
    };
    if input.invoice.is_some() {
        bytes = factur_x::marked(&bytes).map_err(|what| vec![plain(what)])?;
    }
    let warnings = warnings.iter().map(ToString::to_string).collect();
    Ok(Pdf { bytes, pages: document.pages().len(), warnings })
}

impl Fonts {
    /// IBM Plex Sans, then the fonts of these files, of which each may hold several.
    pub fn new(files: impl IntoIterator<Item = Vec<u8>>) -> Fonts {
        let own = [
            include_bytes!("../fonts/IBMPlexSans-Regular.ttf").as_slice(),
            include_bytes!("../fonts/IBMPlexSans-SemiBold.ttf").as_slice(),
        ];
        let own = own.into_iter().map(<[u8]>::to_vec);
        Fonts::of(own.chain(files).flat_map(|file| Font::iter(Bytes::new(file)).collect::<Vec<_>>()))
    }
}
