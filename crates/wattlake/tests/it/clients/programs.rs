//! Clients that can be run: each script checks its results itself, and fails where they are wrong.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::platform;
use crate::world::interpreter;

fn script(name: &str) -> PathBuf {
    Path::new("tests/it/clients").join(name)
}

/// Runs the program against both servers.
#[track_caller]
fn assert_passes(program: &str, arguments: &[&str], file: &str) {
    for (server, url) in platform::servers() {
        let mut command = Command::new(program);
        command.args(arguments).arg(script(file)).stdin(Stdio::null());
        let output = command.env("WATTLAKE_CLIENT_URL", url).output();
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}: run ./test, which installs it"));
        let text = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{file} on {server}:\n{}", String::from_utf8_lossy(&text));
    }
}

#[track_caller]
fn python(file: &str) {
    assert_passes(interpreter().to_str().unwrap(), &["-W", "error::DeprecationWarning"], file);
}

#[test]
fn adbc_reads_arrow_and_the_catalogue() {
    python("by_adbc.py");
}

#[test]
fn asyncpg_reads_all_in_binary() {
    python("by_asyncpg.py");
}

#[test]
fn duckdb_joins_what_it_attaches() {
    python("by_duckdb.py");
}

#[test]
fn pgjdbc_reads_by_prepared_statements_and_portals() {
    let jar = "/usr/share/java/postgresql.jar";
    assert!(Path::new(jar).exists(), "there is no {jar}: run ./test, which installs it");
    assert_passes("java", &["-cp", jar], "ByJdbc.java");
}

#[test]
fn polars_reads_by_connectorx() {
    python("by_polars.py");
}

#[test]
fn psql_runs_its_commands() {
    assert_passes("bash", &[], "by_psql.sh");
}

#[test]
fn psycopg_carries_every_type_both_ways() {
    python("by_psycopg.py");
}

#[test]
fn r_reads_data_frames() {
    assert_passes("Rscript", &["--vanilla"], "by_rpostgresql.R");
}

#[test]
fn sqlalchemy_and_pandas_reflect_and_read() {
    python("by_sqlalchemy.py");
}
