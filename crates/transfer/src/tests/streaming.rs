//! CHANGES: tables of the lake follow the source's log.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::fixture::*;
use crate::changes::{self, StreamEnd, StreamObserver, StreamStatus};
use crate::plan::{ChangesSettings, Deletes, Mode, Settings};
use crate::resume::Permission;
use crate::run::{Target, TransferReport};

/// Collects what a stream reports.
#[derive(Default)]
pub struct Recorder {
    pub stopped: AtomicBool,
    pub copies: Mutex<Vec<TransferReport>>,
    pub status: Mutex<StreamStatus>,
    pub interruptions: Mutex<Vec<String>>,
}

impl StreamObserver for Recorder {
    fn copied(&self, report: &TransferReport) {
        let tables = report.tables.iter().map(|table| crate::run::TableReport {
            source: table.source.clone(),
            target: table.target.clone(),
            error: table.error.as_ref().map(|e| {
                let error = crate::Error::new(e.kind, chain(e)).hint(e.hint.clone().unwrap_or_default());
                if let Some(state) = e.state { error.state(state) } else { error }
            }),
            position: None,
            ..*table
        });
        let report = TransferReport { tables: tables.collect(), ..*report };
        self.copies.lock().unwrap_or_else(PoisonError::into_inner).push(report);
    }

    fn report(&self, status: &StreamStatus) {
        *self.status.lock().unwrap() = status.clone();
    }

    fn interrupted(&self, error: &crate::Error, _wait: Duration) {
        self.interruptions.lock().unwrap().push(chain(error));
    }

    fn should_stop(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

impl Recorder {
    /// The errors of all tables.
    pub fn errors(&self) -> Vec<String> {
        let copies = self.copies.lock().unwrap();
        let copied =
            copies.iter().flat_map(|report| &report.tables).filter_map(|table| table.error.as_ref()).map(chain);
        let status = self.status.lock().unwrap();
        let streamed = status.tables.iter().filter_map(|table| table.error.as_ref()).map(|(what, ..)| what.clone());
        copied.chain(streamed).collect()
    }
}

/// A stream that runs in the background.
pub struct Running {
    pub recorder: Arc<Recorder>,
    task: Option<JoinHandle<crate::Result<()>>>,
}

impl Running {
    pub async fn stop(mut self) {
        self.recorder.stopped.store(true, Ordering::Relaxed);
        self.task.take().unwrap().await.unwrap().unwrap();
    }
}

impl Drop for Running {
    /// Also where a test has failed: its runtime waits for the stream.
    fn drop(&mut self) {
        self.recorder.stopped.store(true, Ordering::Relaxed);
    }
}

/// Settings with a slot of this database's own: a server has one name space of slots.
pub fn streaming(fixture: &Fixture) -> Settings {
    let name = fixture.source.database().to_owned();
    Settings { mode: Mode::Changes, changes: ChangesSettings::of(&name), ..initial() }
}

pub fn start(fixture: &Fixture, settings: &Settings) -> Running {
    let recorder = Arc::new(Recorder::default());
    let request = Arc::new(fixture.request(settings, Target::Lake(fixture.lake.clone()), Permission::AsConfigured));
    let observer: Arc<dyn StreamObserver> = recorder.clone();
    let runtime = tokio::runtime::Handle::current();
    let task =
        tokio::task::spawn_blocking(move || runtime.block_on(changes::run(&request, StreamEnd::Never, &observer)));
    Running { recorder, task: Some(task) }
}

/// Streams until the lake has all that is committed now.
pub async fn catch_up(fixture: &Fixture, settings: &Settings) -> Arc<Recorder> {
    let recorder = try_catch_up(fixture, settings, Permission::AsConfigured, &[]).await.unwrap();
    assert_eq!(recorder.errors(), Vec::<String>::new());
    recorder
}

pub async fn try_catch_up(
    fixture: &Fixture,
    settings: &Settings,
    permission: Permission,
    tables: &[&str],
) -> crate::Result<Arc<Recorder>> {
    let recorder = Arc::new(Recorder::default());
    let mut request = fixture.request(settings, Target::Lake(fixture.lake.clone()), permission);
    request.tables = tables.iter().map(|table| (*table).to_owned()).collect();
    let observer: Arc<dyn StreamObserver> = recorder.clone();
    changes::run(&Arc::new(request), StreamEnd::CaughtUp, &observer).await?;
    Ok(recorder)
}

/// The rows of the source as the lake's rows are shown.
pub async fn source_rows(fixture: &Fixture, sql: &str) -> Vec<String> {
    let mut rows = fixture.first_column(sql).await;
    rows.sort();
    rows
}

pub async fn drop_slot(fixture: &Fixture, settings: &Settings) {
    drop_slot_of(fixture, settings, Target::Lake(fixture.lake.clone())).await;
}

pub async fn drop_slot_of(fixture: &Fixture, settings: &Settings, target: Target) {
    changes::drop_slot(&fixture.request(settings, target, Permission::AsConfigured)).await.unwrap();
}

const ROWS: &str = "SELECT concat_ws('|', id, coalesce(v, 'NULL')) FROM public.t";

#[tokio::test(flavor = "multi_thread")]
async fn inserts_updates_and_deletes_arrive() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id bigint PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 100) i",
    )
    .await;
    let settings = streaming(&fixture);
    catch_up(&fixture, &settings).await;
    assert_eq!(fixture.rows("public.t").await, source_rows(&fixture, ROWS).await);
    for sql in [
        "INSERT INTO t VALUES (101, 'new'), (102, NULL); UPDATE t SET v = 'changed' WHERE id % 10 = 0; \
         DELETE FROM t WHERE id <= 5",
        "UPDATE t SET id = 1000 + id WHERE id IN (7, 8)",
        "DO $$ BEGIN INSERT INTO public.t VALUES (200, 'rolled back'); RAISE EXCEPTION 'x'; EXCEPTION WHEN others THEN END $$",
        "INSERT INTO t VALUES (201, 'a'); UPDATE t SET v = 'b' WHERE id = 201; DELETE FROM t WHERE id = 201; \
         INSERT INTO t VALUES (201, 'c')",
    ] {
        fixture.sql(sql).await;
    }
    let recorder = catch_up(&fixture, &settings).await;
    assert_eq!(fixture.rows("public.t").await, source_rows(&fixture, ROWS).await);
    let status = recorder.status.lock().unwrap().clone();
    let counts = status.tables[0].counts;
    assert_eq!((counts.inserts, counts.updates, counts.deletes), (4, 13, 6));
    assert!(recorder.copies.lock().unwrap().is_empty(), "the table was read again");
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_follows_while_it_runs() {
    let fixture = Fixture::new("CREATE TABLE t (id bigint PRIMARY KEY, v text)").await;
    let settings = streaming(&fixture);
    let running = start(&fixture, &settings);
    for round in 0..20 {
        fixture
            .sql(&format!("INSERT INTO t VALUES ({round}, 'x'); UPDATE t SET v = 'round {round}' WHERE id % 3 = 0"))
            .await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let wanted = source_rows(&fixture, ROWS).await;
    for attempt in 0.. {
        let present = fixture.lake.table(&lake::TableName::new("public", "t")).await.unwrap();
        if let Some(table) = present
            && rows_of(&table).await == wanted
        {
            break;
        }
        assert!(attempt < 600, "the lake did not follow: {:?}", running.recorder.interruptions.lock().unwrap());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    running.stop().await;
    catch_up(&fixture, &settings).await;
    assert_eq!(fixture.rows("public.t").await, wanted);
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unchanged_large_values_stay() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id bigint PRIMARY KEY, v text, n int); ALTER TABLE t ALTER v SET STORAGE EXTERNAL",
    )
    .await;
    let settings = streaming(&fixture);
    catch_up(&fixture, &settings).await;
    fixture
        .sql(
            "INSERT INTO t SELECT i, repeat(i::text, 5000), 0 FROM generate_series(1, 4) i; UPDATE t SET n = 1 WHERE id = 1",
        )
        .await;
    catch_up(&fixture, &settings).await;
    fixture.sql("UPDATE t SET n = 2; UPDATE t SET n = 3 WHERE id = 2; UPDATE t SET id = 30 WHERE id = 3; UPDATE t SET n = 4 WHERE id = 30; UPDATE t SET v = 'short' WHERE id = 4").await;
    catch_up(&fixture, &settings).await;
    let wanted = source_rows(&fixture, "SELECT concat_ws('|', id, v, n) FROM public.t").await;
    assert_eq!(fixture.rows("public.t").await, wanted);
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn truncate_empties_the_table_or_keeps_its_rows() {
    let fixture =
        Fixture::new("CREATE TABLE t (id bigint PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b')").await;
    let settings = streaming(&fixture);
    catch_up(&fixture, &settings).await;
    fixture.sql("INSERT INTO t VALUES (3, 'c'); TRUNCATE t; INSERT INTO t VALUES (2, 'again'); UPDATE t SET v = 'last' WHERE id = 2").await;
    catch_up(&fixture, &settings).await;
    assert_eq!(fixture.rows("public.t").await, ["2|last"]);
    drop_slot(&fixture, &settings).await;
    let mut keeping = settings;
    keeping.changes.deletes = Deletes::Keep;
    catch_up(&fixture, &keeping).await;
    fixture.sql("TRUNCATE t; INSERT INTO t VALUES (5, 'e'); DELETE FROM t; INSERT INTO t VALUES (5, 'f')").await;
    catch_up(&fixture, &keeping).await;
    assert_eq!(fixture.rows("public.t").await, ["2|last", "5|f"]);
    drop_slot(&fixture, &keeping).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_rows_stay_when_a_table_is_read_again() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id bigint PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')",
    )
    .await;
    let settings = streaming(&fixture);
    catch_up(&fixture, &settings).await;
    let mut keeping = settings.clone();
    keeping.changes.deletes = Deletes::Keep;
    // Deleted while no stream ran; and then while one ran.
    drop_slot(&fixture, &settings).await;
    fixture.sql("DELETE FROM t WHERE id = 1").await;
    catch_up(&fixture, &keeping).await;
    assert_eq!(fixture.rows("public.t").await, ["1|a", "2|b", "3|c"]);
    fixture.sql("DELETE FROM t WHERE id = 2").await;
    catch_up(&fixture, &keeping).await;
    drop_slot(&fixture, &keeping).await;
    catch_up(&fixture, &keeping).await;
    assert_eq!(fixture.rows("public.t").await, ["1|a", "2|b", "3|c"]);
    // Those that were kept stay also where later deletes are applied.
    drop_slot(&fixture, &keeping).await;
    catch_up(&fixture, &settings).await;
    fixture.sql("DELETE FROM t WHERE id = 3").await;
    catch_up(&fixture, &settings).await;
    assert_eq!(fixture.rows("public.t").await, ["1|a", "2|b"]);
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_setting_to_keep_rows_is_followed_without_a_copy() {
    let fixture = Fixture::new("CREATE TABLE t (id bigint PRIMARY KEY); INSERT INTO t VALUES (1), (2)").await;
    let settings = streaming(&fixture);
    catch_up(&fixture, &settings).await;
    let mut keeping = settings.clone();
    keeping.changes.deletes = Deletes::Keep;
    fixture.sql("DELETE FROM t WHERE id = 2").await;
    catch_up(&fixture, &keeping).await;
    drop_slot(&fixture, &keeping).await;
    catch_up(&fixture, &keeping).await;
    assert_eq!(fixture.rows("public.t").await, ["1", "2"]);
    drop_slot(&fixture, &keeping).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_without_a_key_are_matched_by_all_columns() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id bigint, v text); ALTER TABLE t REPLICA IDENTITY FULL; \
         INSERT INTO t VALUES (1, 'a'), (1, 'a'), (1, 'a'), (2, NULL), (2, NULL)",
    )
    .await;
    let settings = streaming(&fixture);
    catch_up(&fixture, &settings).await;
    fixture
        .sql(
            "DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t WHERE id = 1); \
             UPDATE t SET v = 'x' WHERE ctid = (SELECT min(ctid) FROM t WHERE id = 2); INSERT INTO t VALUES (1, 'a')",
        )
        .await;
    catch_up(&fixture, &settings).await;
    assert_eq!(fixture.rows("public.t").await, source_rows(&fixture, ROWS).await);
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_streamed_as_their_table() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id bigint, v text, PRIMARY KEY (id)) PARTITION BY RANGE (id); \
         CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (100); CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (100) TO (200); \
         INSERT INTO t SELECT i, 'v' FROM generate_series(1, 150, 10) i",
    )
    .await;
    let settings = streaming(&fixture);
    catch_up(&fixture, &settings).await;
    fixture.sql("UPDATE t SET id = id + 102, v = 'moved' WHERE id = 11; DELETE FROM t WHERE id = 21; INSERT INTO t2 VALUES (199, 'direct'); TRUNCATE t; INSERT INTO t VALUES (7, 'x'), (107, 'y')").await;
    catch_up(&fixture, &settings).await;
    assert_eq!(fixture.rows("public.t").await, source_rows(&fixture, ROWS).await);
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_followed() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id int PRIMARY KEY, v text, n int); INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2)",
    )
    .await;
    let settings = streaming(&fixture);
    catch_up(&fixture, &settings).await;
    for sql in [
        "INSERT INTO t VALUES (3, 'c', 3)",
        "ALTER TABLE t ADD c text DEFAULT 'filled'; INSERT INTO t VALUES (4, 'd', 4, 'own')",
        "ALTER TABLE t RENAME n TO m; UPDATE t SET m = 30 WHERE id = 3",
        "ALTER TABLE t RENAME m TO l; INSERT INTO t VALUES (5, 'e', 5, 'x')",
        "ALTER TABLE t ADD e numeric(5, 2); INSERT INTO t VALUES (6, 'f', 6, 'y', 1.5); UPDATE t SET e = 2 WHERE id = 1",
    ] {
        fixture.sql(sql).await;
    }
    let recorder = catch_up(&fixture, &settings).await;
    let wanted = [
        "1|a|1|filled|2.00",
        "2|b|2|filled|NULL",
        "3|c|30|filled|NULL",
        "4|d|4|own|NULL",
        "5|e|5|x|NULL",
        "6|f|6|y|1.50",
    ];
    assert_eq!(fixture.rows("public.t").await, wanted);
    assert!(recorder.copies.lock().unwrap().is_empty(), "the table was read again");
    let schema = fixture.table("public.t").await.schema().unwrap();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["id", "v", "n", "c", "e"], "a renamed column keeps its name in the lake");
    fixture.sql("ALTER TABLE t ALTER id TYPE bigint; INSERT INTO t VALUES (5000000000, 'g', 7, 'z', 3)").await;
    let recorder = catch_up(&fixture, &settings).await;
    assert!(recorder.copies.lock().unwrap().is_empty(), "the table was read again");
    let rows = fixture.rows("public.t").await;
    assert_eq!((rows.len(), rows.contains(&"5000000000|g|7|z|3.00".to_owned())), (7, true));
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_read_again_where_the_log_lacks_values() {
    let fixture =
        Fixture::new("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b')").await;
    let settings = streaming(&fixture);
    catch_up(&fixture, &settings).await;
    fixture.sql("ALTER TABLE t ADD c int GENERATED ALWAYS AS IDENTITY; DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (4, 'd')").await;
    let recorder = catch_up(&fixture, &settings).await;
    assert_eq!(recorder.copies.lock().unwrap().len(), 1);
    assert_eq!(fixture.rows("public.t").await, ["1|a|1", "4|d|3"]);
    fixture.sql("UPDATE t SET v = 'x'").await;
    catch_up(&fixture, &settings).await;
    assert_eq!(fixture.rows("public.t").await, ["1|x|1", "4|x|3"]);
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn computed_columns_and_types_without_a_mapping_are_computed_at_the_source() {
    let fixture = Fixture::new(
        "CREATE TYPE mood AS ENUM ('low', 'high'); \
         CREATE TABLE t (id int PRIMARY KEY, m money, ts tsvector, e mood, es mood[], twice int GENERATED ALWAYS AS (id * 2) STORED, p point); \
         INSERT INTO t (id, m, ts, e, es, p) VALUES (1, 12.5, 'a b', 'low', '{low,high}', '(1,2)')",
    )
    .await;
    let settings = streaming(&fixture);
    catch_up(&fixture, &settings).await;
    let copied = fixture.rows("public.t").await;
    fixture
        .sql(
            "DELETE FROM t; INSERT INTO t (id, m, ts, e, es, p) VALUES (1, 12.5, 'a b', 'low', '{low,high}', '(1,2)'); \
             INSERT INTO t (id) VALUES (2); UPDATE t SET id = 3, e = 'high' WHERE id = 2",
        )
        .await;
    catch_up(&fixture, &settings).await;
    let rows = fixture.rows("public.t").await;
    assert_eq!(rows[0], copied[0]);
    assert_eq!(rows[1], "3|NULL|NULL|high|NULL|6|NULL");
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_columns_have_their_own_values_and_types() {
    let fixture = Fixture::new(
        "CREATE DOMAIN must AS int NOT NULL; CREATE TABLE t (id int PRIMARY KEY, a int, p float8, d must, \"a\"\"b\" text, \
         g int GENERATED ALWAYS AS (a * 2) STORED, s bigint GENERATED ALWAYS AS (a + 1) STORED, \
         n numeric(10, 2) GENERATED ALWAYS AS ((p * 0.19)::numeric) STORED, c char(5) GENERATED ALWAYS AS ('x') STORED); \
         INSERT INTO t (id, a, p, d) VALUES (1, 3, 10, 1), (2, 3, 10, 2)",
    )
    .await;
    let settings = streaming(&fixture);
    catch_up(&fixture, &settings).await;
    let copied = fixture.rows("public.t").await;
    fixture.sql("DELETE FROM t WHERE id = 1; INSERT INTO t (id, a, p, d) VALUES (1, 3, 10, 1); UPDATE t SET id = 5 WHERE id = 2").await;
    catch_up(&fixture, &settings).await;
    let rows = fixture.rows("public.t").await;
    assert_eq!(rows[0], copied[0]);
    assert_eq!(rows[1], copied[1].replace("2|3", "5|3"));
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_table_is_read_by_its_columns_at_the_time() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id int PRIMARY KEY, v varchar(3), w varchar(10), n numeric(10, 2)); \
         INSERT INTO t VALUES (1, 'abc', 'abcdefghij', 1.5)",
    )
    .await;
    let settings = streaming(&fixture);
    let running = start(&fixture, &settings);
    wait_for_copy(&running).await;
    fixture.sql("ALTER TABLE t ALTER v TYPE text").await;
    fixture.sql("ALTER TABLE t ALTER n TYPE numeric(14, 4)").await;
    fixture.sql("INSERT INTO t VALUES (2, 'abcdef', 'x', 12345678.1234)").await;
    for attempt in 0.. {
        if fixture.rows("public.t").await.len() == 2 {
            break;
        }
        assert!(attempt < 600, "{:?}", running.recorder.errors());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    running.stop().await;
    assert_eq!(fixture.rows("public.t").await, ["1|abc|abcdefghij|1.5000", "2|abcdef|x|12345678.1234"]);
    // Written by earlier types than those of the catalogue when they are read.
    fixture.sql("INSERT INTO t VALUES (3, 'later', 'abcdefghij', 2)").await;
    fixture.sql("ALTER TABLE t ALTER w TYPE text").await;
    fixture.sql("INSERT INTO t VALUES (4, 'x', 'abcdefghijkl', 3)").await;
    catch_up(&fixture, &settings).await;
    assert_eq!(fixture.rows("public.t").await[2..], ["3|later|abcdefghij|2.0000", "4|x|abcdefghijkl|3.0000"]);
    drop_slot(&fixture, &settings).await;
}

async fn wait_for_copy(running: &Running) {
    for attempt in 0.. {
        if !running.recorder.status.lock().unwrap().tables.is_empty() {
            return;
        }
        assert!(attempt < 3_000, "{:?}", running.recorder.interruptions.lock().unwrap());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_moved_to_other_columns_are_not_mixed_up() {
    let fixture =
        Fixture::new("CREATE TABLE t (id int PRIMARY KEY, a int, b int); INSERT INTO t VALUES (1, 10, 20)").await;
    let settings = streaming(&fixture);
    catch_up(&fixture, &settings).await;
    fixture.sql("INSERT INTO t VALUES (2, 11, 21)").await;
    fixture.sql("ALTER TABLE t RENAME a TO c; ALTER TABLE t RENAME b TO a; ALTER TABLE t RENAME c TO b").await;
    fixture.sql("INSERT INTO t (id, a, b) VALUES (3, 22, 12)").await;
    // The lake keeps a column under the name that it had, and two can't exchange theirs: an error, and no mixture.
    let recorder = try_catch_up(&fixture, &settings, Permission::AsConfigured, &[]).await.unwrap();
    let rows = fixture.rows("public.t").await;
    assert!(
        rows.iter().all(|row| row.split('|').nth(1).unwrap().starts_with('1')) || !recorder.errors().is_empty(),
        "{rows:?}"
    );
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_changed_while_the_stream_was_behind_is_not_guessed() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id int PRIMARY KEY, code int NOT NULL UNIQUE, v text); INSERT INTO t VALUES (1, 100, 'a'), (2, 200, 'b'), (3, 300, 'c')",
    )
    .await;
    let settings = streaming(&fixture);
    catch_up(&fixture, &settings).await;
    fixture.sql("DELETE FROM t WHERE id = 1").await;
    fixture.sql("UPDATE t SET v = 'x' WHERE id = 2").await;
    fixture.sql("ALTER TABLE t REPLICA IDENTITY USING INDEX t_code_key").await;
    fixture.sql("DELETE FROM t WHERE code = 300; INSERT INTO t VALUES (4, 400, 'd')").await;
    try_catch_up(&fixture, &settings, Permission::AsConfigured, &[]).await.unwrap();
    assert_eq!(fixture.rows("public.t").await, ["2|200|x", "4|400|d"]);
    drop_slot(&fixture, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyless_table_gets_a_column_and_is_still_matched() {
    let fixture =
        Fixture::new("CREATE TABLE t (a int, b text); ALTER TABLE t REPLICA IDENTITY FULL; INSERT INTO t VALUES (1, 'x'), (2, 'y'), (3, 'z')")
            .await;
    let settings = streaming(&fixture);
    catch_up(&fixture, &settings).await;
    fixture.sql("DELETE FROM t WHERE a = 3").await;
    fixture.sql("ALTER TABLE t ADD c int; UPDATE t SET c = 5 WHERE a = 1; DELETE FROM t WHERE a = 2").await;
    catch_up(&fixture, &settings).await;
    assert_eq!(fixture.rows("public.t").await, ["1|x|5"]);
    drop_slot(&fixture, &settings).await;
}
