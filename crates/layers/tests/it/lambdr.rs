//! lambdr from CRAN, a client of the Runtime API in R, unchanged, in a layer above R's. Its tests are skipped where
//! it is not installed; `./test` reports that.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use function::store::Digest;
use layers::r::{Installation, packages};
use libtest_mimic::Trial;
use serde_json::json;

use crate::world::{Host, LAYERS, LONG_TIMEOUT, Root, trial};

/// Where `./test` installs it.
const LIBRARY: &str = "WATTLAKE_TEST_R_LIBRARY";

const BOOTSTRAP: &str = "#!/bin/sh\ncd /var/task && exec /opt/R/bin/Rscript runtime.R\n";

const RUNTIME: &str = r#"
library(lambdr)
if (Sys.getenv("BROKEN") == "yes") stop("no prices")
bill <- function(what, kwh = 0) {
  switch(what,
    amount = list(kwh = kwh, text = "été", pid = Sys.getpid()),
    wrong = stop("no price at noon"),
    exit = quit("no", 3),
    memory = nchar(strrep("x", 2^30)),
    sleep = Sys.sleep(3000),
    large = strrep("x", 6291557))
}
start_lambda()
"#;

fn library() -> Option<PathBuf> {
    let folder = std::env::var_os(LIBRARY).map(PathBuf::from)?;
    folder.join("lambdr/DESCRIPTION").exists().then_some(folder)
}

pub fn trials() -> Vec<Trial> {
    let is_there = library().is_some();
    let trials = [
        trial("lambdr::an_event_is_answered", answered),
        trial("lambdr::an_error_of_the_function", wrong),
        trial("lambdr::an_error_before_the_first_event", broken),
        trial("lambdr::an_exit_in_the_middle", exits),
        trial("lambdr::too_much_memory", memory),
        trial("lambdr::the_deadline", deadline),
        trial("lambdr::a_response_of_more_than_6_mb", large),
    ];
    trials.into_iter().map(|trial| trial.with_ignored_flag(!is_there)).collect()
}

static OWN: LazyLock<Vec<Digest>> = LazyLock::new(|| {
    let at = |name: &str| LAYERS.folder.path().join(name);
    let mut installation = Installation::default();
    installation.libraries.insert(0, library().expect("lambdr is installed"));
    let below = [at("r.zip"), at("second.zip")];
    let own = packages(&at("lambdr.zip"), &installation, &["lambdr".to_owned()], &below).expect("lambdr's layer");
    vec![LAYERS.digest(&LAYERS.persistent), LAYERS.digest(&LAYERS.second), LAYERS.digest(&own)]
});

fn host(runtime: &str, timeout: Duration) -> Host {
    let files = [("bootstrap", 0o100_755, BOOTSTRAP), ("runtime.R", 0o100_644, runtime)];
    Host::within(&files, "bill", OWN.clone(), Root::Host, timeout)
}

fn usual() -> Host {
    host(RUNTIME, LONG_TIMEOUT)
}

async fn answered() {
    let host = usual();
    let first = host.value(r#"{"what": "amount", "kwh": 216.5}"#).await;
    assert_eq!((&first["kwh"], &first["text"]), (&json!(216.5), &json!("été")));
    let second = host.value(r#"{"what": "amount"}"#).await;
    assert_eq!(first["pid"], second["pid"], "the same R goes on");
}

async fn wrong() {
    let host = usual();
    let (_, body) = host.failure(r#"{"what": "wrong"}"#).await;
    assert!(body["errorMessage"].as_str().is_some_and(|text| text.contains("no price at noon")), "{body}");
    assert_eq!(host.value(r#"{"what": "amount", "kwh": 1}"#).await["kwh"], json!(1));
}

async fn broken() {
    let host = host(&RUNTIME.replace(r#"Sys.getenv("BROKEN") == "yes""#, "TRUE"), LONG_TIMEOUT);
    let (kind, _) = host.failure("{}").await;
    assert_eq!(kind, "Runtime.ExitError");
    assert!(host.log().contains("no prices"), "{}", host.log());
}

async fn exits() {
    let (kind, body) = usual().failure(r#"{"what": "exit"}"#).await;
    assert_eq!(kind, "Runtime.ExitError", "{body}");
}

async fn memory() {
    let (kind, body) = usual().failure(r#"{"what": "memory"}"#).await;
    let text = body["errorMessage"].as_str().unwrap_or_default();
    assert!(kind == "Runtime.OutOfMemory" || text.contains("cannot allocate"), "{kind}: {body}");
}

async fn deadline() {
    let (kind, body) = host(RUNTIME, Duration::from_secs(4)).failure(r#"{"what": "sleep"}"#).await;
    assert_eq!(kind, "Sandbox.Timedout", "{body}");
}

async fn large() {
    let (kind, body) = usual().failure(r#"{"what": "large"}"#).await;
    assert_eq!(kind, "Function.ResponseSizeTooLarge", "{body}");
}
