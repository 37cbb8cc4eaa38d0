//! Exit codes: those documented, of a run that is refused while another one is running, and of Ctrl-C.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::world::{CommandResult, Source, Warehouse};

#[test]
fn wrong_arguments_end_with_2_and_unknown_names_list_the_known_ones() {
    let source = Source::empty();
    source.execute("create table a (id int primary key)");
    let warehouse = Warehouse::of(&source, "mode = 'initial'\n");
    assert_eq!(warehouse.run(&["transfer", "rnu"]).code, 2);
    assert_eq!(warehouse.run(&["transfer", "run", "t", "--mode", "sideways"]).code, 2);

    let said = warehouse.run(&["transfer", "run", "x"]);
    assert_eq!(said.code, 3, "{said:?}");
    said.has("transfers/ has no transfer \"x\"").has("nearest transfer: \"t\"");
    for misspelt in [&["run", "transfer:tt"][..], &["runs", "transfer:tt"], &["logs", "transfer:tt"], &["pause", "tt"]]
    {
        let said = warehouse.run(misspelt);
        assert_eq!(said.code, 3, "{said:?}");
        said.has("the warehouse has no job").has("transfer:t");
    }

    let said = warehouse.run(&["transfer", "run", "t", "--table", "public.b"]);
    assert_eq!(said.code, 3, "{said:?}");
    said.has("public.b");

    warehouse.ok(&["transfer", "run", "t"]);
    let said = warehouse.run(&["lake", "describe", "b"]);
    assert_eq!(said.code, 3, "{said:?}");
    said.has("the lake has no table \"b\"").has("public.a");
}

#[test]
fn a_fault_of_the_source_ends_with_3() {
    let source = Source::empty();
    source.execute("create table twins (id int primary key, a int, \"A\" int)");
    let warehouse = Warehouse::of(&source, "mode = 'initial'\n");
    let said = warehouse.run(&["transfer", "run", "t"]);
    assert_eq!(said.code, 3, "{said:?}");
    said.has("public.twins").has("differ by case only").has("hint: rename one of them");
}

/// Starts a transfer that waits for a locked table.
fn waiting(source: &Source, warehouse: &Warehouse) -> Child {
    source.execute("begin; lock table a");
    let mut command = warehouse.command(&["transfer", "run", "t"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let waits = "select count(*) from pg_locks where not granted and relation = 'a'::regclass";
    let deadline = Instant::now() + Duration::from_secs(180);
    while source.value(waits) == "0" {
        assert!(Instant::now() < deadline, "the transfer does not wait for the lock");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

fn locked_source() -> Source {
    let source = Source::empty();
    source.execute("create table a (id int primary key); insert into a select generate_series(1, 1000)");
    source
}

#[test]
fn a_transfer_that_runs_already_is_refused_with_5_and_its_process() {
    let source = locked_source();
    let warehouse = Warehouse::of(&source, "mode = 'initial'\n");
    let first = waiting(&source, &warehouse);

    let second = warehouse.run(&["transfer", "run", "t"]);
    assert_eq!(second.code, 5, "{second:?}");
    second.has("already running").has(&format!("pid {}", first.id()));
    assert_eq!(warehouse.json(&["runs", "--json"])[0]["state"], "running");

    source.execute("commit");
    let first = CommandResult::of(first.wait_with_output().unwrap());
    assert_eq!(first.code, 0, "{first:?}");
    let runs = warehouse.json(&["runs", "--json"]);
    assert_eq!(runs.len(), 1, "the refused run leaves no row: {runs:?}");
    assert_eq!(runs[0]["state"], "succeeded");
    assert_eq!(warehouse.count("public.a"), 1000);
}

#[test]
fn ctrl_c_ends_a_run_that_is_recorded_as_cancelled() {
    let source = locked_source();
    let warehouse = Warehouse::of(&source, "mode = 'initial'\n");
    let child = waiting(&source, &warehouse);
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let said = CommandResult::of(child.wait_with_output().unwrap());
    assert_eq!(said.code, 130, "{said:?}");
    said.has("stopped");
    source.execute("commit");

    assert_eq!(warehouse.json(&["runs", "--json"])[0]["state"], "cancelled");
    assert_eq!(warehouse.json(&["events", "--json"])[0]["name"], "run.cancelled");
    assert_eq!(warehouse.json(&["lake", "list", "--json"]).len(), 0);
}

#[test]
fn a_reader_that_stops_reading_ends_a_command_quietly() {
    let source = Source::empty();
    source.execute("create table a (id int primary key)");
    let warehouse = Warehouse::of(&source, "mode = 'initial'\n[[triggers]]\ncron = '* * * * *'\n");
    warehouse.ok(&["transfer", "run", "t"]);
    for arguments in
        [&["schedules", "--next", "500"][..], &["lake", "list", "--json"], &["check"], &["runs"], &["sql", "SELECT 1"]]
    {
        let mut child =
            warehouse.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start wattlake");
        drop(child.stdout.take());
        let said = CommandResult::of(child.wait_with_output().expect("wait for wattlake"));
        assert!(said.code == 0 && !said.err.contains("panicked"), "{arguments:?}: {said:?}");
    }
}
