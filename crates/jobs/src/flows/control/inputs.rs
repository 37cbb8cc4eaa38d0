//! **inputs_changed**: a bill is made from what was known when a function was invoked. This control asks the function's
//! queries again, as of now, and compares their rows with those that the answer in the table was made from, document by
//! document. A price, a contract, a meter or a file that came since is found, whichever it is.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use anyhow::{Context, Result};
use config::flow::{FunctionJob, InputsChanged, LoadSource};
use lake::Lake;
use ledger::RunRow;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use sql::Session;

use crate::flows::columns::Columns;
use crate::flows::moment::Moment;
use crate::flows::{function, rows};
use crate::warehouse::Warehouse;

pub const TEXT: &str = "what the lines were made from has changed since";
pub const HINT: &str = "run the function for the month again, then the loads of its answer: what changes becomes a reversal and a new line";

/// How many of a load's newest runs are searched.
const RUNS_MAX: usize = 10_000;

/// What has changed of one document in one input.
#[derive(Debug, Default)]
struct Change {
    rows: u64,
    before: Option<String>,
    now: Option<String>,
}

/// The rows of the control: a row for each document and input with a change.
pub async fn changed(
    warehouse: &Warehouse,
    lake: &Lake,
    session: &Session,
    control: &InputsChanged,
    moment: &Moment,
) -> Result<Vec<Map<String, Value>>> {
    let load = warehouse.load(&control.load)?;
    let LoadSource::Function { name, .. } = &load.from else {
        let what = format!("load:{} does not load the answer of a function", control.load);
        return Err(base::Error::setup(what).into());
    };
    let Some(run) = loaded_answer(warehouse, &control.load, moment)? else { return Ok(Vec::new()) };
    let job = warehouse.function(name)?.job.as_ref();
    let job = job.with_context(|| format!("functions/{name} has no job.toml, so it is not a job"))?;
    let changes = changes(warehouse, lake, session, control, job, &run, moment).await?;
    let documents = moment.fill(&control.documents, &|_| None)?;
    let documents = rows::query(session, &documents).await.context("read the documents")?;
    findings(control, &Columns::of(&documents)?, &changes)
}

/// The run whose answer the last run of the load has loaded.
fn loaded_answer(warehouse: &Warehouse, load: &str, moment: &Moment) -> Result<Option<RunRow>> {
    let period = moment.period.map(|period| period.to_string());
    let runs = warehouse.ledger.runs(RUNS_MAX, Some(&format!("load:{load}")))?;
    let loaded = runs.into_iter().find(|run| run.state == "succeeded" && run.logical == period);
    let answer = loaded.and_then(|run| run.figures["answer_of"].as_str().map(str::to_owned));
    Ok(answer.map(|id| warehouse.ledger.run(&id)).transpose()?.flatten())
}

/// The event of an invocation, with the texts of its inputs' values.
#[derive(Deserialize)]
struct StoredEvent<'a> {
    /// One input at a time is taken apart: each may have millions of values.
    #[serde(borrow)]
    inputs: BTreeMap<String, &'a RawValue>,
}

#[derive(Deserialize)]
struct StoredInput<'a> {
    #[serde(borrow)]
    columns: BTreeMap<String, Vec<&'a RawValue>>,
}

/// What each document has in an input, by the value of the column that tells the document.
type Digests = BTreeMap<Option<String>, (u64, u128)>;

/// By the value of the column that tells the document, and by input.
///
/// The event and the rows of a query are never held at a time: each may take hundreds of megabytes. The event is read
/// once for the digests of its rows, and again only where something differs.
async fn changes(
    warehouse: &Warehouse,
    lake: &Lake,
    session: &Session,
    control: &InputsChanged,
    job: &FunctionJob,
    run: &RunRow,
    moment: &Moment,
) -> Result<BTreeMap<(Option<String>, String), Change>> {
    let by = control.by.as_str();
    let mut before: BTreeMap<String, Digests> = BTreeMap::new();
    each_input(&event_text(warehouse, lake, run).await?, job.inputs.keys(), |name, input| {
        before.insert(name.clone(), digests(input, by)?);
        Ok(())
    })?;
    let mut differing: BTreeMap<&String, DifferingRows> = BTreeMap::new();
    for (name, query) in &job.inputs {
        let now = function::input(session, name, query, moment).await?;
        let keys = differing_keys(&before.remove(name).unwrap_or_default(), &digests(&now, by)?);
        if !keys.is_empty() {
            differing.insert(name, DifferingRows::of(&now, by, keys)?);
        }
    }
    let mut changes = BTreeMap::new();
    if differing.is_empty() {
        return Ok(changes);
    }
    let names: Vec<&String> = differing.keys().copied().collect();
    each_input(&event_text(warehouse, lake, run).await?, names.into_iter(), |name, input| {
        let Some(now) = differing.remove(name) else { return Ok(()) };
        changes.extend(compared(input, now, by)?.into_iter().map(|(key, change)| ((key, name.clone()), change)));
        Ok(())
    })?;
    Ok(changes)
}

/// The text of the event of an invocation.
async fn event_text(warehouse: &Warehouse, lake: &Lake, run: &RunRow) -> Result<String> {
    let event = run.inputs["event"].as_str().with_context(|| format!("the run {} has no event", run.id))?;
    let mut text = String::new();
    let mut object = warehouse.objects(lake).get(&event.parse()?).await?;
    object.read_to_string(&mut text).with_context(|| format!("read the event of the run {}", run.id))?;
    Ok(text)
}

/// Passes the rows of these inputs of an event on, one input at a time; an input that the event does not have is empty.
fn each_input<'n>(
    event: &str,
    names: impl Iterator<Item = &'n String>,
    mut pass: impl FnMut(&'n String, &StoredInput<'_>) -> Result<()>,
) -> Result<()> {
    let event: StoredEvent<'_> = serde_json::from_str(event).context("read the event of the answer in the table")?;
    for name in names {
        let input = match event.inputs.get(name) {
            Some(input) => {
                serde_json::from_str(input.get()).with_context(|| format!("read the input {name} of the event"))?
            }
            None => StoredInput { columns: BTreeMap::new() },
        };
        pass(name, &input)?;
    }
    Ok(())
}

/// The rows of an input, as its query gives them now, of documents whose rows differ from the event's.
struct DifferingRows {
    names: Vec<String>,
    keys: BTreeSet<Option<String>>,
    texts: BTreeMap<Option<String>, Vec<String>>,
}

impl DifferingRows {
    fn of(now: &dyn InputRows, by: &str, keys: BTreeSet<Option<String>>) -> Result<DifferingRows> {
        Ok(DifferingRows { names: now.names(), texts: texts_of(now, by, &keys)?, keys })
    }
}

/// The rows of an input as texts of their values.
trait InputRows {
    /// The names of the columns, in the order of the values in texts.
    fn names(&self) -> Vec<String>;
    /// Passes each row on: the document that it belongs to, and its text.
    fn each(&self, by: &str, pass: &mut dyn FnMut(Option<String>, &str)) -> Result<()>;
}

impl InputRows for StoredInput<'_> {
    fn names(&self) -> Vec<String> {
        self.columns.keys().cloned().collect()
    }

    fn each(&self, by: &str, pass: &mut dyn FnMut(Option<String>, &str)) -> Result<()> {
        let count = self.columns.values().map(Vec::len).max().unwrap_or_default();
        let mut text = String::new();
        for row in 0..count {
            text.clear();
            for values in self.columns.values() {
                if !text.is_empty() {
                    text.push(',');
                }
                text.push_str(values[row].get());
            }
            let key = self.columns.get(by).and_then(|values| serde_json::from_str(values[row].get()).ok());
            pass(key, &text);
        }
        Ok(())
    }
}

impl InputRows for Columns {
    fn names(&self) -> Vec<String> {
        let mut names = Columns::names(self).to_vec();
        names.sort_unstable();
        names
    }

    fn each(&self, by: &str, pass: &mut dyn FnMut(Option<String>, &str)) -> Result<()> {
        let mut places: Vec<usize> = (0..Columns::names(self).len()).collect();
        places.sort_unstable_by_key(|at| &Columns::names(self)[*at]);
        let key_at = Columns::names(self).iter().position(|name| name == by);
        let mut text = String::new();
        self.each_row(|row| {
            text.clear();
            for at in &places {
                if !text.is_empty() {
                    text.push(',');
                }
                row.json(*at, &mut text);
            }
            let key = key_at.and_then(|at| row.value(at).as_str().map(str::to_owned));
            pass(key, &text);
        })
    }
}

/// The documents that have other rows in one than in the other.
fn differing_keys(old: &Digests, new: &Digests) -> BTreeSet<Option<String>> {
    let keys = old.keys().chain(new.keys());
    keys.filter(|key| old.get(*key) != new.get(*key)).cloned().collect()
}

/// What is in one and not in the other, by document. Texts are kept only of documents whose rows differ: a month of many
/// plants has millions of rows, of which most are the same.
fn compared(before: &dyn InputRows, mut now: DifferingRows, by: &str) -> Result<BTreeMap<Option<String>, Change>> {
    let mut old = texts_of(before, by, &now.keys)?;
    let old_names = before.names();
    let mut changes = BTreeMap::new();
    for key in now.keys {
        let (removed, added) =
            without_common(old.remove(&key).unwrap_or_default(), now.texts.remove(&key).unwrap_or_default());
        let shown = |names: &[String], text: Option<&String>| text.map(|text| with_names(names, text));
        let rows = removed.len().max(added.len()) as u64;
        let before = shown(&old_names, nearest_to(&removed, added.first()));
        changes.insert(key, Change { rows, before, now: shown(&now.names, added.first()) });
    }
    Ok(changes)
}

/// How many rows each document has, and the sum of their hashes, which does not depend on their order.
fn digests(rows: &dyn InputRows, by: &str) -> Result<Digests> {
    let mut digests = Digests::new();
    // The names are part of each row: a column of another name is another input.
    let names = rows.names().join(",");
    rows.each(by, &mut |key, text| {
        let hash = Sha256::new_with_prefix(&names).chain_update(text).finalize();
        let mut half = [0; 16];
        half.copy_from_slice(&hash[..16]);
        let (count, sum) = digests.entry(key).or_default();
        *count += 1;
        *sum = sum.wrapping_add(u128::from_le_bytes(half));
    })?;
    Ok(digests)
}

/// The texts of the rows of some documents.
fn texts_of(
    rows: &dyn InputRows,
    by: &str,
    wanted: &BTreeSet<Option<String>>,
) -> Result<BTreeMap<Option<String>, Vec<String>>> {
    let mut texts: BTreeMap<Option<String>, Vec<String>> = BTreeMap::new();
    rows.each(by, &mut |key, text| {
        if wanted.contains(&key) {
            texts.entry(key).or_default().push(text.to_owned());
        }
    })?;
    Ok(texts)
}

/// Both lists without what they share; a text counts as often as it occurs.
fn without_common(mut one: Vec<String>, mut other: Vec<String>) -> (Vec<String>, Vec<String>) {
    one.sort_unstable();
    other.sort_unstable();
    let (mut only_one, mut only_other) = (Vec::new(), Vec::new());
    let (mut one, mut other) = (one.into_iter().peekable(), other.into_iter().peekable());
    loop {
        match (one.peek(), other.peek()) {
            (Some(a), Some(b)) if a == b => {
                one.next();
                other.next();
            }
            (Some(a), Some(b)) if a < b => only_one.extend(one.next()),
            (Some(_), None) => only_one.extend(one.next()),
            (_, Some(_)) => only_other.extend(other.next()),
            (None, None) => return (only_one, only_other),
        }
    }
}

/// The text with the most values in common with another one: most likely the same row before it changed.
fn nearest_to<'t>(texts: &'t [String], other: Option<&String>) -> Option<&'t String> {
    let Some(other) = other else { return texts.first() };
    let common = |text: &String| text.split(',').zip(other.split(',')).filter(|(a, b)| a == b).count();
    texts.iter().max_by_key(|text| common(text))
}

/// `price "41.0000", series "DAY_AHEAD_FR"`.
fn with_names(names: &[String], text: &str) -> String {
    let values: Vec<Value> = serde_json::from_str(&format!("[{text}]")).unwrap_or_default();
    let shown = names.iter().zip(&values).filter(|(_, value)| !value.is_null()).map(|(name, value)| match value {
        Value::String(text) => format!("{name} {text}"),
        other => format!("{name} {other}"),
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// A row for each document with a change: the document's columns, and what has changed. A metering point may belong to
/// several documents of a month; what belongs to none of them is a row with NULL in their columns.
fn findings(
    control: &InputsChanged,
    documents: &Columns,
    changes: &BTreeMap<(Option<String>, String), Change>,
) -> Result<Vec<Map<String, Value>>> {
    let all = documents.objects()?;
    let mut rows: Vec<Map<String, Value>> = Vec::new();
    for ((key, input), change) in changes {
        let is_of_key =
            |row: &&Map<String, Value>| key.is_some() && row.get(&control.by).and_then(Value::as_str) == key.as_deref();
        let mut found: Vec<Map<String, Value>> = all.iter().filter(is_of_key).cloned().collect();
        if found.is_empty() {
            let value = |name: &String| if *name == control.by { json!(key) } else { Value::Null };
            found.push(documents.names().iter().map(|name| (name.clone(), value(name))).collect());
        }
        for mut row in found {
            let own = [
                ("input", json!(input)),
                ("rows", json!(change.rows)),
                ("before", json!(change.before)),
                ("now", json!(change.now)),
            ];
            row.extend(own.map(|(name, value)| (name.to_owned(), value)));
            rows.push(row);
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::collections::BTreeMap;

    use super::{Change, DifferingRows, InputRows, differing_keys, digests, without_common};

    fn compared(before: &Texts, now: &Texts, by: &str) -> anyhow::Result<BTreeMap<Option<String>, Change>> {
        let keys = differing_keys(&digests(before, by)?, &digests(now, by)?);
        super::compared(before, DifferingRows::of(now, by, keys)?, by)
    }

    /// Columns, and rows with the document that each belongs to.
    struct Texts(&'static str, Vec<(&'static str, &'static str)>);

    impl InputRows for Texts {
        fn names(&self) -> Vec<String> {
            self.0.split(' ').map(str::to_owned).collect()
        }

        fn each(&self, _: &str, pass: &mut dyn FnMut(Option<String>, &str)) -> anyhow::Result<()> {
            self.1.iter().for_each(|(key, text)| pass(Some((*key).to_owned()), text));
            Ok(())
        }
    }

    #[test]
    fn a_row_counts_as_often_as_it_occurs() {
        let all = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let (one, other) = without_common(all(&["b", "a", "a", "c"]), all(&["c", "a", "d"]));
        assert_eq!((one, other), (all(&["a", "b"]), all(&["d"])));
    }

    #[test]
    fn a_change_shows_the_row_before_and_now() {
        let before = Texts("price start", vec![("p", "\"41.00\",7"), ("p", "\"42.00\",8"), ("q", "\"1\",1")]);
        let now = Texts("price start", vec![("q", "\"1\",1"), ("p", "\"43.00\",8"), ("p", "\"41.00\",7")]);
        let changes = compared(&before, &now, "key").unwrap();
        assert_eq!(changes.len(), 1);
        let change = &changes[&Some("p".to_owned())];
        assert_eq!(change.rows, 1);
        assert_eq!(change.before.as_deref(), Some("price 42.00, start 8"));
        assert_eq!(change.now.as_deref(), Some("price 43.00, start 8"));
        let gone = compared(&Texts("a", vec![("p", "1")]), &Texts("", Vec::new()), "key").unwrap();
        assert_eq!(gone[&Some("p".to_owned())].now, None);
        assert_eq!(compared(&now, &now, "key").unwrap().len(), 0);
    }
}
