//! HTTP, from Python's plainest server and from one that knows ETags and ranges.

use std::process::Command;
use std::time::Duration;

use ingest::Kind;
use ingest::arrivals::{Arrival, Known};
use ingest::fetch::{fetch, list};
use ingest::objects::Hash;
use ingest::source::{Http, HttpUrl, Listing, Source, Template, Why};
use tempfile::TempDir;

use crate::server::{DATE, QUICK, Server, Wire, bytes_of, free_port, objects, python};

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
fn plain(files: &[(&str, &[u8])]) -> (TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let port = free_port();
    let mut command = Command::new(python());
    command.args(["-m", "http.server", &port.to_string(), "--bind", "127.0.0.1", "--directory"]).arg(folder.path());
    (folder, Server::start(port, &mut command))
}

/// Answers for `/file` with an ETag, a time and ranges, if it is asked with the key; the rest are statuses.
const CAREFUL: &str = r#"
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

fn careful(bytes: &[u8], refuses_head: bool) -> (TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, bytes).unwrap();
    let port = free_port();
    let mut command = Command::new(python());
    command.args(["-c", CAREFUL, &port.to_string()]).arg(file);
    if refuses_head {
        command.arg("no-head");
    }
    (folder, Server::start(port, &mut command))
}

#[tokio::test]
async fn files_of_a_plain_server() {
    let large = bytes_of(20 << 20);
    let (folder, server) = plain(&[("2026-09.csv", b"prm;energie"), ("large.bin", &large), ("empty", b"")]);
    let base = server.url();
    let urls = ["{date:%Y-%m}.csv", "large.bin", "empty", "not-yet.csv"].map(|name| format!("{base}/{name}"));
    let source = source(&urls);
    let listing = listed(&source).await;
    let names: Vec<&str> = listing.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["2026-09.csv", "empty", "large.bin"]);
    assert_eq!((listing.left[0].name.as_str(), listing.left[0].why), ("not-yet.csv", Why::Absent));
    let (_store, objects) = objects();
    let mut past = Vec::new();
    for file in &listing.files {
        let object = fetch(&source, file, &objects, &QUICK).await.unwrap();
        let bytes = std::fs::read(folder.path().join(&file.name)).unwrap();
        assert_eq!((object.sha256, Some(object.bytes)), (Hash::of(&bytes), file.size));
        let at = file.modified.unwrap() + chrono::TimeDelta::seconds(60);
        past.push(Arrival { source: "site".to_owned(), file: file.clone(), sha256: object.sha256, at });
    }
    assert_eq!(Known::new(&past).plan("site", &listed(&source).await.files).fetch, []);
    std::fs::write(folder.path().join("2026-09.csv"), "prm;energie;statut").unwrap();
    assert_eq!(Known::new(&past).plan("site", &listed(&source).await.files).fetch.len(), 1);
    // What was listed is no longer there: another file must not come under its name.
    let old = fetch(&source, &listing.files[0], &objects, &QUICK).await.unwrap_err();
    assert_eq!(old.kind, Kind::Retry);
}

#[tokio::test]
async fn a_wire_that_breaks_is_taken_up_where_it_broke() {
    let bytes = bytes_of(3 << 20);
    for refuses_head in [false, true] {
        let (_folder, server) = careful(&bytes, refuses_head);
        let wire = Wire::breaking(server.port, 1 << 20, 2);
        let source = source(&[format!("http://127.0.0.1:{}/file", wire.port)]);
        let listing = listed(&source).await;
        assert!(listing.files[0].etag.is_some() && listing.files[0].size == Some(3 << 20), "{listing:?}");
        // The end of it alone, as after a break.
        let opened = source.open(&listing.files[0], 3 << 20 >> 1).await.unwrap();
        assert_eq!(opened.from, 3 << 20 >> 1);
        drop(opened);
        let (_store, objects) = objects();
        let object = fetch(&source, &listing.files[0], &objects, &QUICK).await.unwrap();
        assert_eq!(object.sha256, Hash::of(&bytes));
        assert!(wire.connections() >= 3, "it broke");
    }
    // From a server without ranges it comes whole, from the beginning.
    let (_folder, server) = plain(&[("file", &bytes)]);
    let wire = Wire::breaking(server.port, 1 << 20, 2);
    let source = source(&[format!("http://127.0.0.1:{}/file", wire.port)]);
    let (_store, objects) = objects();
    let object = fetch(&source, &listed(&source).await.files[0], &objects, &QUICK).await.unwrap();
    assert_eq!(object.sha256, Hash::of(&bytes));
}

#[tokio::test]
async fn a_file_that_changes_on_the_way_is_not_patched_together() {
    let (folder, server) = careful(&bytes_of(3 << 20), false);
    let source = source(&[format!("{}/file", server.url())]);
    let listing = listed(&source).await;
    std::fs::write(folder.path().join("file"), bytes_of(2 << 20)).unwrap();
    for from in [0, 1 << 20] {
        let Err(error) = source.open(&listing.files[0], from).await else { panic!("from {from}") };
        assert!(error.to_string().contains("no longer the file that was listed"), "{error}");
    }
}

#[tokio::test]
async fn what_servers_refuse() {
    let (_folder, server) = careful(b"x", false);
    let kind = async |path: &str| {
        let error = source(&[format!("{}{path}", server.url())]).list(DATE).await.unwrap_err();
        (error.kind, error.to_string())
    };
    assert_eq!(kind("/status/401").await, (Kind::FixSetup, "ask for 401: the server answers 401 Unauthorized".into()));
    assert_eq!(kind("/status/429").await.0, Kind::Retry);
    assert_eq!(kind("/status/503").await.0, Kind::Retry);
    assert_eq!(kind("/away").await.0, Kind::FixSetup, "a key goes to no other host");
    let keyless = Http::new(vec![url(&format!("{}/file", server.url()))], &[]).unwrap();
    assert_eq!(keyless.list(DATE).await.unwrap_err().kind, Kind::FixSetup);
    let nobody = source(&[format!("http://127.0.0.1:{}/secret?key=k3y", free_port())]).list(DATE).await.unwrap_err();
    assert_eq!(nobody.kind, Kind::Retry);
    let mut told = format!("{nobody}");
    let mut cause = std::error::Error::source(&nobody);
    while let Some(error) = cause {
        told += &error.to_string();
        cause = error.source();
    }
    assert!(!told.contains("k3y"), "{told}");
}
