//! In what a text file is written. Bytes that are no text are never replaced without a word.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use encoding_rs::WINDOWS_1252;
use encoding_rs_io::DecodeReaderBytesBuilder;

use super::cell::Cell;
use crate::error::During;
use crate::layout::Encoding;
use crate::{Kind, Result};

const PIECE_BYTES: usize = 256 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    Utf8,
    Windows1252,
}

/// A file whose lines and separators are ASCII, after its byte order mark.
pub struct Opened {
    pub text: Text,
    pub bytes: Box<dyn Read>,
}

pub fn open(mut file: File, encoding: Encoding) -> Result<Opened> {
    let mut mark = Vec::with_capacity(3);
    (&mut file).take(3).read_to_end(&mut mark).during(Kind::FixSetup, "read the file")?;
    match mark.as_slice() {
        [0xef, 0xbb, 0xbf] => return Ok(Opened { text: Text::Utf8, bytes: Box::new(file) }),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            rewind(&mut file)?;
            let decoded = DecodeReaderBytesBuilder::new().bom_override(true).build(file);
            return Ok(Opened { text: Text::Utf8, bytes: Box::new(decoded) });
        }
        _ => rewind(&mut file)?,
    }
    let text = match encoding {
        Encoding::Utf8 => Text::Utf8,
        Encoding::Windows1252 => Text::Windows1252,
        Encoding::Auto => {
            let found = guess(&mut file)?;
            rewind(&mut file)?;
            found
        }
    };
    Ok(Opened { text, bytes: Box::new(file) })
}

fn rewind(file: &mut File) -> Result<()> {
    file.seek(SeekFrom::Start(0)).during(Kind::FixSetup, "read the file").map(drop)
}

/// A file with some letters that are UTF-8 and some bytes that are not is a damaged one of UTF-8: taken
/// for Windows-1252 it would give letters that nobody wrote.
fn guess(file: &mut File) -> Result<Text> {
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
                    // Cut off by the end of the piece, or of the file.
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
            return Ok(if is_damaged && !has_letters { Text::Windows1252 } else { Text::Utf8 });
        }
    }
}

impl Text {
    pub fn cell<'a>(self, bytes: &'a [u8]) -> Cell<'a> {
        if bytes.is_empty() {
            return Cell::Empty;
        }
        let undecodable = || Cell::Undecodable(String::from_utf8_lossy(bytes).into_owned());
        match self {
            Text::Utf8 => match std::str::from_utf8(bytes) {
                // What UTF-16 could not be read as.
                Ok(text) if text.contains('\u{fffd}') => undecodable(),
                Ok(text) => Cell::Text(text.into()),
                Err(_) => undecodable(),
            },
            Text::Windows1252 => {
                let (text, _) = WINDOWS_1252.decode_without_bom_handling(bytes);
                // Five bytes have no letter.
                if text.contains(|c| ('\u{80}'..='\u{9f}').contains(&c)) {
                    return undecodable();
                }
                Cell::Text(text)
            }
        }
    }

    /// How the file writes a text of the layout.
    pub fn encoded(self, text: &str) -> Vec<u8> {
        match self {
            Text::Utf8 => text.as_bytes().to_vec(),
            Text::Windows1252 => WINDOWS_1252.encode(text).0.into_owned(),
        }
    }
}
