//! Checks `[serve.keys]` of `wattlake.toml`.

use gateway::{Key, Permissions};
use toml::Spanned;

use super::super::OrUnset;
use super::super::problem::FileProblems;
use super::super::raw::{self, Field};

/// Checks a key; returns it with its id. With a variable that is not set, the key can't be used.
pub fn check(name: &Spanned<String>, raw: &raw::Key, report: &mut FileProblems<'_>) -> (String, OrUnset<Key>) {
    let id = name.get_ref().clone();
    let is_id = (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_id {
        report.add(
            name.span(),
            format!("{id:?} is not a valid id of an access key"),
            "use up to 128 letters, digits and _".to_owned(),
        );
    }
    let unset = report.take_unset_under(&["serve", "keys", &id]);
    if raw.secret.get().is_none() && raw.token.get().is_none() && unset.is_none() {
        report.add(name.span(), format!("the key {id:?} has no secret and no token"), "write one of them".to_owned());
    }
    let permissions = permissions(raw, report);
    let made = match unset {
        Some(unset) => Err(unset),
        None => {
            let made = Key::new(id.clone(), raw.secret.get().cloned(), raw.token.get().cloned(), permissions);
            Ok(made.unwrap_or_else(|error| {
                report.add(name.span(), error.context.clone(), error.hint);
                Key::default()
            }))
        }
    };
    (id, made)
}

fn permissions(raw: &raw::Key, report: &mut FileProblems<'_>) -> Permissions {
    let mut patterns = |field: &Field<Vec<Spanned<String>>>| {
        let mut valid = Vec::new();
        for pattern in field.get().into_iter().flatten() {
            match Permissions::check(pattern.get_ref()) {
                Ok(()) => valid.push(pattern.get_ref().clone()),
                Err(error) => report.add(pattern.span(), error.context.clone(), error.hint),
            }
        }
        valid
    };
    let (invoke, change) = (patterns(&raw.invoke), patterns(&raw.change));
    Permissions::new(&invoke, &change).unwrap_or_default()
}
