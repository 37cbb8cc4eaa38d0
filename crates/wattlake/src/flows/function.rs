//! **function**: queries' answers go to a function as one event; what it answers is kept in the
//! lake's objects. The run names all that the answer came from: the function's version with the
//! hashes of its code and layers, the event, the instant that it looks at the world as of. The
//! same of them gives the same answer.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use function::host::{Answer, Event, Files, Input, Ran, Refusal};
use function::registry::Found;
use ingest::objects::{Hash, Objects};
use ledger::{Run, RunRow};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::config::Function;
use crate::config::flow::Call;
use crate::flows::columns::Columns;
use crate::flows::moment::{AS_OF, Moment};
use crate::flows::rows;
use crate::host::{self, Host};
use crate::jobs::{self, Asked, Ended};
use crate::warehouse::{STATE, Warehouse};

/// Among so many runs the one that is asked for is looked for.
const RUNS_MAX: usize = 10_000;
const RESULTS: &str = "results";
const PIECE_BYTES: usize = 1 << 20;

pub async fn run(warehouse: &Warehouse, asked: &Asked, name: &str) -> Result<Value> {
    let function = warehouse.function(name)?;
    let call = function.call.as_ref().with_context(|| format!("functions/{name} has no job.toml: it is no job"))?;
    let moment = Moment::of(warehouse, asked)?;
    let detail = json!({"function": name, "qualifier": call.qualifier, AS_OF: moment.as_of()});
    jobs::run(warehouse, &format!("function:{name}"), asked, detail, async |run| {
        let figures = carry(warehouse, run, function, call, &moment).await?;
        Ok(Ended::well(figures.clone(), figures))
    })
    .await
}

async fn carry(warehouse: &Warehouse, run: &Run, function: &Function, call: &Call, moment: &Moment) -> Result<Value> {
    let found = deployed(warehouse, function, call)?;
    let lake = warehouse.lake().await?;
    let objects = warehouse.objects(&lake);
    let inputs = inputs(warehouse, &lake, call, moment).await?;
    let event = Composed::of(&found, call, moment, inputs)?;
    let event_object = put(&objects, &event.whole).await?;
    let hashes = json!({
        "function": found.content.to_string(), "code": found.code.to_string(),
        "layers": found.layers.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "event": event_object,
    });
    run.note_inputs(hashes.as_object().unwrap_or(&Map::new()))?;
    let folders = warehouse.config.root.join(STATE).join("events");
    sweep(warehouse, &folders);
    let folder = folders.join(run.id());
    let ran = invoke(warehouse, call, &found, &event, &folder).await;
    let figures = match ran {
        Ok(ran) => kept(&objects, &found, &event, &ran, &folder).await,
        Err(error) => Err(error),
    };
    let _ = std::fs::remove_dir_all(&folder);
    let mut figures = figures?;
    figures[AS_OF] = json!(moment.as_of());
    let period = moment.period.map(|period| period.to_string());
    let fields = json!({"function": found.name, "for": period, "result": figures["result"]});
    run.event("function.answered", fields)?;
    Ok(figures)
}

/// The answer and the files that came with it, as objects.
async fn kept(objects: &Objects, found: &Found, event: &Composed, ran: &Ran, folder: &Path) -> Result<Value> {
    let outcome = &ran.outcome;
    for line in outcome.log_tail.lines() {
        tracing::info!(target: "wattlake::function", "{line}");
    }
    let answer = match &outcome.answer {
        Answer::Response(answer) => answer.clone(),
        Answer::Error(failure) => bail!(failed(found, &failure.error_type, &failure.body)),
    };
    #[cfg(feature = "failpoints")]
    fail::fail_point!("function-before-result");
    let result = put(objects, &answer).await?;
    let mut files = Vec::new();
    let mut produced: Vec<_> = outcome.results.iter().collect();
    produced.sort_by(|a, b| a.name.cmp(&b.name));
    for file in produced {
        let path = folder.join(RESULTS).join(&file.name);
        let object = put_file(objects, &path).await.with_context(|| format!("keep /results/{}", file.name))?;
        files.push(json!({"name": file.name, "bytes": file.bytes, "sha256": object}));
    }
    // All that came out, in one hash: two runs with the same gave the same.
    let output = Hash::of(json!([result, files]).to_string().as_bytes()).to_string();
    Ok(json!({
        "version": found.version, "result": result, "result_bytes": answer.len(), "files": files, "output": output,
        "event_bytes": event.whole.len(), "inputs": event.rows, "milliseconds": outcome.duration.as_millis() as u64,
        "init_milliseconds": outcome.init.map(|init| init.as_millis() as u64),
        "memory_peak_bytes": outcome.memory_peak_bytes,
    }))
}

/// Folders of runs that were killed.
fn sweep(warehouse: &Warehouse, folders: &Path) {
    for entry in std::fs::read_dir(folders).into_iter().flatten().flatten() {
        let run = warehouse.ledger.run(&entry.file_name().to_string_lossy());
        if run.is_ok_and(|run| run.is_none_or(|run| run.state != "running")) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

async fn put_file(objects: &Objects, path: &Path) -> Result<String> {
    let mut file = tokio::fs::File::open(path).await?;
    let mut incoming = objects.begin();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = tokio::io::AsyncReadExt::read(&mut file, &mut piece).await?;
        if read == 0 {
            break;
        }
        incoming.write(&piece[..read]).await?;
    }
    Ok(incoming.finish().await?.sha256.to_string())
}

/// Where a job runs `$LATEST`, the folder is deployed first: what is in it is what runs.
fn deployed(warehouse: &Warehouse, function: &Function, call: &Call) -> Result<Found> {
    let registry = host::registry(warehouse)?;
    if call.qualifier == function::registry::LATEST {
        registry.deploy(&function.definition).with_context(|| format!("deploy {}", function.name))?;
    }
    registry.find(&function.name, &call.qualifier)?.with_context(|| {
        let (name, qualifier) = (&function.name, &call.qualifier);
        format!("{name} has no {qualifier:?}: deploy it with `wattlake function deploy {name} --alias {qualifier}`")
    })
}

async fn inputs(
    warehouse: &Warehouse,
    lake: &lake::Lake,
    call: &Call,
    moment: &Moment,
) -> Result<BTreeMap<String, Columns>> {
    let session = rows::session(warehouse, lake)?;
    let mut inputs = BTreeMap::new();
    for (name, query) in &call.inputs {
        let query = moment.fill(query, &|_| None)?;
        let batches = rows::asked(&session, &query).await.with_context(|| format!("ask for input {name}"))?;
        inputs.insert(name.clone(), Columns::of(&batches).with_context(|| format!("write input {name}"))?);
    }
    Ok(inputs)
}

/// The event as it is sent, and what it stands for.
struct Composed {
    /// With all rows in it: what is hashed and kept.
    whole: Bytes,
    sent: Bytes,
    /// By name, where the event is too large to hold them.
    files: Vec<(String, String)>,
    rows: Value,
}

impl Composed {
    fn of(found: &Found, call: &Call, moment: &Moment, inputs: BTreeMap<String, Columns>) -> Result<Composed> {
        let parameters = call.parameters.iter().map(|(name, text)| Ok((name.clone(), moment.fill(text, &|_| None)?)));
        let parameters: BTreeMap<String, String> = parameters.collect::<Result<_>>()?;
        let event = |inputs: Value| {
            json!({
                "period": moment.period.map(|period| period.to_string()), AS_OF: moment.as_of(),
                "parameters": parameters, "inputs": inputs,
            })
        };
        let rows: Map<String, Value> =
            inputs.iter().map(|(name, columns)| (name.clone(), json!(columns.rows()))).collect();
        let whole: Map<String, Value> = inputs.iter().map(|(name, columns)| (name.clone(), columns.json())).collect();
        let whole: Bytes = serde_json::to_vec(&event(Value::Object(whole))).context("write the event")?.into();
        if whole.len() <= function::invoke::REQUEST_BYTES_MAX {
            return Ok(Composed { sent: whole.clone(), whole, files: Vec::new(), rows: Value::Object(rows) });
        }
        if found.settings.files.is_none() {
            let (name, bytes) = (&found.name, crate::text::bytes(whole.len() as u64));
            bail!("the event of {name} has {bytes}, more than 6 MB: allow it files with [files] in its function.toml");
        }
        let named: Map<String, Value> =
            inputs.keys().map(|name| (name.clone(), json!({"file": format!("/inputs/{name}.csv")}))).collect();
        let sent = serde_json::to_vec(&event(Value::Object(named))).context("write the event")?.into();
        let files = inputs.iter().map(|(name, columns)| (format!("{name}.csv"), columns.csv())).collect();
        Ok(Composed { whole, sent, files, rows: Value::Object(rows) })
    }
}

/// `folder` is the run's own, for the files that go in and come out.
async fn invoke(warehouse: &Warehouse, call: &Call, found: &Found, event: &Composed, folder: &Path) -> Result<Ran> {
    let host = Host::open(warehouse).await?;
    let mut files = lay_out(folder, event)?;
    if found.settings.files.is_some() {
        files.get_or_insert_default().results = Some(folder.join(RESULTS));
    }
    let request_id = Uuid::now_v7().to_string();
    let asked = Event { request_id, payload: event.sent.clone(), files, ..Event::default() };
    let (fleet, name, qualifier) = (host.fleet.clone(), found.name.clone(), call.qualifier.clone());
    // In a task of its own: who gives up on it would kill the instance.
    let ran = tokio::spawn(async move { fleet.invoke(&name, &qualifier, asked, None).await });
    let ran = ran.await.context("wait for the function")?;
    ran.map_err(|refusal| refused(&found.name, refusal))
}

fn lay_out(folder: &Path, event: &Composed) -> Result<Option<Files>> {
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    if event.files.is_empty() {
        return Ok(None);
    }
    let mut inputs = Vec::new();
    for (name, text) in &event.files {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        inputs.push(Input { name: name.clone(), path });
    }
    Ok(Some(Files { inputs, results: None }))
}

pub fn refused(name: &str, refusal: Refusal) -> anyhow::Error {
    match refusal {
        Refusal::Unknown => anyhow::anyhow!("there is no such version or alias of {name}"),
        Refusal::Busy(_) => anyhow::anyhow!("{name} runs as often as it may already"),
        Refusal::Failed(error) => error.into(),
    }
}

/// What a function says of its own failure, for people.
pub fn failed(found: &Found, error_type: &str, body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let message = body["errorMessage"].as_str().unwrap_or_default();
    let (name, version) = (&found.name, found.version);
    let mut text = format!("{name} (version {version}) failed: {error_type}: {message}");
    for line in body["stackTrace"].as_array().into_iter().flatten().filter_map(Value::as_str).take(20) {
        text.push_str("\n  ");
        text.push_str(line.trim_end());
    }
    text
}

async fn put(objects: &Objects, bytes: &Bytes) -> Result<String> {
    let piece = Ok(bytes.clone());
    Ok(objects.put(futures::stream::iter([piece])).await?.sha256.to_string())
}

/// The run of the function's job that looked at the latest instant, for the period or for any where none is named;
/// of several the newest. A rerun as of an earlier one shows what was seen then, and counts for nothing.
pub fn answered(warehouse: &Warehouse, name: &str, period: Option<&str>) -> Result<RunRow> {
    let runs = warehouse.ledger.runs(RUNS_MAX, Some(&format!("function:{name}")))?;
    let is_wanted = |run: &RunRow| run.state == "succeeded" && (period.is_none() || run.logical.as_deref() == period);
    let mut found: Option<RunRow> = None;
    for run in runs.into_iter().filter(is_wanted) {
        // Written alike, instants are in order as texts.
        if found.as_ref().is_none_or(|found| run.figures[AS_OF].as_str() > found.figures[AS_OF].as_str()) {
            found = Some(run);
        }
    }
    found.with_context(|| {
        let of = period.map(|period| format!(" for {period}")).unwrap_or_default();
        format!("no run of function:{name}{of} has succeeded: `wattlake runs function:{name}` shows them")
    })
}

/// The answer itself, or a file that it left in `/results`; proven by its hash.
pub async fn answer(warehouse: &Warehouse, lake: &lake::Lake, run: &RunRow, file: Option<&str>) -> Result<File> {
    let hash = match file {
        None => run.figures["result"].as_str().with_context(|| format!("the run {} has no answer", run.id))?,
        Some(wanted) => {
            let files = run.figures["files"].as_array().map_or(&[][..], Vec::as_slice);
            let found = files.iter().find(|file| file["name"] == wanted).and_then(|file| file["sha256"].as_str());
            found.with_context(|| {
                let names: Vec<&str> = files.iter().filter_map(|file| file["name"].as_str()).collect();
                let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                format!("the run {} left no file {wanted:?} in /results; there are: {there}", run.id)
            })?
        }
    };
    Ok(warehouse.objects(lake).get(&hash.parse()?).await?)
}
