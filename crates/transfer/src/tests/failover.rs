//! A source that fails over to a standby, or is restored: the log that was read must still be part of its log.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pgserver::{Binaries, Options, Server, base_backup, init, prepare_restored, start};
use tempfile::TempDir;

use super::fixture::{Fixture, chain, incremental, table_report};
use super::streaming::{catch_up, drop_slot, source_rows, streaming};
use crate::hand_over::hand_over;
use crate::resume::Permission;
use crate::run::Target;

fn options(primary: Option<&str>) -> Options {
    let settings = primary.map(|url| ("primary_conninfo".to_owned(), url.to_owned()));
    Options { settings: settings.into_iter().collect(), fsync: false, ..Options::default() }
}

/// A source with a standby that follows it.
struct Pair {
    fixture: Fixture,
    primary: Server,
    standby: Option<Server>,
    primary_url: String,
    standby_dir: PathBuf,
    binaries: Binaries,
    _folder: TempDir,
}

impl Pair {
    async fn new() -> Pair {
        // The user postgres must be able to enter it.
        let folder = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().unwrap();
        let binaries = Binaries::find(None).unwrap();
        let dir = folder.path().join("primary");
        init(&binaries, &dir).unwrap();
        let primary = start(&binaries, &dir, &options(None)).unwrap();
        let primary_url = primary.url("postgres");
        let fixture = Fixture::at(primary_url.clone()).await;
        fixture.sql("CREATE TABLE t (id bigserial PRIMARY KEY, v text)").await;
        fixture.sql("INSERT INTO t (v) SELECT 'old' FROM generate_series(1, 10)").await;
        let standby_dir = copy(&binaries, &primary_url, folder.path(), "standby");
        fs::write(standby_dir.join("data/standby.signal"), "").unwrap();
        let standby = start(&binaries, &standby_dir, &options(Some(&primary_url))).unwrap();
        Pair { fixture, primary, standby: Some(standby), primary_url, standby_dir, binaries, _folder: folder }
    }

    /// Waits until the standby has replayed all that the primary has written.
    async fn caught_up(&self) {
        let wanted = self.fixture.first_column("SELECT pg_current_wal_insert_lsn()::text").await.remove(0);
        let url = self.standby.as_ref().unwrap().url("postgres");
        let standby = Fixture::at(url).await;
        standby.wait_for(&format!("SELECT pg_last_wal_replay_lsn() >= '{wanted}'")).await;
    }

    /// Kills the primary and promotes the standby, with the rows that it has.
    async fn fails_over(&mut self) {
        let pid = self.primary.pid();
        std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
        let standby = match self.standby.take() {
            Some(standby) => standby,
            None => start(&self.binaries, &self.standby_dir, &options(Some(&self.primary_url))).unwrap(),
        };
        self.fixture.move_to(standby.url("postgres")).await;
        assert_eq!(self.fixture.first_column("SELECT pg_promote()::text").await, ["true"]);
        self.standby = Some(standby);
    }
}

fn copy(binaries: &Binaries, url: &str, folder: &Path, name: &str) -> PathBuf {
    let dir = folder.join(name);
    base_backup(binaries, url, &dir, &mut |_, _| ()).unwrap();
    prepare_restored(binaries, &dir).unwrap();
    dir
}

async fn state(fixture: &Fixture) -> (Option<&'static str>, String) {
    let report = fixture.run(&incremental()).await;
    let error = table_report(&report, "public.t").error.as_ref();
    (error.and_then(|error| error.state), error.map(chain).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_has_all_rows_is_continued() {
    let mut pair = Pair::new().await;
    pair.fixture.run_ok(&incremental()).await;
    pair.caught_up().await;
    pair.fails_over().await;
    pair.fixture.sql("INSERT INTO t (v) VALUES ('new')").await;
    pair.fixture.run_ok(&incremental()).await;
    pair.fixture.sql("INSERT INTO t (v) VALUES ('newer')").await;
    pair.fixture.run_ok(&incremental()).await;
    // A promoted standby continues a sequence above the values that the primary has assigned.
    let rows = pair.fixture.rows("public.t").await;
    assert_eq!((rows.len(), rows.iter().filter(|row| row.ends_with("|newer")).count()), (12, 1), "{rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_only_the_old_primary_had_are_found() {
    let mut pair = Pair::new().await;
    pair.caught_up().await;
    pair.standby.take().unwrap().stop().unwrap();
    pair.fixture.sql("INSERT INTO t (v) SELECT 'lost' FROM generate_series(1, 50)").await;
    pair.fixture.run_ok(&incremental()).await;
    pair.fails_over().await;
    // More than were lost, so that the greatest id proves nothing.
    pair.fixture.sql("INSERT INTO t (v) SELECT 'new' FROM generate_series(1, 80)").await;
    let (state_now, message) = state(&pair.fixture).await;
    assert_eq!(state_now, Some("source-restored"), "{message}");
    assert!(message.contains("failed over at") && message.contains("of timeline 1"), "{message}");
    let report = pair.fixture.run_with(&incremental(), Permission::Resync).await;
    assert!(table_report(&report, "public.t").error.is_none());
    let source = pair.fixture.first_column("SELECT id || '|' || v FROM public.t").await;
    let rows = pair.fixture.rows("public.t").await;
    // The ids of rows that were lost belong to other rows now.
    assert!(source.iter().all(|row| rows.contains(row)) && rows.len() == source.len(), "{rows:?}");
    pair.fixture.sql("INSERT INTO t (v) VALUES ('last')").await;
    pair.fixture.run_ok(&incremental()).await;
    assert!(pair.fixture.rows("public.t").await.iter().any(|row| row.ends_with("|last")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_the_right_to_read_the_history_decides() {
    let mut pair = Pair::new().await;
    pair.fixture.sql("CREATE ROLE reader LOGIN; GRANT SELECT ON t TO reader").await;
    let as_reader = |url: &str| url.replacen("://postgres", "://reader", 1);
    let url = pair.primary_url.clone();
    assert_ne!(as_reader(&url), url);
    pair.fixture.source = crate::postgres::Endpoint::parse(&as_reader(&url)).unwrap();
    pair.fixture.run_ok(&incremental()).await;
    pair.caught_up().await;
    pair.fails_over().await;
    pair.fixture.sql("INSERT INTO t (v) VALUES ('new')").await;
    pair.fixture.source = crate::postgres::Endpoint::parse(&as_reader(&pair.fixture.url)).unwrap();
    let (state_now, message) = state(&pair.fixture).await;
    assert_eq!(state_now, Some("source-unproven"), "{message}");
    assert!(message.contains("may not read at which place"), "{message}");
    let request =
        pair.fixture.request(&incremental(), Target::Lake(pair.fixture.lake.clone()), Permission::AsConfigured);
    hand_over(&request).await.unwrap();
    pair.fixture.run_ok(&incremental()).await;
    assert_eq!(pair.fixture.rows("public.t").await.len(), 11);
    // The grant of the hint works, too.
    pair.fixture.sql("GRANT EXECUTE ON FUNCTION pg_read_file(text, bigint, bigint, boolean) TO reader").await;
    let log = crate::timeline::Log::of(&pair.fixture.source.connect().await.unwrap()).await.unwrap().unwrap();
    let first = crate::timeline::LogPosition { timeline: 1, lsn: 1 };
    assert_eq!((log.now.timeline, log.continuity(first)), (2, crate::timeline::Continuity::Complete));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_restored_is_found() {
    let mut pair = Pair::new().await;
    pair.caught_up().await;
    let standby = pair.standby.take().unwrap();
    standby.stop().unwrap();
    pair.fixture.sql("INSERT INTO t (v) SELECT 'lost' FROM generate_series(1, 50)").await;
    pair.fixture.run_ok(&incremental()).await;
    // A standby that is behind has lost nothing: it will replay the rows.
    let (fixture, url) = (&mut pair.fixture, pair.primary_url.clone());
    let follow = options(Some("host=127.0.0.1 port=1"));
    let standby = start(&pair.binaries, &pair.standby_dir, &follow).unwrap();
    fixture.move_to(standby.url("postgres")).await;
    let (state_now, message) = state(fixture).await;
    assert!(state_now.is_none() && message.contains("the standby has replayed the log up to"), "{message}");
    standby.stop().unwrap();
    // The same folder, started as a primary on the same timeline, as after the restore of a disk snapshot.
    fs::remove_file(pair.standby_dir.join("data/standby.signal")).unwrap();
    let restored = start(&pair.binaries, &pair.standby_dir, &options(None)).unwrap();
    fixture.move_to(restored.url("postgres")).await;
    let (state_now, message) = state(fixture).await;
    assert_eq!(state_now, Some("source-restored"), "{message}");
    assert_ne!(fixture.url, url);
    restored.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_over_to_a_promoted_standby() {
    let mut pair = Pair::new().await;
    let settings = streaming(&pair.fixture);
    catch_up(&pair.fixture, &settings).await;
    pair.fixture.sql("UPDATE t SET v = 'changed' WHERE id < 4; DELETE FROM t WHERE id = 5").await;
    catch_up(&pair.fixture, &settings).await;
    pair.caught_up().await;
    // The primary has transactions that the standby does not get, and the lake has them.
    pair.standby.take().unwrap().stop().unwrap();
    pair.fixture.sql("INSERT INTO t (v) SELECT 'lost' FROM generate_series(1, 50); DELETE FROM t WHERE id = 6").await;
    catch_up(&pair.fixture, &settings).await;
    pair.fails_over().await;
    pair.fixture.sql("INSERT INTO t (v) VALUES ('new'); UPDATE t SET v = 'after' WHERE id = 7").await;
    catch_up(&pair.fixture, &settings).await;
    let source = "SELECT id || '|' || v FROM public.t";
    assert_eq!(pair.fixture.rows("public.t").await, source_rows(&pair.fixture, source).await);
    // It follows the log of the new primary.
    pair.fixture.sql("DELETE FROM t WHERE id = 7; INSERT INTO t (v) VALUES ('last')").await;
    let recorder = catch_up(&pair.fixture, &settings).await;
    assert!(recorder.copies.lock().unwrap().is_empty(), "it was read again");
    assert_eq!(pair.fixture.rows("public.t").await, source_rows(&pair.fixture, source).await);
    drop_slot(&pair.fixture, &settings).await;
}
