//! HTTP sources: Python's plain server, and a server with ETags and ranges.

use std::process::Command;
use std::time::Duration;

use ingest::Kind;
use ingest::arrivals::{Arrival, ArrivalHistory};
use ingest::fetch::{fetch, list};
use ingest::objects::Hash;
use ingest::source::{Http, HttpUrl, Listing, SkipReason, Source, Template};
use tempfile::TempDir;

use crate::server::{DATE, QUICK, Server, UnreliableProxy, bytes_of, free_port, objects, python};

fn url(text: &str) -> HttpUrl {
    HttpUrl { url: Template::parse(text).unwrap(), name: None }
}

fn source(urls: &[String]) -> Http {
    Http::new(urls.iter().map(|text| url(text)).collect(), &[("X-Api-Key".to_owned(), "secret".to_owned())]).unwrap()
}

async fn listed(source: &Http) -> Listing {
    list(source, DATE, Duration::ZERO, &QUICK).await.unwrap()
}

/// `python -m http.server`, which knows neither ranges nor ETags.
fn without_ranges(files: &[(&str, &[u8])]) -> (TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let port = free_port();
    let mut command = Command::new(python());
    command.args(["-m", "http.server", &port.to_string(), "--bind", "127.0.0.1", "--directory"]).arg(folder.path());
    (folder, Server::start(port, &mut command))
}

/// Serves `/file` with an ETag, a time and ranges to requests with the key; the other paths respond with a status.
const WITH_RANGES: &str = r#"
import sys
from flask import Flask, abort, redirect, request, send_file
app = Flask("files")
refuse_head = len(sys.argv) > 3
@app.before_request
def check():
    if request.headers.get("X-Api-Key") != "secret":
        abort(401)
    if refuse_head and request.method == "HEAD":
        abort(405)
@app.route("/file")
def file():
    return send_file(sys.argv[2], conditional=True, etag=True)
@app.route("/status/<int:status>")
def status(status):
    abort(status)
@app.route("/away")
def away():
    return redirect("http://localhost:%s/file" % sys.argv[1])
app.run("127.0.0.1", int(sys.argv[1]))
"#;

fn with_ranges(bytes: &[u8], refuses_head: bool) -> (TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, bytes).unwrap();
    let port = free_port();
    let mut command = Command::new(python());
    command.args(["-c", WITH_RANGES, &port.to_string()]).arg(file);
    if refuses_head {
        command.arg("no-head");
    }
    (folder, Server::start(port, &mut command))
}

#[tokio::test]
async fn files_of_a_server_without_ranges() {
    let large = bytes_of(20 << 20);
    let (folder, server) = without_ranges(&[("2026-09.csv", b"prm;energie"), ("large.bin", &large), ("empty", b"")]);
    let base = server.url();
    let urls = ["{date:%Y-%m}.csv", "large.bin", "empty", "not-yet.csv"].map(|name| format!("{base}/{name}"));
    let source = source(&urls);
    let listing = listed(&source).await;
    let names: Vec<&str> = listing.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["2026-09.csv", "empty", "large.bin"]);
    assert_eq!((listing.skipped[0].name.as_str(), listing.skipped[0].reason), ("not-yet.csv", SkipReason::Absent));
    let (_store, objects) = objects();
    let mut past = Vec::new();
    for file in &listing.files {
        let object = fetch(&source, file, &objects, &QUICK).await.unwrap();
        let bytes = std::fs::read(folder.path().join(&file.name)).unwrap();
        assert_eq!((object.sha256, Some(object.bytes)), (Hash::of(&bytes), file.size));
        let at = file.modified.unwrap() + chrono::TimeDelta::seconds(60);
        past.push(Arrival { source: "site".to_owned(), file: file.clone(), sha256: object.sha256, at });
    }
    assert_eq!(ArrivalHistory::new(&past).plan("site", &listed(&source).await.files).fetch, []);
    std::fs::write(folder.path().join("2026-09.csv"), "prm;energie;statut").unwrap();
    assert_eq!(ArrivalHistory::new(&past).plan("site", &listed(&source).await.files).fetch.len(), 1);
    // The listed file was replaced: another one must not be stored under its name.
    let old = fetch(&source, &listing.files[0], &objects, &QUICK).await.unwrap_err();
    assert_eq!(old.kind, Kind::Retry);
}

#[tokio::test]
async fn an_interrupted_download_is_continued() {
    let bytes = bytes_of(3 << 20);
    for refuses_head in [false, true] {
        let (_folder, server) = with_ranges(&bytes, refuses_head);
        let proxy = UnreliableProxy::start(server.port, 1 << 20, 2);
        let source = source(&[format!("http://127.0.0.1:{}/file", proxy.port)]);
        let listing = listed(&source).await;
        assert!(listing.files[0].etag.is_some() && listing.files[0].size == Some(3 << 20), "{listing:?}");
        // Only its end, as after an interruption.
        let opened = source.open(&listing.files[0], 3 << 20 >> 1).await.unwrap();
        assert_eq!(opened.from, 3 << 20 >> 1);
        drop(opened);
        let (_store, objects) = objects();
        let object = fetch(&source, &listing.files[0], &objects, &QUICK).await.unwrap();
        assert_eq!(object.sha256, Hash::of(&bytes));
        assert!(proxy.connections() >= 3, "it was interrupted");
    }
    // A server without ranges sends it whole, from the beginning.
    let (_folder, server) = without_ranges(&[("file", &bytes)]);
    let proxy = UnreliableProxy::start(server.port, 1 << 20, 2);
    let source = source(&[format!("http://127.0.0.1:{}/file", proxy.port)]);
    let (_store, objects) = objects();
    let object = fetch(&source, &listed(&source).await.files[0], &objects, &QUICK).await.unwrap();
    assert_eq!(object.sha256, Hash::of(&bytes));
}

#[tokio::test]
async fn a_file_that_changed_since_its_listing_is_refused() {
    let (folder, server) = with_ranges(&bytes_of(3 << 20), false);
    let source = source(&[format!("{}/file", server.url())]);
    let listing = listed(&source).await;
    std::fs::write(folder.path().join("file"), bytes_of(2 << 20)).unwrap();
    for from in [0, 1 << 20] {
        let Err(error) = source.open(&listing.files[0], from).await else { panic!("from {from}") };
        assert!(error.to_string().contains("it changed since it was listed"), "{error}");
    }
}

#[tokio::test]
async fn what_servers_refuse() {
    let (_folder, server) = with_ranges(b"x", false);
    let kind = async |path: &str| {
        let error = source(&[format!("{}{path}", server.url())]).list(DATE).await.unwrap_err();
        (error.kind, error.to_string())
    };
    assert_eq!(
        kind("/status/401").await,
        (Kind::FixSetup, "request 401: the server responded 401 Unauthorized".into())
    );
    assert_eq!(kind("/status/429").await.0, Kind::Retry);
    assert_eq!(kind("/status/503").await.0, Kind::Retry);
    assert_eq!(kind("/away").await.0, Kind::FixSetup, "a key goes to no other host");
    let keyless = Http::new(vec![url(&format!("{}/file", server.url()))], &[]).unwrap();
    assert_eq!(keyless.list(DATE).await.unwrap_err().kind, Kind::FixSetup);
    let unreachable =
        source(&[format!("http://127.0.0.1:{}/secret?key=k3y", free_port())]).list(DATE).await.unwrap_err();
    assert_eq!(unreachable.kind, Kind::Retry);
    let mut chain = format!("{unreachable}");
    let mut cause = std::error::Error::source(&unreachable);
    while let Some(error) = cause {
        chain += &error.to_string();
        cause = error.source();
    }
    assert!(!chain.contains("k3y"), "{chain}");
}
