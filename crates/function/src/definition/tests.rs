//! What is read, what is refused and where, and what AWS would refuse.

use std::path::Path;

use super::*;

fn read(text: &str) -> Result<Definition, Vec<Problem>> {
    Definition::read("bill", Path::new("/w/functions/bill"), text)
}

fn problems(text: &str) -> Vec<String> {
    read(text).unwrap_err().iter().map(ToString::to_string).collect()
}

const WHOLE: &str = r#"
handler = "bill.handler"
runtime = "provided.al2023"
description = "month end"
code = "src"
memory_mb = 1024
tmp_mb = 1024
timeout = "15min"
network = "none"
layers = ["r", "r-packages:3", "layers/extra.zip"]
concurrency = 4
prewarmed = 2
retries = 1
retry_after = ["30s"]
event_age_max = "1h"
on_success = { event = "bill.made" }
on_failure = { function = "tell" }
dead_letters = false

[environment]
PRICES = "${PRICES_URL}"
EMPTY = ""

[lake]
sql = true
objects = ["bills/"]
"#;

#[test]
fn a_whole_definition() {
    let definition = read(WHOLE).unwrap();
    assert_eq!(definition.code, Path::new("/w/functions/bill/src"));
    let layers = [
        LayerName::Newest("r".into()),
        LayerName::Version("r-packages".into(), 3),
        LayerName::Path("/w/functions/bill/layers/extra.zip".into()),
    ];
    assert_eq!(definition.layers, layers);
    assert_eq!(definition.settings.timeout, Duration::from_secs(900));
    assert_eq!(definition.settings.environment["PRICES"], "${PRICES_URL}", "as it is written");
    assert_eq!(definition.settings.lake, LakeRights { sql: true, objects: vec!["bills/".into()] });
    let policy = &definition.policy;
    assert_eq!((policy.concurrency, policy.prewarmed, policy.dead_letters), (Some(4), 2, false));
    assert_eq!(policy.retry_after, [Duration::from_secs(30)]);
    assert_eq!(policy.on_success, Some(Destination::Event("bill.made".into())));
    assert_eq!(policy.on_failure, Some(Destination::Function("tell".into())));
    let kept: Settings = serde_json::from_value(serde_json::to_value(&definition.settings).unwrap()).unwrap();
    assert_eq!(kept, definition.settings);
}

#[test]
fn defaults_are_those_of_lambda() {
    let definition = read("handler = \"h\"").unwrap();
    assert_eq!((definition.settings.memory_mb, definition.settings.tmp_mb), (128, 512));
    assert_eq!(definition.settings.timeout, Duration::from_secs(3));
    assert_eq!(definition.policy, Policy::default());
    assert_eq!(definition.policy.retry_after, [60, 120].map(Duration::from_secs));
    assert_eq!(read("handler = \"h\"\nretries = 1").unwrap().policy.retry_after, [Duration::from_secs(60)]);
    assert_eq!(refused_by_aws(&definition, &PackageSizes::default()), []);
}

#[test]
fn every_problem_has_its_place_and_its_hint() {
    let found = problems("handler = \"h\"\nmemory = 128\ntimeout = \"3\"\nretries = 3\nlayers = [\"a b\", 4]\n");
    assert_eq!(
        found,
        [
            "2:1: unknown key \"memory\"; nearest known key: \"memory_mb\"".to_owned(),
            "3:11: \"timeout\": \"3\" is not a duration; write a whole number and ms, s, min, h or d: \"90s\""
                .to_owned(),
            "4:11: \"retries\": expected 0 to 2, found 3".to_owned(),
            "5:11: \"a b\" is not a layer; write \"NAME\", \"NAME:VERSION\", or a path of a zip or folder: \
             \"layers/r.zip\", \"./layer\""
                .to_owned(),
            "5:18: \"layers\": expected a string, found an integer; put the value in quotes".to_owned(),
        ]
    );
}

#[test]
fn a_missing_handler_and_a_misspelt_one() {
    assert_eq!(problems(""), ["1:1: the file has no \"handler\"; name what the runtime calls, such as `bill.handler`"]);
    assert_eq!(problems("handlr = \"h\""), ["1:1: unknown key \"handlr\"; nearest known key: \"handler\""]);
    assert!(problems("handler = ")[0].starts_with("1:11: not TOML: "), "{:?}", problems("handler = "));
    let named = Definition::read("bill me", Path::new("/"), "handler = \"h\"").unwrap_err();
    assert!(named[0].what.contains("is not a function's name"));
}

#[test]
fn settings_that_contradict_one_another() {
    for (text, says) in [
        ("concurrency = 1\nprewarmed = 2", "3:13: \"prewarmed\" is 2, more than \"concurrency\" (1)"),
        (
            "retries = 2\nretry_after = [\"1s\"]",
            "3:15: \"retry_after\" has 1 waits for 2 retries; write one wait for each retry",
        ),
        ("network = \"host\"", "2:11: \"network\": expected \"none\", found \"host\""),
        ("on_failure = {}", "2:14: \"on_failure\" needs exactly one destination"),
        ("on_failure = { function = \"a\", event = \"b\" }", "2:14: \"on_failure\" needs exactly one destination"),
        ("on_failure = { queue = \"a\" }", "2:16: unknown key \"queue\"; known keys: function, event, folder"),
        ("[environment]\n_HANDLER = \"x\"", "3:1: _HANDLER is set by the host; remove it"),
        ("[environment]\nA-B = \"x\"", "3:1: \"A-B\" is not a variable's name"),
        ("[environment]\nA = \"${B\"", "3:5: a variable without its closing }"),
        ("[environment]\nA = 1", "3:5: \"A\": expected a string, found an integer; put the value in quotes"),
        (
            "[lake]\nobjects = [\"../x\"]",
            "3:12: \"../x\" is not a prefix of objects; name a path in the lake's object store",
        ),
        ("[files]\nresults_mb = 0", "3:14: \"results_mb\": expected 1 to"),
        ("[lake]\nsqll = true", "3:1: unknown key \"sqll\"; nearest known key: \"sql\""),
    ] {
        let found = problems(&format!("handler = \"h\"\n{text}"));
        assert!(found.len() == 1 && found[0].starts_with(says), "{text}: {found:?}");
    }
}

#[test]
fn variables_are_filled_in_late() {
    let of = |name: &str| (name == "WORLD").then(|| "monde".to_owned());
    assert_eq!(fill_in("a ${WORLD} $$5 $x", &of).unwrap(), "a monde $5 $x");
    assert_eq!(
        fill_in("${NOT}", &of).unwrap_err(),
        "the variable NOT is not set where functions run: in `wattlake serve` while it runs"
    );
    assert_eq!(variables_of("${A}${B_1}").unwrap(), ["A", "B_1"]);
    assert!(variables_of("${A B}").is_err());
}

#[test]
fn what_aws_would_refuse() {
    let mut definition = read(WHOLE).unwrap();
    definition.settings.memory_mb = 64;
    definition.settings.tmp_mb = 20_000;
    definition.settings.timeout = Duration::from_secs(901);
    definition.settings.handler = "a b".into();
    definition.settings.runtime = "cobol".into();
    for (name, value) in [("AWS_REGION", "x"), ("X", "x"), ("LONG", &"x".repeat(5000))] {
        definition.settings.environment.insert(name.into(), value.into());
    }
    let sizes = PackageSizes { code_zip_bytes: 51 << 20, unpacked_bytes: (250 << 20) + 1, layers: 6 };
    let found = refused_by_aws(&definition, &sizes);
    let says: Vec<&str> = found.iter().map(|finding| finding.what.as_str()).collect();
    let expected = [
        "6 layers: AWS accepts 5",
        "251 MB unpacked: AWS accepts 250 MB, layers included",
        "a zip of 51 MB",
        "memory_mb = 64",
        "tmp_mb = 20000",
        "timeout = 901 s",
        "handler \"a b\"",
        "runtime \"cobol\"",
        "[lake]",
        "an environment of",
        "the variable AWS_REGION",
        "the variable X:",
        "retry_after",
        "prewarmed",
        "on_success",
    ];
    assert_eq!(says.len(), expected.len(), "{says:#?}");
    for (says, expected) in says.iter().zip(expected) {
        assert!(says.starts_with(expected), "{says} / {expected}");
    }
}
