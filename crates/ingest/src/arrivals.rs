//! What came already against what is there now: which files to fetch, and what a file turns out to
//! be once its bytes are known. Pure: it asks no source and keeps nothing.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};

use crate::objects::Hash;
use crate::source::Listed;

/// A file that came, with its source's description of it at that time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    pub source: String,
    pub file: Listed,
    pub sha256: Hash,
    /// When it was listed to be fetched.
    pub at: DateTime<Utc>,
}

/// Why a file is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// No file of this name came from this source.
    NewName,
    /// Its size, its time or its etag is another.
    Changed,
    /// Nothing in its description tells whether it is another, so that only its bytes can.
    Unsure,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub fetch: Vec<(Listed, Reason)>,
    /// By name, those that came as they are.
    pub unchanged: Vec<String>,
}

/// A file's bytes once they are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// Neither its name nor its bytes came before.
    New,
    /// Other bytes under a known name: its `version`, from 2 on.
    NewVersion { version: usize, before: Hash },
    /// The last bytes of this name again.
    Same,
    /// Bytes that this name had before its last: a step back, which somebody should look at.
    Back { version: usize, same_as: usize, before: Hash },
    /// Bytes that came under other names, each as `source` and name, the first first.
    OtherName { names: Vec<(String, String)> },
}

/// A file written twice within this time may look the same both times.
const CLOCK_STEP: TimeDelta = TimeDelta::seconds(2);

/// What came, by source and name and by bytes.
pub struct Known<'a> {
    by_name: HashMap<(&'a str, &'a str), Vec<&'a Arrival>>,
    by_hash: BTreeMap<Hash, Vec<&'a Arrival>>,
}

impl<'a> Known<'a> {
    /// In any order.
    pub fn new(past: &'a [Arrival]) -> Known<'a> {
        let mut sorted: Vec<&Arrival> = past.iter().collect();
        sorted.sort_by_key(|arrival| arrival.at);
        let mut known = Known { by_name: HashMap::new(), by_hash: BTreeMap::new() };
        for arrival in sorted {
            known.by_name.entry((&arrival.source, &arrival.file.name)).or_default().push(arrival);
            known.by_hash.entry(arrival.sha256).or_default().push(arrival);
        }
        known
    }

    /// What of a source's listing is to be fetched.
    pub fn plan(&self, source: &str, listed: &[Listed]) -> Plan {
        let mut plan = Plan { fetch: Vec::new(), unchanged: Vec::new() };
        for file in listed {
            match self.reason(source, file) {
                Some(reason) => plan.fetch.push((file.clone(), reason)),
                None => plan.unchanged.push(file.name.clone()),
            }
        }
        plan
    }

    fn reason(&self, source: &str, file: &Listed) -> Option<Reason> {
        let Some(last) = self.of_name(source, &file.name).last() else { return Some(Reason::NewName) };
        let both = |a: bool, b: bool| a && b;
        if !file.is_like(&last.file) {
            return Some(Reason::Changed);
        }
        if both(file.etag.is_some(), last.file.etag.is_some()) {
            return None;
        }
        let tells = both(file.size.is_some(), last.file.size.is_some())
            && both(file.modified.is_some(), last.file.modified.is_some());
        // Written just before it was listed, it may have been written again within the same second.
        let is_fresh = file.modified.is_some_and(|modified| last.at - modified < CLOCK_STEP);
        (!tells || is_fresh).then_some(Reason::Unsure)
    }

    /// What a file is, now that its bytes are known; `past` is without it.
    pub fn came(&self, source: &str, name: &str, sha256: Hash) -> Came {
        let versions = distinct(self.of_name(source, name));
        match versions.last() {
            Some(last) if *last == sha256 => Came::Same,
            Some(last) => {
                let version = versions.len() + 1;
                match versions.iter().position(|before| *before == sha256) {
                    Some(at) => Came::Back { version, same_as: at + 1, before: *last },
                    None => Came::NewVersion { version, before: *last },
                }
            }
            None => {
                let names = self.who_has(sha256);
                if names.is_empty() { Came::New } else { Came::OtherName { names } }
            }
        }
    }

    /// Names whose newest version these bytes are. What has been put in the place of them since is another file: sent
    /// again under a new name, the earlier bytes count.
    fn who_has(&self, sha256: Hash) -> Vec<(String, String)> {
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

/// The bytes that a name had one after another; the same fetched again is no version.
fn distinct(arrivals: &[&Arrival]) -> Vec<Hash> {
    let mut versions: Vec<Hash> = arrivals.iter().map(|arrival| arrival.sha256).collect();
    versions.dedup();
    versions
}
