//! Random transactions on tables of all kinds that a stream must follow.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// The tables: large values beside small ones, partitions, a key of two columns, and no key at all.
pub const TABLES: &str = "
    create table hot (id bigint primary key, v text, n int, d numeric(12, 2), at timestamptz);
    alter table hot alter v set storage external;
    create table parted (id bigint primary key, v text) partition by range (id);
    create table parted_low partition of parted for values from (minvalue) to (500);
    create table parted_high partition of parted for values from (500) to (maxvalue);
    create table compound (a int, b text, x float8, primary key (b, a));
    create table keyless (a int, b text);
    alter table keyless replica identity full;
    insert into hot select n, repeat('x', n), n, n, '2026-01-01' from generate_series(1, 300) n;
    insert into keyless select n % 7, 'k' from generate_series(1, 50) n";

/// The names of the tables.
pub const NAMES: [&str; 4] = ["hot", "parted", "compound", "keyless"];

/// Makes transactions.
pub struct Workload {
    random: StdRng,
    /// How many columns were added; `None` where none are.
    columns: Option<u32>,
}

impl Workload {
    /// With `adds_columns`, also changes of the tables' columns.
    pub fn new(seed: u64, adds_columns: bool) -> Workload {
        Workload { random: StdRng::seed_from_u64(seed), columns: adds_columns.then_some(0) }
    }

    pub fn random(&mut self) -> &mut StdRng {
        &mut self.random
    }

    /// The statements of one transaction, which may be rolled back as a whole or in part.
    pub fn transaction(&mut self) -> String {
        let count = if self.random.random_bool(0.05) { 60 } else { self.random.random_range(1..6) };
        let mut statements: Vec<String> = Vec::new();
        for _ in 0..count {
            let statement = self.statement();
            match self.random.random_range(0..12) {
                0 => statements.push(format!("savepoint s; {statement}; rollback to s")),
                1 => statements.push(format!("savepoint s; {statement}; release s")),
                _ => statements.push(statement),
            }
        }
        let end = if self.random.random_bool(0.08) { "rollback" } else { "commit" };
        format!("begin; {}; {end}", statements.join("; "))
    }

    fn statement(&mut self) -> String {
        let table = *NAMES.choose(&mut self.random).unwrap();
        match table {
            "hot" => self.hot(),
            "parted" => self.parted(),
            "compound" => self.compound(),
            _ => self.keyless(),
        }
    }

    fn hot(&mut self) -> String {
        let (id, n) = (self.random.random_range(1..1000), self.random.random_range(0..100));
        match self.random.random_range(0..40) {
            0 => "truncate hot".to_owned(),
            1 => format!(
                "insert into hot select m, 'bulk', {n}, m, now() from generate_series({id}, {id} + 3000) m on conflict (id) do update set n = excluded.n"
            ),
            2 if self.columns.is_some() => {
                let number = self.columns.get_or_insert(0);
                *number += 1;
                let default = if self.random.random_bool(0.5) { " default 'old'" } else { "" };
                format!("alter table hot add column if not exists c{number} text{default}")
            }
            2..10 => format!(
                "insert into hot values ({id}, repeat('v', {n} * 100), {n}, {n} / 3.0, now()) on conflict do nothing"
            ),
            10..20 => format!("update hot set n = {n} where id % 50 = {n} % 50"),
            20..25 => format!("update hot set v = repeat('w', 3000), d = d + 1 where id = {id}"),
            25..30 => format!(
                "update hot set id = id + 100000 where id between {id} and {id} + 3 and not exists (select from hot o where o.id = hot.id + 100000)"
            ),
            _ => format!("delete from hot where id between {id} and {id} + {n} / 10"),
        }
    }

    fn parted(&mut self) -> String {
        let (id, n) = (self.random.random_range(0..1000), self.random.random_range(0..50));
        match self.random.random_range(0..10) {
            0..4 => format!(
                "insert into parted select m, 'p{n}' from generate_series({id}, {id} + {n}) m on conflict do nothing"
            ),
            4..7 => format!("update parted set v = 'u{n}' where id between {id} and {id} + {n}"),
            7 => format!(
                "update parted set id = 1000 + id where id = {id} and not exists (select from parted o where o.id = 1000 + {id})"
            ),
            _ => format!("delete from parted where id between {id} and {id} + {n}"),
        }
    }

    fn compound(&mut self) -> String {
        let (a, b) = (self.random.random_range(0..20), self.random.random_range(0..5));
        match self.random.random_range(0..8) {
            0..4 => format!(
                "insert into compound values ({a}, 'é{b}', {a} / 7.0) on conflict (a, b) do update set x = compound.x + 1"
            ),
            4..6 => format!("update compound set x = -x where a = {a}"),
            6 => format!(
                "update compound set b = b || 'z' where a = {a} and length(b) < 4 and not exists (select from compound o where o.a = {a} and o.b = compound.b || 'z')"
            ),
            _ => format!("delete from compound where a = {a}"),
        }
    }

    fn keyless(&mut self) -> String {
        let (a, b) = (self.random.random_range(0..7), self.random.random_range(0..3));
        match self.random.random_range(0..6) {
            0..3 => format!("insert into keyless select {a}, nullif('k{b}', 'k2') from generate_series(1, {b} + 1)"),
            3 => format!("delete from keyless where ctid in (select ctid from keyless where a = {a} limit 2)"),
            4 => format!("update keyless set b = 'u' where ctid in (select ctid from keyless where a = {a} limit 1)"),
            _ => format!("update keyless set a = a where a = {a}"),
        }
    }
}
