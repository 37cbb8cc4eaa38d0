//! **function**: sends the results of queries to a function as one event, and keeps its answer in
//! the lake's objects. The run records all that the answer depends on: the function's version with
//! the hashes of its code and layers, the event, and the `as_of` instant of its queries. With the
//! same of them a function gives the same answer.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use config::flow::FunctionJob;
use config::{Function, Job};
use function::host::{Answer, Event, EventFiles, Execution, Input, Refusal};
use function::registry::FunctionVersion;
use ingest::objects::{Hash, Objects};
use ledger::{Run, RunRow};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::flows::columns::Columns;
use crate::flows::moment::{AS_OF, Moment};
use crate::flows::rows;
use crate::function_host::{self, FunctionCall};
use crate::runs::{self, FlowOutcome, RunRequest};
use crate::warehouse::{STATE, Warehouse};

/// How many of a job's newest runs are searched for an answer.
const RUNS_MAX: usize = 10_000;
/// The folder of a run's own folder that is `/results` of the function.
const RESULTS: &str = "results";
const PIECE_BYTES: usize = 1 << 20;

/// Invokes a function as a run of `function:NAME`. Returns the run's figures, with the hash of the answer.
pub async fn run(warehouse: &Warehouse, request: &RunRequest, name: &str) -> Result<Value> {
    let function = warehouse.function(name)?;
    let call =
        function.job.as_ref().with_context(|| format!("functions/{name} has no job.toml, so it is not a job"))?;
    let moment = Moment::of(warehouse, request)?;
    let detail = json!({"function": name, "qualifier": call.qualifier, AS_OF: moment.as_of()});
    runs::run(warehouse, Job::Function(function, call), request, detail, async |run| {
        let figures = invoke_with_inputs(warehouse, run, function, call, &moment).await?;
        Ok(FlowOutcome::succeeded(figures.clone(), figures))
    })
    .await
}

async fn invoke_with_inputs(
    warehouse: &Warehouse,
    run: &Run,
    function: &Function,
    call: &FunctionJob,
    moment: &Moment,
) -> Result<Value> {
    let version = deployed(warehouse, function, call)?;
    let lake = warehouse.lake().await?;
    let objects = warehouse.objects(&lake);
    let folders = warehouse.config.root.join(STATE).join("events");
    remove_abandoned_folders(warehouse, &folders);
    let folder = folders.join(run.id());
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let figures = async {
        let event = compose(warehouse, &lake, call, &version, moment, &folder).await?;
        let event_object = put_file(&objects, &event.whole).await?;
        let hashes = json!({
            "function": version.content.to_string(), "code": version.code.to_string(),
            "layers": version.layers.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "event": event_object,
        });
        run.note_inputs(hashes.as_object().unwrap_or(&Map::new()))?;
        let execution = invoke(warehouse, call, &version, &event, &folder).await?;
        store_answer(&objects, &version, &event, &execution, &folder).await
    };
    let figures = figures.await;
    let _ = std::fs::remove_dir_all(&folder);
    let mut figures = figures?;
    figures[AS_OF] = json!(moment.as_of());
    let period = moment.period.map(|period| period.to_string());
    let fields = json!({"function": version.name, "for": period, "result": figures["result"]});
    run.event("function.answered", fields)?;
    Ok(figures)
}

/// Stores the answer and the files of `/results` as objects. Returns the run's figures.
async fn store_answer(
    objects: &Objects,
    version: &FunctionVersion,
    event: &ComposedEvent,
    execution: &Execution,
    folder: &Path,
) -> Result<Value> {
    let outcome = &execution.outcome;
    for line in outcome.log_tail.lines() {
        tracing::info!(target: "wattlake::function", "{line}");
    }
    let answer = match &outcome.answer {
        Answer::Response(answer) => answer.clone(),
        Answer::Error(failure) => bail!(failure_text(version, &failure.error_type, &failure.body)),
    };
    #[cfg(feature = "failpoints")]
    fail::fail_point!("function-before-result");
    let result = put(objects, &answer).await?;
    let mut files = Vec::new();
    let mut results: Vec<_> = outcome.results.iter().collect();
    results.sort_by(|a, b| a.name.cmp(&b.name));
    for file in results {
        let path = folder.join(RESULTS).join(&file.name);
        let object = put_file(objects, &path).await.with_context(|| format!("store /results/{}", file.name))?;
        files.push(json!({"name": file.name, "bytes": file.bytes, "sha256": object}));
    }
    // One hash of the answer and the files: runs with the same hash gave the same output.
    let output = Hash::of(json!([result, files]).to_string().as_bytes()).to_string();
    Ok(json!({
        "version": version.version, "result": result, "result_bytes": answer.len(), "files": files, "output": output,
        "event_bytes": event.whole_bytes, "inputs": event.rows, "milliseconds": outcome.duration.as_millis() as u64,
        "init_milliseconds": outcome.init.map(|init| init.as_millis() as u64),
        "memory_peak_bytes": outcome.memory_peak_bytes,
    }))
}

/// Removes the folders of runs that were killed.
fn remove_abandoned_folders(warehouse: &Warehouse, folders: &Path) {
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

/// The version that the job's qualifier names. For `$LATEST` the function's folder is deployed first.
fn deployed(warehouse: &Warehouse, function: &Function, call: &FunctionJob) -> Result<FunctionVersion> {
    let registry = function_host::registry(warehouse)?;
    if call.qualifier == function::registry::LATEST {
        registry.deploy(&function.definition).with_context(|| format!("deploy {}", function.name))?;
    }
    registry.find(&function.name, &call.qualifier)?.with_context(|| {
        let (name, qualifier) = (&function.name, &call.qualifier);
        format!("{name} has no {qualifier:?}: deploy it with `wattlake function deploy {name} --alias {qualifier}`")
    })
}

/// The result of the query of one input.
pub async fn input(session: &sql::Session, name: &str, query: &str, moment: &Moment) -> Result<Columns> {
    let query = moment.fill(query, &|_| None)?;
    let batches = rows::query(session, &query).await.with_context(|| format!("run the query of the input {name}"))?;
    Columns::of(&batches).with_context(|| format!("convert the input {name}"))
}

/// The event of a run, in the form that is stored and in the form that is sent.
struct ComposedEvent {
    /// A file with all rows in it: this form is hashed and stored.
    whole: PathBuf,
    whole_bytes: u64,
    /// The same, or with the names of files in place of rows where these are too large for an event.
    sent: Bytes,
    /// Files of `/inputs`, where the event is too large to hold the rows.
    files: Vec<Input>,
    /// How many rows each input has.
    rows: Value,
}

/// Runs the queries of a job, and writes their results into the run's folder one after another: a month of many plants
/// has millions of values, of which one input at a time is in memory.
async fn compose(
    warehouse: &Warehouse,
    lake: &lake::Lake,
    call: &FunctionJob,
    version: &FunctionVersion,
    moment: &Moment,
    folder: &Path,
) -> Result<ComposedEvent> {
    let parameters = call.parameters.iter().map(|(name, text)| Ok((name.clone(), moment.fill(text, &|_| None)?)));
    let parameters: BTreeMap<String, String> = parameters.collect::<Result<_>>()?;
    let period = moment.period.map(|period| period.to_string());
    let event =
        |inputs: Value| json!({"period": period, AS_OF: moment.as_of(), "parameters": parameters, "inputs": inputs});
    let whole = folder.join("event.json");
    let create = |path: &Path| File::create(path).with_context(|| format!("write {}", path.display()));
    let mut out = BufWriter::new(create(&whole)?);
    // Everything but the inputs, which are the last value: its end is written after them.
    let outside = serde_json::to_string(&event(json!({}))).context("write the event")?;
    out.write_all(outside.strip_suffix("}}").unwrap_or(&outside).as_bytes())?;
    let session = rows::session(warehouse, lake)?;
    let (mut files, mut rows, mut named) = (Vec::new(), Map::new(), Map::new());
    for (name, query) in &call.inputs {
        let columns = input(&session, name, query, moment).await?;
        let (file, separator) = (format!("{name}.csv"), if rows.is_empty() { "" } else { "," });
        let path = folder.join(&file);
        let mut csv = BufWriter::new(create(&path)?);
        rows.insert(name.clone(), json!(columns.rows()));
        named.insert(name.clone(), json!({"file": format!("/inputs/{file}")}));
        let key = json!(name).to_string();
        let written = tokio::task::spawn_blocking(move || -> Result<_> {
            write!(out, "{separator}{key}:")?;
            columns.write_json(&mut out)?;
            columns.write_csv(&mut csv)?;
            csv.flush()?;
            Ok(out)
        });
        out = written.await.context("write the event")?.with_context(|| format!("write the input {name}"))?;
        files.push(Input { name: file, path });
    }
    out.write_all(b"}}")?;
    out.flush()?;
    drop(out);
    let whole_bytes = whole.metadata()?.len();
    let rows = Value::Object(rows);
    if whole_bytes <= function::invoke::REQUEST_BYTES_MAX as u64 {
        let sent = std::fs::read(&whole).context("read the event")?.into();
        return Ok(ComposedEvent { whole, whole_bytes, sent, files: Vec::new(), rows });
    }
    if version.settings.files.is_none() {
        let (name, bytes) = (&version.name, base::text::bytes(whole_bytes));
        bail!("the event of {name} has {bytes}, more than 6 MB: allow inputs as files by [files] in its function.toml");
    }
    let sent = serde_json::to_vec(&event(Value::Object(named))).context("write the event")?.into();
    Ok(ComposedEvent { whole, whole_bytes, sent, files, rows })
}

/// Invokes the function once. `folder` is the run's own, for the files of `/inputs` and `/results`.
async fn invoke(
    warehouse: &Warehouse,
    call: &FunctionJob,
    version: &FunctionVersion,
    event: &ComposedEvent,
    folder: &Path,
) -> Result<Execution> {
    let inputs = (!event.files.is_empty()).then(|| event.files.clone());
    let mut files = inputs.map(|inputs| EventFiles { inputs, results: None });
    if version.settings.files.is_some() {
        files.get_or_insert_default().results = Some(folder.join(RESULTS));
    }
    let request_id = Uuid::now_v7().to_string();
    let request = Event { request_id, payload: event.sent.clone(), files, ..Event::default() };
    let invocation = FunctionCall { function: &version.name, qualifier: &call.qualifier, event: request, waits: true };
    let execution = function_host::invoke(warehouse, invocation).await?;
    execution.map_err(|refusal| refusal_error(&version.name, refusal))
}

/// The error of an invocation of the function `name` that was refused.
pub fn refusal_error(name: &str, refusal: Refusal) -> anyhow::Error {
    match refusal {
        Refusal::Unknown => base::Error::input(format!("there is no such version or alias of {name}")).into(),
        Refusal::Busy(_) => {
            let error = base::Error::retry(format!("{name} has reached its concurrency limit"));
            error.hint("try again when an invocation of it has ended; with concurrency = 0, none runs").into()
        }
        Refusal::Failed(error) => error.into(),
    }
}

/// The error that a function answered with, for people: its type, its message and the start of its stack trace.
pub fn failure_text(version: &FunctionVersion, error_type: &str, body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let message = body["errorMessage"].as_str().unwrap_or_default();
    let (name, version) = (&version.name, version.version);
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

/// The run whose answer is in force: of the successful runs of the function's job for `period`, or for
/// any where it is `None`, the one with the latest `as_of`; of several with the same, the newest. So a
/// rerun as of an earlier instant never replaces an answer.
pub fn latest_answer(warehouse: &Warehouse, name: &str, period: Option<&str>) -> Result<RunRow> {
    let runs = warehouse.ledger.runs(RUNS_MAX, Some(&format!("function:{name}")))?;
    let is_wanted = |run: &RunRow| run.state == "succeeded" && (period.is_none() || run.logical.as_deref() == period);
    let mut latest: Option<RunRow> = None;
    for run in runs.into_iter().filter(is_wanted) {
        // All are formatted alike, so that the texts are in the order of the instants.
        if latest.as_ref().is_none_or(|latest| run.figures[AS_OF].as_str() > latest.figures[AS_OF].as_str()) {
            latest = Some(run);
        }
    }
    latest.with_context(|| {
        let of = period.map(|period| format!(" for {period}")).unwrap_or_default();
        format!("no run of function:{name}{of} has succeeded: `wattlake runs function:{name}` shows its runs")
    })
}

/// Opens the answer of a run, or a file that the function wrote to `/results`. Its hash is checked.
pub async fn open_answer(warehouse: &Warehouse, lake: &lake::Lake, run: &RunRow, file: Option<&str>) -> Result<File> {
    let hash = match file {
        None => run.figures["result"].as_str().with_context(|| format!("the run {} has no answer", run.id))?,
        Some(wanted) => {
            let files = run.figures["files"].as_array().map_or(&[][..], Vec::as_slice);
            let found = files.iter().find(|file| file["name"] == wanted).and_then(|file| file["sha256"].as_str());
            found.with_context(|| {
                let names: Vec<&str> = files.iter().filter_map(|file| file["name"].as_str()).collect();
                let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                format!("the run {} has no file {wanted:?} in /results; there are: {known}", run.id)
            })?
        }
    };
    Ok(warehouse.objects(lake).get(&hash.parse()?).await?)
}
