use chrono::{DateTime, Utc};

use super::{Arrival, ArrivalHistory, ArrivalKind, FetchReason};
use crate::objects::Hash;
use crate::source::ListedFile;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000 + second, 0).unwrap()
}

fn listed(name: &str, size: u64, modified: i64) -> ListedFile {
    ListedFile { name: name.to_owned(), size: Some(size), modified: Some(at(modified)), etag: None }
}

fn arrival(file: ListedFile, bytes: &str, when: i64) -> Arrival {
    Arrival { source: "inbox".to_owned(), file, sha256: Hash::of(bytes.as_bytes()), at: at(when) }
}

fn reasons(past: &[Arrival], now: ListedFile) -> Vec<FetchReason> {
    ArrivalHistory::new(past).plan("inbox", &[now]).fetch.into_iter().map(|(_, reason)| reason).collect()
}

#[test]
fn what_is_worth_fetching() {
    let past = [arrival(listed("a.csv", 10, 0), "one", 100)];
    assert_eq!(reasons(&past, listed("a.csv", 10, 0)), []);
    assert_eq!(reasons(&past, listed("a.csv", 11, 0)), [FetchReason::Changed]);
    assert_eq!(reasons(&past, listed("a.csv", 10, 50)), [FetchReason::Changed]);
    assert_eq!(reasons(&past, listed("b.csv", 10, 0)), [FetchReason::NewName]);
    assert_eq!(
        ArrivalHistory::new(&past).plan("other", &[listed("a.csv", 10, 0)]).fetch.len(),
        1,
        "each source has its own names"
    );
    assert_eq!(ArrivalHistory::new(&past).plan("inbox", &[listed("a.csv", 10, 0)]).unchanged, ["a.csv"]);
    // Written in the second in which it was listed: it may have been written again.
    let fresh = [arrival(listed("a.csv", 10, 99), "one", 100)];
    assert_eq!(reasons(&fresh, listed("a.csv", 10, 99)), [FetchReason::Uncertain]);
}

#[test]
fn servers_that_say_little() {
    let bare = ListedFile { name: "a.csv".to_owned(), size: None, modified: None, etag: None };
    let tagged = |etag: &str| ListedFile { etag: Some(etag.to_owned()), ..bare.clone() };
    assert_eq!(reasons(&[arrival(bare.clone(), "one", 0)], bare.clone()), [FetchReason::Uncertain]);
    assert_eq!(reasons(&[arrival(tagged("x"), "one", 0)], tagged("x")), []);
    assert_eq!(reasons(&[arrival(tagged("x"), "one", 0)], tagged("y")), [FetchReason::Changed]);
    assert_eq!(reasons(&[arrival(tagged("x"), "one", 0)], bare), [FetchReason::Uncertain]);
}

#[test]
fn what_a_file_turns_out_to_be() {
    let hash = |bytes: &str| Hash::of(bytes.as_bytes());
    let file = listed("a.csv", 10, 0);
    let past = [
        // In any order; the same bytes fetched again are not another version.
        arrival(file.clone(), "two", 30),
        arrival(file.clone(), "two", 40),
        arrival(file.clone(), "one", 10),
        arrival(file.clone(), "one", 20),
        arrival(listed("z.csv", 1, 0), "other", 5),
    ];
    let came = |name: &str, bytes: &str| ArrivalHistory::new(&past).classify("inbox", name, hash(bytes));
    assert_eq!(came("a.csv", "two"), ArrivalKind::Same);
    assert_eq!(came("a.csv", "three"), ArrivalKind::NewVersion { version: 3, before: hash("two") });
    assert_eq!(came("a.csv", "one"), ArrivalKind::Reverted { version: 3, same_as: 1, before: hash("two") });
    assert_eq!(came("b.csv", "new"), ArrivalKind::New);
    let names = vec![("inbox".to_owned(), "a.csv".to_owned())];
    assert_eq!(came("b.csv", "two"), ArrivalKind::OtherName { names }, "each name once");
    assert_eq!(came("b.csv", "one"), ArrivalKind::New, "no name has these bytes any more");
}
