//! A platform that fails over to a standby, or is restored: what was carried must still be part of its log.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pgserver::{Binaries, Options, Server, base_backup, init, prepare_restored, start};
use tempfile::TempDir;

use super::world::{World, chain, incremental, of};
use crate::hand_over::hand_over;
use crate::resume::Permission;
use crate::run::Target;

fn options(primary: Option<&str>) -> Options {
    let settings = primary.map(|url| ("primary_conninfo".to_owned(), url.to_owned()));
    Options { settings: settings.into_iter().collect(), fsync: false, ..Options::default() }
}

/// A platform with a standby that follows it.
struct Pair {
    world: World,
    primary: Server,
    standby: Option<Server>,
    primary_url: String,
    standby_dir: PathBuf,
    binaries: Binaries,
    _folder: TempDir,
}

impl Pair {
    async fn new() -> Pair {
        // The user postgres must be able to pass through it.
        let folder = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().unwrap();
        let binaries = Binaries::find(None).unwrap();
        let dir = folder.path().join("primary");
        init(&binaries, &dir).unwrap();
        let primary = start(&binaries, &dir, &options(None)).unwrap();
        let primary_url = primary.url("postgres");
        let world = World::at(primary_url.clone()).await;
        world.sql("CREATE TABLE t (id bigserial PRIMARY KEY, v text)").await;
        world.sql("INSERT INTO t (v) SELECT 'old' FROM generate_series(1, 10)").await;
        let standby_dir = copy(&binaries, &primary_url, folder.path(), "standby");
        fs::write(standby_dir.join("data/standby.signal"), "").unwrap();
        let standby = start(&binaries, &standby_dir, &options(Some(&primary_url))).unwrap();
        Pair { world, primary, standby: Some(standby), primary_url, standby_dir, binaries, _folder: folder }
    }

    /// The standby has all that the primary has written.
    async fn caught_up(&self) {
        let wanted = self.world.ask("SELECT pg_current_wal_insert_lsn()::text").await.remove(0);
        let url = self.standby.as_ref().unwrap().url("postgres");
        let standby = World::at(url).await;
        standby.until(&format!("SELECT pg_last_wal_replay_lsn() >= '{wanted}'")).await;
    }

    /// The primary is gone, and the standby takes its place with what it has.
    async fn fails_over(&mut self) {
        let pid = self.primary.pid();
        std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
        let standby = match self.standby.take() {
            Some(standby) => standby,
            None => start(&self.binaries, &self.standby_dir, &options(Some(&self.primary_url))).unwrap(),
        };
        self.world.moves(standby.url("postgres")).await;
        assert_eq!(self.world.ask("SELECT pg_promote()::text").await, ["true"]);
        self.standby = Some(standby);
    }
}

fn copy(binaries: &Binaries, url: &str, folder: &Path, name: &str) -> PathBuf {
    let dir = folder.join(name);
    base_backup(binaries, url, &dir, &mut |_, _| ()).unwrap();
    prepare_restored(binaries, &dir).unwrap();
    dir
}

async fn state(world: &World) -> (Option<&'static str>, String) {
    let report = world.run(&incremental()).await;
    let error = of(&report, "public.t").error.as_ref();
    (error.and_then(|error| error.state), error.map(chain).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_has_all_goes_on() {
    let mut pair = Pair::new().await;
    pair.world.carries(&incremental()).await;
    pair.caught_up().await;
    pair.fails_over().await;
    pair.world.sql("INSERT INTO t (v) VALUES ('new')").await;
    pair.world.carries(&incremental()).await;
    pair.world.sql("INSERT INTO t (v) VALUES ('newer')").await;
    pair.world.carries(&incremental()).await;
    // A promoted standby draws from a sequence beyond what the primary had handed out.
    let rows = pair.world.rows("public.t").await;
    assert_eq!((rows.len(), rows.iter().filter(|row| row.ends_with("|newer")).count()), (12, 1), "{rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_only_the_old_primary_had_are_told() {
    let mut pair = Pair::new().await;
    pair.caught_up().await;
    pair.standby.take().unwrap().stop().unwrap();
    pair.world.sql("INSERT INTO t (v) SELECT 'lost' FROM generate_series(1, 50)").await;
    pair.world.carries(&incremental()).await;
    pair.fails_over().await;
    // More than were lost, so that the greatest id says nothing.
    pair.world.sql("INSERT INTO t (v) SELECT 'new' FROM generate_series(1, 80)").await;
    let (state_now, said) = state(&pair.world).await;
    assert_eq!(state_now, Some("source-restored"), "{said}");
    assert!(said.contains("failed over at") && said.contains("of timeline 1"), "{said}");
    let report = pair.world.run_with(&incremental(), Permission::Resync).await;
    assert!(of(&report, "public.t").error.is_none());
    let source = pair.world.ask("SELECT id || '|' || v FROM public.t").await;
    let rows = pair.world.rows("public.t").await;
    // The ids of rows that were lost belong to other rows now.
    assert!(source.iter().all(|row| rows.contains(row)) && rows.len() == source.len(), "{rows:?}");
    pair.world.sql("INSERT INTO t (v) VALUES ('last')").await;
    pair.world.carries(&incremental()).await;
    assert!(pair.world.rows("public.t").await.iter().any(|row| row.ends_with("|last")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_not_read_the_history_is_asked() {
    let mut pair = Pair::new().await;
    pair.world.sql("CREATE ROLE reader LOGIN; GRANT SELECT ON t TO reader").await;
    let as_reader = |url: &str| url.replacen("://postgres", "://reader", 1);
    let url = pair.primary_url.clone();
    assert_ne!(as_reader(&url), url);
    pair.world.source = crate::postgres::Endpoint::parse(&as_reader(&url)).unwrap();
    pair.world.carries(&incremental()).await;
    pair.caught_up().await;
    pair.fails_over().await;
    pair.world.sql("INSERT INTO t (v) VALUES ('new')").await;
    pair.world.source = crate::postgres::Endpoint::parse(&as_reader(&pair.world.url)).unwrap();
    let (state_now, said) = state(&pair.world).await;
    assert_eq!(state_now, Some("source-unproven"), "{said}");
    assert!(said.contains("may not read at which place"), "{said}");
    let request = pair.world.request(&incremental(), Target::Lake(pair.world.lake.clone()), Permission::File);
    hand_over(&request).await.unwrap();
    pair.world.carries(&incremental()).await;
    assert_eq!(pair.world.rows("public.t").await.len(), 11);
    // The grant that the hint names serves as well.
    pair.world.sql("GRANT EXECUTE ON FUNCTION pg_read_file(text, bigint, bigint, boolean) TO reader").await;
    let log = crate::timeline::Log::of(&pair.world.source.connect().await.unwrap()).await.unwrap().unwrap();
    let first = crate::timeline::LogPosition { timeline: 1, lsn: 1 };
    assert_eq!((log.now.timeline, log.continuity(first)), (2, crate::timeline::Continuity::Whole));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_restored_as_it_was_is_told() {
    let mut pair = Pair::new().await;
    pair.caught_up().await;
    let standby = pair.standby.take().unwrap();
    standby.stop().unwrap();
    pair.world.sql("INSERT INTO t (v) SELECT 'lost' FROM generate_series(1, 50)").await;
    pair.world.carries(&incremental()).await;
    // A standby that is behind is no loss: it will have the rows in a while.
    let (world, url) = (&mut pair.world, pair.primary_url.clone());
    let follow = options(Some("host=127.0.0.1 port=1"));
    let standby = start(&pair.binaries, &pair.standby_dir, &follow).unwrap();
    world.moves(standby.url("postgres")).await;
    let (state_now, said) = state(world).await;
    assert!(state_now.is_none() && said.contains("the standby has replayed the log up to"), "{said}");
    standby.stop().unwrap();
    // The same folder, opened as a primary on the same timeline: what a restored disk snapshot is.
    fs::remove_file(pair.standby_dir.join("data/standby.signal")).unwrap();
    let restored = start(&pair.binaries, &pair.standby_dir, &options(None)).unwrap();
    world.moves(restored.url("postgres")).await;
    let (state_now, said) = state(world).await;
    assert_eq!(state_now, Some("source-restored"), "{said}");
    assert_ne!(world.url, url);
    restored.stop().unwrap();
}
