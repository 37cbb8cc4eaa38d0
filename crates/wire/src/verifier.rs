//! SCRAM-SHA-256 verifiers: what the server keeps in place of a password. From one nobody can log
//! in, nor learn the password but by trying.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pgwire::api::auth::sasl::scram::{SCRAM_ITERATIONS, ScramSecret, gen_salted_password};

const PREFIX: &str = "SCRAM-SHA-256$";
const SALT_BYTES: usize = 16;
const KEY_BYTES: usize = 32;

/// As PostgreSQL writes it: `SCRAM-SHA-256$iterations:salt$stored key:server key`.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    salt: Vec<u8>,
    iterations: usize,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

impl Verifier {
    /// With a new salt each time.
    pub fn of_password(password: &str) -> Verifier {
        let salt = rand::random::<[u8; SALT_BYTES]>().to_vec();
        let salted = gen_salted_password(password, &salt, SCRAM_ITERATIONS);
        match ScramSecret::verifier_from_salted_password(salt, salted, SCRAM_ITERATIONS) {
            ScramSecret::Verifier { salt, iterations, stored_key, server_key } => {
                Verifier { salt, iterations, stored_key, server_key }
            }
            ScramSecret::SaltedPassword { .. } => unreachable!("a verifier was asked for"),
        }
    }

    /// `None` where the text is no verifier: a password, that is.
    pub fn parse(text: &str) -> Option<Verifier> {
        let (head, keys) = text.strip_prefix(PREFIX)?.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let key = |text: &str| STANDARD.decode(text).ok().filter(|key| key.len() == KEY_BYTES);
        Some(Verifier {
            salt: STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty())?,
            iterations: iterations.parse().ok().filter(|count| *count > 0)?,
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        })
    }

    pub(crate) fn secret(&self) -> ScramSecret {
        ScramSecret::Verifier {
            salt: self.salt.clone(),
            iterations: self.iterations,
            stored_key: self.stored_key.clone(),
            server_key: self.server_key.clone(),
        }
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored, server] = [&self.salt, &self.stored_key, &self.server_key].map(|key| STANDARD.encode(key));
        write!(f, "{PREFIX}{}:{salt}${stored}:{server}", self.iterations)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(***)")
    }
}

/// What a name that nobody has is asked with: the same questions as a known one, the same salt
/// each time, and no answer that is right.
pub(crate) struct Unknown {
    seed: Vec<u8>,
}

impl Unknown {
    pub(crate) fn new() -> Unknown {
        Unknown { seed: rand::random::<[u8; KEY_BYTES]>().to_vec() }
    }

    pub(crate) fn secret(&self, name: &str) -> ScramSecret {
        // One round is enough to make bytes of a name that nobody can tell from a salt.
        let mut salt = gen_salted_password(name, &self.seed, 1);
        salt.truncate(SALT_BYTES);
        ScramSecret::Verifier {
            salt,
            iterations: SCRAM_ITERATIONS,
            stored_key: rand::random::<[u8; KEY_BYTES]>().to_vec(),
            server_key: rand::random::<[u8; KEY_BYTES]>().to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Unknown, Verifier};
    use pgwire::api::auth::sasl::scram::ScramSecret;

    #[test]
    fn a_verifier_is_written_and_read() {
        let verifier = Verifier::of_password("pencil");
        let text = verifier.to_string();
        assert!(!text.contains("pencil"));
        assert_eq!(Verifier::parse(&text), Some(verifier));
        assert_ne!(Verifier::of_password("pencil").to_string(), text);
    }

    #[test]
    fn what_is_no_verifier_is_a_password() {
        for text in ["pencil", "SCRAM-SHA-256$4096:c2FsdA==$short:keys", "SCRAM-SHA-256$0:c2FsdA==$a:b", ""] {
            assert_eq!(Verifier::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_unknown_name_has_one_salt() {
        let salt = |unknown: &Unknown, name| match unknown.secret(name) {
            ScramSecret::Verifier { salt, .. } => salt,
            ScramSecret::SaltedPassword { .. } => panic!("a verifier is expected"),
        };
        let unknown = Unknown::new();
        assert_eq!(salt(&unknown, "a"), salt(&unknown, "a"));
        assert_ne!(salt(&unknown, "a"), salt(&unknown, "b"));
        assert_ne!(salt(&unknown, "a"), salt(&Unknown::new(), "a"));
    }
}
