//! Parses the function that a request's path names: `bill`, `bill:prod`, `000000000000:function:bill` or an ARN, each
//! with or without a qualifier.

use percent_encoding::percent_decode_str;

use super::reply::ApiError;
use crate::definition::is_name;
use crate::registry::LATEST;

/// The function that a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// The function's name.
    pub name: String,
    /// `$LATEST`, a version's number or an alias.
    pub qualifier: String,
    /// Whether the request names the qualifier.
    pub is_qualified: bool,
}

impl Address {
    /// Reads the name in the path, and the parameter `Qualifier` of the query.
    pub fn of(named: &str, query: Option<&str>) -> Result<Address, ApiError> {
        let wrong = || {
            ApiError::parameter(&format!(
                "{named:?} is not a function's name: expected NAME, NAME:QUALIFIER or an ARN, of letters, digits, - \
                 and _"
            ))
        };
        // arn:PARTITION:lambda:REGION:ACCOUNT:function:NAME[:QUALIFIER], which may begin with any later part.
        let rest = match named.split_once(":function:") {
            Some((before, rest)) => {
                let account = before.rsplit(':').next().unwrap_or_default();
                if !account.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(wrong());
                }
                rest
            }
            None => named.strip_prefix("function:").unwrap_or(named),
        };
        let (name, own) = rest.split_once(':').map_or((rest, None), |(name, own)| (name, Some(own.to_owned())));
        let asked = parameter(query, "Qualifier").filter(|asked| !asked.is_empty());
        let qualifier = match (own, asked) {
            (Some(own), Some(asked)) if own != asked => {
                let says = "The derived qualifier from the function name does not match the specified qualifier.";
                return Err(ApiError::parameter(says));
            }
            (own, asked) => own.or(asked),
        };
        let is_qualified = qualifier.is_some();
        let qualifier = qualifier.unwrap_or_else(|| LATEST.to_owned());
        if !is_name(name) || !(qualifier == LATEST || is_qualifier(&qualifier)) {
            return Err(wrong());
        }
        Ok(Address { name: name.to_owned(), qualifier, is_qualified })
    }
}

fn is_qualifier(text: &str) -> bool {
    is_name(text)
}

/// The decoded segments of a path, without empty ones at its ends.
pub(super) fn segments(path: &str) -> Result<Vec<String>, ApiError> {
    let decoded = path.trim_matches('/').split('/').map(|part| percent_decode_str(part).decode_utf8());
    let decoded = decoded.map(|part| part.map(std::borrow::Cow::into_owned));
    decoded.collect::<Result<_, _>>().map_err(|_| ApiError::parameter("the path is not UTF-8"))
}

/// The decoded value of a query's parameter.
pub(super) fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let pairs = query?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let (_, value) = pairs.into_iter().find(|(key, _)| *key == name)?;
    Some(percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(named: &str, query: Option<&str>) -> Option<(String, String)> {
        Address::of(named, query).ok().map(|address| (address.name, address.qualifier))
    }

    #[test]
    fn names_and_arns() {
        for (named, query, expected) in [
            ("bill", None, ("bill", "$LATEST")),
            ("bill:prod", None, ("bill", "prod")),
            ("bill", Some("Qualifier=3"), ("bill", "3")),
            ("bill", Some("x=1&Qualifier=%24LATEST"), ("bill", "$LATEST")),
            ("bill:3", Some("Qualifier=3"), ("bill", "3")),
            ("000000000000:function:bill", None, ("bill", "$LATEST")),
            ("function:bill:prod", None, ("bill", "prod")),
            ("arn:aws:lambda:eu-west-3:000000000000:function:bill", None, ("bill", "$LATEST")),
            ("arn:aws:lambda:local:000000000000:function:bill:$LATEST", None, ("bill", "$LATEST")),
        ] {
            assert_eq!(of(named, query), Some((expected.0.to_owned(), expected.1.to_owned())), "{named}");
        }
        for (named, query) in [
            ("", None),
            ("a b", None),
            ("../bill", None),
            ("bill:3", Some("Qualifier=4")),
            ("bill:$OTHER", None),
            ("x:function:bill", None),
        ] {
            assert_eq!(of(named, query), None, "{named}");
        }
    }
}
