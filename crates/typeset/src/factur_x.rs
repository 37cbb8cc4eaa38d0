//! Marks a PDF/A-3 with an embedded `factur-x.xml` as Factur-X: its metadata name the file and the profile. The library
//! that writes the PDF has no way to add metadata of one's own (typst/typst#5667), so the metadata stream is replaced.
//!
//! Only the layout is understood that this library writes: one cross-reference table, an uncompressed stream of metadata.
//! Anything else is an error.

/// The description of the properties, which PDF/A-3 wants for a schema that is not one of its own (ISO 19005-3, 6.6.2.3).
const SCHEMA: &str = concat!(
    "<rdf:li rdf:parseType=\"Resource\">",
    "<pdfaSchema:schema>Factur-X PDFA Extension Schema</pdfaSchema:schema>",
    "<pdfaSchema:namespaceURI>urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#</pdfaSchema:namespaceURI>",
    "<pdfaSchema:prefix>fx</pdfaSchema:prefix>",
    "<pdfaSchema:property><rdf:Seq>",
    "<rdf:li rdf:parseType=\"Resource\"><pdfaProperty:name>DocumentFileName</pdfaProperty:name>",
    "<pdfaProperty:valueType>Text</pdfaProperty:valueType><pdfaProperty:category>external</pdfaProperty:category>",
    "<pdfaProperty:description>The name of the embedded XML document</pdfaProperty:description></rdf:li>",
    "<rdf:li rdf:parseType=\"Resource\"><pdfaProperty:name>DocumentType</pdfaProperty:name>",
    "<pdfaProperty:valueType>Text</pdfaProperty:valueType><pdfaProperty:category>external</pdfaProperty:category>",
    "<pdfaProperty:description>The type of the hybrid document</pdfaProperty:description></rdf:li>",
    "<rdf:li rdf:parseType=\"Resource\"><pdfaProperty:name>Version</pdfaProperty:name>",
    "<pdfaProperty:valueType>Text</pdfaProperty:valueType><pdfaProperty:category>external</pdfaProperty:category>",
    "<pdfaProperty:description>The version of the standard of the embedded XML document</pdfaProperty:description></rdf:li>",
    "<rdf:li rdf:parseType=\"Resource\"><pdfaProperty:name>ConformanceLevel</pdfaProperty:name>",
    "<pdfaProperty:valueType>Text</pdfaProperty:valueType><pdfaProperty:category>external</pdfaProperty:category>",
    "<pdfaProperty:description>The profile of the embedded XML document</pdfaProperty:description></rdf:li>",
    "</rdf:Seq></pdfaSchema:property></rdf:li>",
);

const PROPERTIES: &str = concat!(
    "<rdf:Description rdf:about=\"\" xmlns:fx=\"urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#\">",
    "<fx:DocumentType>INVOICE</fx:DocumentType>",
    "<fx:DocumentFileName>factur-x.xml</fx:DocumentFileName>",
    "<fx:Version>1.0</fx:Version>",
    "<fx:ConformanceLevel>EN 16931</fx:ConformanceLevel>",
    "</rdf:Description>",
);

/// The same document with the metadata of Factur-X.
///
/// # Errors
/// What of the file is not as expected.
pub(crate) fn marked(pdf: &[u8]) -> Result<Vec<u8>, String> {
    let expected = |what: &str| format!("mark a PDF as Factur-X: {what} is not as expected");
    let table = Table::read(pdf).ok_or_else(|| expected("the cross-reference table"))?;
    let stream = Metadata::find(pdf, &table).ok_or_else(|| expected("the stream of metadata"))?;
    let xmp = std::str::from_utf8(&pdf[stream.from..stream.to]).map_err(|_| expected("the text of metadata"))?;
    let xmp = extended(xmp).ok_or_else(|| expected("the content of metadata"))?;
    let length = xmp.len().to_string();

    let mut out = Vec::with_capacity(pdf.len() + xmp.len());
    out.extend_from_slice(&pdf[..stream.length.0]);
    out.extend_from_slice(length.as_bytes());
    out.extend_from_slice(&pdf[stream.length.1..stream.from]);
    out.extend_from_slice(xmp.as_bytes());
    out.extend_from_slice(&pdf[stream.to..table.at]);
    // All that is behind the stream has moved; objects before it have not.
    let moved = (length.len() + xmp.len()) - (stream.length.1 - stream.length.0) - (stream.to - stream.from);
    let at = out.len();
    let mut tail = pdf[table.at..table.startxref].to_vec();
    for (entry, offset) in &table.entries {
        if *offset > stream.to {
            let written = format!("{:010}", offset + moved);
            tail[entry - table.at..entry - table.at + 10].copy_from_slice(written.as_bytes());
        }
    }
    out.extend_from_slice(&tail);
    out.extend_from_slice(format!("startxref\n{at}\n%%EOF").as_bytes());
    Ok(out)
}

fn extended(xmp: &str) -> Option<String> {
    // The schemas of one document are one bag, which the library has begun.
    let schemas = xmp.find("<pdfaExtension:schemas>")?;
    let bag = schemas + xmp[schemas..].find("<rdf:Bag>")? + "<rdf:Bag>".len();
    let end = bag + xmp[bag..].rfind("</rdf:RDF>")?;
    Some([&xmp[..bag], SCHEMA, &xmp[bag..end], PROPERTIES, &xmp[end..]].concat())
}

/// The cross-reference table.
struct Table {
    /// Where it begins.
    at: usize,
    /// Where the word `startxref` is.
    startxref: usize,
    /// The objects in use: where their entry is, and their offset.
    entries: Vec<(usize, usize)>,
}

impl Table {
    fn read(pdf: &[u8]) -> Option<Table> {
        let startxref = rfind(pdf, b"startxref")?;
        let at: usize = number(pdf, startxref + b"startxref".len())?.0;
        let rest = pdf.get(at..)?.strip_prefix(b"xref\n")?;
        let mut line_at = pdf.len() - rest.len();
        let (first, end) = number(pdf, line_at)?;
        let (count, end) = number(pdf, end)?;
        if first != 0 || *pdf.get(end)? != b'\n' {
            return None;
        }
        line_at = end + 1;
        let mut entries = Vec::with_capacity(count);
        for entry in (0..count).map(|entry| line_at + entry * 20) {
            let line = pdf.get(entry..entry + 20)?;
            let offset = std::str::from_utf8(&line[..10]).ok()?.parse().ok()?;
            if line[17] == b'n' {
                entries.push((entry, offset));
            }
        }
        pdf.get(line_at + count * 20..)?.starts_with(b"trailer").then_some(Table { at, startxref, entries })
    }
}

/// The stream of metadata.
struct Metadata {
    /// Where the digits of its length begin and end.
    length: (usize, usize),
    /// Where its text begins.
    from: usize,
    /// Where its text ends.
    to: usize,
}

impl Metadata {
    fn find(pdf: &[u8], table: &Table) -> Option<Metadata> {
        // The catalog names it; it is the last object that does.
        let catalog =
            rfind(&pdf[..table.at], b"/Type/Catalog").or_else(|| rfind(&pdf[..table.at], b"/Type /Catalog"))?;
        let name = catalog + find(&pdf[catalog..table.at], b"/Metadata ")?;
        let (number_of, _) = number(pdf, name + b"/Metadata ".len())?;
        let head = format!("{number_of} 0 obj");
        let (_, object) = *table.entries.iter().find(|(_, offset)| pdf[*offset..].starts_with(head.as_bytes()))?;
        let from = object + find(&pdf[object..], b"stream\n")? + b"stream\n".len();
        let dictionary = &pdf[object..from];
        if find(dictionary, b"/Filter").is_some() || find(dictionary, b"/Metadata").is_none() {
            return None;
        }
        let length = object + find(dictionary, b"/Length ")? + b"/Length ".len();
        let (size, length_end) = number(pdf, length)?;
        let to = from + size;
        pdf.get(to..)?.starts_with(b"\nendstream").then_some(Metadata { length: (length, length_end), from, to })
    }
}

/// The number at a place, after white space, and where it ends.
fn number(pdf: &[u8], at: usize) -> Option<(usize, usize)> {
    let start = at + pdf.get(at..)?.iter().position(|byte| !byte.is_ascii_whitespace())?;
    let digits = pdf[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    Some((std::str::from_utf8(&pdf[start..start + digits]).ok()?.parse().ok()?, start + digits))
}

fn find(within: &[u8], what: &[u8]) -> Option<usize> {
    within.windows(what.len()).position(|window| window == what)
}

fn rfind(within: &[u8], what: &[u8]) -> Option<usize> {
    within.windows(what.len()).rposition(|window| window == what)
}
