//! Fills the two tables of `bench copy` by bench/fill.sql, whose rows are the same on every machine.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::programs::Programs;
use super::servers::{DATABASE, Servers};
use crate::project::run;

/// The tables, in the schema `bench`.
pub const TABLES: [&str; 2] = ["measures", "wide"];

/// The numbers of rows.
#[derive(Clone, Copy)]
pub struct Rows {
    /// Of `bench.measures`.
    pub long: u64,
    /// Of `bench.wide`.
    pub wide: u64,
}

impl Rows {
    /// The number of rows of a table.
    pub fn of(self, table: &str) -> u64 {
        if table == "wide" { self.wide } else { self.long }
    }

    /// Rows, columns and bytes of each table on the source.
    pub fn json(self, programs: &Programs, servers: &Servers) -> Result<Value> {
        let mut all = json!({});
        for table in TABLES {
            let name = format!("bench.{table}");
            let sql = format!(
                "SELECT count(*) || ' ' || pg_relation_size('{name}') FROM pg_attribute \
                 WHERE attrelid = '{name}'::regclass AND attnum > 0 AND NOT attisdropped"
            );
            let sizes = programs.query(servers, &servers.source_url(), &sql)?;
            let (columns, bytes) = sizes.split_once(' ').context("read a table's size")?;
            let (columns, bytes): (u64, u64) = (columns.parse()?, bytes.parse()?);
            all[table] = json!({"rows": self.of(table), "columns": columns, "bytes": bytes});
        }
        Ok(all)
    }
}

/// Creates the database on the source and fills both tables.
pub fn fill(programs: &Programs, servers: &Servers, rows: Rows) -> Result<()> {
    programs.query(servers, &servers.source.tcp_url("postgres"), &format!("CREATE DATABASE {DATABASE}"))?;
    let mut psql = programs.psql(servers, &servers.source_url());
    psql.arg("-v").arg(format!("rows_long={}", rows.long)).arg("-v").arg(format!("rows_wide={}", rows.wide));
    run(psql.arg("-f").arg(programs.script("fill.sql"))).context("fill the source")?;
    check(programs, servers, &servers.source_url(), rows)
}

/// Checks the numbers of rows of both tables.
pub fn check(programs: &Programs, servers: &Servers, url: &str, rows: Rows) -> Result<()> {
    for table in TABLES {
        let found: u64 = programs.query(servers, url, &format!("SELECT count(*) FROM bench.{table}"))?.parse()?;
        ensure!(found == rows.of(table), "bench.{table} has {found} rows, not {}", rows.of(table));
    }
    Ok(())
}
