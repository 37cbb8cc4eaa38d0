//! Descriptions as R writes them.

use std::fs;

use super::{Installation, read};
use crate::error::Kind;

#[test]
fn a_description_with_folded_fields_and_versions() {
    let folder = tempfile::tempdir().unwrap();
    let text = "Package: bill\nVersion: 0.3-1\nAuthors@R: c(person(\"A\", \"B\",\n    role = \"aut\"))\n\
        Depends: R (>= 3.1.0),\n        methods\nImports: data.table (>= 1.14),jsonlite\n\
        LinkingTo:\n    Rcpp (>= 1.0.5),\n    cpp11\nSuggests: testthat\nBuilt: R 4.2.2; ; 2023-01-20; unix\n";
    fs::write(folder.path().join("DESCRIPTION"), text).unwrap();
    let package = read(folder.path()).unwrap().unwrap();
    assert_eq!((package.name.as_str(), package.version.as_str(), package.base), ("bill", "0.3-1", false));
    assert_eq!(package.needs, ["methods", "data.table", "jsonlite"]);
    assert_eq!(package.links, ["Rcpp", "cpp11"]);
}

#[test]
fn a_description_without_a_version_says_so() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("DESCRIPTION"), "Package: bill\n").unwrap();
    let error = read(folder.path()).unwrap_err();
    assert!(error.to_string().contains("no field Version"), "{error}");
    assert!(read(&folder.path().join("none")).unwrap().is_none());
}

#[test]
fn a_machine_without_r_says_what_to_install() {
    let folder = tempfile::tempdir().unwrap();
    let installation = Installation { home: folder.path().into(), libraries: vec![], required: vec![] };
    let error = installation.version().unwrap_err();
    assert_eq!(error.kind, Kind::FixSetup);
    assert!(error.to_string().contains("r-base-core"), "{error}");
    assert_eq!(installation.package("../stats").unwrap_err().kind, Kind::FixInput);
}
