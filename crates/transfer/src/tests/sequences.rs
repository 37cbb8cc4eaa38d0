//! Random sequences of changes of the source between runs: after each run the lake has the rows that the rules
//! require, or the table is in a named state, from which a resync continues.
//!
//! `WATTLAKE_SEQUENCES` is the number of sequences; a failure prints its seed, for `WATTLAKE_SEED`.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio_postgres::Client;

use super::fixture::{Fixture, by_cursor, chain, incremental, table_report, with};
use crate::plan::Settings;
use crate::resume::Permission;

const SEQUENCES: u64 = 50;
/// The seeds of sequences that have found defects.
const KNOWN_SEEDS: [u64; 5] = [300_000_000, 800_000_017, 800_000_072, 800_000_128, 800_000_177];
const STEPS: usize = 8;

/// By key, the cursor `at` and the value.
type Rows = BTreeMap<i64, (String, String)>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Id,
    At,
    Transaction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Insert,
    InsertLate,
    Update,
    UpdateWithoutCursor,
    Delete,
    DeleteAll,
    Truncate,
    RestartIdentity,
    RestartAndRefill,
    DropAndCreate,
    Rename,
    AddColumn,
    AddColumnWithDefault,
    DropColumn,
    Widen,
    Rewrite,
    Detach,
    Attach,
    FarAhead,
}

const EVENTS: [Event; 19] = [
    Event::Insert,
    Event::InsertLate,
    Event::Update,
    Event::UpdateWithoutCursor,
    Event::Delete,
    Event::DeleteAll,
    Event::Truncate,
    Event::RestartIdentity,
    Event::RestartAndRefill,
    Event::DropAndCreate,
    Event::Rename,
    Event::AddColumn,
    Event::AddColumnWithDefault,
    Event::DropColumn,
    Event::Widen,
    Event::Rewrite,
    Event::Detach,
    Event::Attach,
    Event::FarAhead,
];

/// A table with a partition that can be detached and attached with its rows.
const CREATE: &str = "CREATE TABLE t (id bigserial PRIMARY KEY, at timestamptz NOT NULL, v text, n int DEFAULT 1) \
    PARTITION BY RANGE (id); \
     CREATE TABLE t_main PARTITION OF t FOR VALUES FROM (MINVALUE) TO (1000000); \
     CREATE TABLE IF NOT EXISTS t_side (id bigint NOT NULL DEFAULT 0 PRIMARY KEY, at timestamptz NOT NULL, v text, n \
     int)";

struct Platform {
    fixture: Fixture,
    rng: ChaCha8Rng,
    value_column: String,
    has_side: bool,
    /// The table was created again since the last run: its columns are not those of before, whatever their names
    /// become.
    is_anew: bool,
    is_wide: bool,
    columns: usize,
    written: u32,
    log: Vec<String>,
    late: Vec<Client>,
}

impl Platform {
    async fn sql(&mut self, sql: &str) {
        self.log.push(sql.to_owned());
        self.fixture.sql(sql).await;
    }

    fn value(&mut self) -> String {
        self.written += 1;
        format!("v{}", self.written)
    }

    fn insert(&mut self) -> String {
        let (column, value, count) = (self.value_column.clone(), self.value(), self.rng.random_range(1..6));
        format!("INSERT INTO t (at, {column}) SELECT clock_timestamp(), '{value}' FROM generate_series(1, {count})")
    }

    fn next_event(&mut self, seed: u64, in_step: &[Event]) -> Event {
        let restarts = [Event::RestartIdentity, Event::RestartAndRefill];
        match *EVENTS.choose(&mut self.rng).unwrap() {
            // Each run waits some seconds for such a transaction.
            Event::InsertLate if !seed.is_multiple_of(8) => Event::Insert,
            // Both rewrite all rows, and cannot be distinguished: see docs/transfer.md.
            event if restarts.contains(&event) && in_step.contains(&Event::Widen) => Event::Insert,
            Event::Widen if restarts.iter().any(|event| in_step.contains(event)) => Event::Insert,
            event => event,
        }
    }

    async fn apply(&mut self, event: Event) {
        let (column, value) = (self.value_column.clone(), self.value());
        let some = format!("id % 3 = {}", self.rng.random_range(0..3));
        match event {
            Event::Insert => {
                let insert = self.insert();
                self.sql(&insert).await;
            }
            Event::InsertLate => {
                let insert = self.insert();
                self.log.push(format!("in an open transaction: {insert}"));
                let session = self.fixture.session().await;
                session.batch_execute(&format!("BEGIN; {insert}")).await.unwrap();
                self.late.push(session);
            }
            Event::Update => {
                self.sql(&format!("UPDATE t SET {column} = '{value}', at = clock_timestamp() WHERE {some}")).await
            }
            Event::UpdateWithoutCursor => self.sql(&format!("UPDATE t SET {column} = '{value}' WHERE {some}")).await,
            Event::Delete => self.sql(&format!("DELETE FROM t WHERE {some}")).await,
            Event::DeleteAll => self.sql("DELETE FROM t").await,
            Event::Truncate => self.sql("TRUNCATE t").await,
            Event::RestartIdentity => self.sql("TRUNCATE t RESTART IDENTITY").await,
            Event::RestartAndRefill => {
                self.sql("TRUNCATE t RESTART IDENTITY").await;
                let insert = self.insert();
                self.sql(&insert).await;
            }
            Event::DropAndCreate => {
                // A narrower type than the target's would be refused.
                let create = if self.is_wide { CREATE.replace(" n int", " n bigint") } else { CREATE.to_owned() };
                self.sql(&format!("DROP TABLE t; DROP TABLE IF EXISTS t_side; {create}")).await;
                (self.value_column, self.has_side, self.is_anew) = ("v".into(), false, true);
                let insert = self.insert();
                self.sql(&insert).await;
            }
            Event::Rename if !self.is_anew => {
                self.value_column = format!("v_{}", self.written);
                let renamed = self.value_column.clone();
                let side = if self.has_side {
                    String::new()
                } else {
                    format!("ALTER TABLE t_side RENAME {column} TO {renamed}; ")
                };
                self.sql(&format!("{side}ALTER TABLE t RENAME {column} TO {renamed}")).await;
            }
            _ => self.apply_change(event).await,
        }
    }

    async fn apply_change(&mut self, event: Event) {
        let both = |has_side: bool, change: &str| match has_side {
            true => format!("ALTER TABLE t {change}"),
            false => format!("ALTER TABLE t {change}; ALTER TABLE t_side {change}"),
        };
        match event {
            Event::AddColumn | Event::AddColumnWithDefault => {
                self.columns += 1;
                let default = if event == Event::AddColumn { "" } else { " DEFAULT 'filled'" };
                let change = format!("ADD extra_{} text{default}", self.columns);
                self.sql(&both(self.has_side, &change)).await;
            }
            Event::DropColumn => self.sql(&both(self.has_side, "DROP COLUMN IF EXISTS n")).await,
            Event::Widen => {
                let has = "SELECT count(*)::text FROM pg_attribute WHERE attrelid = 'public.t'::regclass AND attname \
                    = 'n' AND NOT attisdropped";
                if self.fixture.first_column(has).await == ["1"] {
                    self.is_wide = true;
                    self.sql(&both(self.has_side, "ALTER n TYPE bigint")).await;
                }
            }
            Event::Rewrite => {
                self.log.push("VACUUM FULL".into());
                self.fixture.client.batch_execute("VACUUM FULL public.t_main").await.unwrap();
            }
            Event::Detach if self.has_side => {
                self.has_side = false;
                self.sql("ALTER TABLE t DETACH PARTITION t_side").await;
            }
            Event::Attach if !self.has_side => {
                self.has_side = true;
                let (column, value, id) =
                    (self.value_column.clone(), self.value(), 1_000_000 + i64::from(self.written));
                let rows = format!(
                    "INSERT INTO t_side (id, at, {column}) VALUES ({id}, clock_timestamp() - interval '1 day', \
                     '{value}')"
                );
                self.sql(&format!(
                    "{rows}; ALTER TABLE t ATTACH PARTITION t_side FOR VALUES FROM (1000000) TO (2000000)"
                ))
                .await;
            }
            Event::FarAhead => {
                let (column, value) = (self.value_column.clone(), self.value());
                self.sql(&format!(
                    "INSERT INTO t (id, at, {column}) VALUES (900000 + {}, '2999-01-01', '{value}')",
                    self.written
                ))
                .await;
            }
            _ => {}
        }
    }

    async fn end_late(&mut self) {
        for session in self.late.drain(..) {
            self.log.push("the transaction commits".into());
            session.batch_execute("COMMIT").await.unwrap();
        }
    }

    /// The rows that the run may leave to a later run; none at the end, when all transactions have ended.
    async fn before_run(&mut self, order: Order, is_last: bool) -> Vec<i64> {
        if is_last {
            self.end_late().await;
        }
        let mut pending = if order == Order::Transaction { self.pending().await } else { Vec::new() };
        while is_last && !pending.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            pending = self.pending().await;
        }
        pending
    }

    async fn source(&self) -> Rows {
        let sql = format!(
            "SELECT concat_ws('|', id, to_char(at, 'YYYY-MM-DD HH24:MI:SS.US') || ' UTC', {}) FROM public.t",
            self.value_column
        );
        parsed(&self.fixture.first_column(&sql).await)
    }

    /// The rows whose transactions are not older than all running transactions of the server, in other databases, too.
    /// With the cursor `xmin` they are left to a later run, or read where those transactions end in time.
    async fn pending(&self) -> Vec<i64> {
        let sql = "SELECT id::text FROM public.t WHERE age(xmin) <= \
             age((pg_snapshot_xmin(pg_current_snapshot())::text::bigint & 4294967295)::text::xid)";
        self.fixture.first_column(sql).await.iter().map(|id| id.parse().unwrap()).collect()
    }

    async fn lake(&self) -> Rows {
        parsed(&self.fixture.rows("public.t").await)
    }
}

fn parsed(rows: &[String]) -> Rows {
    let mut all = Rows::new();
    for row in rows {
        let parts: Vec<&str> = row.split('|').collect();
        let doubled = all.insert(parts[0].parse().unwrap(), (parts[1].to_owned(), parts[2].to_owned()));
        assert!(doubled.is_none(), "a key twice: {row}");
    }
    all
}

/// The rows that the lake must have after a run: those that the source no longer has are kept, others are matched by
/// key and cursor. `last` has the source's rows at the last run: an id that is not in it is new, also where the lake
/// has it.
fn expected(order: Order, before: &Rows, last: &Rows, source: &Rows, is_resync: bool) -> Rows {
    let mut rows = before.clone();
    for (id, row) in source {
        let is_same = match (order, before.get(id)) {
            (_, None) => false,
            // Each run reads and compares the ids above the sequence.
            (Order::Id, Some(_)) => !is_resync && last.contains_key(id) && *id < 900_000,
            (Order::At, Some(known)) => !is_resync && known.0 == row.0,
            (Order::Transaction, Some(_)) => false,
        };
        if !is_same {
            rows.insert(*id, row.clone());
        }
    }
    rows
}

/// Expects the earlier versions of rows that may be left to a later run, where the lake has these versions.
fn leave_pending(wanted: &mut Rows, pending: &[i64], before: &Rows, lake: &Rows) {
    for id in pending.iter().filter(|id| lake.get(id) == before.get(id)) {
        match before.get(id) {
            Some(row) => wanted.insert(*id, row.clone()),
            None => wanted.remove(id),
        };
    }
}

async fn run_sequence(seed: u64) -> Result<(), String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let order = *[Order::Id, Order::At, Order::Transaction].choose(&mut rng).unwrap();
    let settings = Settings { include: vec!["public.t".into()], ..incremental() };
    let settings = match order {
        Order::Id => settings,
        Order::At => with(settings, "public.t", by_cursor("at")),
        Order::Transaction => with(settings, "public.t", by_cursor("xmin")),
    };
    let fixture = Fixture::new(CREATE).await;
    let mut platform = Platform {
        fixture,
        rng,
        value_column: "v".into(),
        has_side: false,
        is_anew: false,
        is_wide: false,
        columns: 0,
        written: 0,
        log: vec![format!("{order:?}")],
        late: Vec::new(),
    };
    platform.apply(Event::Insert).await;
    platform.fixture.run_ok(&settings).await;
    let mut last = platform.source().await;
    for step in 0..STEPS {
        let mut in_step = Vec::new();
        for _ in 0..platform.rng.random_range(1..4) {
            let event = platform.next_event(seed, &in_step);
            in_step.push(event);
            // Beside an open transaction that writes, only changes of rows are possible: others wait for its locks.
            let waits = !matches!(event, Event::Insert | Event::Update | Event::Delete | Event::FarAhead);
            if platform.late.is_empty() || !waits {
                platform.apply(event).await;
            }
        }
        let pending = platform.before_run(order, step + 1 == STEPS).await;
        let (before, source) = (platform.lake().await, platform.source().await);
        platform.log.push(format!("run; pending {pending:?}"));
        let report = platform.fixture.run(&settings).await;
        let mut wanted = expected(order, &before, &last, &source, false);
        if let Some(error) = &table_report(&report, "public.t").error {
            let state = error.state.ok_or_else(|| format!("no state: {}\n{:#?}", chain(error), platform.log))?;
            platform.log.push(format!("{state}, resync"));
            let report = platform.fixture.run_with(&settings, Permission::Resync).await;
            if let Some(error) = &table_report(&report, "public.t").error {
                return Err(format!("resync: {}\n{:#?}", chain(error), platform.log));
            }
            wanted = expected(order, &before, &last, &source, true);
        }
        let lake = platform.lake().await;
        leave_pending(&mut wanted, &pending, &before, &lake);
        // A run may read more rows than necessary.
        wanted.extend(source.iter().filter(|(id, row)| lake.get(id) == Some(row)).map(|(id, row)| (*id, row.clone())));
        // Rows of open transactions are read by the next run, or a later one.
        if lake != wanted {
            return Err(format!("the lake has {lake:?}\nand not {wanted:?}\n{:#?}", platform.log));
        }
        last = source;
        platform.is_anew = false;
        if platform.rng.random_bool(0.7) {
            platform.end_late().await;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_between_runs_are_transferred_or_refused() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let count = number("WATTLAKE_SEQUENCES").unwrap_or(SEQUENCES);
    let given = number("WATTLAKE_SEED");
    let first = given.unwrap_or_else(|| rand::rng().random_range(0..1_000_000_000));
    let found = KNOWN_SEEDS.into_iter().filter(|_| given.is_none());
    for seed in found.chain(first..first + count) {
        if let Err(what) = run_sequence(seed).await {
            panic!("repeat with WATTLAKE_SEED={seed} WATTLAKE_SEQUENCES=1\n{what}");
        }
    }
}
