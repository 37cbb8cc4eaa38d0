//! Collects and predictions.

use super::*;

const LAYOUT: &str = "format = 'json'\nkey = ['station', 'at']\n[columns.station]\ntype = 'text'\n[columns.at]\ntype = 'timestamp'\n\
    [columns.updated]\ntype = 'timestamp'\n[columns.value]\ntype = 'double'\n";

fn collect_problems(text: &str) -> Vec<String> {
    problems(&[("wattlake.toml", "lake.url = 'lake'"), ("layouts/l.toml", LAYOUT), ("collects/c.toml", text)])
}

#[test]
fn problems_of_collects_have_a_place_and_a_hint() {
    let base = "layout = 'layouts/l.toml'\ntable = 'a.b'\nsince = '2026-01-01'\n";
    for (more, request, expected) in [
        ("", "url = 'http://a/'", "the request does not use \"station\"; write {station} in the URL or the query"),
        ("", "url = 'http://a/{statoin}'", "unknown placeholder {statoin}; nearest placeholder: \"station\""),
        ("", "url = 'ftp://a/'", "this is not an HTTP URL"),
        ("", "url = 'http://a/'\nrate = '5'", "rate"),
        ("", "url = 'http://a/'\ntimezone = 'Paris'", "this is not a time zone"),
        ("", "url = 'http://a/'\npaging = { next = 'a', link = true }", "paging"),
        ("", "url = 'http://a/'\npaging = { page = 'a', optional = true }", "paging"),
        ("", "url = 'http://a/'\nlogin = { user = 'a' }", "login"),
        (
            "known_at = 'updatd'",
            "url = 'http://a/'",
            "\"updatd\" is not a timestamp of the layout beside its key; nearest column: \"updated\"",
        ),
        ("empty = '('", "url = 'http://a/'", "this is not a regular expression"),
        ("window = '0s'", "url = 'http://a/'", "\"window\": expected more than 0"),
        ("overlap = '5 weeks'", "url = 'http://a/'", "is not a duration"),
    ] {
        let found = collect_problems(&format!("{base}{more}\n[request]\n{request}\n[each]\nstation = ['x']\n"));
        assert!(
            found.iter().any(|problem| problem.starts_with("collects/c.toml:") && problem.contains(expected)),
            "{expected}: {found:?}"
        );
    }
    let found =
        collect_problems("layout = 'layouts/l.toml'\ntable = 'a.b'\nsince = 'monday'\n[request]\nurl = 'http://a/'\n");
    assert!(found[0].contains("\"monday\" is not a date, an instant or a duration"), "{found:?}");
    let found = problems(&[
        ("wattlake.toml", "lake.url = 'lake'"),
        ("layouts/l.toml", "format = 'json'\n[columns.item]\ntype = 'text'\n"),
        ("collects/c.toml", "layout = 'layouts/l.toml'\ntable = 'a.b'\nsince = '1d'\n[request]\nurl = 'http://a/'\n"),
    ]);
    assert!(
        found.iter().any(|problem| problem.contains("a column \"item\", which the collect adds itself")),
        "{found:?}"
    );
    assert!(
        found.iter().any(|problem| problem.contains("the layout's key has 0 timestamps, expected one")),
        "{found:?}"
    );
    let layout = "format = 'csv'\nkey = ['at']\nzone = 'Europe/Paris'\nambiguous = 'in-order'\n[columns.at]\ntype = 'timestamp'\n";
    let found = problems(&[
        ("wattlake.toml", "lake.url = 'lake'"),
        ("layouts/l.toml", layout),
        ("collects/c.toml", "layout = 'layouts/l.toml'\ntable = 'a.b'\nsince = '1d'\n[request]\nurl = 'http://a/'\n"),
    ]);
    assert!(found[0].contains("an answer may begin within the repeated hour"), "{found:?}");
}

#[test]
fn a_variable_with_braces_is_no_placeholder() {
    let collect = "layout = 'layouts/l.toml'\ntable = 'a.b'\nsince = '1d'\n[request]\nurl = 'http://a/{from}/${BRACES}'\n\
                   query = { key = '${BRACES}' }\nheaders = { key = '${BRACES}' }\n";
    let files = [("wattlake.toml", "lake.url = 'lake'"), ("layouts/l.toml", LAYOUT), ("collects/c.toml", collect)];
    let dir = folder(&files);
    let with_braces = |name: &str| (name == "BRACES").then(|| "a{to}b".to_owned());
    let warehouse = Warehouse::load(dir.path(), &with_braces).expect("a warehouse");
    let request = &warehouse.collects["c"].api.as_ref().expect("the settings").request;
    assert!(request.url.has_window() && !request.query[0].1.has_window());
    assert_eq!(request.headers[0].1, "a{to}b");
}

#[test]
fn problems_of_predictions_have_a_place_and_a_hint() {
    let found = |text: &str| {
        problems(&[("wattlake.toml", "lake.url = 'lake'"), ("layouts/l.toml", LAYOUT), ("predictions/p.toml", text)])
    };
    let base = "layout = 'layouts/l.toml'\ntable = 'a.b'\n";
    for (text, expected) in [
        ("endpoint = 'e'\ninput = 'SELECT 1'", "the query has no {issued_at}"),
        ("endpoint = 'e_1'\ninput = \"SELECT '{issued_at}'\"", "\"e_1\" is not a name for an endpoint"),
        ("endpoint = 'e'\ninput = \"SELECT '{isued_at}'\"", "unknown placeholder {isued_at}"),
        ("endpoint = 'e'\ninput = \"SELECT '{issued_at}'\"\nevery = '7h'", "\"every\" does not divide a day"),
        ("endpoint = 'e'\ninput = \"SELECT '{issued_at}'\"\nat = '25:00'", "at"),
        (
            "endpoint = 'e'\ninput = \"SELECT '{issued_at}'\"\nkeep = ['station']",
            "a column \"station\", which the prediction adds itself",
        ),
        (
            "endpoint = 'e'\ninput = \"SELECT '{issued_at}'\"\nkeep = ['variant']",
            "\"keep\" has a column \"variant\", which the prediction adds itself",
        ),
        (
            "endpoint = 'e'\ninput = \"SELECT '{issued_at}'\"\nkeep = ['x', 'x']",
            "\"keep\" has a column \"x\", a second time",
        ),
    ] {
        let found = found(&format!("{base}{text}\n"));
        assert!(found.iter().any(|problem| problem.contains(expected)), "{expected}: {found:?}");
    }
}

#[test]
fn a_variable_may_have_a_default() {
    let text = "lake.url = '${LAKE:-here}'\n[lake.options]\na = '${MODE:-other}'\nb = '${EMPTY_DEFAULT:-}'\n";
    let dir = folder(&[("wattlake.toml", text)]);
    let lake = Warehouse::load(dir.path(), &env).expect("a warehouse").lake.expect("a lake");
    let options = lake.options();
    assert!(lake.url.ends_with("here"));
    assert_eq!((options["a"].as_str(), options["b"].as_str()), ("require", ""));
}
