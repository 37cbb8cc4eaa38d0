//! Errors that a server sends on a connection of [`super::wire`].

use crate::error::{Error, Kind};

/// An ErrorResponse: severity, code, message, detail and hint, each a byte and a C string.
pub fn server_error(body: &[u8]) -> Error {
    let (mut code, mut text, mut hint) = (String::new(), String::new(), None);
    for field in body.split(|b| *b == 0).filter(|f| !f.is_empty()) {
        let value = String::from_utf8_lossy(&field[1..]).into_owned();
        match field[0] {
            b'C' => code = value,
            b'M' => text.insert_str(0, &value),
            b'D' => text.push_str(&format!(" ({value})")),
            b'H' => hint = Some(value),
            _ => {}
        }
    }
    let kind = match code.get(..2) {
        Some("08" | "40" | "53" | "55" | "57") => Kind::Retry,
        Some("22" | "23") => Kind::FixInput,
        _ => Kind::FixSetup,
    };
    let error = Error::new(kind, format!("PostgreSQL: {text} [{code}]"));
    if let Some(hint) = hint { error.hint(hint) } else { error }
}
