use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{NaiveDate, Utc};
use futures::TryStreamExt;

use super::stable::{list_stable, retain_stable};
use super::{Folder, ListedFile, Listing, OpenedFile, Pattern, SkipReason, SkippedFile, Source, Template};
use crate::Kind;

const DATE: NaiveDate = NaiveDate::from_ymd_opt(2026, 9, 30).unwrap();

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn folder(root: &Path, patterns: &[&str]) -> Folder {
    Folder::new(root, patterns.iter().map(|text| Template::parse(text).unwrap()).collect())
}

fn names(listing: &Listing) -> Vec<&str> {
    listing.files.iter().map(|file| file.name.as_str()).collect()
}

async fn whole(source: &dyn Source, file: &ListedFile, from: u64) -> crate::Result<Vec<u8>> {
    let opened = source.open(file, from).await?;
    assert_eq!(opened.from, from);
    opened
        .bytes
        .try_fold(Vec::new(), |mut all, piece| async move {
            all.extend(piece);
            Ok(all)
        })
        .await
}

#[test]
fn templates() {
    let fill =
        |text: &str| Template::parse(text).map(|template| template.fill(DATE)).map_err(|error| error.to_string());
    assert_eq!(fill("https://x.fr/{date:%Y-%m}/{date}.csv"), Ok("https://x.fr/2026-09/2026-09-30.csv".into()));
    assert_eq!(fill("{a,b}*.csv"), Ok("{a,b}*.csv".into()));
    for (text, says) in [
        ("{date:%Y", "without its `}`"),
        ("{date:%H}", "without the time"),
        ("{date:%}", "%Y, %m, %d"),
        ("{date%Y}", "with a colon"),
    ] {
        assert!(fill(text).unwrap_err().contains(says), "{text}");
    }
}

#[test]
fn patterns() {
    let matches = |pattern: &str, name: &str| Pattern::parse(pattern).unwrap().matches(name);
    assert!(matches("*.csv", "a.csv") && !matches("*.csv", "in/a.csv") && !matches("*.csv", ".a.csv"));
    assert!(matches("**/*.csv", "a/b/c.csv") && matches("**/*.csv", "c.csv"));
    assert!(matches("./in/*.{csv,xlsx}", "in/a.xlsx") && matches(".*.csv", ".a.csv"));
    assert_eq!(Pattern::parse("2026/09/*/a?.csv").unwrap().folder(), "2026/09");
    assert_eq!(Pattern::parse("[a").unwrap_err().kind, Kind::FixInput);
}

#[tokio::test]
async fn a_folder_lists_what_its_patterns_match() {
    let root = tempfile::tempdir().unwrap();
    for name in
        ["2026-09/a.csv", "2026-09/b.csv", "2026-09/.hidden.csv", "2026-09/deep/c.csv", "2026-10/d.csv", "e.csv"]
    {
        write(root.path(), name, name);
    }
    std::os::unix::fs::symlink("a.csv", root.path().join("2026-09/link.csv")).unwrap();
    let listing = folder(root.path(), &["{date:%Y-%m}/*.csv", "*/a.csv", "missing/*"]).list(DATE).await.unwrap();
    assert_eq!(names(&listing), ["2026-09/a.csv", "2026-09/b.csv"]);
    assert_eq!(listing.skipped, [SkippedFile { name: "2026-09/link.csv".into(), reason: SkipReason::NotPlainFile }]);
    assert_eq!(listing.files[0].size, Some(13));
    let all = folder(root.path(), &["**/*.csv"]).list(DATE).await.unwrap();
    assert_eq!(names(&all), ["2026-09/a.csv", "2026-09/b.csv", "2026-09/deep/c.csv", "2026-10/d.csv", "e.csv"]);
    let nowhere = folder(&root.path().join("nowhere"), &["*"]).list(DATE).await.unwrap_err();
    assert_eq!(nowhere.kind, Kind::FixSetup);
}

#[tokio::test]
async fn a_folder_opens_what_it_listed() {
    let root = tempfile::tempdir().unwrap();
    let long = "x".repeat(1 << 20);
    write(root.path(), "a.csv", &long);
    let source = folder(root.path(), &["*"]);
    let file = source.list(DATE).await.unwrap().files.remove(0);
    assert_eq!(whole(&source, &file, 0).await.unwrap(), long.as_bytes());
    assert_eq!(whole(&source, &file, (1 << 20) - 3).await.unwrap(), b"xxx");
    // It grows while it is read: the bytes read so far can't be used.
    let mut opened = source.open(&file, 0).await.unwrap();
    opened.bytes.try_next().await.unwrap().unwrap();
    write(root.path(), "a.csv", &(long + "y"));
    let error = opened.bytes.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind, Kind::Retry);
    assert!(error.to_string().contains("it changed since it was listed"), "{error}");
    assert_eq!(whole(&source, &file, 0).await.unwrap_err().kind, Kind::Retry);
    std::fs::remove_file(root.path().join("a.csv")).unwrap();
    assert_eq!(whole(&source, &file, 0).await.unwrap_err().kind, Kind::FixInput);
}

fn dates(folder: &Path, name: &str, hours: i64) {
    let at = std::time::SystemTime::from(Utc::now() + chrono::TimeDelta::hours(hours));
    std::fs::File::options().write(true).open(folder.join(name)).unwrap().set_modified(at).unwrap();
}

/// Files grow and appear between its first listing and its second, however slow the machine is.
struct Growing<'a> {
    folder: Folder,
    root: &'a Path,
    lists: AtomicUsize,
}

#[async_trait]
impl Source for Growing<'_> {
    async fn list(&self, date: NaiveDate) -> crate::Result<Listing> {
        if self.lists.fetch_add(1, Ordering::SeqCst) == 1 {
            write(self.root, "grows.csv", "ab");
            write(self.root, "new.csv", "a");
        }
        self.folder.list(date).await
    }

    async fn open(&self, file: &ListedFile, from: u64) -> crate::Result<OpenedFile> {
        self.folder.open(file, from).await
    }
}

#[tokio::test]
async fn a_growing_file_is_skipped() {
    let root = tempfile::tempdir().unwrap();
    for name in ["done.csv", "grows.csv"] {
        write(root.path(), name, "a");
        // By its time it is never old enough.
        dates(root.path(), name, 1);
    }
    let source = Growing { folder: folder(root.path(), &["*.csv"]), root: root.path(), lists: AtomicUsize::new(0) };
    let listing = list_stable(&source, DATE, Duration::from_millis(100)).await.unwrap();
    assert_eq!(names(&listing), ["done.csv"]);
    let skipped: Vec<_> = listing.skipped.iter().map(|file| (file.name.as_str(), file.reason.as_str())).collect();
    assert_eq!(skipped, [("grows.csv", "is still growing"), ("new.csv", "is still growing")]);
    // All of them are older than that: there is nothing to wait for.
    for name in ["done.csv", "grows.csv", "new.csv"] {
        dates(root.path(), name, -1);
    }
    assert_eq!(names(&list_stable(&source, DATE, Duration::from_secs(60)).await.unwrap()).len(), 3);
    assert_eq!(source.lists.load(Ordering::SeqCst), 3, "listed once");
}

#[test]
fn what_has_no_time_is_watched_too() {
    let one = |size| ListedFile { name: "a".into(), size: Some(size), modified: None, etag: None };
    let now = |size| Listing { files: vec![one(size)], skipped: Vec::new() };
    assert_eq!(retain_stable(&[one(1)], now(1)).files.len(), 1);
    assert_eq!(retain_stable(&[one(1)], now(2)).skipped.len(), 1);
}

#[test]
fn an_etag_decides_where_both_have_one() {
    let one = |etag: Option<&str>, second| ListedFile {
        name: "a".into(),
        size: None,
        modified: Some(Utc::now() + chrono::TimeDelta::seconds(second)),
        etag: etag.map(str::to_owned),
    };
    assert!(one(Some("x"), 0).is_like(&one(Some("x"), 9)));
    assert!(!one(Some("x"), 0).is_like(&one(Some("y"), 0)));
    assert!(!one(Some("x"), 0).is_like(&one(None, 9)));
}
