//! A partner that answers nonsense, refuses, asks to wait, or never answers; logins.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use platform::partner::{Partner, PartnerAnswer};
use serde_json::json;

use super::{World, text, this_hour};

#[test]
fn nonsense_is_quarantined_and_asked_for_again() {
    let world = World::new("", "");
    world.set_hours(1..30, |hour| hour as f64);
    world.set("V1", this_hour() - chrono::TimeDelta::hours(2), Some(json!("n/a")));
    let said = world.warehouse.ok(&["run", "collect:flows"]);
    said.has("quarantined station=V1: form 1")
        .has("column \"value\": \"n/a\"")
        .has("29 new values")
        .has("1 quarantined");
    // The same answer is recorded once.
    world.collect();
    let answers =
        || world.warehouse.sql("select item, verdict, reason from collect.answers where verdict = 'quarantined'");
    assert_eq!(answers().len(), 1);
    assert_eq!(world.warehouse.count("collect.faults"), 1);
    assert_eq!(world.warehouse.number("select count(*) as n from forecast.flows where item = 'station=V1'"), 0);
    world.partner.answer_by(|_| PartnerAnswer::ok("<html>maintenance</html>"));
    let all = world.warehouse.run(&["run", "collect:flows"]);
    assert_eq!(all.code, 3, "{}", all.text());
    all.has("expected JSON").has("2 quarantined").has("0 unchanged");
    world.answer_as_set();
    world.set("V1", this_hour() - chrono::TimeDelta::hours(2), Some(json!(2)));
    assert_eq!(world.collect()["new"], 29);
    assert_eq!(world.warehouse.count("forecast.flows"), 58);
    let objects = world.warehouse.sql("select sha256 from collect.answers");
    assert!(objects.len() >= 4, "{objects:?}");
}

#[test]
fn a_partner_that_asks_to_wait_is_not_asked_before() {
    let world = World::new("", "wait_max = '3s'");
    world.set_hours(1..5, |_| 1.0);
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    // A short wait is waited for.
    world.partner.answer_by(|request| match ASKED.fetch_add(1, Ordering::SeqCst) {
        0 => PartnerAnswer::status(429).with("retry-after", "1"),
        _ => PartnerAnswer::ok(
            json!({"data": [{"station": request.path[7..], "at": "2026-01-01T00:00:00Z", "value": 1}]}).to_string(),
        ),
    });
    let began = Instant::now();
    assert_eq!(world.collect()["new"], 2);
    assert!(began.elapsed() >= Duration::from_secs(1));
    // A long one is left to later runs, which send nothing until it is over.
    world.partner.answer_by(|_| PartnerAnswer::status(429).with("retry-after", "3600"));
    world.partner.take_requests();
    world.warehouse.ok(&["run", "collect:flows"]).has("the partner asks not to be asked before");
    assert_eq!(world.partner.take_requests().len(), 1);
    let figures = world.collect();
    assert!(figures["not_before"].is_string(), "{figures}");
    assert_eq!(world.partner.take_requests().len(), 0);
}

#[test]
fn a_partner_that_fails_or_never_answers_fails_the_run_and_loses_nothing() {
    let world = World::new("", "timeout = '1s'");
    world.set_hours(1..5, |_| 1.0);
    world.partner.answer_by(|request| {
        if request.path.ends_with("V1") {
            return PartnerAnswer { status: 500, ..PartnerAnswer::ok("the database is being moved") };
        }
        PartnerAnswer::ok("{\"data\": []}")
    });
    let failed = world.warehouse.run(&["run", "collect:flows"]);
    assert_eq!(failed.code, 5, "{}", failed.text());
    failed.has("failed      station=V1").has("500").has("the database is being moved").has("1 failed");
    world.partner.answer_by(|_| {
        std::thread::sleep(Duration::from_secs(4));
        PartnerAnswer::status(200)
    });
    let failed = world.warehouse.run(&["run", "collect:flows"]);
    assert_eq!(failed.code, 5, "{}", failed.text());
    world.partner.answer_by(|_| PartnerAnswer { status: 403, ..PartnerAnswer::ok("no subscription") });
    let failed = world.warehouse.run(&["run", "collect:flows"]);
    assert_eq!(failed.code, 4, "{}", failed.text());
    failed.has("no subscription");
    world.answer_as_set();
    assert_eq!(world.collect()["new"], 8);
    let runs =
        world.warehouse.sql("select state, error from system.runs where job = 'collect:flows' order by started_at");
    assert_eq!(runs.len(), 4);
    assert!(runs[0]["error"].as_str().unwrap().contains("500"), "{runs:?}");
}

#[test]
fn clients_credentials_give_a_token_that_is_renewed() {
    static TOKENS: AtomicUsize = AtomicUsize::new(0);
    let server = Partner::start(0, |request| {
        // The id and the secret as RFC 6749 has them: encoded as in forms, then in base64.
        let is_client = request.header("authorization") == Some("Basic bXkraWQ6cyUyNnQ=");
        if request.method == "POST" && is_client && request.body == "grant_type=client_credentials" {
            let number = TOKENS.fetch_add(1, Ordering::SeqCst);
            return PartnerAnswer::ok(
                json!({"access_token": format!("token-{number}"), "token_type": "Bearer", "expires_in": 7200})
                    .to_string(),
            );
        }
        PartnerAnswer::status(401)
    })
    .unwrap();
    let login = format!(
        "[request.login]\ntoken_url = '{}/token/oauth/'\nclient_id = 'my id'\nclient_secret = 's&t'\n",
        server.url()
    );
    let world = World::new("", &login);
    // The first token is refused, as one that was revoked.
    world.partner.answer_by(|request| match request.header("authorization") {
        Some("Bearer token-1") => PartnerAnswer::ok(
            json!({"data": [{"station": request.path[7..], "at": "2026-01-01T00:00:00Z", "value": 1}]}).to_string(),
        ),
        _ => PartnerAnswer::status(401),
    });
    assert_eq!(world.collect()["new"], 2);
    assert_eq!(server.take_requests().len(), 2);
    world.partner.answer_by(|_| PartnerAnswer::status(401));
    let refused = world.warehouse.run(&["run", "collect:flows"]);
    assert_eq!(refused.code, 4, "{}", refused.text());
    refused.has("401").has("check the login");
    assert!(!refused.text().contains("s&t") && !refused.text().contains("token-"));
}

#[test]
fn an_answer_that_is_tagged_is_not_sent_again() {
    let partner = Partner::start(0, |request| match request.header("if-none-match") {
        Some("\"one\"") => PartnerAnswer::status(304),
        _ => PartnerAnswer::ok("{\"data\": [{\"station\": \"V1\", \"at\": \"2026-01-01T00:00:00Z\", \"value\": 1}]}")
            .with("etag", "\"one\""),
    })
    .unwrap();
    let collect = format!(
        "layout = 'layouts/flows.toml'\ntable = 'forecast.flows'\nsince = '2026-01-01'\n[request]\nurl = '{}/newest.json'\n",
        partner.url()
    );
    let warehouse = crate::world::Warehouse::new(&[
        ("wattlake.toml", "lake.url = 'lake'\n"),
        ("layouts/flows.toml", super::LAYOUT),
        ("collects/flows.toml", &collect),
    ]);
    warehouse.ok(&["run", "collect:flows"]).has("1 new values");
    warehouse.ok(&["run", "collect:flows"]).has("0 new values");
    assert_eq!(partner.take_requests()[1].header("if-none-match"), Some("\"one\""));
    // Another layout has other rows of the same answer.
    let layout = super::LAYOUT.replace("[columns.status]", "[columns.remark]");
    warehouse.write("layouts/flows.toml", &layout);
    warehouse.ok(&["run", "collect:flows"]).has("1 unchanged");
    assert_eq!(partner.take_requests()[0].header("if-none-match"), None);
    partner.answer_by(|_| PartnerAnswer::status(304));
    warehouse.write("layouts/flows.toml", super::LAYOUT);
    let refused = warehouse.run(&["run", "collect:flows"]);
    assert_eq!(refused.code, 4, "{}", refused.text());
    refused.has("304");
}

#[test]
fn a_refusal_does_not_show_the_key() {
    let world = World::new("", "headers = { x-key = 'the-partners-key' }");
    world.partner.answer_by(|request| PartnerAnswer {
        status: 403,
        ..PartnerAnswer::ok(format!("no rights: {}", request.header("x-key").unwrap_or_default()))
    });
    let refused = world.warehouse.run(&["run", "collect:flows"]);
    refused.has("no rights: ***");
    let all = format!("{}{}", refused.text(), world.warehouse.ok(&["logs", "collect:flows"]).text());
    assert!(!all.contains("the-partners-key"), "{all}");
}

#[test]
fn a_gap_that_is_quarantined_does_not_stop_new_values() {
    let world = World::new("", "");
    world.set_hours((3..60).filter(|hour| !(20..24).contains(hour)), |_| 5.0);
    assert_eq!(world.collect()["new"], 106);
    world.set_hours(1..3, |_| 5.0);
    world.set("V1", this_hour() - chrono::TimeDelta::hours(21), Some(json!("n/a")));
    let said = world.warehouse.ok(&["run", "collect:flows"]);
    said.has("4 new values").has("1 quarantined");
    world.set("V1", this_hour() - chrono::TimeDelta::hours(21), Some(json!(5)));
    assert_eq!(world.collect()["new"], 1);
}

#[test]
fn pages_that_contradict_one_another_are_quarantined() {
    let world = World::new("", "paging = { page = 'page' }");
    let at = text(this_hour() - chrono::TimeDelta::hours(2));
    world.partner.answer_by(move |request| {
        let page: u32 = request.parameter("page").unwrap_or("1").parse().unwrap();
        let row = json!({"station": request.path[7..], "at": at, "value": page});
        PartnerAnswer::ok(json!({"data": if page < 3 { vec![row] } else { Vec::new() }}).to_string())
    });
    let said = world.warehouse.run(&["run", "collect:flows"]);
    assert_eq!(said.code, 3, "{}", said.text());
    said.has("two pages have other values for station V1").has("flow_ls 1.0").has("flow_ls 2.0").has("0 new values");
}
