//! Tests with the PostgreSQL of this machine: servers, base backups, and processes that are ended by SIGKILL.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::account::Account;
use crate::*;

mod interrupted;
mod stall;
mod text;

const HOLDER_DIR: &str = "PGSERVER_TEST_HOLDER_DIR";

/// A folder that the user postgres may enter.
fn open_tempdir() -> TempDir {
    let tmp = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir();
    tmp.unwrap()
}

fn quick() -> Options {
    Options { fsync: false, ..Options::default() }
}

fn new_server(tmp: &TempDir, name: &str, options: &Options) -> Server {
    let bin = Binaries::find(None).unwrap();
    let dir = tmp.path().join(name);
    init(&bin, &dir).unwrap();
    start(&bin, &dir, options).unwrap()
}

fn psql(url: &str, sql: &str) -> std::result::Result<String, String> {
    let output = Command::new(Binaries::find(None).unwrap().path("psql"))
        .args(["-X", "-A", "-t", "-q", "-w", "-v", "ON_ERROR_STOP=1"])
        .args(["-d", url, "-c", sql])
        .output()
        .unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn sql(url: &str, text: &str) -> String {
    psql(url, text).unwrap()
}

fn is_alive(pid: u32) -> bool {
    fs::read_link(format!("/proc/{pid}/cwd")).is_ok()
}

/// How long a test waits for an expected event, on any machine.
const PATIENCE: Duration = Duration::from_secs(180);

fn is_gone_in_time(pid: u32) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while is_alive(pid) {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

#[test]
fn accepts_connections_by_socket_and_tcp_and_keeps_its_data_after_a_stop() {
    let tmp = open_tempdir();
    let mut server = new_server(&tmp, "one", &quick());
    assert!(server.is_running());
    let mode = fs::metadata(server.dir()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert_eq!(sql(&server.url("postgres"), "show wal_level"), "logical");
    assert_eq!(sql(&server.tcp_url("postgres"), "show lc_messages"), "C");
    sql(&server.url("postgres"), "create table t as select 7 as n");
    let (pid, dir) = (server.pid(), server.dir().to_owned());
    server.stop().unwrap();
    assert!(!is_alive(pid));

    let bin = Binaries::find(None).unwrap();
    let again = start(&bin, &dir, &quick()).unwrap();
    assert_eq!(sql(&again.url("postgres"), "select n from t"), "7");
    let pid = again.pid();
    drop(again);
    assert!(!is_alive(pid));
}

#[test]
fn never_runs_as_root_and_outlives_the_thread_that_started_it() {
    let tmp = open_tempdir();
    let mut server = std::thread::scope(|scope| {
        let starter = scope.spawn(|| new_server(&tmp, &"x".repeat(90), &quick()));
        starter.join().unwrap()
    });
    std::thread::sleep(Duration::from_millis(300));
    assert!(server.is_running());
    let uid = fs::metadata(format!("/proc/{}", server.pid())).unwrap().uid();
    assert_ne!(uid, 0);
    assert_eq!(fs::metadata(server.dir()).unwrap().uid(), uid);
    let short = server.socket_dir().to_owned();
    assert!(short.exists() && short != server.dir());
    server.stop().unwrap();
    assert!(!short.exists());
}

#[test]
fn a_session_that_does_not_end_does_not_prevent_the_stop() {
    let tmp = open_tempdir();
    let server = new_server(&tmp, "one", &quick());
    let mut session = Command::new(Binaries::find(None).unwrap().path("psql"))
        .args(["-d", &server.url("postgres"), "-c", "select pg_sleep(600)"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let sleeping = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'";
    while sql(&server.url("postgres"), sleeping) != "1" {}
    // The timeouts of the stop are far shorter than the session's ten minutes.
    let began = Instant::now();
    server.stop().unwrap();
    assert!(began.elapsed() < PATIENCE);
    assert!(!session.wait().unwrap().success());
}

#[test]
fn the_end_of_a_server_is_noticed() {
    let tmp = open_tempdir();
    let mut server = new_server(&tmp, "one", &quick());
    let status = Command::new("kill").args(["-QUIT", &server.pid().to_string()]).status();
    assert!(status.unwrap().success());
    let deadline = Instant::now() + PATIENCE;
    while server.is_running() {
        assert!(Instant::now() < deadline);
    }
    server.stop().unwrap();
}

/// Not a test: the process that other tests kill.
#[test]
#[ignore = "started by the tests that kill it"]
fn hold_a_server() {
    let dir = PathBuf::from(std::env::var_os(HOLDER_DIR).unwrap());
    let bin = Binaries::find(None).unwrap();
    init(&bin, &dir).unwrap();
    let server = start(&bin, &dir, &quick()).unwrap();
    fs::write(dir.join("held"), server.pid().to_string()).unwrap();
    std::thread::sleep(Duration::from_secs(600));
}

fn start_holder(dir: &Path) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::hold_a_server", "--ignored"])
        .env(HOLDER_DIR, dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn held_postmaster(dir: &Path) -> u32 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Ok(Ok(pid)) = fs::read_to_string(dir.join("held")).map(|t| t.parse()) {
            return pid;
        }
        assert!(Instant::now() < deadline, "the holder did not start");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_server_ends_with_a_process_killed_by_sigkill_and_sweep_removes_its_folder() {
    let tmp = open_tempdir();
    let dir = tmp.path().join("held");
    let mut holder = start_holder(&dir);
    let postmaster = held_postmaster(&dir);
    assert!(is_alive(postmaster));
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(is_gone_in_time(postmaster));

    let bin = Binaries::find(None).unwrap();
    assert!(sweep(&bin, &dir).unwrap());
    assert!(!dir.exists());
    assert!(!sweep(&bin, &dir).unwrap());
}

#[test]
fn sweep_stops_a_server_that_still_runs() {
    let tmp = open_tempdir();
    let bin = Binaries::find(None).unwrap();
    let dir = tmp.path().join("long").join("x".repeat(90));
    init(&bin, &dir).unwrap();
    let mut server = start(&bin, &dir, &quick()).unwrap();
    let short = server.socket_dir().to_owned();
    assert_ne!(short, dir);
    assert_eq!(sql(&server.url("postgres"), "select 1"), "1");

    assert!(sweep(&bin, &dir).unwrap());
    // At once, since the sweep has waited for its end.
    assert!(!is_alive(server.pid()) && !dir.exists());
    assert!(!short.exists());
    while server.is_running() {}
}

#[test]
fn sweep_removes_no_folder_or_process_of_others() {
    let tmp = open_tempdir();
    fs::write(tmp.path().join("thesis.txt"), "years of work").unwrap();
    let bin = Binaries::find(None).unwrap();
    assert!(!sweep(&bin, tmp.path()).unwrap());
    assert_eq!(init(&bin, tmp.path()).unwrap_err().kind, Kind::FixInput);
    assert!(tmp.path().join("thesis.txt").exists());

    // A pid file whose pid is now that of another process.
    let server = new_server(&tmp, "own", &quick());
    let dir = server.dir().to_owned();
    server.stop().unwrap();
    let mut bystander = Command::new("sleep").arg("600").spawn().unwrap();
    fs::write(dir.join("data/postmaster.pid"), bystander.id().to_string()).unwrap();
    assert!(sweep(&bin, &dir).unwrap());
    assert!(bystander.try_wait().unwrap().is_none());
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[test]
fn a_folder_that_postgres_cannot_reach_is_named() {
    let tmp = open_tempdir();
    let closed = tmp.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let bin = Binaries::find(None).unwrap();
    let made = init(&bin, &closed.join("in/side"));
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        let error = made.unwrap_err();
        assert_eq!(error.kind, Kind::FixSetup);
        let named = format!("folder {} can't", closed.display());
        assert!(error.context.contains(&named), "{error}");
    } else {
        made.unwrap();
    }
}

#[test]
fn the_error_of_a_failed_start_has_the_end_of_the_log() {
    let tmp = open_tempdir();
    let bin = Binaries::find(None).unwrap();
    let dir = tmp.path().join("one");
    init(&bin, &dir).unwrap();
    let with = |name: &str, value: &str| Options { settings: vec![(name.into(), value.into())], ..quick() };
    let error = start(&bin, &dir, &with("shared_preload_libraries", "no_such_library"));
    let error = error.unwrap_err();
    assert!(error.context.contains("no_such_library"), "{error}");
    let error = start(&bin, &dir, &with("port", "5432")).unwrap_err();
    assert_eq!(error.kind, Kind::FixInput);
    let odd = start(&bin, &dir, &with("application_name", r"it's a \ path")).unwrap();
    let url = odd.url("postgres");
    let kept = "select setting from pg_file_settings where name = 'application_name'";
    assert_eq!(sql(&url, kept), r"it's a \ path");
}

/// A platform with passwords over TCP, a tablespace, and settings that must not apply to a copy.
fn platform(tmp: &TempDir) -> Server {
    let account = Account::current().unwrap();
    let space = tmp.path().join("a=space");
    fs::create_dir(&space).unwrap();
    account.give_to_account(&space).unwrap();
    let options = Options {
        settings: [
            ("max_connections", "137"),
            ("max_prepared_transactions", "5"),
            ("archive_mode", "on"),
            ("archive_command", "/bin/false"),
        ]
        .map(|(n, v)| (n.to_owned(), v.to_owned()))
        .to_vec(),
        hba: Some(vec![
            "local all,replication all trust".into(),
            "host all,replication all 127.0.0.1/32 scram-sha-256".into(),
        ]),
        ..quick()
    };
    let server = new_server(tmp, "platform", &options);
    let url = server.url("postgres");
    sql(&url, "create role copier login replication password 'it''s/@ secret'");
    sql(&url, "create database energy");
    sql(&url, &format!("create tablespace far location '{}'", space.display()));
    let url = server.url("energy");
    sql(&url, "create table near as select g as n from generate_series(1, 20000) g");
    sql(&url, "create table away tablespace far as select 11 as n");
    sql(&url, "begin; insert into away values (12); prepare transaction 'held'");
    sql(&url, "alter system set shared_preload_libraries = 'only_on_the_platform'");
    server
}

#[test]
fn a_base_backup_is_restored_as_a_private_copy() {
    let tmp = open_tempdir();
    let platform = platform(&tmp);
    let source = format!("postgresql://copier:it's%2F%40%20secret@127.0.0.1:{}/energy", platform.port());
    let bin = Binaries::find(None).unwrap();
    let dir = tmp.path().join("copy");
    let mut seen = Vec::new();
    base_backup(&bin, &source, &dir, &mut |done, total| {
        seen.push((done, total));
    })
    .unwrap();
    let (done, total) = *seen.last().unwrap();
    assert!(done > 1 << 20 && total.is_some_and(|t| t >= done / 2), "{seen:?}");

    fs::write(dir.join("data/standby.signal"), "").unwrap();
    prepare_restored(&bin, &dir).unwrap();
    let copy = start(&bin, &dir, &quick()).unwrap();
    let url = copy.url("energy");
    assert_eq!(sql(&url, "select sum(n) from near"), "200010000");
    assert_eq!(sql(&url, "select n from away"), "11");
    assert_eq!(sql(&url, "commit prepared 'held'"), "");
    assert_eq!(sql(&url, "select count(*) from away"), "2");
    assert_eq!(sql(&url, "select pg_is_in_recovery()"), "f");
    assert_eq!(sql(&url, "show max_connections"), "137");
    assert_eq!(sql(&url, "show archive_mode"), "off");
    assert!(psql(&copy.tcp_url("energy"), "select 1").is_err());
    // The copy has a tablespace of its own.
    assert_eq!(sql(&platform.url("energy"), "select count(*) from away"), "1");
}

#[test]
fn the_error_of_a_failed_base_backup_has_its_cause_and_no_password() {
    let tmp = open_tempdir();
    let platform = platform(&tmp);
    let bin = Binaries::find(None).unwrap();
    let wrong = format!("host=127.0.0.1 port={} user=copier password='wr ong' dbname=energy", platform.port());
    let dir = tmp.path().join("copy");
    let error = base_backup(&bin, &wrong, &dir, &mut |_, _| ()).unwrap_err();
    assert!(error.context.contains("password authentication failed"), "{error}");
    assert!(!error.context.contains("wr ong"));
    assert_eq!(error.kind, Kind::FixSetup);

    let port = platform.port();
    platform.stop().unwrap();
    let nobody = format!("postgresql://copier@127.0.0.1:{port}/energy");
    let error = base_backup(&bin, &nobody, &dir, &mut |_, _| ()).unwrap_err();
    assert_eq!(error.kind, Kind::Retry, "{error}");
}

#[test]
fn a_copy_of_a_standby_opens_too() {
    let tmp = open_tempdir();
    let platform = platform(&tmp);
    let bin = Binaries::find(None).unwrap();
    let (standby_dir, copy_dir) = (tmp.path().join("standby"), tmp.path().join("copy"));
    base_backup(&bin, &platform.url("energy"), &standby_dir, &mut |_, _| ()).unwrap();
    prepare_restored(&bin, &standby_dir).unwrap();
    fs::write(standby_dir.join("data/standby.signal"), "").unwrap();
    let follow = Options { settings: vec![("primary_conninfo".into(), platform.url("energy"))], ..quick() };
    let standby = start(&bin, &standby_dir, &follow).unwrap();
    assert_eq!(sql(&standby.url("energy"), "select pg_is_in_recovery()"), "t");
    sql(&platform.url("energy"), "insert into near values (0)");
    while sql(&standby.url("energy"), "select count(*) from near") != "20001" {}
    drop(platform);

    base_backup(&bin, &standby.url("energy"), &copy_dir, &mut |_, _| ()).unwrap();
    prepare_restored(&bin, &copy_dir).unwrap();
    let copy = start(&bin, &copy_dir, &quick()).unwrap();
    assert_eq!(sql(&copy.url("energy"), "select pg_is_in_recovery()"), "f");
    assert_eq!(sql(&copy.url("energy"), "select count(*) from near"), "20001");
}

#[test]
fn a_tool_does_not_get_the_environment_of_this_process() {
    let account = Account::current().unwrap();
    let mut command = account.command(Path::new("env"), Path::new("/"));
    let said = account.run(&mut command, "list variables").unwrap();
    let mut names: Vec<&str> = said.lines().filter_map(|l| l.split('=').next()).collect();
    names.sort_unstable();
    assert_eq!(names, ["LC_ALL", "PATH"]);
}
