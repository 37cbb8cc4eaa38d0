//! Random schemas and rows through the lake, each value held against PostgreSQL's own word.
//!
//! A failure prints how to have it again: `WATTLAKE_SEED=... WATTLAKE_CASES=1 cargo test`.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::columns::{Type, Types};
use super::shown::{SAY, exact};
use super::world::{World, chain, initial};
use crate::postgres::quote;
use crate::run::TableReport;

const CASES: u64 = 25;
const TABLES: usize = 4;
const ROWS: usize = 25;

/// What a name may hold; the one that orders comparison is `id`.
const NAMES: &[&str] = &[
    "plain",
    "Upper",
    "with space",
    "é",
    "日本語",
    "quo\"te",
    "dot.ted",
    "per%cent",
    "semi;colon",
    "emoji😀",
    "x=y",
    "tab\tbed",
    "a,b",
    "(paren)",
    "[x]",
    "{y}",
    "back\\slash",
    "o'clock",
    "select",
    "$1",
    "_",
    "1st",
    "a/b",
    "c:d",
    "~",
    "#",
    "?",
    "sixty-three bytes long, which is as long as a name can be......",
];

pub struct Drawn {
    pub schema: String,
    pub name: String,
    pub columns: Vec<(String, Type)>,
    pub made: Vec<String>,
    pub rows: Vec<String>,
}

impl Drawn {
    pub fn new(rng: &mut ChaCha8Rng, at: usize) -> Drawn {
        let schema = format!("Case \"{at}\" é");
        let mut names = NAMES.to_vec();
        names.shuffle(rng);
        let name = format!("{} {at}", names.pop().unwrap().chars().take(15).collect::<String>());
        let count = rng.random_range(5..=12);
        let mut types = Types { rng, schema: schema.clone(), made: vec![format!("CREATE SCHEMA {}", quote(&schema))] };
        let mut columns: Vec<(String, Type)> = Vec::new();
        for name in names.into_iter().take(count) {
            let column = types.column();
            columns.push((name.to_owned(), column));
        }
        let mut made = types.made;
        let list: Vec<String> =
            columns.iter().map(|(name, column)| format!("{} {}", quote(name), column.sql())).collect();
        let qualified = format!("{}.{}", quote(&schema), quote(&name));
        made.push(format!("CREATE TABLE {qualified} (id int4 PRIMARY KEY, {})", list.join(", ")));
        let rows = (0..ROWS)
            .map(|id| {
                let values: Vec<String> = columns.iter().map(|(_, column)| column.value(rng)).collect();
                format!("INSERT INTO {qualified} VALUES ({id}, {})", values.join(", "))
            })
            .collect();
        Drawn { schema, name, columns, made, rows }
    }

    pub fn qualified(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.name))
    }

    pub fn display(&self) -> String {
        crate::postgres::catalog::display(&self.schema, &self.name)
    }

    pub async fn make(&self, world: &World) {
        for statement in self.made.iter().chain(&self.rows) {
            if let Err(error) = world.client.batch_execute(statement).await {
                panic!("{error}: {:?}\n{statement}", error.as_db_error());
            }
        }
    }

    /// PostgreSQL's own word for each value, by id.
    pub async fn said(&self, world: &World) -> BTreeMap<i32, Vec<String>> {
        let said: Vec<String> =
            self.columns.iter().map(|(name, column)| column.say(&format!("t.{}", quote(name)))).collect();
        let sql = format!("SELECT t.id, {} FROM {} t", said.join(", "), self.qualified());
        let rows = world.client.query(&sql, &[]).await.unwrap_or_else(|e| panic!("{e}: {:?}\n{sql}", e.as_db_error()));
        let value = |row: &tokio_postgres::Row, at| row.get::<_, Option<String>>(at).unwrap_or_else(|| "NULL".into());
        rows.iter().map(|row| (row.get(0), (1..row.len()).map(|at| value(row, at)).collect())).collect()
    }

    async fn carried(&self, world: &World) -> BTreeMap<i32, Vec<String>> {
        let name = lake::TableName::new(&self.schema, &self.name);
        let table = world.lake.table(&name).await.unwrap().unwrap();
        // The types that the plan gave, whatever views the engine reads texts as.
        let schema = table.schema().unwrap();
        let mut rows = BTreeMap::new();
        let mut batches = table.read().await.unwrap();
        while let Some(batch) = batches.try_next().await.unwrap() {
            let batch = lake::conform(&batch, &schema).unwrap();
            let ids = batch.column_by_name("id").unwrap();
            for at in 0..batch.num_rows() {
                let values =
                    self.columns.iter().map(|(name, _)| exact(batch.column_by_name(name).unwrap(), at)).collect();
                let id = exact(ids, at).parse().unwrap();
                assert!(rows.insert(id, values).is_none(), "row {id} is there twice");
            }
        }
        rows
    }

    /// The first value that differs, as a complaint.
    async fn difference(&self, world: &World, report: &TableReport) -> Option<String> {
        if let Some(error) = &report.error {
            return Some(chain(error));
        }
        let (said, carried) = (self.said(world).await, self.carried(world).await);
        if said.len() != carried.len() {
            return Some(format!("{} rows at the source, {} in the lake", said.len(), carried.len()));
        }
        for (id, expected) in &said {
            let Some(got) = carried.get(id) else { return Some(format!("row {id} is not in the lake")) };
            for ((name, column), (expected, got)) in self.columns.iter().zip(expected.iter().zip(got)) {
                if expected != got {
                    let row = &self.rows[*id as usize];
                    return Some(format!(
                        "row id={id}, column {name:?} {}\n  expected {expected}\n  got      {got}\n{row}",
                        column.sql()
                    ));
                }
            }
        }
        None
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_value_comes_out_as_postgresql_says_it() {
    let seed = number("WATTLAKE_SEED").unwrap_or_else(|| rand::rng().random_range(0..1_000_000_000));
    let world = World::new(&format!("{SAY} CREATE EXTENSION hstore SCHEMA public")).await;
    for seed in seed..seed + number("WATTLAKE_CASES").unwrap_or(CASES) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let tables: Vec<Drawn> = (0..TABLES).map(|at| Drawn::new(&mut rng, at)).collect();
        for table in &tables {
            table.make(&world).await;
        }
        let report = world.run(&initial()).await;
        assert_eq!(report.tables.len(), TABLES);
        for table in &tables {
            let report = report.tables.iter().find(|r| r.source == table.display()).unwrap();
            if let Some(difference) = table.difference(&world, report).await {
                let schema = table.made.join(";\n");
                panic!(
                    "have it again with WATTLAKE_SEED={seed} WATTLAKE_CASES=1\n{schema}\n{}: {difference}",
                    table.display()
                );
            }
            world.sql(&format!("DROP SCHEMA {} CASCADE", quote(&table.schema))).await;
        }
    }
}
