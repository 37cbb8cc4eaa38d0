//! Tests with real processes: programs with children, and a supervising process that is ended by SIGKILL.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::*;

const HOLDER_DIR: &str = "SUPERVISOR_TEST_HOLDER_DIR";
const DEADLINE: Duration = Duration::from_secs(60);

/// Ignores the first signal, and so do its two children: three processes until SIGKILL.
const STUBBORN: &str = "trap '' TERM; sleep 600 & sleep 600 & wait";

fn shell(dir: &Path, script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).current_dir(dir).stdin(Stdio::null());
    command
}

/// Processes whose working folder this is; a zombie has none.
fn processes_in(dir: &Path) -> usize {
    let is_in = |entry: &fs::DirEntry| fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == dir);
    fs::read_dir("/proc").unwrap().flatten().filter(is_in).count()
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn stubborn(group: &Group, dir: &Path) -> Child {
    let child = group.spawn(&mut shell(dir, STUBBORN)).unwrap();
    until("the program and its children run", || processes_in(dir) == 3);
    child
}

fn new_dir() -> (TempDir, PathBuf) {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().canonicalize().unwrap();
    (tmp, dir)
}

/// Not a test: the process that other tests kill.
#[test]
#[ignore = "started by the tests that kill it"]
fn hold_a_group() {
    let dir = PathBuf::from(std::env::var_os(HOLDER_DIR).unwrap());
    let script = fs::read_to_string(dir.join("script")).unwrap();
    let grace_period = Duration::from_millis(fs::read_to_string(dir.join("grace_period")).unwrap().parse().unwrap());
    let group = Group::new(Termination { signal: Signal::Term, grace_period }).unwrap();
    // The thread that starts the program ends at once: that is not the end of the process.
    let started = thread::scope(|scope| {
        let starter = scope.spawn(|| group.spawn(&mut shell(&dir.join("work"), &script)));
        starter.join().unwrap()
    });
    let _ = started.unwrap().wait();
}

fn start_holder(dir: &Path, script: &str, grace_period: Duration) -> Child {
    fs::create_dir(dir.join("work")).unwrap();
    fs::write(dir.join("script"), script).unwrap();
    fs::write(dir.join("grace_period"), grace_period.as_millis().to_string()).unwrap();
    let mut holder = Command::new(std::env::current_exe().unwrap());
    holder.args(["--exact", "tests::hold_a_group", "--ignored"]).env(HOLDER_DIR, dir);
    holder.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn the_program_and_its_children_end_with_a_process_killed_by_sigkill() {
    let (_tmp, dir) = new_dir();
    let mut holder = start_holder(&dir, STUBBORN, Duration::from_millis(500));
    let work = dir.join("work");
    until("the program and its children run", || processes_in(&work) == 3);
    // Time for a signal that the kernel would send at the end of the starter's thread.
    thread::sleep(Duration::from_millis(300));
    assert_eq!(processes_in(&work), 3);
    holder.kill().unwrap();
    holder.wait().unwrap();
    until("all of them have ended", || processes_in(&work) == 0);
}

#[test]
fn the_program_has_a_grace_period_and_the_processes_that_it_leaves_have_none() {
    let (_tmp, dir) = new_dir();
    let script = "sh -c 'trap \"\" TERM; sleep 600' & trap 'sleep 1; echo well > ended; exit' TERM
        echo > ready; while :; do sleep 0.1; done";
    // Longer than the test waits, so that the other process is ended because the program has ended.
    let mut holder = start_holder(&dir, script, 10 * DEADLINE);
    let work = dir.join("work");
    until("it runs", || work.join("ready").exists() && processes_in(&work) >= 3);
    holder.kill().unwrap();
    holder.wait().unwrap();
    until("all of them have ended", || processes_in(&work) == 0);
    assert_eq!(fs::read_to_string(work.join("ended")).unwrap(), "well\n");
}

#[test]
fn a_group_that_is_dropped_ends() {
    let (_tmp, dir) = new_dir();
    let group = Group::new(Termination::TOOL).unwrap();
    let mut program = stubborn(&group, &dir);
    drop(group);
    assert!(!program.wait().unwrap().success());
    until("its children have ended", || processes_in(&dir) == 0);
}

#[test]
fn a_group_is_killed_from_another_thread() {
    let (_tmp, dir) = new_dir();
    let group = Group::new(Termination::TOOL).unwrap();
    let mut program = stubborn(&group, &dir);
    thread::scope(|scope| {
        scope.spawn(|| group.kill());
        assert!(!program.wait().unwrap().success());
    });
    until("its children have ended", || processes_in(&dir) == 0);
}

#[test]
fn a_group_that_is_released_goes_on() {
    let (_tmp, dir) = new_dir();
    let group = Group::new(Termination::TOOL).unwrap();
    let mut program = group.spawn(&mut shell(&dir, "exec sleep 600")).unwrap();
    group.release();
    thread::sleep(Duration::from_millis(300));
    assert!(program.try_wait().unwrap().is_none());
    program.kill().unwrap();
    program.wait().unwrap();
    until("nothing is left", || processes_in(&dir) == 0);
}

#[test]
fn the_processes_that_a_command_leaves_are_ended() {
    let (_tmp, dir) = new_dir();
    let script = "echo out; echo err >&2; sleep 600 >/dev/null 2>&1 & exit 7";
    let output = output(&mut shell(&dir, script)).unwrap();
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(output.status.code(), Some(7));
    until("what it left has ended", || processes_in(&dir) == 0);
    assert!(crate::output(&mut Command::new("/no/such/program")).is_err());
}
