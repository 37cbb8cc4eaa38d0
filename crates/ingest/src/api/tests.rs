use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::secrets::Secrets;
use super::{
    Answer, ApiRequest, Login, Member, Pace, Pages, Paging, RequestWindow, WindowTemplate, is_part, paging, retry_after,
};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("an instant")
}

fn window() -> RequestWindow {
    RequestWindow {
        from: at("2026-10-24T22:00:00Z"),
        to: at("2026-10-25T23:00:00Z"),
        item: BTreeMap::from([("station".to_owned(), "Y 862&1".to_owned())]),
    }
}

fn answer(text: &str) -> Answer {
    Answer {
        bytes: Bytes::copy_from_slice(text.as_bytes()),
        etag: None,
        next_link: None,
        received_at: at("2026-10-26T00:00:00Z"),
    }
}

#[test]
fn templates_are_filled_with_windows_and_items() {
    let filled = |text: &str, zone: chrono_tz::Tz| {
        WindowTemplate::parse(text, &["station"]).expect("a template").fill(&window(), zone, str::to_owned)
    };
    assert_eq!(filled("{from}/{to}", chrono_tz::UTC), "2026-10-24T22:00:00Z/2026-10-25T23:00:00Z");
    // The day of the clock change has 25 hours.
    assert_eq!(
        filled("{from:%Y%m%d%H%M} {to:%FT%T%:z}", chrono_tz::Europe::Paris),
        "202610250000 2026-10-26T00:00:00+01:00"
    );
    assert_eq!(filled("x{station}y", chrono_tz::UTC), "xY 862&1y");
    assert_eq!(filled("{{from}} {{{station}}}", chrono_tz::UTC), "{from} {Y 862&1}");
    for (text, part) in [
        ("{form}", "nearest placeholder: \"from\""),
        ("{from", "without its"),
        ("from}", "without its"),
        ("{from:%Q}", "not a format"),
        ("{}", "unknown"),
    ] {
        let error = WindowTemplate::parse(text, &["station"]).expect_err(text);
        let shown = format!("{} {}", error.chain(), error.hint.unwrap_or_default());
        assert!(shown.contains(part), "{shown}");
    }
}

#[test]
fn a_pace_is_the_time_between_requests() {
    for text in ["10/s", "60/min", "1000/h", "5000/d"] {
        assert!(Pace::parse(text).is_some(), "{text}");
    }
    for text in ["0/s", "10", "/s", "10/week", "-1/s"] {
        assert!(Pace::parse(text).is_none(), "{text}");
    }
}

#[test]
fn waits_are_seconds_or_until_an_instant() {
    let now = at("2026-10-24T22:00:00Z");
    let wait = |text: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, text.parse().expect("a header"));
        retry_after(&headers, now)
    };
    assert_eq!(wait("3600"), Some(Duration::from_secs(3600)));
    assert_eq!(wait("Sat, 24 Oct 2026 22:01:00 GMT"), Some(Duration::from_secs(60)));
    assert_eq!(wait("Sat, 24 Oct 2026 21:00:00 GMT"), Some(Duration::ZERO));
    assert_eq!(wait("soon"), None);
}

#[test]
fn links_may_have_commas() {
    let header = "<https://a/?ids=1,2&page=1>; rel=\"first\", <https://a/?ids=1,2&page=3>; rel=\"next\"; title=\"x\"";
    assert_eq!(paging::next_link(header).as_deref(), Some("https://a/?ids=1,2&page=3"));
    assert_eq!(paging::next_link("<https://a/>; rel=prev"), None);
}

fn member(path: &str) -> Member {
    Member { path: path.split('/').map(str::to_owned).collect(), is_optional: false }
}

fn urls(paging: Paging, pages: &[(&str, u64)]) -> Vec<String> {
    let mut all = Vec::new();
    let mut at = Pages::begin("http://a.test/data?size=2".parse().expect("a URL"), paging).expect("pages");
    for (text, rows) in pages {
        let Some(url) = at.next_url().expect("a page") else { break };
        all.push(url[url::Position::BeforePath..].to_owned());
        at.continue_after(&answer(text), *rows).expect("a page");
    }
    all
}

#[test]
fn pages_follow_one_another() {
    let next = Paging::Next(member("next"));
    let pages = [("{\"next\": \"/data?size=2&from=3\"}", 2), ("{\"next\": null}", 1), ("", 0)];
    assert_eq!(urls(next, &pages), ["/data?size=2", "/data?size=2&from=3"]);
    let cursor = Paging::Cursor { member: member("meta/token"), parameter: "token".to_owned() };
    let pages = [("{\"meta\": {\"token\": \"a b\"}}", 2), ("{\"meta\": {\"token\": \"\"}}", 2), ("", 0)];
    assert_eq!(urls(cursor, &pages), ["/data?size=2", "/data?size=2&token=a+b"]);
    let number = Paging::Number { parameter: "page".to_owned(), first: 1 };
    assert_eq!(
        urls(number, &[("a", 2), ("b", 2), ("", 0), ("", 0)]),
        ["/data?size=2&page=1", "/data?size=2&page=2", "/data?size=2&page=3"]
    );
    // The server gives fewer rows than it was asked for.
    let offset = Paging::Offset { parameter: "offset".to_owned() };
    assert_eq!(
        urls(offset, &[("a", 1), ("b", 2), ("c", 0), ("", 0)]),
        ["/data?size=2&offset=0", "/data?size=2&offset=1", "/data?size=2&offset=3"]
    );
}

#[test]
fn pages_of_another_host_or_named_again_are_refused() {
    let begin =
        || Pages::begin("https://a.test/data".parse().expect("a URL"), Paging::Next(member("next"))).expect("pages");
    let mut pages = begin();
    pages.next_url().expect("the first page");
    let error = pages.continue_after(&answer("{\"next\": \"http://a.test/data?2\"}"), 1).expect_err("not encrypted");
    assert!(error.chain().contains("the next page is at http://a.test"), "{}", error.chain());
    let mut pages = begin();
    pages.next_url().expect("the first page");
    pages.continue_after(&answer("{\"next\": \"/data\"}"), 1).expect("a page");
    assert!(pages.next_url().expect_err("named again").chain().contains("names a page again"));
}

#[test]
fn a_first_page_that_says_nothing_of_a_next_one_is_an_error() {
    let after = |path: &str, is_optional: bool, text: &str, rows: u64| {
        let paging = Paging::Next(Member { is_optional, ..member(path) });
        let mut pages = Pages::begin("https://a.test/data".parse().expect("a URL"), paging).expect("pages");
        pages.next_url().expect("the first page");
        pages.continue_after(&answer(text), rows).map(|()| pages)
    };
    let error = after("paging/nxt", false, r#"{"paging": {"next": "/data?2"}}"#, 1).expect_err("no such member");
    let shown = format!("{} {}", error.chain(), error.hint.unwrap_or_default());
    assert!(shown.contains("has no text or number at \"paging/nxt\""), "{shown}");
    assert!(shown.contains("nearest member: \"next\"") && shown.contains("optional = true"), "{shown}");
    for text in [r#"{"links": {"next": {"href": "/data?2"}}}"#, "{}", "[]", r#"{"links": {}}"#] {
        assert!(after("links/next", false, text, 1).is_err(), "{text}");
        assert!(after("links/next", true, text, 1).is_ok(), "{text}");
        assert!(after("links/next", false, text, 0).is_ok(), "{text}");
    }
    for text in [r#"{"links": {"next": null}}"#, r#"{"links": null}"#, r#"{"links": {"next": false}}"#] {
        let mut pages = after("links/next", false, text, 1).expect(text);
        assert_eq!(pages.next_url().expect("no page"), None, "{text}");
    }
    // A later page may be the last one.
    let mut pages = after("next", false, r#"{"next": "/data?2"}"#, 1).expect("a page");
    pages.next_url().expect("the second page");
    pages.continue_after(&answer("{}"), 1).expect("the last page");
}

#[test]
fn ranges_tell_whether_there_is_more() {
    for range in ["bytes 0-99/1000", "bytes 100-999/1000", "items 0-24/319", "0-24/319", "items 1-25/319"] {
        assert!(is_part(range), "{range}");
    }
    for range in ["bytes 0-999/1000", "items 1-319/319", "0-24/*", "bytes */1000", "items", ""] {
        assert!(!is_part(range), "{range}");
    }
}

#[test]
fn a_page_that_comes_again_is_an_error() {
    let paging = Paging::Number { parameter: "page".to_owned(), first: 1 };
    let mut pages = Pages::begin("https://a.test/data".parse().expect("a URL"), paging).expect("pages");
    pages.next_url().expect("the first page");
    pages.continue_after(&answer("[1]"), 1).expect("a page");
    pages.next_url().expect("the second page");
    let error = pages.continue_after(&answer("[1]"), 1).expect_err("the same page");
    assert!(error.chain().contains("the server gave the same page again"), "{}", error.chain());
}

#[test]
fn secrets_are_not_in_messages() {
    let template = |text: &str| WindowTemplate::parse(text, &[]).expect("a template");
    let request = ApiRequest {
        url: template("https://a.test/key-in-path/data"),
        query: vec![("key".to_owned(), template("key-in-query"))],
        headers: vec![("Authorization".to_owned(), "Bearer key-in-header".to_owned())],
        zone: chrono_tz::UTC,
    };
    let login = Login::Basic { user: "user".to_owned(), password: "key-in-password".to_owned() };
    let text = "key-in-path key-in-query; key-in-header, Bearer key-in-header: key-in-password";
    assert_eq!(Secrets::of(&request, &login).masked(text), "*** ***; ***, ***: ***");
}
