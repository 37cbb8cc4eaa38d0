//! The encodings of text files. Bytes that are not valid in the encoding are reported, never silently replaced.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use encoding_rs::WINDOWS_1252;
use encoding_rs_io::DecodeReaderBytesBuilder;

use super::cell::Cell;
use crate::error::ErrorContext;
use crate::layout::Encoding;
use crate::{Kind, Result};

const PIECE_BYTES: usize = 256 << 10;

/// The beginning of a text, for those who only look at it: invalid bytes become replacement characters.
pub fn decoded(file: File, encoding: Encoding, bytes_max: u64) -> Result<String> {
    let opened = open(file, encoding)?;
    let mut bytes = Vec::new();
    opened.bytes.take(bytes_max).read_to_end(&mut bytes).during(Kind::FixSetup, "read the file")?;
    Ok(match opened.encoding {
        TextEncoding::Utf8 => String::from_utf8_lossy(&bytes).into_owned(),
        TextEncoding::Windows1252 => WINDOWS_1252.decode_without_bom_handling(&bytes).0.into_owned(),
    })
}

/// How the bytes of a field are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextEncoding {
    /// As UTF-8; files in UTF-16 are converted to it first.
    Utf8,
    /// As Windows-1252.
    Windows1252,
}

/// A file whose line ends and separators are ASCII characters.
pub struct DecodedFile {
    /// The encoding of the fields.
    pub encoding: TextEncoding,
    /// The bytes without the byte order mark.
    pub bytes: Box<dyn Read>,
}

/// Opens a file in the encoding of its byte order mark, else in `encoding`.
pub fn open(mut file: File, encoding: Encoding) -> Result<DecodedFile> {
    let mut mark = Vec::with_capacity(3);
    (&mut file).take(3).read_to_end(&mut mark).during(Kind::FixSetup, "read the file")?;
    match mark.as_slice() {
        [0xef, 0xbb, 0xbf] => return Ok(DecodedFile { encoding: TextEncoding::Utf8, bytes: Box::new(file) }),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            rewind(&mut file)?;
            let decoded = DecodeReaderBytesBuilder::new().bom_override(true).build(file);
            return Ok(DecodedFile { encoding: TextEncoding::Utf8, bytes: Box::new(decoded) });
        }
        _ => rewind(&mut file)?,
    }
    let encoding = match encoding {
        Encoding::Utf8 => TextEncoding::Utf8,
        Encoding::Windows1252 => TextEncoding::Windows1252,
        Encoding::Auto => {
            let found = guess(&mut file)?;
            rewind(&mut file)?;
            found
        }
    };
    Ok(DecodedFile { encoding, bytes: Box::new(file) })
}

fn rewind(file: &mut File) -> Result<()> {
    file.seek(SeekFrom::Start(0)).during(Kind::FixSetup, "read the file").map(drop)
}

/// UTF-8 or Windows-1252. A file with letters in UTF-8 and with invalid bytes counts as damaged UTF-8: read as
/// Windows-1252 it would give other letters.
fn guess(file: &mut File) -> Result<TextEncoding> {
    let mut piece = vec![0; PIECE_BYTES];
    let (mut held, mut is_damaged, mut has_letters) = (0, false, false);
    loop {
        let read = file.read(&mut piece[held..]).during(Kind::FixSetup, "read the file")?;
        let mut rest = &piece[..held + read];
        let mut open = 0;
        while !rest.is_empty() {
            let (valid, bad) = match std::str::from_utf8(rest) {
                Ok(text) => (text.len(), 0),
                Err(error) => match error.error_len() {
                    Some(bad) => (error.valid_up_to(), bad),
                    // A character that is incomplete at the end of the piece, or of the file.
                    None => {
                        open = rest.len() - error.valid_up_to();
                        (error.valid_up_to(), 0)
                    }
                },
            };
            has_letters |= !rest[..valid].is_ascii();
            is_damaged |= bad > 0;
            rest = if open > 0 { &[] } else { &rest[valid + bad..] };
        }
        let end = held + read;
        piece.copy_within(end - open..end, 0);
        held = open;
        if read == 0 {
            is_damaged |= open > 0;
            return Ok(if is_damaged && !has_letters { TextEncoding::Windows1252 } else { TextEncoding::Utf8 });
        }
    }
}

impl TextEncoding {
    /// Decodes a field.
    pub fn cell<'a>(self, bytes: &'a [u8]) -> Cell<'a> {
        if bytes.is_empty() {
            return Cell::Empty;
        }
        let undecodable = || Cell::Undecodable(String::from_utf8_lossy(bytes).into_owned());
        match self {
            TextEncoding::Utf8 => match std::str::from_utf8(bytes) {
                // The mark of bytes that are not valid UTF-16.
                Ok(text) if text.contains('\u{fffd}') => undecodable(),
                Ok(text) => Cell::Text(text.into()),
                Err(_) => undecodable(),
            },
            TextEncoding::Windows1252 => {
                let (text, _) = WINDOWS_1252.decode_without_bom_handling(bytes);
                // Five bytes are not assigned in Windows-1252, and are decoded to control characters.
                if text.contains(|c| ('\u{80}'..='\u{9f}').contains(&c)) {
                    return undecodable();
                }
                Cell::Text(text)
            }
        }
    }

    /// The bytes of a text in the file's encoding.
    pub fn encode(self, text: &str) -> Vec<u8> {
        match self {
            TextEncoding::Utf8 => text.as_bytes().to_vec(),
            TextEncoding::Windows1252 => WINDOWS_1252.encode(text).0.into_owned(),
        }
    }
}
