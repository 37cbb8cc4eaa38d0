//! Compares past arrivals with what a source lists: which files to fetch, and whether a fetched file
//! is new, changed or known. Pure functions: no source is read and nothing is stored.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};

use crate::objects::Hash;
use crate::source::ListedFile;

/// One delivery of a file, with its source's description of it at that time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// The name of the source.
    pub source: String,
    /// The file with the description of its listing.
    pub file: ListedFile,
    /// The hash of its bytes.
    pub sha256: Hash,
    /// When it was listed to be fetched.
    pub at: DateTime<Utc>,
}

/// Why a file is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchReason {
    /// No file of this name arrived from this source before.
    NewName,
    /// Its size, its time or its ETag differs from the last arrival's.
    Changed,
    /// Its description does not tell whether it changed; only its bytes do.
    Uncertain,
}

/// What to do with the files of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchPlan {
    /// The files to fetch.
    pub fetch: Vec<(ListedFile, FetchReason)>,
    /// The names of files that arrived before and did not change.
    pub unchanged: Vec<String>,
}

/// How a fetched file relates to the arrivals before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArrivalKind {
    /// Neither its name nor its bytes arrived before.
    New,
    /// Other bytes under a known name: `version` counts from 2, `before` is the hash of the version before.
    NewVersion { version: usize, before: Hash },
    /// The bytes of this name's last version again.
    Same,
    /// The bytes of an earlier version, `same_as`, which became the newest `version`; a user should check why.
    Reverted { version: usize, same_as: usize, before: Hash },
    /// Bytes that arrived under other names, each as source and name, in the order of their arrival.
    OtherName { names: Vec<(String, String)> },
}

/// File times may be this coarse: a file written twice within it may have the same description both times.
const CLOCK_STEP: TimeDelta = TimeDelta::seconds(2);

/// Past arrivals, by source and name and by hash.
pub struct ArrivalHistory<'a> {
    by_name: HashMap<(&'a str, &'a str), Vec<&'a Arrival>>,
    by_hash: BTreeMap<Hash, Vec<&'a Arrival>>,
}

impl<'a> ArrivalHistory<'a> {
    /// Indexes past arrivals, which may be in any order.
    pub fn new(past: &'a [Arrival]) -> ArrivalHistory<'a> {
        let mut sorted: Vec<&Arrival> = past.iter().collect();
        sorted.sort_by_key(|arrival| arrival.at);
        let mut history = ArrivalHistory { by_name: HashMap::new(), by_hash: BTreeMap::new() };
        for arrival in sorted {
            history.by_name.entry((&arrival.source, &arrival.file.name)).or_default().push(arrival);
            history.by_hash.entry(arrival.sha256).or_default().push(arrival);
        }
        history
    }

    /// Which files of a source's listing are to be fetched.
    pub fn plan(&self, source: &str, listed: &[ListedFile]) -> FetchPlan {
        let mut plan = FetchPlan { fetch: Vec::new(), unchanged: Vec::new() };
        for file in listed {
            match self.reason(source, file) {
                Some(reason) => plan.fetch.push((file.clone(), reason)),
                None => plan.unchanged.push(file.name.clone()),
            }
        }
        plan
    }

    fn reason(&self, source: &str, file: &ListedFile) -> Option<FetchReason> {
        let Some(last) = self.of_name(source, &file.name).last() else { return Some(FetchReason::NewName) };
        let both = |a: bool, b: bool| a && b;
        if !file.is_like(&last.file) {
            return Some(FetchReason::Changed);
        }
        if both(file.etag.is_some(), last.file.etag.is_some()) {
            return None;
        }
        let tells = both(file.size.is_some(), last.file.size.is_some())
            && both(file.modified.is_some(), last.file.modified.is_some());
        // A file written just before it was listed may have been written again within the same second.
        let is_fresh = file.modified.is_some_and(|modified| last.at - modified < CLOCK_STEP);
        (!tells || is_fresh).then_some(FetchReason::Uncertain)
    }

    /// How a fetched file relates to the past arrivals, which must not include it.
    pub fn classify(&self, source: &str, name: &str, sha256: Hash) -> ArrivalKind {
        let versions = distinct(self.of_name(source, name));
        match versions.last() {
            Some(last) if *last == sha256 => ArrivalKind::Same,
            Some(last) => {
                let version = versions.len() + 1;
                match versions.iter().position(|before| *before == sha256) {
                    Some(at) => ArrivalKind::Reverted { version, same_as: at + 1, before: *last },
                    None => ArrivalKind::NewVersion { version, before: *last },
                }
            }
            None => {
                let names = self.names_with(sha256);
                if names.is_empty() { ArrivalKind::New } else { ArrivalKind::OtherName { names } }
            }
        }
    }

    /// The names whose newest version has these bytes. Names whose bytes were replaced since don't count: earlier
    /// bytes that arrive under a new name are not a duplicate of them.
    fn names_with(&self, sha256: Hash) -> Vec<(String, String)> {
        let mut names: Vec<(String, String)> = Vec::new();
        for other in self.by_hash.get(&sha256).into_iter().flatten() {
            let name = (other.source.clone(), other.file.name.clone());
            let newest = self.of_name(&name.0, &name.1).last().map(|arrival| arrival.sha256);
            if newest == Some(sha256) && !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    fn of_name<'k>(&'k self, source: &'k str, name: &'k str) -> &'k [&'a Arrival] {
        self.by_name.get(&(source, name)).map(Vec::as_slice).unwrap_or_default()
    }
}

/// The hashes of a name's versions, in order. The same bytes fetched again are not another version.
fn distinct(arrivals: &[&Arrival]) -> Vec<Hash> {
    let mut versions: Vec<Hash> = arrivals.iter().map(|arrival| arrival.sha256).collect();
    versions.dedup();
    versions
}
