//! SCRAM-SHA-256 verifiers, which the server stores in place of passwords. A verifier does not
//! allow to log in, and the password can only be found by guessing.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pgwire::api::auth::sasl::scram::{SCRAM_ITERATIONS, ScramSecret, gen_salted_password};

const PREFIX: &str = "SCRAM-SHA-256$";
const SALT_BYTES: usize = 16;
const KEY_BYTES: usize = 32;

/// A password's verifier. Its text has PostgreSQL's form: `SCRAM-SHA-256$iterations:salt$stored key:server key`.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    salt: Vec<u8>,
    iterations: usize,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

impl Verifier {
    /// The verifier of a password, with a new random salt.
    pub fn of_password(password: &str) -> Verifier {
        let salt = rand::random::<[u8; SALT_BYTES]>().to_vec();
        let salted = gen_salted_password(password, &salt, SCRAM_ITERATIONS);
        match ScramSecret::verifier_from_salted_password(salt, salted, SCRAM_ITERATIONS) {
            ScramSecret::Verifier { salt, iterations, stored_key, server_key } => {
                Verifier { salt, iterations, stored_key, server_key }
            }
            ScramSecret::SaltedPassword { .. } => unreachable!("the function returns a verifier"),
        }
    }

    /// Parses a verifier; `None` if the text has another form, such as a plain password.
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

    /// The verifier in pgwire's form.
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

/// Secrets for role names that do not exist, so that a client cannot find out which names exist: the exchange is the
/// same as with a known name, the salt is the same each time, and no password is right.
pub(crate) struct MockSecrets {
    seed: Vec<u8>,
}

impl MockSecrets {
    /// Secrets with a new random seed.
    pub(crate) fn new() -> MockSecrets {
        MockSecrets { seed: rand::random::<[u8; KEY_BYTES]>().to_vec() }
    }

    /// The mock secret of a role name.
    pub(crate) fn secret(&self, name: &str) -> ScramSecret {
        // One iteration is enough: the result cannot be distinguished from a random salt.
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
    use super::{MockSecrets, Verifier};
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
        let salt = |mock: &MockSecrets, name| match mock.secret(name) {
            ScramSecret::Verifier { salt, .. } => salt,
            ScramSecret::SaltedPassword { .. } => panic!("a verifier is expected"),
        };
        let mock = MockSecrets::new();
        assert_eq!(salt(&mock, "a"), salt(&mock, "a"));
        assert_ne!(salt(&mock, "a"), salt(&mock, "b"));
        assert_ne!(salt(&mock, "a"), salt(&MockSecrets::new(), "a"));
    }
}
