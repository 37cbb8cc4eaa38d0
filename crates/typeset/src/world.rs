//! What a template can see.

use std::io::Read;
use std::path::{Component, Path};

use typst::diag::{FileError, FileResult, SourceDiagnostic};
use typst::foundations::{Bytes, Datetime, Duration};
use typst::syntax::{FileId, RootedPath, Source, VirtualPath, VirtualRoot};
use typst::text::{Font, FontBook, FontFamily, FontList, TextElem};
use typst::utils::LazyHash;
use typst::{Library, LibraryExt, World, WorldExt};

use crate::input::{Diagnostic, Input, plain};

/// The largest file that a template may read.
const LARGEST: u64 = 8 << 20;
/// The file of the values.
const DATA: &str = "data.json";
/// The name that Factur-X gives to the e-invoice.
const INVOICE: &str = "factur-x.xml";
/// Our own main file, so that the e-invoice is embedded whatever the template says.
const MAIN: &str = "__main.typ";

/// The fonts that templates can use, and no others.
#[derive(Debug)]
pub struct Fonts {
    book: LazyHash<FontBook>,
    fonts: Vec<Font>,
    /// Nothing else in it depends on a page: one for all of them, whose hash is computed once.
    library: LazyHash<Library>,
}

impl Fonts {
    /// Of these fonts, the first of which is the default.
    pub(crate) fn of(fonts: impl Iterator<Item = Font>) -> Fonts {
        let fonts: Vec<Font> = fonts.collect();
        let mut library = Library::default();
        // Without a font that is there, text that no font has is left out without a word.
        if let Some(first) = fonts.first() {
            library.styles.set(TextElem::font, FontList(vec![FontFamily::new(&first.info().family)]));
        }
        Fonts { book: LazyHash::new(FontBook::from_fonts(&fonts)), fonts, library: LazyHash::new(library) }
    }
}

/// A folder that is read, and nothing above it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Folder<'a>(&'a Path);

impl Folder<'_> {
    fn read(self, id: FileId) -> FileResult<Vec<u8>> {
        let path = id.get().vpath().get_without_slash();
        let refused = |what: &str| FileError::Other(Some(format!("{path} {what}").into()));
        if matches!(id.get().vpath().extension(), Some("wasm")) {
            return Err(refused("is a program, which templates may not run"));
        }
        let relative = Path::new(path);
        if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(FileError::AccessDenied);
        }
        let full = self.0.join(relative);
        // A link may lead out of the folder.
        let inside = |full: &Path| Some(full.canonicalize().ok()?.starts_with(self.0.canonicalize().ok()?));
        match inside(&full) {
            Some(true) => {}
            Some(false) => return Err(FileError::AccessDenied),
            None => return Err(FileError::NotFound(relative.to_owned())),
        }
        let read = |error| FileError::from_io(error, relative);
        let file = std::fs::File::open(&full).map_err(read)?;
        let about = file.metadata().map_err(read)?;
        if about.is_dir() {
            return Err(FileError::IsDirectory);
        }
        if !about.is_file() || about.len() > LARGEST {
            return Err(refused("is larger than 8 MB, or not a file"));
        }
        let mut bytes = Vec::new();
        file.take(LARGEST).read_to_end(&mut bytes).map_err(read)?;
        Ok(bytes)
    }
}

/// One page's inputs, as the compiler asks for them.
pub(crate) struct Page<'a> {
    fonts: &'a Fonts,
    folder: Option<Folder<'a>>,
    main: Source,
    template: Source,
    data_id: FileId,
    data: Bytes,
    invoice: Option<(FileId, Bytes)>,
    today: Datetime,
}

impl<'a> Page<'a> {
    /// The inputs of a page on this day.
    pub(crate) fn new(fonts: &'a Fonts, input: &Input<'a>, today: Datetime) -> Result<Page<'a>, Vec<Diagnostic>> {
        let template = id(input.name).filter(|_| ![MAIN, DATA, INVOICE].contains(&input.name));
        let template = template.ok_or_else(|| vec![plain(format!("{:?} can't be a template's name", input.name))])?;
        let fixed = |name: &str| id(name).ok_or_else(|| vec![plain(format!("{name} is not a name"))]);
        let mut main = format!("#include {:?}\n", input.name);
        if input.invoice.is_some() {
            main.push_str(&format!(
                "#pdf.attach(\"/{INVOICE}\", relationship: \"alternative\", mime-type: \"text/xml\", \
                 description: \"Factur-X\")\n"
            ));
        }
        let invoice = match input.invoice {
            Some(xml) => Some((fixed(INVOICE)?, Bytes::new(xml.to_vec()))),
            None => None,
        };
        Ok(Page {
            fonts,
            folder: input.folder.map(Folder),
            main: Source::new(fixed(MAIN)?, main),
            template: Source::new(template, input.template.to_owned()),
            data_id: fixed(DATA)?,
            data: Bytes::new(serde_json::to_vec(input.data).unwrap_or_default()),
            invoice,
            today,
        })
    }

    /// All that the page is made of, but files of the folder.
    pub(crate) fn identity(&self) -> String {
        let invoice = self.invoice.as_ref().map(|(_, xml)| String::from_utf8_lossy(xml)).unwrap_or_default();
        format!("{}\n{invoice}", String::from_utf8_lossy(&self.data))
    }

    /// A message of the compiler with its line.
    pub(crate) fn placed(&self, from: &SourceDiagnostic) -> Diagnostic {
        // Where the place is in none of the user's files, the first call that led there is.
        let ours = self.main.id();
        let spans = std::iter::once(from.span).chain(from.trace.iter().map(|call| call.span.into()));
        let place = spans.filter(|span| span.id().is_some_and(|id| id != ours)).find_map(|span| {
            let file = span.id()?;
            let range = self.range(span)?;
            let line = match self.source(file) {
                Ok(source) => source.lines().byte_to_line(range.start)?,
                Err(_) => self.file(file).ok()?.get(..range.start)?.iter().filter(|byte| **byte == b'\n').count(),
            };
            Some((file.get().vpath().get_without_slash().to_owned(), line + 1))
        });
        Diagnostic {
            place,
            message: from.message.to_string(),
            hints: from.hints.iter().map(|hint| hint.v.to_string()).collect(),
        }
    }
}

fn id(name: &str) -> Option<FileId> {
    Some(RootedPath::new(VirtualRoot::Project, VirtualPath::new(name).ok()?).intern())
}

impl World for Page<'_> {
    fn library(&self) -> &LazyHash<Library> {
        &self.fonts.library
    }

    fn book(&self) -> &LazyHash<FontBook> {
        &self.fonts.book
    }

    fn main(&self) -> FileId {
        self.main.id()
    }

    fn source(&self, id: FileId) -> FileResult<Source> {
        for own in [&self.main, &self.template] {
            if id == own.id() {
                return Ok(own.clone());
            }
        }
        if id.get().vpath().extension() != Some("typ") {
            return Err(FileError::NotSource);
        }
        let text = String::from_utf8(self.file(id)?.to_vec()).map_err(|_| FileError::InvalidUtf8)?;
        Ok(Source::new(id, text))
    }

    fn file(&self, id: FileId) -> FileResult<Bytes> {
        if let VirtualRoot::Package(package) = id.get().root() {
            return Err(FileError::Other(Some(
                format!("{package} is a package, and none can be loaded: put its files into the template's folder")
                    .into(),
            )));
        }
        if id == self.data_id {
            return Ok(self.data.clone());
        }
        if let Some((at, xml)) = &self.invoice
            && id == *at
        {
            return Ok(xml.clone());
        }
        if id == self.template.id() {
            return Ok(Bytes::from_string(self.template.text().to_owned()));
        }
        match self.folder {
            Some(folder) => folder.read(id).map(Bytes::new),
            None => Err(FileError::NotFound(id.get().vpath().get_without_slash().into())),
        }
    }

    fn font(&self, index: usize) -> Option<Font> {
        self.fonts.fonts.get(index).cloned()
    }

    fn today(&self, _offset: Option<Duration>) -> Option<Datetime> {
        Some(self.today)
    }
}
