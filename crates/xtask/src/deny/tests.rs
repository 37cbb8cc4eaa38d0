use super::*;

const RULES: &str = r#"
[licenses]
allow = ["MIT", "Apache-2.0"]

[[licenses.exceptions]]
crate = "shared"
allow = ["MPL-2.0"]

[[licenses.clarify]]
crate = "silent"
expression = "MIT"
"#;

fn violations_of(packages: &[(&str, Option<&str>)]) -> Vec<String> {
    let mut all: Vec<Package> = Vec::new();
    // These three packages use every rule, so that no test gets a violation for an unused one.
    let base = [("both", Some("Apache-2.0 AND MIT")), ("shared", Some("MPL-2.0")), ("silent", None)];
    for (name, license) in base.iter().chain(packages) {
        let license = license.map(str::to_owned);
        all.push(Package { name: (*name).to_owned(), version: "1.0.0".to_owned(), license });
    }
    violations(&Rules::parse(RULES).unwrap(), &all)
}

#[test]
fn allowed_expressions_pass() {
    let fine = ["MIT", "MIT/Apache-2.0", "GPL-3.0-only OR MIT", "(MIT OR LGPL-2.1-or-later) AND Apache-2.0"];
    for license in fine {
        assert_eq!(violations_of(&[("a", Some(license))]), Vec::<String>::new(), "{license}");
    }
}

#[test]
fn packages_without_an_allowed_licence_are_named() {
    let refused = violations_of(&[("a", Some("MIT AND GPL-3.0-only"))]);
    assert_eq!(refused, ["a 1.0.0: `MIT AND GPL-3.0-only` is not allowed"]);
    assert_eq!(violations_of(&[("b", None)]), ["b 1.0.0: its manifest names no licence"]);
    assert!(violations_of(&[("c", Some("My own"))])[0].contains("can't be read"));
}

#[test]
fn an_exception_is_for_its_package_only() {
    assert_eq!(violations_of(&[("other", Some("MPL-2.0"))]), ["other 1.0.0: `MPL-2.0` is not allowed"]);
}

#[test]
fn with_an_exception_clause_it_is_another_licence() {
    let license = "Apache-2.0 WITH LLVM-exception";
    assert_eq!(violations_of(&[("a", Some(license))]), [format!("a 1.0.0: `{license}` is not allowed")]);
}

#[test]
fn unused_rules_are_named() {
    let packages = [Package { name: "a".into(), version: "1.0.0".into(), license: Some("MIT".into()) }];
    let wrong = violations(&Rules::parse(RULES).unwrap(), &packages);
    assert_eq!(
        wrong,
        [
            "deny.toml: no dependency needs `Apache-2.0`, remove it",
            "deny.toml: no dependency is `shared`, remove it",
            "deny.toml: no dependency is `silent`, remove it",
        ]
    );
}

#[test]
fn crates_of_the_workspace_are_no_dependencies() {
    let metadata = r#"{"workspace_members": ["w"], "packages": [
        {"id": "w", "name": "ours", "version": "0.1.0", "license": null},
        {"id": "x", "name": "theirs", "version": "2.0.0", "license": "MIT"}]}"#;
    let packages = dependencies(metadata).unwrap();
    assert_eq!(packages.len(), 1);
    assert_eq!((packages[0].name.as_str(), packages[0].license.as_deref()), ("theirs", Some("MIT")));
}
