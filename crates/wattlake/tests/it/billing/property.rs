//! Random months: contracts, files, corrections, orders of arrival, kills and reruns. What goes out equals an independent
//! calculation in exact fractions (property.py), or a control names why it does not go out.

use std::process::Command;

use crate::world::interpreter;

/// The first seed, and how many sequences follow it; `WATTLAKE_SEED` and `WATTLAKE_SEQUENCES` choose others.
const SEED: &str = "701";
const SEQUENCES: &str = "2";

#[test]
fn what_goes_out_is_what_an_independent_calculation_says() {
    let work = tempfile::tempdir().unwrap();
    let given = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/billing/property.py");
    let output = Command::new(interpreter())
        .args([script, "--wattlake", env!("CARGO_BIN_EXE_wattlake"), "--work"])
        .arg(work.path())
        .args(["--seed", &given("WATTLAKE_SEED", SEED), "--sequences", &given("WATTLAKE_SEQUENCES", SEQUENCES)])
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    println!("{text}");
    if !output.status.success() {
        // What is wrong is in the folder's files.
        println!("kept: {}", work.keep().display());
        panic!("{text}");
    }
    for counted in ["kills that hit a running job", "statements compared equal", "contracts compared line by line"] {
        assert!(text.contains(counted), "the sequences had no {counted}: {text}");
    }
}
