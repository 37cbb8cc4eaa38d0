//! Reads `collects/NAME.toml`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ::ingest::api::{ApiRequest, ApiSettings, Login, Member, OAuth2, Pace, Paging, RequestWindow, WindowTemplate};
use ::ingest::fetch::Retries;
use ::ingest::layout::{Ambiguous, Layout, Type};
use base::suggestion;
use chrono::{DateTime, NaiveDate, TimeZone, Utc};
use chrono_tz::Tz;
use regex::Regex;
use toml::Spanned;
use url::Url;

use super::super::Problem;
use super::super::collect::{Collect, Since};
use super::super::expand::{self, Env};
use super::super::problem::FileProblems;
use super::super::raw::{self, Field, FileKind};
use super::super::schema_check;
use super::files::{read_text, with_extension};
use super::load::table as check_table;
use super::{ingest, job, stem, texts};

const FOLDER: &str = "collects";
const OVERLAP: Duration = Duration::from_secs(86_400);
const WINDOW: Duration = Duration::from_secs(30 * 86_400);
const GAPS: Duration = Duration::from_secs(7 * 86_400);
const WAIT_MAX: Duration = Duration::from_secs(120);
const TIMEOUT: Duration = Duration::from_secs(60);
/// More items than this are a mistake: each is a request of its own.
const ITEMS_MAX: usize = 10_000;
/// Columns that a collect adds to those of its layout.
const OWN_COLUMNS: [&str; 4] = ["item", "answer_sha256", "answer_row", "recorded_at"];

/// Reads all collects, by name. Variables that are not set go to `unset`.
pub fn load(
    root: &Path,
    zone: &str,
    env: Env<'_>,
    problems: &mut Vec<Problem>,
    unset: &mut Vec<Problem>,
) -> BTreeMap<String, Collect> {
    let mut collects = BTreeMap::new();
    for file in with_extension(root, Path::new(FOLDER), "toml", problems) {
        let Ok(text) = read_text(root, &file).map_err(|problem| problems.push(problem)) else { continue };
        let mut report = FileProblems::new(&file, &text);
        let mut layout_problems = Vec::new();
        let collect = check(root, &file, zone, env, &mut report, &mut layout_problems);
        unset.extend(report.taken());
        problems.extend(report.finish());
        problems.extend(layout_problems);
        collects.extend(collect.map(|collect| (collect.name.clone(), collect)));
    }
    collects
}

fn check(
    root: &Path,
    file: &Path,
    zone: &str,
    env: Env<'_>,
    report: &mut FileProblems<'_>,
    layout_problems: &mut Vec<Problem>,
) -> Option<Collect> {
    let name = stem(file);
    if !texts::is_name(&name) {
        let what = format!("{name:?} is not a valid name for a collect");
        report.add(0..0, what, "name the file with a-z, 0-9, _ and - only".to_owned());
    }
    let mut tree = schema_check::tree(report)?;
    expand::strings(tree.get_mut(), env, report);
    let raw: raw::Collect = schema_check::read(FileKind::Collect, tree, report)?;
    let parts: Vec<&str> = raw.each.keys().map(|name| name.get_ref().as_str()).collect();
    let (api, has_window) = match report.take_unset_under(&["request"]) {
        Some(unset) => (Some(Err(unset)), true),
        None => {
            let api = settings(&raw.request, &parts, report);
            let has_window = api.as_ref().is_some_and(|api| has_window(&api.request));
            (api.map(Ok), has_window)
        }
    };
    if let Some(Ok(api)) = &api {
        check_parts(&raw.each, &api.request, report);
    }
    let items = items(&raw.each, report);
    let table = check_table(&raw.table, report);
    let since = since(&raw.since, zone, report);
    let mut duration = |field: &Field<String>| job::duration(field, report);
    let (overlap, window, ahead) = (duration(&raw.overlap), duration(&raw.window), duration(&raw.ahead));
    let (step, gaps, known_after) = (duration(&raw.step), duration(&raw.gaps), duration(&raw.history_known_after));
    for (key, field, given) in [("window", &raw.window, window), ("step", &raw.step, step)] {
        if let (Some(span), Some(Duration::ZERO)) = (field.span(), given) {
            report.add(span, format!("{key:?}: expected more than 0"), None);
        }
    }
    let empty = raw.empty.get().zip(raw.empty.span()).and_then(|(text, span)| expression(text, span, report));
    let rules = job::rules(raw.triggers.get().map_or(&[], Vec::as_slice), &raw.run, zone, report);
    let (layout_file, layout) = ingest::layout(root, &raw.layout, report, layout_problems)?;
    let time = check_layout(&raw, &layout, report);
    let (schema, table) = table?;
    Some(Collect {
        name,
        file: root.join(file),
        api: api?,
        has_window,
        layout_file,
        layout,
        schema,
        table,
        items,
        time: time?,
        since: since?,
        overlap: overlap.unwrap_or(OVERLAP),
        window: window.unwrap_or(WINDOW),
        ahead: ahead.unwrap_or(Duration::ZERO),
        step,
        gaps: gaps.unwrap_or(GAPS),
        known_at: raw.known_at.get().cloned(),
        history_known_after: known_after,
        empty,
        jump_max: raw.jump_max.get().copied(),
        clock_check: raw.clock_check.get().copied().unwrap_or(true),
        rules,
    })
}

/// Checks the layout's columns. Returns the one with the time of a value.
fn check_layout(raw: &raw::Collect, layout: &Layout, report: &mut FileProblems<'_>) -> Option<String> {
    let span = raw.layout.span().unwrap_or(0..0);
    let is_instant = |at: usize| matches!(layout.columns[at].kind, Type::Timestamp { .. });
    for column in layout.columns.iter().filter(|column| OWN_COLUMNS.contains(&column.name.as_str())) {
        let what = format!("the layout has a column {:?}, which the collect adds itself", column.name);
        report.add(span.clone(), what, "give it another name, with the partner's name as its `header`".to_owned());
    }
    let in_order =
        |kind: &Type| matches!(kind, Type::Timestamp { zone: Some(zone), .. } if zone.ambiguous == Ambiguous::InOrder);
    for column in layout.columns.iter().filter(|column| in_order(&column.kind)) {
        let what = format!(
            "the layout's column {:?} has ambiguous = \"in-order\", but an answer may begin within the repeated hour",
            column.name
        );
        let hint =
            "write \"first\", \"second\" or \"refuse\"; if you can, ask for times in UTC or with an offset".to_owned();
        report.add(span.clone(), what, hint);
    }
    if let (Some(name), Some(place)) = (raw.known_at.get(), raw.known_at.span()) {
        let instants: Vec<&str> = (0..layout.columns.len())
            .filter(|at| is_instant(*at) && !layout.key.contains(at))
            .map(|at| layout.columns[at].name.as_str())
            .collect();
        if !instants.contains(&name.as_str()) {
            let what = format!("{name:?} is not a timestamp of the layout beside its key");
            report.add(place, what, suggestion("column", name, &instants));
        }
    } else if layout.columns.iter().any(|column| column.name == "known_at") {
        let hint = "add known_at = \"known_at\", or give the column another name".to_owned();
        report.add(span.clone(), "the layout has a column \"known_at\", which the collect adds itself", hint);
    }
    let times: Vec<usize> = layout.key.iter().copied().filter(|at| is_instant(*at)).collect();
    match times[..] {
        [time] => Some(layout.columns[time].name.clone()),
        _ => {
            let hint = "write the columns that identify a value, with its time, as `key` of the layout".to_owned();
            report.add(span, format!("the layout's key has {} timestamps, expected one", times.len()), hint);
            None
        }
    }
}

/// All combinations of the lists.
fn items(
    each: &BTreeMap<Spanned<String>, Vec<String>>,
    report: &mut FileProblems<'_>,
) -> Vec<BTreeMap<String, String>> {
    let mut items = vec![BTreeMap::new()];
    for (part, values) in each {
        if !texts::is_plain(part.get_ref()) || ["from", "to"].contains(&part.get_ref().as_str()) {
            let what = format!("{:?} is not a name for what is asked for", part.get_ref());
            report.add(part.span(), what, "use a-z, 0-9 and _; from and to are the window".to_owned());
        }
        if values.is_empty() || values.iter().any(|value| value.is_empty() || value.contains([',', '=', '\''])) {
            let hint = "write values without commas, equals signs and quotes".to_owned();
            report.add(part.span(), format!("{:?} has no value, or one that is not valid", part.get_ref()), hint);
        }
        let with = |item: &BTreeMap<String, String>, value: &String| {
            let mut item = item.clone();
            item.insert(part.get_ref().clone(), value.clone());
            item
        };
        items = items.iter().flat_map(|item| values.iter().map(move |value| with(item, value))).collect();
        if items.len() > ITEMS_MAX {
            report.add(part.span(), format!("there are more than {ITEMS_MAX} combinations"), None);
            return Vec::new();
        }
    }
    items.dedup();
    items
}

/// Checks that the request differs by each list of `[each]`: otherwise it would give the same values several times.
fn check_parts(each: &BTreeMap<Spanned<String>, Vec<String>>, request: &ApiRequest, report: &mut FileProblems<'_>) {
    let has = |name: &str| request.url.has_part(name) || request.query.iter().any(|(_, value)| value.has_part(name));
    for part in each.keys().filter(|part| !has(part.get_ref())) {
        let hint = format!("write {{{}}} in the URL or the query", part.get_ref());
        report.add(part.span(), format!("the request does not use {:?}", part.get_ref()), hint);
    }
}

fn since(raw: &Field<String>, zone: &str, report: &mut FileProblems<'_>) -> Option<Since> {
    let (text, span) = (raw.get()?, raw.span()?);
    if let Some(time) = texts::duration(text) {
        return Some(Since::Before(time));
    }
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(Since::Instant(at.to_utc()));
    }
    let zone: Tz = zone.parse().unwrap_or(Tz::UTC);
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().and_then(|day| day.and_hms_opt(0, 0, 0));
    let at = day.and_then(|day| zone.from_local_datetime(&day).earliest());
    if at.is_none() {
        let hint = "write 2026-01-01, 2026-01-01T00:00:00Z or 30d".to_owned();
        report.add(span, format!("{text:?} is not a date, an instant or a duration"), hint);
    }
    at.map(|at| Since::Instant(at.to_utc()))
}

fn expression(text: &str, span: std::ops::Range<usize>, report: &mut FileProblems<'_>) -> Option<Regex> {
    Regex::new(text).map_err(|error| report.add(span, format!("this is not a regular expression: {error}"), None)).ok()
}

fn settings(raw: &raw::Request, parts: &[&str], report: &mut FileProblems<'_>) -> Option<ApiSettings> {
    let mut template = |text: &str, span: std::ops::Range<usize>| match WindowTemplate::parse(text, parts) {
        Ok(template) => Some(template),
        Err(error) => {
            report.add(span, error.context.clone(), error.hint);
            None
        }
    };
    let url = template(raw.url.get()?, raw.url.span()?);
    let query: Vec<(String, Option<WindowTemplate>)> = raw
        .query
        .iter()
        .map(|(name, value)| (name.get_ref().clone(), template(value.get_ref(), value.span())))
        .collect();
    let url = url.filter(|url| check_url(url, parts, raw.url.span().unwrap_or(0..0), report));
    let zone = match raw.timezone.get().map(|name| name.parse::<Tz>()) {
        Some(Err(_)) => {
            report.add(raw.timezone.span()?, "this is not a time zone", "write \"Europe/Paris\"".to_owned());
            None
        }
        Some(Ok(zone)) => Some(zone),
        None => Some(Tz::UTC),
    };
    let login = match raw.login.get() {
        Some(login) => login_of(login, report),
        None => Some(Login::None),
    };
    let pace = raw.rate.get().zip(raw.rate.span()).and_then(|(text, span)| {
        let pace = Pace::parse(text);
        if pace.is_none() {
            let hint = "write \"60/min\", \"10/s\" or \"1000/h\"".to_owned();
            report.add(span, format!("\"rate\": {text:?} is not a number of requests in a time"), hint);
        }
        pace
    });
    if let (Some(paging), Some(span)) = (raw.paging.get(), raw.paging.span()) {
        check_paging(paging, span, report);
    }
    let request = ApiRequest {
        url: url?,
        query: query.into_iter().map(|(name, value)| Some((name, value?))).collect::<Option<_>>()?,
        headers: raw.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        zone: zone?,
    };
    Some(ApiSettings {
        request,
        paging: raw.paging.get().map_or(Paging::Single, paging),
        login: login?,
        pace: pace.unwrap_or_default(),
        retries: Retries { times: *raw.retries.get().unwrap_or(&Retries::default().times), ..Retries::default() },
        answer_time_max: job::duration(&raw.timeout, report).unwrap_or(TIMEOUT),
        wait_max: job::duration(&raw.wait_max, report).unwrap_or(WAIT_MAX),
    })
}

/// Checks a URL with sample values.
fn check_url(
    url: &WindowTemplate,
    parts: &[&str],
    span: std::ops::Range<usize>,
    report: &mut FileProblems<'_>,
) -> bool {
    let item = parts.iter().map(|part| ((*part).to_owned(), "x".to_owned())).collect();
    let window = RequestWindow { from: DateTime::<Utc>::UNIX_EPOCH, to: DateTime::<Utc>::UNIX_EPOCH, item };
    let filled = url.fill(&window, Tz::UTC, str::to_owned);
    let is_url = Url::parse(&filled).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if !is_url {
        report.add(span, "this is not an HTTP URL", "write \"https://host/path\"".to_owned());
    }
    is_url
}

fn has_window(request: &ApiRequest) -> bool {
    request.url.has_window() || request.query.iter().any(|(_, value)| value.has_window())
}

fn login_of(raw: &raw::ApiLogin, report: &mut FileProblems<'_>) -> Option<Login> {
    let span = [&raw.user, &raw.password, &raw.token_url, &raw.client_id, &raw.client_secret];
    let span = span.into_iter().find_map(Field::span).unwrap_or(0..0);
    let given = |fields: &[&Field<String>]| fields.iter().filter(|field| field.get().is_some()).count();
    let (basic, oauth2) =
        (given(&[&raw.user, &raw.password]), given(&[&raw.token_url, &raw.client_id, &raw.client_secret]));
    if !matches!((basic, oauth2), (2, 0) | (0, 3)) {
        let hint = "write \"user\" and \"password\", or \"token_url\", \"client_id\" and \"client_secret\"".to_owned();
        report.add(span, "\"login\": this is neither a user with a password nor a client's credentials", hint);
        return None;
    }
    if let (Some(user), Some(password)) = (raw.user.get(), raw.password.get()) {
        return Some(Login::Basic { user: user.clone(), password: password.clone() });
    }
    let (text, span) = (raw.token_url.get()?, raw.token_url.span()?);
    match Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https")) {
        Some(token_url) => Some(Login::OAuth2(OAuth2 {
            token_url,
            client_id: raw.client_id.get()?.clone(),
            client_secret: raw.client_secret.get()?.clone(),
            scope: raw.scope.get().cloned(),
        })),
        None => {
            report.add(span, "this is not an HTTP URL", "write \"https://host/path\"".to_owned());
            None
        }
    }
}

/// Checks that there is one way to the next page, with what belongs to it.
fn check_paging(raw: &raw::Paging, span: std::ops::Range<usize>, report: &mut FileProblems<'_>) {
    let ways = [
        raw.link.get().is_some(),
        raw.next.get().is_some(),
        raw.cursor.get().is_some(),
        raw.page.get().is_some(),
        raw.offset.get().is_some(),
    ];
    let is_whole = raw.cursor.get().is_some() == raw.parameter.get().is_some()
        && (raw.first.get().is_none() || raw.page.get().is_some())
        && (raw.optional.get().is_none() || raw.next.get().is_some() || raw.cursor.get().is_some());
    if ways.into_iter().filter(|is_there| *is_there).count() != 1 || !is_whole {
        let hint = "write one of \"link\", \"next\", \"cursor\" with \"parameter\", \"page\", \"offset\"".to_owned();
        report.add(span, "\"paging\": expected one way to the next page", hint);
    }
}

fn paging(raw: &raw::Paging) -> Paging {
    let member = |text: &str| Member {
        path: text.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        is_optional: raw.optional.get() == Some(&true),
    };
    if let Some(next) = raw.next.get() {
        return Paging::Next(member(next));
    }
    if let (Some(cursor), Some(parameter)) = (raw.cursor.get(), raw.parameter.get()) {
        return Paging::Cursor { member: member(cursor), parameter: parameter.clone() };
    }
    if let Some(parameter) = raw.page.get() {
        return Paging::Number { parameter: parameter.clone(), first: u64::from(*raw.first.get().unwrap_or(&1)) };
    }
    if let Some(parameter) = raw.offset.get() {
        return Paging::Offset { parameter: parameter.clone() };
    }
    if raw.link.get() == Some(&true) { Paging::Link } else { Paging::Single }
}
