//! Runs the queries of `slt/*.slt`. The expected results in the files are PostgreSQL's, and are checked against it, too.
//!
//! With `WATTLAKE_UPDATE`, the files are updated with PostgreSQL's results first.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use sqllogictest::{
    AsyncDB, ColumnType, DBOutput, Runner, default_normalizer, default_validator, strict_column_validator,
};

use super::super::oracle::Oracle;
use super::{Answer, Session, TestLake, answer_of_lake, answer_of_oracle, data};

/// The letter of each column type.
const TYPES: [(&str, char); 12] = [
    ("bool", 'B'),
    ("int2", 'S'),
    ("int4", 'I'),
    ("int8", 'L'),
    ("float4", 'R'),
    ("float8", 'F'),
    ("numeric", 'N'),
    ("text", 'T'),
    ("date", 'D'),
    ("timestamp", 'P'),
    ("timestamptz", 'Z'),
    ("interval", 'V'),
];

#[derive(Debug, Clone, PartialEq, Eq)]
struct Letter(char);

impl ColumnType for Letter {
    fn from_char(letter: char) -> Option<Letter> {
        Some(Letter(letter))
    }

    fn to_char(&self) -> char {
        self.0
    }
}

/// The error of a query; the runner does not distinguish the errors of the two sides.
#[derive(Debug)]
struct QueryError(String);

impl std::fmt::Display for QueryError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for QueryError {}

#[derive(Clone)]
enum Side {
    PostgreSql(Arc<Oracle>),
    Lake(Arc<Session>),
}

#[async_trait]
impl AsyncDB for Side {
    type Error = QueryError;
    type ColumnType = Letter;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<Letter>, QueryError> {
        let answer = match self {
            Side::PostgreSql(oracle) => answer_of_oracle(oracle, sql).await,
            Side::Lake(session) => answer_of_lake(session, sql, "Europe/Paris").await,
        };
        let Answer { types, rows } = answer.map_err(QueryError)?;
        let letter = |name: &String| TYPES.iter().find(|(known, _)| known == name).map_or('?', |(_, letter)| *letter);
        let shown = |cell: String| if cell.is_empty() { "(empty)".to_owned() } else { cell };
        let rows = rows.into_iter().map(|row| row.into_iter().map(shown).collect()).collect();
        Ok(DBOutput::Rows { types: types.iter().map(|name| Letter(letter(name))).collect(), rows })
    }

    async fn shutdown(&mut self) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn slt_queries_have_the_results_of_postgresql() {
    let (oracle, test_lake) = (Oracle::new().await, TestLake::new().await);
    data::fill(&oracle, &test_lake).await;
    oracle.client.batch_execute("SET timezone = 'Europe/Paris'").await.unwrap();
    let session = test_lake.session();
    drop(session.run("SET datafusion.execution.time_zone = 'Europe/Paris'").await.unwrap());
    let sides = [Side::PostgreSql(Arc::new(oracle)), Side::Lake(Arc::new(session))];
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/tests/slt");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut wrong = Vec::new();
    for file in files {
        for (side, name) in sides.iter().zip(["PostgreSQL", "here"]) {
            let mut runner = Runner::new(|| {
                let side = side.clone();
                async move { Ok(side) }
            });
            runner.with_column_validator(strict_column_validator);
            if std::env::var_os("WATTLAKE_UPDATE").is_some() && name == "PostgreSQL" {
                let update =
                    runner.update_test_file(&file, " ", default_validator, default_normalizer, strict_column_validator);
                update.await.unwrap();
            }
            // Each record runs on its own, so that all wrong ones are reported.
            for record in sqllogictest::parse_file::<Letter>(&file).unwrap() {
                if let Err(error) = runner.run_async(record).await {
                    wrong.push(format!("{name}: {}", error.display(false)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n\n"));
}
