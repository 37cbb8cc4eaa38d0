//! One R process that polls: a bill with three layers, and errors.

use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::json;

use crate::world::{Host, LAYERS, Root, trial};

/// A month's amounts from hourly energies and prices, local time.
const BILL: &str = r#"
library(data.table)

steps <- function(month) {
  from <- as.POSIXct(paste0(month, "-01 00:00:00"), tz = "Europe/Paris")
  to <- seq(as.POSIXct(paste0(month, "-01 00:00:00"), tz = "UTC"), by = "1 month", length.out = 2)[2]
  to <- as.POSIXct(format(to, "%Y-%m-%d 00:00:00"), tz = "Europe/Paris")
  seq(from, to, by = 3600)[-1] - 3600
}

run <- function(event, context) {
  at <- steps(event$period)
  lines <- data.table(day = as.Date(at, tz = "Europe/Paris"), kwh = event$power_kw, price = event$price)
  days <- lines[, .(hours = .N, amount = round(sum(kwh * price), 2)), by = day]
  list(period = event$period, producer = event$producer, hours = nrow(lines),
       short = days[hours != 24], total = sum(days$amount), first = at[1], request = context$request_id,
       parsed = jsonlite::fromJSON("[1,2]"), note = NA)
}
"#;

const PROBE: &str = r#"
run <- function(event) switch(event$what,
  home = list(R.home(), .libPaths(), Sys.getenv("R_HOME"), Sys.getenv("LANG"), unname(Sys.which(c("bash", "none")))),
  maps = {
    lines <- readLines("/proc/self/maps")
    requireNamespace("stats"); socket <- nsl
    unique(grep("/", sub("^([^ ]+ +){5}", "", lines), value = TRUE))
  },
  zones = list(
    spring = format(as.POSIXct("2024-03-31 00:30:00", tz = "UTC") + c(0, 1800), tz = "Europe/Paris", usetz = TRUE),
    autumn = as.numeric(difftime(as.POSIXct("2024-10-28", tz = "Europe/Paris"),
                                 as.POSIXct("2024-10-27", tz = "Europe/Paris"), units = "hours")),
    steps = length(seq(as.POSIXct("2024-03-31", tz = "Europe/Paris"), as.POSIXct("2024-04-01", tz = "Europe/Paris"),
                       by = 900)) - 1L,
    here = Sys.timezone()),
  accents = {
    file <- tempfile()
    writeBin(as.raw(c(0x50, 0x72, 0x6f, 0x64, 0x75, 0x63, 0x74, 0x65, 0x75, 0x72, 0x20, 0xe9, 0x0a)), file)
    latin <- readLines(file(file, encoding = "latin1"))
    write.csv2(data.frame(nom = event$nom, prix = 1.5), file, row.names = FALSE, fileEncoding = "latin1")
    list(event$nom, nchar(event$nom), toupper(event$nom), latin, read.csv2(file, fileEncoding = "latin1")$nom,
         l10n_info()$`UTF-8`)
  },
  numbers = list(0.1 + 0.2, 9007199254740991, 123456789012.34, c(1.5, NA), 1/3, NULL, TRUE, 5L, I(1),
                 as.POSIXct("2024-10-27 02:30:00", tz = "UTC"), as.Date("2024-02-29")),
  print = { print("said"); message("more"); cat("no end of line"); warning("beware"); 1 },
  state = { count <<- get0("count", globalenv(), ifnotfound = 0) + 1; count },
  clear = { closeAllConnections(); rm(list = ls(globalenv()), envir = globalenv()); 2 },
  big = strrep("a", 5e6),
  doubles = sprintf("%.17g", event$x),
  length = length(event$all),
  stop = inner(event$of),
  custom = stop(structure(class = c("late_data", "error", "condition"), list(message = "trop tard \u00e9", call = NULL))),
  deep = { f <- function(n) f(n + 1); f(1) },
  bad = list(lines = list(amount = sum)),
  quit = quit("no", 3),
  plot = { pdf("/tmp/x.pdf"); plot(1:3); dev.off(); file.size("/tmp/x.pdf") > 1000 },
  fit = round(unname(coef(lm(y ~ x, data.frame(x = 1:4, y = c(2, 4, 6, 8.1))))), 6),
  url = suppressWarnings(tryCatch(readLines("http://127.0.0.1:1/"), error = conditionMessage)),
  cores = {
    cluster <- parallel::makeCluster(2)
    on.exit(parallel::stopCluster(cluster))
    c(unlist(parallel::clusterApply(cluster, 1:2, function(i) paste(i, R.home()))),
      unlist(parallel::mclapply(3:4, function(i) paste(i, R.home()), mc.cores = 2)))
  },
  shell = system("echo from a shell", intern = TRUE)
)

inner <- function(of) {
  stop("no price for ", of)
}
"#;

fn probe(root: Root) -> Host {
    Host::new(PROBE, "bill.run", vec![LAYERS.digest(&LAYERS.persistent)], root)
}

pub fn trials() -> Vec<Trial> {
    vec![
        trial("persistent::a_bill_by_three_layers", a_bill),
        trial("persistent::a_bill_on_a_root_with_nothing_else", a_bill_on_nothing),
        trial("persistent::the_r_in_use_is_the_layers", the_layers_own),
        trial("persistent::libraries_that_lambda_names_first_are_not_taken", foreign_libraries),
        trial("persistent::clocks_change_in_paris", async || clocks(Root::Host).await),
        trial("persistent::clocks_change_in_paris_without_a_host", async || clocks(Root::Bare).await),
        trial("persistent::accents_stay", async || accents(Root::Host).await),
        trial("persistent::accents_stay_without_a_host", async || accents(Root::Bare).await),
        trial("persistent::numbers_come_back_unchanged", numbers),
        trial("persistent::doubles_are_the_nearest_ones", doubles),
        trial("persistent::events_arrive_as_jsonlite_reads_them", events),
        trial("persistent::an_event_that_is_not_json_is_reported_with_its_position", no_json),
        trial("persistent::what_it_prints_is_logged", printed),
        trial("persistent::it_stays_warm_and_survives_a_function_that_cleans_up", warm),
        trial("persistent::errors_name_what_and_where", errors),
        trial("persistent::an_exit_of_r_is_an_exit", exit),
        trial("persistent::large_events_and_results", large),
        trial("persistent::what_a_data_scientist_uses", daily),
        trial("persistent::fields_as_arguments", arguments),
        trial("persistent::errors_of_the_start", start),
    ]
}

async fn a_bill() {
    bill(Root::Host).await;
}

async fn a_bill_on_nothing() {
    bill(Root::Bare).await;
}

async fn bill(root: Root) {
    let host = Host::new(BILL, "bill.run", LAYERS.three(), root);
    let event = r#"{"period": "2024-03", "producer": "Énergie d'Été", "power_kw": 10, "price": 0.1}"#;
    let bill = host.value(event).await;
    assert_eq!(bill["hours"], json!(743));
    assert_eq!(bill["short"], json!([{"day": "2024-03-31", "hours": 23, "amount": 23}]));
    assert_eq!((&bill["total"], &bill["producer"]), (&json!(743), &json!("Énergie d'Été")));
    assert_eq!((&bill["first"], &bill["parsed"]), (&json!("2024-02-29T23:00:00Z"), &json!([1, 2])));
    assert_eq!(bill["note"], json!(null));
    assert!(bill["request"].as_str().is_some_and(|id| id.starts_with("00000000-0000-4000-8000-")));
    let bill = host.value(r#"{"period": "2024-10", "producer": "x", "power_kw": 10, "price": 0.1}"#).await;
    assert_eq!((&bill["hours"], &bill["short"][0]["hours"]), (&json!(745), &json!(25)));
}

async fn the_layers_own() {
    let host = probe(Root::Host);
    let library = ["/opt/R/site-library", "/opt/R/library"];
    let home = host.value(r#"{"what": "home"}"#).await;
    // Without further packages there is no site-library.
    assert_eq!(home[0], json!("/opt/R"));
    assert_eq!(home[1], json!(library[1]));
    assert_eq!((&home[2], &home[3]), (&json!("/opt/R"), &json!("C.UTF-8")));
    let maps = host.value(r#"{"what": "maps"}"#).await;
    let maps: Vec<&str> = maps.as_array().expect("paths").iter().filter_map(|path| path.as_str()).collect();
    assert!(maps.contains(&"/opt/R/lib/libR.so") && maps.contains(&"/opt/R/lib/libc.so.6"), "{maps:?}");
    let strangers: Vec<&&str> = maps.iter().filter(|path| !path.starts_with("/opt/")).collect();
    assert!(strangers.is_empty(), "{strangers:?}");
}

/// AWS Lambda sets LD_LIBRARY_PATH, which leads to another C library: the layer's programs must not load it.
async fn foreign_libraries() {
    let names = ["libc.so.6", "libR.so", "libtinfo.so.6", "libcurl.so.4", "ld-linux-x86-64.so.2"];
    let paths = names.map(|name| format!("lib/{name}"));
    let mut files: Vec<(&str, u32, &str)> = paths.iter().map(|path| (path.as_str(), 0o100_755, "no library")).collect();
    let text = "run <- function(event) {
        path <- strsplit(Sys.getenv('LD_LIBRARY_PATH'), ':')[[1]]
        stopifnot('/var/task/lib' %in% path, file.exists('/var/task/lib/libc.so.6'))
        curlGetHeaders
        length(libcurlVersion()) + event
      }";
    files.push(("bill.R", 0o100_644, text));
    for layer in [&LAYERS.persistent, &LAYERS.per_event] {
        let host = Host::of(&files, "bill.run", vec![LAYERS.digest(layer)], Root::Bare);
        assert_eq!(host.value("1").await, json!(2));
    }
}

async fn clocks(root: Root) {
    let host = probe(root);
    let zones = host.value(r#"{"what": "zones"}"#).await;
    assert_eq!(zones["spring"], json!(["2024-03-31 01:30:00 CET", "2024-03-31 03:00:00 CEST"]));
    assert_eq!((&zones["autumn"], &zones["steps"]), (&json!(25), &json!(92)));
    assert_eq!(zones["here"], json!("UTC"));
    assert!(!host.log().contains("warning"), "{}", host.log());
}

async fn accents(root: Root) {
    let host = probe(root);
    let got = host.value(&json!({"what": "accents", "nom": "Hélène Évrard"}).to_string()).await;
    assert_eq!(got, json!(["Hélène Évrard", 13, "HÉLÈNE ÉVRARD", "Producteur é", "Hélène Évrard", true]));
}

async fn doubles() {
    let host = probe(Root::Host);
    // Of a linear congruential generator, with few and with many digits, small and large.
    let mut state = 1_u64;
    let mut texts: Vec<String> =
        ["9007199254740993", "5e-324", "1.7976931348623157e308", "0.1", "-0.30000000000000004"]
            .map(str::to_owned)
            .to_vec();
    for at in 0..4_000_i32 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let digits = (state >> 11).to_string();
        let digits = &digits[..digits.len().min(4 + (at % 16) as usize)];
        texts.push(match at % 4 {
            0 => format!("0.{digits}"),
            1 => format!("{}.{}", &digits[..2], &digits[2..]),
            2 => format!("{digits}e{}", at % 280 - 140),
            _ => format!("-{digits}"),
        });
    }
    let answer = host.value(&format!(r#"{{"what": "doubles", "x": [{}]}}"#, texts.join(", "))).await;
    let found: Vec<f64> =
        answer.as_array().expect("an array").iter().filter_map(|text| text.as_str()?.parse().ok()).collect();
    let expected: Vec<f64> = texts.iter().map(|text| text.parse().expect("a number")).collect();
    let differ = texts.iter().zip(expected.iter().zip(&found)).filter(|(_, (expected, found))| expected != found);
    assert_eq!(differ.collect::<Vec<_>>(), []);
    assert_eq!(found.len(), texts.len());
}

async fn numbers() {
    let host = probe(Root::Host);
    let outcome = host.ask(r#"{"what": "numbers"}"#).await;
    let function::host::Answer::Response(body) = outcome.answer else { panic!("{outcome:?}") };
    let expected = r#"[0.30000000000000004,9007199254740991,123456789012.34,[1.5,null],0.3333333333333333,null,true,5,[1],"2024-10-27T02:30:00Z","2024-02-29"]"#;
    assert_eq!(String::from_utf8_lossy(&body), expected);
}

/// jsonlite and the runtime read the same text.
async fn events() {
    let text = "run <- function(event) {
        theirs <- jsonlite::fromJSON(event$text)
        if (identical(event$value, theirs)) 'same' else
          paste(capture.output(str(event$value), str(theirs)), collapse = '\n')
      }";
    let layers = [&LAYERS.persistent, &LAYERS.second].map(|packed| LAYERS.digest(packed)).to_vec();
    let host = Host::new(text, "bill.run", layers, Root::Host);
    for value in EVENTS {
        let event = format!(r#"{{"text": {}, "value": {value}}}"#, json!(value));
        assert_eq!(host.value(&event).await, json!("same"), "{value}");
    }
}

const EVENTS: [&str; 30] = [
    r#"{"a":1,"b":[1,2,3],"c":[{"x":1,"y":"a"},{"x":2}],"d":null,"e":[[1,2],[3,4]],"f":[],"g":{}}"#,
    r#"[1,"a",null]"#,
    "[null]",
    r#""\u00e9\n\ud83d\ude00 \/ \" é 日本 😀""#,
    "[true,false,null]",
    "[0.1,100,1e5,1.5E-3,123456789012345678,-1,2147483647,2147483648,-2147483648,1.0,-0.0]",
    r#"[{"p":{"q":1}},{"p":{"q":2}}]"#,
    "[[1,2],[3]]",
    r#"[{"v":[1,2]},{"v":[3,4]}]"#,
    r#"[[{"a":1}],[{"a":2}]]"#,
    "[1,2.5]",
    "[[[1,2],[3,4]],[[5,6],[7,8]],[[1,1],[1,1]]]",
    "[{},{}]",
    "[[],[]]",
    r#"[{"a":null},{"a":1}]"#,
    r#"[{"a":[]},{"a":[1]}]"#,
    r#"[null,{"a":1}]"#,
    "[[],[1]]",
    r#"[[],[{"a":1}],[{"a":2}]]"#,
    r#"["","\\\""]"#,
    " [ 1 ,\t2\n] ",
    r#"[[["deep",[{"é":[1,{"b":"c"}]}]]]]"#,
    "[[1],[2]]",
    r#"[["a"],["b"]]"#,
    "[[null],[1]]",
    r#"[{"a":1,"b":"x","c":true},{"a":2.5,"b":null,"c":false},{"a":null,"b":"é\n","c":null}]"#,
    r#"[{"a":1},{"a":"x"},{"a":true}]"#,
    r#"[{"a":1,"b":2},{"b":3,"a":4}]"#,
    r#"[{"a":1,"b":2},{"a":[3],"b":4}]"#,
    r#"{"v":[{"a":1}],"w":[[{"a":1,"b":2}],[{"a":3,"b":4}]]}"#,
];

async fn no_json() {
    let host = Host::new("run <- function(x) x", "bill.run", vec![LAYERS.digest(&LAYERS.persistent)], Root::Host);
    for (text, byte, near) in [
        (r#"{"a":}"#, 6, "'}'"),
        ("[1,]", 4, "']'"),
        (r#"{"a":1,}"#, 8, "'}'"),
        ("[1 2]", 4, "'2'"),
        ("nul", 1, "'nul'"),
        (r#"{"a" 1}"#, 2, "'\"a\"'"),
        ("[", 2, "'its end'"),
        ("\"a", 1, "'\"a'"),
        ("01", 2, "'1'"),
        ("[1]x", 4, "'x'"),
        ("{1:2}", 2, "'1'"),
        ("\"é\" é", 5, "' é'"),
    ] {
        let (kind, body) = host.failure(text).await;
        let expected = format!("the event is not JSON: byte {byte}, near {near}");
        assert_eq!((kind.as_str(), &body["errorMessage"]), ("Function.SimpleError", &json!(expected)), "{text}");
    }
}

async fn printed() {
    let host = probe(Root::Host);
    assert_eq!(host.value(r#"{"what": "print"}"#).await, json!(1));
    // The host may read the output a moment after the answer.
    let all = ["[1] \"said\"", "more", "no end of line", "beware"];
    for _ in 0..18_000 {
        if all.iter().all(|line| host.log().contains(line)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{}", host.log());
}

async fn warm() {
    let host = probe(Root::Host);
    assert!(host.ask(r#"{"what": "state"}"#).await.init.is_some());
    assert_eq!(host.value(r#"{"what": "state"}"#).await, json!(2));
    assert_eq!(host.value(r#"{"what": "clear"}"#).await, json!(2));
    let after = host.ask(r#"{"what": "state"}"#).await;
    assert!(after.init.is_none(), "it is the same instance");
    assert_eq!(host.value(r#"{"what": "state"}"#).await, json!(2));
}

async fn errors() {
    let host = probe(Root::Host);
    let (kind, body) = host.failure(r#"{"what": "stop", "of": "2024-04"}"#).await;
    assert_eq!(kind, "Function.SimpleError");
    assert_eq!(body["errorMessage"], json!("no price for 2024-04"));
    assert_eq!(body["errorType"], json!("simpleError"));
    let stack: Vec<&str> = body["stackTrace"].as_array().expect("a stack").iter().filter_map(|l| l.as_str()).collect();
    assert!(stack.last().is_some_and(|last| last.ends_with("stop(\"no price for \", of)")), "{stack:?}");
    assert!(stack.iter().any(|line| line.starts_with("bill.R:") && line.ends_with("inner(event$of)")), "{stack:?}");
    assert!(!stack.iter().any(|line| line.contains("tryCatch") || line.contains("guarded")), "{stack:?}");
    let (kind, body) = host.failure(r#"{"what": "custom"}"#).await;
    assert_eq!((kind.as_str(), &body["errorType"]), ("Function.LateData", &json!("late_data")));
    assert_eq!(body["errorMessage"], json!("trop tard é"));
    let (_, body) = host.failure(r#"{"what": "deep"}"#).await;
    assert!(body["stackTrace"].as_array().is_some_and(|stack| stack.len() <= 60), "{body}");
    assert!(body["errorType"].as_str().is_some_and(|kind| kind.to_lowercase().contains("stack")), "{body}");
    let (_, body) = host.failure(r#"{"what": "bad"}"#).await;
    assert_eq!(
        body["errorMessage"],
        json!("the result's value$lines$amount is a function, which JSON can't represent")
    );
    let (_, body) = host.failure(r#"{"what": }"#).await;
    assert_eq!(body["errorMessage"], json!("the event is not JSON: byte 10, near '}'"));
    assert_eq!(host.value(r#"{"what": "state"}"#).await, json!(1), "and it lives on");
}

async fn exit() {
    let host = probe(Root::Host);
    let (kind, body) = host.failure(r#"{"what": "quit"}"#).await;
    assert_eq!(kind, "Runtime.ExitError");
    assert!(body["errorMessage"].as_str().is_some_and(|text| text.contains("exit status 3")), "{body}");
    assert!(host.ask(r#"{"what": "state"}"#).await.init.is_some());
}

async fn large() {
    let host = probe(Root::Host);
    assert_eq!(host.value(r#"{"what": "big"}"#).await.as_str().map(str::len), Some(5_000_000));
    let all: Vec<u32> = (0..100_000).collect();
    assert_eq!(host.value(&json!({"what": "length", "all": all}).to_string()).await, json!(100_000));
}

async fn daily() {
    let host = probe(Root::Host);
    assert_eq!(host.value(r#"{"what": "plot"}"#).await, json!(true));
    assert_eq!(host.value(r#"{"what": "fit"}"#).await, json!([-0.05, 2.03]));
    assert_eq!(host.value(r#"{"what": "shell"}"#).await, json!("from a shell"));
    let cores = host.value(r#"{"what": "cores"}"#).await;
    assert_eq!(cores, json!(["1 /opt/R", "2 /opt/R", "3 /opt/R", "4 /opt/R"]));
    let refused = host.value(r#"{"what": "url"}"#).await;
    assert!(refused.as_str().is_some_and(|text| text.contains("cannot open the connection")), "{refused}");
    let bare = probe(Root::Bare);
    assert_eq!(bare.value(r#"{"what": "home"}"#).await[4], json!(["/opt/bin/bash", ""]), "without a `which`");
}

async fn arguments() {
    let text = "run <- function(period, factor = 2, context) list(period, factor, names(context)[1])";
    let host = Host::new(text, "bill.run", vec![LAYERS.digest(&LAYERS.persistent)], Root::Host);
    assert_eq!(host.value(r#"{"period": "2024-04"}"#).await, json!(["2024-04", 2, "request_id"]));
    let (_, body) = host.failure(r#"{"periode": "2024-04"}"#).await;
    let expected = "the event has a field 'periode', which is no argument of the handler (period, factor, context)";
    assert_eq!(body["errorMessage"], json!(expected));
    let host = Host::new("run <- function(x) x * 2", "bill.run", vec![LAYERS.digest(&LAYERS.persistent)], Root::Host);
    assert_eq!(host.value("[1, 2.5]").await, json!([2, 5]));
    let host = Host::new("run <- function() 7", "bill.run", vec![LAYERS.digest(&LAYERS.persistent)], Root::Host);
    assert_eq!(host.value("").await, json!(7));
}

async fn start() {
    let layers = || vec![LAYERS.digest(&LAYERS.persistent)];
    let (kind, body) = Host::new("run <- 1", "bill.run", layers(), Root::Host).failure("{}").await;
    assert_eq!(
        (kind.as_str(), &body["errorMessage"]),
        ("Runtime.NoSuchHandler", &json!("/var/task/bill.R defines no function 'run'"))
    );
    let (kind, body) = Host::new("", "other.run", layers(), Root::Host).failure("{}").await;
    assert_eq!(kind, "Runtime.NoSuchHandler");
    assert!(body["errorMessage"].as_str().is_some_and(|text| text.contains("/var/task/other.R")), "{body}");
    let (kind, body) = Host::new("library(noSuchPackage)", "bill.run", layers(), Root::Host).failure("{}").await;
    assert_eq!((kind.as_str(), &body["errorType"]), ("Runtime.InitError", &json!("Runtime.InitError")));
    assert!(body["errorMessage"].as_str().is_some_and(|text| text.contains("noSuchPackage")), "{body}");
    assert!(body["stackTrace"].as_array().is_some_and(|stack| !stack.is_empty()), "{body}");
    let (_, body) = Host::new("run <- function( {", "bill.run", layers(), Root::Host).failure("{}").await;
    assert!(body["errorMessage"].as_str().is_some_and(|text| text.contains("bill.R:1")), "{body}");
}
