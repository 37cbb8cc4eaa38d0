//! Tests of interrupted base backups, by SIGKILL or by a cancellation: no session stays open at the source.

use std::thread;

use super::stall::stalling_proxy_to;
use super::*;

const SOURCE: &str = "PGSERVER_TEST_SOURCE";
const DEADLINE: Duration = Duration::from_secs(60);

fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn processes_in(dir: &Path) -> usize {
    let Ok(dir) = dir.canonicalize() else { return 0 };
    let is_in = |entry: &fs::DirEntry| fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == dir);
    fs::read_dir("/proc").unwrap().flatten().filter(is_in).count()
}

struct Source {
    server: Server,
    /// A URL by which a base backup neither ends nor fails.
    stalled_url: String,
}

impl Source {
    fn start(tmp: &TempDir) -> Source {
        let server = new_server(tmp, "source", &quick());
        sql(&server.url("postgres"), "create database energy");
        let stalled_url = format!("postgresql://postgres@127.0.0.1:{}/energy", stalling_proxy_to(server.port()));
        Source { server, stalled_url }
    }

    fn walsenders(&self) -> String {
        let count = "select count(*) from pg_stat_activity where backend_type = 'walsender'";
        sql(&self.server.url("postgres"), count)
    }

    /// Waits for both connections and both processes: one copies files, the other receives the log.
    fn wait_for_the_backup(&self, dir: &Path) {
        until("the backup is under way", || self.walsenders() == "2" && processes_in(dir) == 2);
    }

    fn assert_free(&self) {
        until("the source's sessions have ended", || self.walsenders() == "0");
        sql(&self.server.url("postgres"), "drop database energy");
    }
}

/// Not a test: the process that another test kills.
#[test]
#[ignore = "started by the test that kills it"]
fn hold_a_backup() {
    let dir = PathBuf::from(std::env::var_os(HOLDER_DIR).unwrap());
    let bin = Binaries::find(None).unwrap();
    let _ = base_backup(&bin, &std::env::var(SOURCE).unwrap(), &dir, &mut |_, _| ());
}

#[test]
fn a_process_killed_by_sigkill_leaves_no_session_at_the_source() {
    let tmp = open_tempdir();
    let source = Source::start(&tmp);
    let dir = tmp.path().join("copy");
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::interrupted::hold_a_backup", "--ignored"])
        .env(HOLDER_DIR, &dir)
        .env(SOURCE, &source.stalled_url)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    source.wait_for_the_backup(&dir);
    holder.kill().unwrap();
    holder.wait().unwrap();

    // Without a delay: the sweep waits for the programs.
    assert!(sweep(&Binaries::find(None).unwrap(), &dir).unwrap());
    assert!(!dir.exists());
    source.assert_free();
}

#[test]
fn a_backup_that_is_cancelled_ends_at_once() {
    let tmp = open_tempdir();
    let source = Source::start(&tmp);
    let dir = tmp.path().join("copy");
    let bin = Binaries::find(None).unwrap();
    let cancellation = Cancellation::default();
    let backup =
        || base_backup_until(&cancellation, &bin, &source.stalled_url, &dir, &mut |_, _| ()).map_err(|e| e.kind);
    thread::scope(|scope| {
        let running = scope.spawn(backup);
        source.wait_for_the_backup(&dir);
        cancellation.cancel();
        assert_eq!(running.join().unwrap(), Err(Kind::Retry));
    });
    assert!(sweep(&bin, &dir).unwrap());
    source.assert_free();

    assert_eq!(backup(), Err(Kind::Retry));
    assert!(!dir.exists(), "nothing is started after a cancellation");
}

#[test]
fn a_start_that_is_cancelled_leaves_no_server() {
    let tmp = open_tempdir();
    let bin = Binaries::find(None).unwrap();
    let dir = tmp.path().join("one");
    init(&bin, &dir).unwrap();
    let options = quick();
    options.cancellation.cancel();
    let error = start(&bin, &dir, &options).unwrap_err();
    assert_eq!(error.kind, Kind::Retry);
    assert!(!dir.join("data/postmaster.pid").exists());
}
