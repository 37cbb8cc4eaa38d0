//! What is followed: the next page, whichever header names it, and redirects, but not to where requests would take the
//! partner's key.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc::{Receiver, channel};

use chrono::TimeDelta;
use platform::partner::{Partner, PartnerAnswer};
use serde_json::json;

use super::{World, text, this_hour};

const PAGES: i64 = 3;
const KEYS: &str = "headers = { x-key = 'the-partners-key' }\nlogin = { user = 'me', password = 'the-password' }";

/// A server whose pages have a header `Link` for each of their neighbours, which a [`Partner`] would send as one. Returns
/// its URL, and what is requested of it.
fn server_with_links() -> (String, Receiver<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, requested) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(&stream).lines().map(Result::unwrap);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let target = head[0].split(' ').nth(1).unwrap().to_owned();
            let (path, query) = target.split_once('?').unwrap();
            let page: i64 = query.strip_prefix("page=").map_or(1, |page| page.parse().unwrap());
            let link = |page: i64, rel: &str| format!("Link: <{path}?page={page}>; rel=\"{rel}\"\r\n");
            let mut links = link(1, "first");
            if page > 1 {
                links.push_str(&link(page - 1, "prev"));
            }
            if page < PAGES {
                links.push_str(&link(page + 1, "next"));
            }
            links.push_str(&link(PAGES, "last"));
            let row = json!({"station": &path[7..], "at": text(this_hour() - TimeDelta::hours(page)), "value": page});
            let body = json!({"data": [row]}).to_string();
            let _ = sender.send(target);
            let length = body.len();
            let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n{links}");
            write!(stream, "{head}\r\n{body}").unwrap();
        }
    });
    (url, requested)
}

#[test]
fn the_next_page_may_be_named_by_any_of_several_headers() {
    let world = World::new("", "paging = { link = true }");
    let (url, requested) = server_with_links();
    let file = world.warehouse.path().join("collects/flows.toml");
    world
        .warehouse
        .write("collects/flows.toml", &fs::read_to_string(file).unwrap().replace(&world.partner.url(), &url));
    assert_eq!(world.collect()["new"], 6);
    let requested: Vec<String> = requested.try_iter().collect();
    assert_eq!(requested.len(), 6, "{requested:?}");
    assert_eq!(requested[1..3], ["/flows/V1?page=2", "/flows/V1?page=3"]);
}

#[test]
fn a_redirect_to_another_port_is_not_followed() {
    let other = Partner::start(0, |_| PartnerAnswer::ok("{\"data\": []}")).unwrap();
    let world = World::new("", KEYS);
    let elsewhere = other.url();
    world
        .partner
        .answer_by(move |request| PartnerAnswer::status(302).with("location", format!("{elsewhere}{}", request.path)));
    let refused = world.warehouse.run(&["run", "collect:flows"]);
    assert_eq!(refused.code, 4, "{}", refused.text());
    refused.has("redirected to another host or port").has("configure the final URL").has("2 failed");
    assert!(other.take_requests().is_empty());
    assert_eq!(world.partner.take_requests().len(), 2);
    // Within the host and port it is followed, with the key.
    let at = text(this_hour() - TimeDelta::hours(1));
    world.partner.answer_by(move |request| match request.path.strip_prefix("/moved/") {
        Some(station) => PartnerAnswer::ok(json!({"data": [{"station": station, "at": at, "value": 1}]}).to_string()),
        None => PartnerAnswer::status(302).with("location", request.path.replace("/flows/", "/moved/")),
    });
    assert_eq!(world.collect()["new"], 2);
    let requests = world.partner.take_requests();
    assert_eq!(requests.len(), 4, "{requests:?}");
    assert!(requests.iter().all(|request| request.header("x-key") == Some("the-partners-key")), "{requests:?}");
    assert!(requests.iter().all(|request| request.header("authorization").is_some()), "{requests:?}");
}

#[test]
fn a_redirected_request_for_a_token_does_not_take_the_secret_along() {
    let other = Partner::start(0, |_| PartnerAnswer::ok("{\"access_token\": \"t\"}")).unwrap();
    let elsewhere = other.url();
    let server =
        Partner::start(0, move |_| PartnerAnswer::status(307).with("location", format!("{elsewhere}/token"))).unwrap();
    let login = format!(
        "[request.login]\ntoken_url = '{}/token'\nclient_id = 'id'\nclient_secret = 'the-clients-secret'\n",
        server.url()
    );
    let world = World::new("", &login);
    let refused = world.warehouse.run(&["run", "collect:flows"]);
    assert_ne!(refused.code, 0, "{}", refused.text());
    refused.has("redirected to another host or port");
    assert!(!server.take_requests().is_empty());
    assert!(other.take_requests().is_empty() && world.partner.take_requests().is_empty());
}
