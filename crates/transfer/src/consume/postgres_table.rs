//! A table of another PostgreSQL that messages change: their rows, in their order, in one transaction with the positions.

mod columns;

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use lake::TableName;
use stream::message::{ColumnDefinition, TableDefinition};

use super::ConsumeRequest;
use super::cell_text::cell_texts;
use crate::changes::chunk::{Chunk, Operation};
use crate::changes::table_writer::Applied;
use crate::error::{Error, Result};
use crate::postgres::wire::Wire;
use crate::postgres::{Endpoint, Parameter, literal, quote};
use crate::settings::Deletes;
use columns::{default_type, list, present, rekeyed, relation};

/// The statements that are sent together.
const PIPELINE_STATEMENTS: usize = 1000;

const PREPARE: &str = "SELECT pg_advisory_lock(hashtext('wattlake')); \
     CREATE SCHEMA IF NOT EXISTS wattlake; \
     CREATE TABLE IF NOT EXISTS wattlake.stream_tables (target_schema text, target_table text, transfer text NOT NULL, \
     source text NOT NULL, owner text, PRIMARY KEY (target_schema, target_table)); \
     CREATE TABLE IF NOT EXISTS wattlake.stream_positions (target_schema text, target_table text, name text, \
     position bigint NOT NULL, PRIMARY KEY (target_schema, target_table, name)); \
     SELECT pg_advisory_unlock(hashtext('wattlake'))";

/// The server, with one connection for all tables.
#[derive(Clone)]
pub struct PostgresTarget {
    endpoint: Endpoint,
    /// What tells the transfer from one of its name in another warehouse.
    owner: String,
    connection: Arc<Mutex<Option<Connection>>>,
}

struct Connection {
    wire: Wire,
    /// The names of the prepared statements.
    prepared: HashSet<String>,
}

impl PostgresTarget {
    /// A target that is not connected yet.
    pub fn new(endpoint: Endpoint, owner: String) -> PostgresTarget {
        PostgresTarget { endpoint, owner, connection: Arc::default() }
    }

    /// Uses the connection. An error ends it, and with it its transaction.
    fn with<T>(&self, run: impl FnOnce(&mut Connection) -> Result<T>) -> Result<T> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = match &mut *connection {
            Some(connection) => run(connection),
            none => {
                let mut wire = Wire::connect(&self.endpoint)?;
                wire.batch(PREPARE)?;
                run(none.insert(Connection { wire, prepared: HashSet::new() }))
            }
        };
        if outcome.is_err() {
            *connection = None;
        }
        outcome
    }
}

/// A table.
pub struct PostgresTable {
    server: PostgresTarget,
    target: TableName,
    /// The columns with their types, without lengths: a cast to a length would cut values off.
    columns: BTreeMap<String, String>,
    key: Vec<String>,
    deletes: Deletes,
    waiting: Vec<Chunk>,
}

impl PostgresTable {
    /// The table, where it is there.
    ///
    /// # Errors
    /// Another transfer, or another table of the source, fills it.
    pub fn find(
        request: &ConsumeRequest,
        server: &PostgresTarget,
        source: &str,
        target: &TableName,
        key: &[String],
    ) -> Result<Option<PostgresTable>> {
        let columns = server.with(|connection| present(&mut connection.wire, target))?;
        if columns.is_empty() {
            return Ok(None);
        }
        let table = PostgresTable {
            server: server.clone(),
            target: target.clone(),
            columns,
            key: key.to_vec(),
            deletes: request.settings.deletes,
            waiting: Vec::new(),
        };
        table.claim(&request.settings.name, source)?;
        Ok(Some(table))
    }

    /// Creates the table.
    pub fn create(
        request: &ConsumeRequest,
        server: &PostgresTarget,
        source: &str,
        target: &TableName,
        definition: &TableDefinition,
    ) -> Result<PostgresTable> {
        server.with(|connection| {
            let mut columns = Vec::with_capacity(definition.columns.len());
            for column in &definition.columns {
                columns.push(format!("{} {}", quote(&column.name), connection.type_of(column)?));
            }
            let key = &definition.primary_key;
            if !key.is_empty() {
                columns.push(format!("PRIMARY KEY ({})", list(key)));
            }
            let (schema, table) = (quote(&target.schema), relation(target));
            connection.wire.batch(&format!(
                "CREATE SCHEMA IF NOT EXISTS {schema}; CREATE TABLE IF NOT EXISTS {table} ({})",
                columns.join(", ")
            ))
        })?;
        let table = PostgresTable::find(request, server, source, target, &definition.primary_key)?;
        table.ok_or_else(|| Error::setup(format!("create {target} in the target: it has no columns")))
    }

    /// Notes which transfer fills the table. Rows that somebody else has written there are not changed.
    fn claim(&self, transfer: &str, source: &str) -> Result<()> {
        let (schema, table) = (literal(&self.target.schema), literal(&self.target.table));
        let place = format!("target_schema = {schema} AND target_table = {table}");
        let found = self.server.with(|connection| {
            connection.wire.batch("BEGIN")?;
            let claimed = connection.wire.execute(&format!(
                "INSERT INTO wattlake.stream_tables VALUES ({schema}, {table}, {}, {}, {}) ON CONFLICT DO NOTHING",
                literal(transfer),
                literal(source),
                literal(&self.server.owner)
            ))?;
            let has_rows = format!("SELECT 1 WHERE EXISTS (SELECT FROM {})", relation(&self.target));
            if claimed > 0 && !connection.wire.rows(&has_rows)?.is_empty() {
                let what = format!("apply changes of {source}: {} has rows that are of no stream", self.target);
                let hint = "empty the table, or choose another schema with into = \"...\"";
                return Err(Error::setup(what).state("other-transfer").hint(hint));
            }
            connection.wire.batch("COMMIT")?;
            connection.wire.rows(&format!("SELECT transfer, source, owner FROM wattlake.stream_tables WHERE {place}"))
        })?;
        if let [row] = found.as_slice()
            && row[..2] == [Some(transfer.to_owned()), Some(source.to_owned())]
            && row[2].as_ref() != Some(&self.server.owner)
        {
            let what = format!(
                "apply changes of {source}: {} is filled by the transfer {transfer} of another warehouse",
                self.target
            );
            return Err(Error::setup(what).state("other-transfer").hint("choose another schema with into = \"...\""));
        }
        let is_own = |row: &Vec<Option<String>>| row[..2] == [Some(transfer.to_owned()), Some(source.to_owned())];
        if found.iter().all(is_own) {
            return Ok(());
        }
        let by: Vec<String> = found.into_iter().flat_map(|row| row.into_iter().take(2)).flatten().collect();
        let what =
            format!("apply changes of {source}: {} is filled by the transfer {}", self.target, by.join(" with "));
        Err(Error::setup(what).state("other-transfer").hint("choose another schema with into = \"...\""))
    }

    /// A position that was committed with the table's rows.
    pub fn position(&self, name: &str) -> Result<Option<i64>> {
        let sql = format!("SELECT position FROM wattlake.stream_positions WHERE {}", self.place(name));
        let rows = self.server.with(|connection| connection.wire.rows(&sql))?;
        Ok(rows.into_iter().flatten().flatten().next().and_then(|text| text.parse().ok()))
    }

    fn place(&self, name: &str) -> String {
        format!(
            "target_schema = {} AND target_table = {} AND name = {}",
            literal(&self.target.schema),
            literal(&self.target.table),
            literal(name)
        )
    }

    /// Follows a definition: adds columns, widens those of `wider`, and gives the table its key where it has another one.
    /// Nothing may wait for a commit.
    pub fn define(&mut self, definition: &TableDefinition, wider: &[String], is_rekeyed: bool) -> Result<()> {
        self.key.clone_from(&definition.primary_key);
        let (table, target, present_columns) = (relation(&self.target), &self.target, &self.columns);
        self.columns = self.server.with(|connection| {
            for column in &definition.columns {
                let name = quote(&column.name);
                let action = match present_columns.contains_key(&column.name) {
                    false => format!("ADD COLUMN IF NOT EXISTS {name} {}", connection.type_of(column)?),
                    true if wider.contains(&column.name) => {
                        format!("ALTER COLUMN {name} TYPE {}", connection.type_of(column)?)
                    }
                    true => continue,
                };
                connection.wire.batch(&format!("ALTER TABLE {table} {action}"))?;
            }
            if is_rekeyed {
                let statement = rekeyed(&mut connection.wire, target, &definition.primary_key)?;
                connection.wire.batch(&statement)?;
            }
            // Their types are other ones now.
            if connection.prepared.drain().count() > 0 {
                connection.wire.batch("DEALLOCATE ALL")?;
            }
            present(&mut connection.wire, target)
        })?;
        Ok(())
    }

    /// Whether changes wait for a commit.
    pub fn has_changes(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Has changes wait for the next commit.
    pub fn apply(&mut self, chunk: Chunk) {
        self.waiting.push(chunk);
    }

    /// Commits what waits, with positions by their names, each with the one that must be there before.
    ///
    /// # Errors
    /// `Retry` with the state `shard-taken` where another worker has committed a shard since.
    pub fn commit_at(&mut self, positions: Vec<(String, i64, i64)>) -> Result<Applied> {
        let waiting = std::mem::take(&mut self.waiting);
        self.server.with(|connection| {
            let mut applied = Applied::default();
            connection.wire.batch("BEGIN")?;
            for chunk in &waiting {
                self.send(connection, chunk, &mut applied)?;
            }
            for (name, position, before) in positions {
                let (schema, table) = (literal(&self.target.schema), literal(&self.target.table));
                let changed = connection.wire.execute(&format!(
                    "INSERT INTO wattlake.stream_positions AS known VALUES ({schema}, {table}, {}, {position}) \
                     ON CONFLICT (target_schema, target_table, name) DO UPDATE SET position = excluded.position \
                     WHERE known.position = {before}",
                    literal(&name)
                ))?;
                if changed == 0 {
                    let what = format!("apply changes to {}: another worker reads the shard now", self.target);
                    return Err(Error::retry(what).state("shard-taken"));
                }
            }
            fail::fail_point!("before-commit");
            connection.wire.batch("COMMIT")?;
            fail::fail_point!("after-commit");
            Ok(applied)
        })
    }

    /// Sends the changes of a chunk.
    fn send(&self, connection: &mut Connection, chunk: &Chunk, applied: &mut Applied) -> Result<()> {
        let names: Vec<&str> = chunk.rows.schema_ref().fields().iter().map(|field| field.name().as_str()).collect();
        let statements = Statements { table: self, names: &names };
        let (rows, old) = (cell_texts(&chunk.rows)?, cell_texts(&chunk.old)?);
        let (mut row, mut before, mut unchanged) = (0, 0, chunk.unchanged.iter().peekable());
        let keeps = self.deletes == Deletes::Keep;
        let mut sent: Vec<Effect> = Vec::new();
        for operation in &chunk.operations {
            let has_row = matches!(operation, Operation::Insert | Operation::Update | Operation::UpdateKey);
            let mut lacking: Vec<usize> = Vec::new();
            while let Some((_, column)) = unchanged.next_if(|(at, _)| has_row && *at as usize == row) {
                lacking.push(usize::from(*column));
            }
            let given: Vec<Option<&str>> =
                (0..names.len()).filter(|at| !lacking.contains(at)).map(|at| rows[at].get(row)).collect();
            let key = || statements.key_places().into_iter().map(|at| rows[at].get(row));
            let old_key = || old.iter().map(|column| column.get(before));
            match operation {
                Operation::Update if !lacking.is_empty() => {
                    connection.execute(&statements.update(&lacking), given.into_iter().chain(key()))?;
                    sent.push(Effect::MustChange);
                }
                Operation::Insert | Operation::Update => {
                    connection.execute(&statements.insert(), given)?;
                    sent.push(Effect::Adds);
                }
                Operation::UpdateKey => {
                    // A row that has the new key already is an earlier state of this one.
                    connection.execute(&statements.delete(), key())?;
                    connection.execute(&statements.move_row(&lacking), given.into_iter().chain(old_key()))?;
                    sent.extend([Effect::Removes, Effect::Adds]);
                }
                Operation::Delete | Operation::Truncate if keeps => {}
                Operation::Delete => {
                    connection.execute(&statements.delete(), old_key())?;
                    sent.push(Effect::Removes);
                }
                Operation::Truncate => {
                    connection.execute(&statements.truncate(), [])?;
                    sent.push(Effect::Removes);
                }
            }
            row += usize::from(has_row);
            before += usize::from(matches!(operation, Operation::UpdateKey | Operation::Delete));
            if sent.len() >= PIPELINE_STATEMENTS {
                self.finish(connection, &mut sent, applied)?;
            }
        }
        self.finish(connection, &mut sent, applied)
    }

    /// Waits for the results of the statements that were sent.
    fn finish(&self, connection: &mut Connection, sent: &mut Vec<Effect>, applied: &mut Applied) -> Result<()> {
        let counts = connection.wire.pipeline_finish()?;
        let counts = counts.map_err(|failed| failed.error.within(format!("apply changes to {}", self.target)))?;
        for (effect, count) in sent.drain(..).zip(counts) {
            match effect {
                Effect::MustChange if count == 0 => {
                    let what = format!("apply an update to {}: the target does not have the row", self.target);
                    return Err(Error::input(what).state("row-missing"));
                }
                Effect::Removes => applied.removed += count,
                Effect::Adds | Effect::MustChange => applied.added += count,
            }
        }
        Ok(())
    }
}

/// What a statement that was sent does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Adds,
    Removes,
    /// Changes a row that must be there.
    MustChange,
}

/// The statements for rows of these columns.
struct Statements<'t> {
    table: &'t PostgresTable,
    names: &'t [&'t str],
}

impl Statements<'_> {
    fn relation(&self) -> String {
        relation(&self.table.target)
    }

    /// The key's columns; all columns of a table without a key.
    fn key_places(&self) -> Vec<usize> {
        let of_name = |name: &String| self.names.iter().position(|known| known == name);
        match self.table.key.is_empty() {
            true => (0..self.names.len()).collect(),
            false => self.table.key.iter().filter_map(of_name).collect(),
        }
    }

    /// A parameter of a column's type.
    fn parameter(&self, number: usize, column: usize) -> String {
        let column_type = self.table.columns.get(self.names[column]).map_or("text", String::as_str);
        format!("${number}::{column_type}")
    }

    fn given(&self, lacking: &[usize]) -> Vec<usize> {
        (0..self.names.len()).filter(|at| !lacking.contains(at)).collect()
    }

    fn columns(&self, places: &[usize]) -> String {
        places.iter().map(|at| quote(self.names[*at])).collect::<Vec<_>>().join(", ")
    }

    fn parameters(&self, places: &[usize]) -> String {
        let all = places.iter().enumerate().map(|(number, at)| self.parameter(number + 1, *at));
        all.collect::<Vec<_>>().join(", ")
    }

    /// What happens to a row whose key is there.
    fn on_conflict(&self, places: &[usize]) -> String {
        if self.table.key.is_empty() {
            return String::new();
        }
        let is_value = |at: &&usize| !self.table.key.iter().any(|key| key == self.names[**at]);
        let sets: Vec<String> =
            places.iter().filter(is_value).map(|at| format!("{0} = excluded.{0}", quote(self.names[*at]))).collect();
        let action = if sets.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", sets.join(", ")) };
        format!(" ON CONFLICT ({}) DO {action}", list(&self.table.key))
    }

    fn insert(&self) -> String {
        let places = self.given(&[]);
        format!(
            "INSERT INTO {} ({}) VALUES ({}){}",
            self.relation(),
            self.columns(&places),
            self.parameters(&places),
            self.on_conflict(&places)
        )
    }

    /// `column = $1, ...`, and the condition for the key with the parameters after it.
    fn sets_and_key(&self, lacking: &[usize]) -> (String, String) {
        let places = self.given(lacking);
        let sets = places.iter().enumerate();
        let sets =
            sets.map(|(at, column)| format!("{} = {}", quote(self.names[*column]), self.parameter(at + 1, *column)));
        let key = self.key_places().into_iter().enumerate();
        let key = key.map(|(at, column)| {
            format!("{} = {}", quote(self.names[column]), self.parameter(places.len() + at + 1, column))
        });
        (sets.collect::<Vec<_>>().join(", "), key.collect::<Vec<_>>().join(" AND "))
    }

    fn update(&self, lacking: &[usize]) -> String {
        let (sets, key) = self.sets_and_key(lacking);
        format!("UPDATE {} SET {sets} WHERE {key}", self.relation())
    }

    /// Changes the key of a row, or adds the row where it is not there.
    fn move_row(&self, lacking: &[usize]) -> String {
        let places = self.given(lacking);
        let (sets, key) = self.sets_and_key(lacking);
        format!(
            "WITH moved AS (UPDATE {0} SET {sets} WHERE {key} RETURNING 1) INSERT INTO {0} ({1}) SELECT {2} \
             WHERE NOT EXISTS (SELECT FROM moved)",
            self.relation(),
            self.columns(&places),
            self.parameters(&places)
        )
    }

    fn delete(&self) -> String {
        let places = self.key_places();
        let numbered = places.iter().enumerate();
        if !self.table.key.is_empty() {
            let key = numbered
                .map(|(at, column)| format!("{} = {}", quote(self.names[*column]), self.parameter(at + 1, *column)));
            return format!("DELETE FROM {} WHERE {}", self.relation(), key.collect::<Vec<_>>().join(" AND "));
        }
        // Some types have no equality: their texts are compared.
        let same = numbered.map(|(at, column)| {
            let parameter = self.parameter(at + 1, *column);
            format!("{}::text IS NOT DISTINCT FROM ({parameter})::text", quote(self.names[*column]))
        });
        let same = same.collect::<Vec<_>>().join(" AND ");
        format!("DELETE FROM {0} WHERE ctid = (SELECT ctid FROM {0} WHERE {same} LIMIT 1)", self.relation())
    }

    fn truncate(&self) -> String {
        format!("TRUNCATE {}", self.relation())
    }
}

impl Connection {
    /// Puts a statement into the pipeline; it is prepared where it is new.
    fn execute<'v>(&mut self, sql: &str, values: impl IntoIterator<Item = Option<&'v str>>) -> Result<()> {
        let mut name = String::new();
        // A String takes everything.
        let _ = write!(name, "s{:032x}", xxhash_rust::xxh3::xxh3_128(sql.as_bytes()));
        if self.prepared.insert(name.clone()) {
            self.wire.pipeline_prepare(&name, sql)?;
        }
        let parameters: Vec<Parameter<'_>> =
            values.into_iter().map(|value| Parameter { is_binary: false, value: value.map(str::as_bytes) }).collect();
        self.wire.pipeline_execute(&name, &parameters)
    }

    /// The type of a column that is created: that of the source, where the target knows it.
    fn type_of(&mut self, column: &ColumnDefinition) -> Result<String> {
        let Some(native) = &column.native else { return Ok(default_type(column.column_type)) };
        let rows = self.wire.rows(&format!("SELECT to_regtype({}) IS NOT NULL", literal(native)))?;
        let is_known = rows.into_iter().flatten().flatten().next().is_some_and(|known| known == "t");
        Ok(if is_known { native.clone() } else { default_type(column.column_type) })
    }
}
