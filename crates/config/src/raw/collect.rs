//! The files of collects as TOML types.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use toml::Spanned;

use super::{Field, RunSettings, Trigger};

/// A partner's HTTP API that is asked for new and revised values. Each answer is checked against a layout; a value that
/// differs from what the table has becomes another version of its row, with the instant from which it was known.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "collects/NAME.toml", extend("required" = ["request", "layout", "table", "since"]))]
pub struct Collect {
    /// What is requested.
    pub request: Request,
    /// The file of the layout of answers, relative to the warehouse. Its key has one timestamp.
    #[schemars(length(min = 1))]
    pub layout: Field<String>,
    /// The table as `schema.table`.
    #[schemars(length(min = 1))]
    pub table: Field<String>,
    /// Lists of values by a name; each combination is asked for by itself, as `{name}` of the request.
    #[schemars(with = "BTreeMap<String, Vec<String>>")]
    pub each: BTreeMap<Spanned<String>, Vec<String>>,
    /// Where the first run begins: a date, an instant, or how long before the run: `30d`.
    #[schemars(with = "String", length(min = 1))]
    pub since: Field<String>,
    /// How far before the newest known value each run asks again, for late and revised values.
    #[schemars(extend("default" = "1d", "pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub overlap: Field<String>,
    /// The longest time that one request asks for.
    #[schemars(extend("default" = "30d", "pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub window: Field<String>,
    /// How far after the run values may be: for prices of the next day, and for weather forecasts.
    #[schemars(extend("default" = "0s", "pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub ahead: Field<String>,
    /// The time from one value to the next. Where it is given, gaps are found and asked for again.
    #[schemars(extend("pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub step: Field<String>,
    /// How far back gaps are asked for again.
    #[schemars(extend("default" = "7d", "pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub gaps: Field<String>,
    /// A column of the layout with the instant from which a value was known, as the partner says.
    #[schemars(length(min = 1))]
    pub known_at: Field<String>,
    /// For values that were there before the first run: how long after its time a value was known, such as its step
    /// plus the time until it was published. Without it they are known from the first run on.
    #[schemars(extend("pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub history_known_after: Field<String>,
    /// A regular expression; an answer that it matches has no rows, such as "no data found".
    #[schemars(with = "String", length(min = 1))]
    pub empty: Field<String>,
    /// How many times greater or smaller than before the values of an answer may be, by their medians; beyond it the
    /// answer is quarantined, since its unit may have changed.
    #[schemars(range(min = 2.0))]
    pub jump_max: Field<f64>,
    /// Whether an answer is quarantined that repeats known values at other times: the partner's clock may be wrong.
    #[schemars(extend("default" = true))]
    pub clock_check: Field<bool>,
    /// What starts it.
    #[schemars(with = "Vec<Trigger>")]
    pub triggers: Field<Vec<Spanned<Trigger>>>,
    /// Retries and limits of its runs.
    pub run: RunSettings,
}

/// A GET request. In the URL and the query `{from}`, `{to}` and the names of `[each]` are replaced by values;
/// `{from:%Y-%m-%d}` is written in a format, and a brace of the text twice.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["url"]))]
pub struct Request {
    /// The URL, by HTTP or HTTPS.
    #[schemars(with = "String", length(min = 1))]
    pub url: Field<String>,
    /// Parameters of the query; secrets best as `"${VARIABLE}"`.
    #[schemars(with = "BTreeMap<String, String>")]
    pub query: BTreeMap<Spanned<String>, Spanned<String>>,
    /// Headers; secrets best as `"${VARIABLE}"`.
    pub headers: BTreeMap<String, String>,
    /// The zone of instants that are written in a format.
    #[schemars(length(min = 1), extend("default" = "UTC"))]
    pub timezone: Field<String>,
    /// The most requests in a time: `60/min`, `1000/h`.
    #[schemars(extend("pattern" = "^[1-9][0-9]*/(s|min|h|d)$"))]
    pub rate: Field<String>,
    /// The longest wait that the server may ask for in a run; after a longer one, runs send no request until it is over.
    #[schemars(extend("default" = "2min", "pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub wait_max: Field<String>,
    /// How long one answer may take.
    #[schemars(extend("default" = "1min", "pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub timeout: Field<String>,
    /// Further attempts after an error that may be temporary, within a run.
    #[schemars(range(min = 0, max = 20), extend("default" = 4))]
    pub retries: Field<u32>,
    /// How requests prove who sends them.
    #[schemars(with = "ApiLogin")]
    pub login: Field<ApiLogin>,
    /// How an answer is continued.
    #[schemars(with = "Paging")]
    pub paging: Field<Paging>,
}

/// A user's password, or OAuth 2.0's client credentials.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["user", "password"] }, { "required": ["token_url", "client_id", "client_secret"] }]))]
pub struct ApiLogin {
    /// The user, for HTTP's Basic authentication.
    #[schemars(length(min = 1))]
    pub user: Field<String>,
    /// The password; best as `"${VARIABLE}"`.
    #[schemars(length(min = 1))]
    pub password: Field<String>,
    /// The URL at which a token is given.
    #[schemars(length(min = 1))]
    pub token_url: Field<String>,
    /// The client's id.
    #[schemars(length(min = 1))]
    pub client_id: Field<String>,
    /// The client's secret; best as `"${VARIABLE}"`.
    #[schemars(length(min = 1))]
    pub client_secret: Field<String>,
    /// What the token is for.
    #[schemars(length(min = 1))]
    pub scope: Field<String>,
}

/// One of `link`, `next`, `cursor`, `page` and `offset`.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["link"] }, { "required": ["next"] }, { "required": ["cursor", "parameter"] }, { "required": ["page"] }, { "required": ["offset"] }]))]
pub struct Paging {
    /// The header `Link` has the URL of the next page.
    pub link: Field<bool>,
    /// The path of a member of the answer with the URL of the next page: `next`, `links/next`.
    #[schemars(length(min = 1))]
    pub next: Field<String>,
    /// The path of a member of the answer whose value is passed as `parameter` for the next page.
    #[schemars(length(min = 1))]
    pub cursor: Field<String>,
    /// Whether the last page may leave out what `next` or `cursor` names; otherwise it has it without a value.
    #[schemars(extend("default" = false))]
    pub optional: Field<bool>,
    /// The parameter that gets the cursor's value.
    #[schemars(length(min = 1))]
    pub parameter: Field<String>,
    /// The parameter that counts pages, until one has no rows.
    #[schemars(length(min = 1))]
    pub page: Field<String>,
    /// The number of the first page.
    #[schemars(range(min = 0), extend("default" = 1))]
    pub first: Field<u32>,
    /// The parameter that counts rows, until a page has none.
    #[schemars(length(min = 1))]
    pub offset: Field<String>,
}
