//! Random schemas and rows through the lake: the text of each value is compared with PostgreSQL's.
//!
//! A failure prints how to repeat it: `WATTLAKE_SEED=... WATTLAKE_CASES=1 cargo test`.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::fixture::{Fixture, chain, initial};
use super::random_types::{Type, Types};
use super::value_text::{TEXT_FUNCTIONS, exact};
use crate::postgres::quote;
use crate::run::TableReport;

const CASES: u64 = 25;
const TABLES: usize = 4;
const ROWS: usize = 25;

/// Names of columns and tables; the column `id` identifies the rows.
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

/// A random table with rows.
pub struct RandomTable {
    pub schema: String,
    pub name: String,
    pub columns: Vec<(String, Type)>,
    pub statements: Vec<String>,
    pub rows: Vec<String>,
}

impl RandomTable {
    pub fn new(rng: &mut ChaCha8Rng, at: usize) -> RandomTable {
        let schema = format!("Case \"{at}\" é");
        let mut names = NAMES.to_vec();
        names.shuffle(rng);
        let name = format!("{} {at}", names.pop().unwrap().chars().take(15).collect::<String>());
        let count = rng.random_range(5..=12);
        let mut types =
            Types { rng, schema: schema.clone(), statements: vec![format!("CREATE SCHEMA {}", quote(&schema))] };
        let mut columns: Vec<(String, Type)> = Vec::new();
        for name in names.into_iter().take(count) {
            let column = types.column();
            columns.push((name.to_owned(), column));
        }
        let mut statements = types.statements;
        let list: Vec<String> =
            columns.iter().map(|(name, column)| format!("{} {}", quote(name), column.sql())).collect();
        let qualified = format!("{}.{}", quote(&schema), quote(&name));
        statements.push(format!("CREATE TABLE {qualified} (id int4 PRIMARY KEY, {})", list.join(", ")));
        let rows = (0..ROWS)
            .map(|id| {
                let values: Vec<String> = columns.iter().map(|(_, column)| column.value(rng)).collect();
                format!("INSERT INTO {qualified} VALUES ({id}, {})", values.join(", "))
            })
            .collect();
        RandomTable { schema, name, columns, statements, rows }
    }

    pub fn qualified(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.name))
    }

    pub fn display(&self) -> String {
        crate::postgres::catalog::display(&self.schema, &self.name)
    }

    /// Creates the table and inserts its rows.
    pub async fn create(&self, fixture: &Fixture) {
        for statement in self.statements.iter().chain(&self.rows) {
            if let Err(error) = fixture.client.batch_execute(statement).await {
                panic!("{error}: {:?}\n{statement}", error.as_db_error());
            }
        }
    }

    /// PostgreSQL's exact texts of all values, by id.
    pub async fn source_texts(&self, fixture: &Fixture) -> BTreeMap<i32, Vec<String>> {
        let texts: Vec<String> =
            self.columns.iter().map(|(name, column)| column.text_sql(&format!("t.{}", quote(name)))).collect();
        let sql = format!("SELECT t.id, {} FROM {} t", texts.join(", "), self.qualified());
        let rows =
            fixture.client.query(&sql, &[]).await.unwrap_or_else(|e| panic!("{e}: {:?}\n{sql}", e.as_db_error()));
        let value = |row: &tokio_postgres::Row, at| row.get::<_, Option<String>>(at).unwrap_or_else(|| "NULL".into());
        rows.iter().map(|row| (row.get(0), (1..row.len()).map(|at| value(row, at)).collect())).collect()
    }

    /// The lake's exact texts of all values, by id.
    async fn lake_texts(&self, fixture: &Fixture) -> BTreeMap<i32, Vec<String>> {
        let name = lake::TableName::new(&self.schema, &self.name);
        let table = fixture.lake.table(&name).await.unwrap().unwrap();
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

    /// A description of the first value that differs.
    async fn difference(&self, fixture: &Fixture, report: &TableReport) -> Option<String> {
        if let Some(error) = &report.error {
            return Some(chain(error));
        }
        let (expected_rows, carried) = (self.source_texts(fixture).await, self.lake_texts(fixture).await);
        if expected_rows.len() != carried.len() {
            return Some(format!("{} rows at the source, {} in the lake", expected_rows.len(), carried.len()));
        }
        for (id, expected) in &expected_rows {
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
    let fixture = Fixture::new(&format!("{TEXT_FUNCTIONS} CREATE EXTENSION hstore SCHEMA public")).await;
    for seed in seed..seed + number("WATTLAKE_CASES").unwrap_or(CASES) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let tables: Vec<RandomTable> = (0..TABLES).map(|at| RandomTable::new(&mut rng, at)).collect();
        for table in &tables {
            table.create(&fixture).await;
        }
        let report = fixture.run(&initial()).await;
        assert_eq!(report.tables.len(), TABLES);
        for table in &tables {
            let report = report.tables.iter().find(|r| r.source == table.display()).unwrap();
            if let Some(difference) = table.difference(&fixture, report).await {
                let schema = table.statements.join(";\n");
                panic!(
                    "repeat with WATTLAKE_SEED={seed} WATTLAKE_CASES=1\n{schema}\n{}: {difference}",
                    table.display()
                );
            }
            fixture.sql(&format!("DROP SCHEMA {} CASCADE", quote(&table.schema))).await;
        }
    }
}
