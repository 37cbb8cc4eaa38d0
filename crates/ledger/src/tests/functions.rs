//! Versions and aliases of functions, and layers.

use serde_json::json;
use tempfile::TempDir;

use super::file;
use crate::*;

fn deployment(content: &str) -> Deployment {
    Deployment {
        function: "bill".into(),
        content: content.into(),
        code: format!("code of {content}"),
        layers: vec!["r".into(), "packages".into()],
        settings: json!({"handler": "bill.run"}),
        code_bytes: 7,
        policy: json!({"retries": 2}),
    }
}

#[test]
fn the_same_content_is_the_same_version() {
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    assert_eq!(ledger.deploy_function(&deployment("a")).unwrap(), (1, true));
    let revision = ledger.function("bill").unwrap().unwrap().revision;
    assert_eq!(ledger.deploy_function(&deployment("a")).unwrap(), (1, false));
    assert_eq!(ledger.function("bill").unwrap().unwrap().revision, revision, "nothing has changed");
    assert_eq!(ledger.deploy_function(&deployment("b")).unwrap(), (2, true));
    assert_eq!(ledger.deploy_function(&deployment("a")).unwrap(), (1, false), "back to the first");
    let function = ledger.function("bill").unwrap().unwrap();
    assert_eq!((function.latest, function.policy), (1, json!({"retries": 2})));
    assert!(function.revision > revision);
    let versions = ledger.function_versions("bill").unwrap();
    assert_eq!(versions.iter().map(|v| (v.version, v.content.as_str())).collect::<Vec<_>>(), [(1, "a"), (2, "b")]);
    assert_eq!(versions[0].layers, ["r", "packages"]);
}

#[test]
fn a_number_means_the_same_content_for_ever() {
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    ledger.deploy_function(&deployment("a")).unwrap();
    ledger.deploy_function(&deployment("b")).unwrap();
    assert!(ledger.delete_function("bill").unwrap());
    assert!(!ledger.delete_function("bill").unwrap());
    assert!(ledger.functions().unwrap().is_empty() && ledger.resolve_function("bill", "1").unwrap().is_none());
    assert_eq!(ledger.function_version("bill", 2).unwrap().unwrap().content, "b", "what ran can be looked up");
    assert_eq!(ledger.deploy_function(&deployment("c")).unwrap(), (3, true));
    assert!(ledger.resolve_function("bill", "1").unwrap().is_none(), "deleted is deleted");
    assert_eq!(ledger.deploy_function(&deployment("b")).unwrap(), (2, false));
    assert!(ledger.resolve_function("bill", "2").unwrap().is_some());
}

#[test]
fn a_qualifier_leads_to_a_version() {
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    ledger.deploy_function(&deployment("a")).unwrap();
    ledger.deploy_function(&deployment("b")).unwrap();
    ledger.point_alias("bill", "prod", 1).unwrap();
    let version = |qualifier: &str| ledger.resolve_function("bill", qualifier).unwrap().map(|chosen| chosen.version);
    assert_eq!(["$LATEST", "1", "prod", "3", "dev"].map(version), [Some(2), Some(1), Some(1), None, None]);
    let error = ledger.delete_function_version("bill", 1).unwrap_err();
    assert_eq!(error.to_string(), "delete version 1 of bill: alias prod points to it");
    let before = ledger.resolve_function("bill", "prod").unwrap().unwrap().revision;
    ledger.point_alias("bill", "prod", 2).unwrap();
    let after = ledger.resolve_function("bill", "prod").unwrap().unwrap();
    assert!(after.version == 2 && after.revision > before);
    assert!(ledger.delete_function_version("bill", 1).unwrap());
    assert_eq!(version("1"), None);
    let error = ledger.point_alias("bill", "prod", 1).unwrap_err();
    assert_eq!((error.kind, version("prod")), (Kind::FixInput, Some(2)));
    assert!(ledger.delete_alias("bill", "prod").unwrap());
    assert_eq!(version("prod"), None);
    let error = ledger.delete_function_version("bill", 2).unwrap_err();
    assert_eq!(error.to_string(), "delete version 2 of bill: $LATEST points to it");
}

#[test]
fn layers_have_versions_of_their_own() {
    let tmp = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&tmp)).unwrap();
    assert_eq!(ledger.put_layer("r", "x", 1).unwrap(), (1, true));
    assert_eq!(ledger.put_layer("r", "y", 2).unwrap(), (2, true));
    assert_eq!(ledger.put_layer("r", "x", 1).unwrap(), (1, false));
    assert_eq!(ledger.layer("r", None).unwrap().unwrap().code, "y");
    assert_eq!(ledger.layer("r", Some(1)).unwrap().unwrap().code, "x");
    assert!(ledger.delete_layer("r", 2).unwrap());
    assert_eq!(ledger.layer("r", None).unwrap().unwrap().code, "x");
    assert_eq!(ledger.put_layer("r", "z", 2).unwrap(), (3, true), "numbers are not given twice");
}
