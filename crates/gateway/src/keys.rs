//! Keys and what they allow.

use base::{Error, Result};
use globset::{Glob, GlobSet, GlobSetBuilder};

/// How many characters a secret has, as AWS's have.
const SECRET_LENGTH: usize = 40;
/// A shorter token could be guessed.
const TOKEN_LENGTH_MIN: usize = 20;
/// What the patterns of a key can name.
const RESOURCES: [&str; 5] = ["function", "endpoint", "endpoint-config", "model", "training-job"];

/// A key of `[serve.keys]`: who a caller is, how it proves that, and what it may do.
#[derive(Debug, Clone, Default)]
pub struct Key {
    id: String,
    secret: Option<Secret>,
    token: Option<Secret>,
    permissions: Permissions,
}

impl Key {
    /// A key with its id, which requests name; the secret of AWS Signature Version 4, which is never sent; and the token of
    /// `Authorization: Bearer`.
    ///
    /// # Errors
    /// [`base::Kind::FixInput`] for a secret of another length than AWS's, and for a token that is too short.
    pub fn new(id: String, secret: Option<String>, token: Option<String>, permissions: Permissions) -> Result<Key> {
        if let Some(length) = secret.as_ref().map(String::len).filter(|length| *length != SECRET_LENGTH) {
            let what = format!("the secret of key {id:?} has {length} characters: AWS's have {SECRET_LENGTH}");
            return Err(Error::input(what).hint("make one with: openssl rand -base64 30"));
        }
        if let Some(length) = token.as_ref().map(String::len).filter(|length| *length < TOKEN_LENGTH_MIN) {
            let what = format!("the token of key {id:?} has {length} characters: it needs {TOKEN_LENGTH_MIN}");
            return Err(Error::input(what).hint("make one with: openssl rand -base64 30"));
        }
        Ok(Key { id, secret: secret.map(Secret), token: token.map(Secret), permissions })
    }

    /// The access key's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it allows.
    pub fn permissions(&self) -> &Permissions {
        &self.permissions
    }

    pub(crate) fn secret(&self) -> Option<&Secret> {
        self.secret.as_ref()
    }

    pub(crate) fn has_token(&self, token: &str) -> bool {
        self.token.as_ref().is_some_and(|own| own.is(token))
    }

    pub(crate) fn has_token_of(&self, other: &Key) -> bool {
        other.token.as_ref().is_some_and(|token| self.has_token(token.reveal()))
    }
}

/// A text that is never shown.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) String);

impl Secret {
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Compares in a time that does not depend on where the texts differ.
    pub fn is(&self, other: &str) -> bool {
        use subtle::ConstantTimeEq as _;
        self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// What a key may invoke and change, as patterns over `function:NAME`, `endpoint:NAME` and the like.
#[derive(Debug, Clone, Default)]
pub struct Permissions {
    invoke: GlobSet,
    change: GlobSet,
}

impl Permissions {
    /// Permissions by patterns, in which `*` is any run of characters: `endpoint:hydro*`, `*`.
    ///
    /// # Errors
    /// [`base::Kind::FixInput`] names a pattern that can't be read.
    pub fn new(invoke: &[String], change: &[String]) -> Result<Permissions> {
        Ok(Permissions { invoke: set(invoke)?, change: set(change)? })
    }

    /// Checks one pattern.
    ///
    /// # Errors
    /// [`base::Kind::FixInput`] for one that can't be read, or that matches nothing there is.
    pub fn check(pattern: &str) -> Result<()> {
        set(&[pattern.to_owned()])?;
        let kind = pattern.split_once(':').map_or(pattern, |(kind, _)| kind);
        let is_known = kind.contains('*') || (pattern.contains(':') && RESOURCES.contains(&kind));
        if is_known {
            return Ok(());
        }
        let known: Vec<String> = RESOURCES.iter().map(|kind| format!("{kind}:NAME")).collect();
        Err(Error::input(format!("the pattern {pattern:?} matches nothing"))
            .hint(format!("write {}", known.join(", "))))
    }

    pub(crate) fn may_invoke(&self, resource: &str) -> bool {
        self.invoke.is_match(resource)
    }

    pub(crate) fn may_change(&self, resource: &str) -> bool {
        self.change.is_match(resource)
    }
}

fn set(patterns: &[String]) -> Result<GlobSet> {
    let mut all = GlobSetBuilder::new();
    for pattern in patterns {
        let refused = |error| Error::input(format!("{pattern:?} is not a pattern")).because(error);
        all.add(Glob::new(pattern).map_err(refused)?);
    }
    all.build().map_err(|error| Error::input("read the patterns of a key").because(error))
}
