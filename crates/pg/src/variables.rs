//! The variables of SET and SHOW. The names are PostgreSQL's; only a few have an effect, the others
//! are stored so that drivers read back what they have set.

use std::collections::HashMap;
use std::str::FromStr;
use std::time::Duration;

use datafusion::arrow::array::timezone::Tz;
use pgwire::error::PgWireError;
use sqlparser::ast::Ident;

use super::problem::{self, BAD_VALUE, UNDEFINED_OBJECT};

/// The variable of the session's time zone.
pub(crate) const TIME_ZONE: &str = "timezone";
/// The variable that limits the time of a statement, in milliseconds; 0 is no limit.
pub(crate) const STATEMENT_TIMEOUT: &str = "statement_timeout";
/// The variable with the client's name for itself.
pub(crate) const APPLICATION_NAME: &str = "application_name";
/// The version of PostgreSQL that clients are told.
pub(crate) const SERVER_VERSION: &str = "15.8";

/// Name as PostgreSQL spells it, default value, and whether changes are reported to the client.
const KNOWN: [(&str, &str, bool); 45] = [
    ("application_name", "", true),
    ("bytea_output", "hex", false),
    ("client_encoding", "UTF8", true),
    ("client_min_messages", "notice", false),
    ("DateStyle", "ISO, MDY", true),
    ("default_table_access_method", "heap", false),
    ("default_transaction_deferrable", "off", false),
    ("default_transaction_isolation", "repeatable read", false),
    ("default_transaction_read_only", "on", true),
    ("enable_seqscan", "on", false),
    ("escape_string_warning", "on", false),
    ("extra_float_digits", "1", false),
    ("geqo", "on", false),
    ("idle_in_transaction_session_timeout", "0", false),
    ("in_hot_standby", "off", true),
    ("integer_datetimes", "on", true),
    ("IntervalStyle", "postgres", true),
    ("is_superuser", "off", true),
    ("jit", "off", false),
    ("lc_collate", "C.UTF-8", false),
    ("lc_ctype", "C.UTF-8", false),
    ("lc_messages", "C.UTF-8", false),
    ("lc_monetary", "C.UTF-8", false),
    ("lock_timeout", "0", false),
    ("max_identifier_length", "63", false),
    ("max_index_keys", "32", false),
    ("max_parallel_workers_per_gather", "0", false),
    ("parallel_setup_cost", "1000", false),
    ("password_encryption", "scram-sha-256", false),
    ("quote_all_identifiers", "off", false),
    ("row_security", "on", false),
    ("search_path", "\"$user\", public", false),
    ("server_encoding", "UTF8", true),
    ("server_version", SERVER_VERSION, true),
    ("server_version_num", "150008", false),
    ("session_authorization", "", true),
    ("standard_conforming_strings", "on", true),
    ("statement_timeout", "0", false),
    ("synchronize_seqscans", "on", false),
    ("TimeZone", "UTC", true),
    ("transaction_deferrable", "off", false),
    ("transaction_isolation", "repeatable read", false),
    ("transaction_read_only", "on", false),
    ("wal_level", "replica", false),
    ("xmloption", "content", false),
];

/// The variables that no client may change.
const FIXED: [&str; 13] = [
    "server_version",
    "server_version_num",
    "server_encoding",
    "integer_datetimes",
    "is_superuser",
    "in_hot_standby",
    "session_authorization",
    "lc_collate",
    "lc_ctype",
    "max_identifier_length",
    "max_index_keys",
    "wal_level",
    "password_encryption",
];

/// The variables of one connection. Names are compared without case.
#[derive(Debug, Clone)]
pub(crate) struct Variables {
    set: HashMap<String, String>,
    defaults: HashMap<String, String>,
    /// The time zone in the engine's form, where it is set as an offset in POSIX's form.
    offset: Option<String>,
}

impl Variables {
    /// All variables at their defaults; `defaults` replace those of PostgreSQL.
    pub(crate) fn new(defaults: impl IntoIterator<Item = (String, String)>) -> Variables {
        let mut all: HashMap<String, String> =
            KNOWN.iter().map(|(name, value, _)| (name.to_lowercase(), (*value).to_owned())).collect();
        all.extend(defaults.into_iter().map(|(name, value)| (name.to_lowercase(), value)));
        Variables { set: HashMap::new(), defaults: all, offset: None }
    }

    /// A variable's value; `None` if it does not exist.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let name = name.to_lowercase();
        self.set.get(&name).or_else(|| self.defaults.get(&name)).map(String::as_str)
    }

    /// The session's time zone in the engine's form.
    pub(crate) fn time_zone(&self) -> &str {
        let is_set = self.set.contains_key(TIME_ZONE);
        self.offset.as_deref().filter(|_| is_set).or_else(|| self.get(TIME_ZONE)).unwrap_or("UTC")
    }

    /// A variable's value.
    ///
    /// # Errors
    /// If the variable does not exist.
    pub(crate) fn show(&self, name: &str) -> Result<&str, PgWireError> {
        self.get(name).ok_or_else(|| unknown(name))
    }

    /// Sets a variable, or resets it with `None`, and returns its new value.
    ///
    /// # Errors
    /// If the variable does not exist, cannot be changed, or the value is invalid.
    pub(crate) fn set(&mut self, name: &str, value: Option<String>) -> Result<String, PgWireError> {
        let lower = name.to_lowercase();
        // As in PostgreSQL, any name with a dot can be set.
        if !self.defaults.contains_key(&lower) && !lower.contains('.') {
            return Err(unknown(name));
        }
        let Some(mut value) = value else {
            self.set.remove(&lower);
            return Ok(self.defaults.get(&lower).cloned().unwrap_or_default());
        };
        if FIXED.contains(&lower.as_str()) {
            return Err(problem::error("55P02", format!("parameter \"{name}\" cannot be changed")));
        }
        match lower.as_str() {
            TIME_ZONE => {
                let zone = zone(&value)?;
                // The text that is shown for an offset in the form of POSIX must mean the same when it is set again.
                self.offset = is_posix_offset(value.trim()).then(|| zone.clone());
                if self.offset.is_none() {
                    value = zone;
                }
            }
            STATEMENT_TIMEOUT => value = duration(&value)?.as_millis().to_string(),
            "client_encoding" if !is_utf8(&value) => {
                let message = format!("invalid value for parameter \"client_encoding\": \"{value}\"");
                return Err(problem::with_hint(BAD_VALUE, message, "UTF8 is the only client encoding"));
            }
            "client_encoding" => value = "UTF8".to_owned(),
            "transaction_read_only" | "default_transaction_read_only" if is_off(&value) => {
                // Some drivers set it with every connection, so it is accepted; statements that write are refused.
                value = "on".to_owned();
            }
            _ => {}
        }
        self.set.insert(lower, value.clone());
        Ok(value)
    }

    /// Resets all variables to their defaults.
    pub(crate) fn reset_all(&mut self) {
        self.set.clear();
    }

    /// The time limit of a statement; `None` is no limit.
    pub(crate) fn statement_timeout(&self) -> Option<Duration> {
        let millis = self.get(STATEMENT_TIMEOUT)?.parse().ok()?;
        (millis > 0).then(|| Duration::from_millis(millis))
    }

    /// Names and values of the variables that are reported to the client when it connects.
    pub(crate) fn reported(&self) -> impl Iterator<Item = (&'static str, String)> + '_ {
        let reported = KNOWN.iter().filter(|(_, _, is_reported)| *is_reported);
        reported.filter_map(|(name, _, _)| self.get(name).map(|value| (*name, value.to_owned())))
    }

    /// Names and values of the known variables, in order of their names.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, String)> + '_ {
        KNOWN.iter().filter_map(|(name, _, _)| self.get(name).map(|value| (*name, value.to_owned())))
    }
}

/// The name under which changes of a variable are reported to the client; `None` if they are not.
pub(crate) fn reported_name(name: &str) -> Option<&'static str> {
    KNOWN
        .iter()
        .find(|(known, _, is_reported)| *is_reported && known.eq_ignore_ascii_case(name))
        .map(|(known, ..)| *known)
}

/// The name of the variable in a SHOW statement; `SHOW TIME ZONE` gives `TimeZone`.
pub(crate) fn shown_name(variable: &[Ident]) -> String {
    let words: Vec<String> = variable.iter().map(|word| word.value.to_lowercase()).collect();
    match words.join(" ").as_str() {
        "time zone" => "TimeZone".to_owned(),
        "transaction isolation level" => "transaction_isolation".to_owned(),
        "session authorization" => "session_authorization".to_owned(),
        _ => words.join("."),
    }
}

fn unknown(name: &str) -> PgWireError {
    problem::error(UNDEFINED_OBJECT, format!("unrecognized configuration parameter \"{name}\""))
}

fn is_utf8(value: &str) -> bool {
    // asyncpg sends the value with its quotes.
    matches!(value.to_lowercase().replace(['-', '_', '\''], "").as_str(), "utf8" | "unicode" | "sqlascii")
}

fn is_off(value: &str) -> bool {
    matches!(value.to_lowercase().as_str(), "off" | "false" | "no" | "0")
}

/// A time zone in the engine's form: a name of the time zone database, or an offset in ISO 8601 such as `+02:00`.
fn zone(value: &str) -> Result<String, PgWireError> {
    let plain = value.trim();
    let hours = plain.parse::<i32>().ok().filter(|hours| hours.abs() <= 15);
    let written = match (plain.to_lowercase().as_str(), hours) {
        (clock, _) if is_posix_offset(clock) => match clock.strip_prefix('-') {
            Some(clock) => format!("+{clock:0>5}"),
            None => format!("-{:0>5}", clock.trim_start_matches('+')),
        },
        ("local" | "default" | "gmt" | "z" | "utc" | "etc/utc", _) => "UTC".to_owned(),
        (_, Some(hours)) => format!("{}{:02}:00", if hours < 0 { '-' } else { '+' }, hours.abs()),
        _ => plain.to_owned(),
    };
    if Tz::from_str(&written).is_err() {
        let message = format!("invalid value for parameter \"TimeZone\": \"{value}\"");
        return Err(problem::with_hint(BAD_VALUE, message, "write it as Europe/Paris, UTC or +2"));
    }
    Ok(written)
}

/// Whether a zone is an offset with minutes, such as `-02:00`: as in POSIX, that is east of Greenwich. A number of hours
/// alone has the sign of ISO 8601.
fn is_posix_offset(zone: &str) -> bool {
    let clock = zone.trim_start_matches(['+', '-']);
    let is_number = |part: &str| (1..=2).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    clock.split_once(':').is_some_and(|(hours, minutes)| is_number(hours) && is_number(minutes) && minutes.len() == 2)
}

/// Reads a number of milliseconds, or a number with a unit.
fn duration(value: &str) -> Result<Duration, PgWireError> {
    let value = value.trim();
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    let millis: Option<u64> = match unit.trim() {
        "" | "ms" => Some(1),
        "s" => Some(1_000),
        "min" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    };
    match (number.parse::<u64>(), millis) {
        (Ok(number), Some(millis)) if i32::try_from(number.saturating_mul(millis)).is_ok() => {
            Ok(Duration::from_millis(number * millis))
        }
        _ => {
            let message = format!("invalid value for parameter \"statement_timeout\": \"{value}\"");
            Err(problem::with_hint(
                BAD_VALUE,
                message,
                "write it as 30000 (milliseconds), 30s, 5min or 1h; 0 is no limit",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Variables, duration, zone};
    use std::time::Duration;

    #[test]
    fn variables_are_set_and_reset() {
        let mut variables = Variables::new([("TimeZone".to_owned(), "Europe/Paris".to_owned())]);
        assert_eq!(variables.show("timezone").unwrap(), "Europe/Paris");
        variables.set("TIMEZONE", Some("UTC".to_owned())).unwrap();
        assert_eq!(variables.show("TimeZone").unwrap(), "UTC");
        assert_eq!(variables.set("timezone", None).unwrap(), "Europe/Paris");
        assert!(variables.set("no_such", Some("1".to_owned())).is_err());
        assert!(variables.set("server_version", Some("1".to_owned())).is_err());
        variables.set("my.own", Some("1".to_owned())).unwrap();
        assert_eq!(variables.show("my.own").unwrap(), "1");
        assert_eq!(variables.statement_timeout(), None);
        variables.set("statement_timeout", Some("2s".to_owned())).unwrap();
        assert_eq!(variables.statement_timeout(), Some(Duration::from_secs(2)));
    }

    #[test]
    fn zones_and_durations() {
        assert_eq!(zone("Europe/Paris").unwrap(), "Europe/Paris");
        assert_eq!(zone("+2").unwrap(), "+02:00");
        assert_eq!(zone("-3").unwrap(), "-03:00");
        // As in POSIX, with a colon a positive offset is west of Greenwich.
        assert_eq!((zone("-03:30").unwrap(), zone("2:00").unwrap()), ("+03:30".to_owned(), "-02:00".to_owned()));
        assert!(zone("Mars/Olympus").is_err());
        assert_eq!(duration("1min").unwrap(), Duration::from_secs(60));
        assert!(duration("1 fortnight").is_err());
        assert!(duration("-1").is_err());
    }
}
