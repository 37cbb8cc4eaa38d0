//! The tables as control messages have defined them. They are kept beside the lake's tables: a worker that begins in the
//! middle of a stream needs them.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use stream::message::{ColumnDefinition, TableDefinition, Values};

use super::ConsumeSettings;
use super::cell::{arrow_type, inferred};
use crate::changes::StreamStore;
use crate::error::{Error, Result};
use crate::plan::name_filter;

/// What is known of a transfer's tables, by `schema.table`. Each has records of its own, since several workers write them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Definitions {
    /// Their columns and keys.
    pub tables: BTreeMap<String, KnownTable>,
    /// Those that take no changes.
    pub refused: BTreeMap<String, Refusal>,
}

/// What is known of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownTable {
    /// Its columns and its key.
    #[serde(flatten)]
    pub definition: TableDefinition,
    /// No control message has told its key.
    #[serde(default)]
    pub lacks_control: bool,
    /// The replay in which it was created in the target.
    #[serde(default)]
    pub created_in: Option<u64>,
}

/// A record of a table.
#[derive(Serialize, Deserialize)]
struct OfTable<T> {
    table: String,
    #[serde(flatten)]
    content: T,
}

/// Why a table takes no changes until it is read again: the shards go on without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The replay in which it was refused.
    pub epoch: u64,
    /// The schema and the name of the target's table.
    pub target: (String, String),
    /// The error.
    pub reason: String,
    /// What a user can do about it.
    #[serde(default)]
    pub hint: Option<String>,
}

impl Definitions {
    /// Reads those of a transfer.
    pub async fn read(store: StreamStore<'_>, transfer: &str) -> Result<Definitions> {
        Ok(Definitions {
            tables: read_all(store, &folder(transfer)).await?,
            refused: read_all(store, &refused_folder(transfer)).await?,
        })
    }

    /// Adds the columns and the key of a table to what other workers may have added.
    pub async fn add(
        store: StreamStore<'_>,
        transfer: &str,
        table: &str,
        definition: &TableDefinition,
        by: DefinedBy,
    ) -> Result<()> {
        Definitions::change(store, transfer, table, |known| {
            // Types that contradict each other are refused before.
            if let Some(all) = extended(&known.definition, definition, by).unwrap_or_else(|_| Some(definition.clone()))
            {
                known.definition = all;
            }
            known.lacks_control &= by == DefinedBy::Row;
        })
        .await
    }

    /// Notes in which replay a table was created; `None` where it is to be created again.
    pub async fn note_creation(
        store: StreamStore<'_>,
        transfer: &str,
        table: &str,
        created_in: Option<u64>,
    ) -> Result<()> {
        Definitions::change(store, transfer, table, |known| known.created_in = created_in).await
    }

    async fn change(
        store: StreamStore<'_>,
        transfer: &str,
        table: &str,
        change: impl FnOnce(&mut KnownTable),
    ) -> Result<()> {
        let before: Option<KnownTable> = read_one(store, &record(&folder(transfer), table)).await?;
        let mut known = before.clone().unwrap_or_else(|| KnownTable { lacks_control: true, ..KnownTable::default() });
        change(&mut known);
        match before.as_ref() == Some(&known) {
            true => Ok(()),
            false => write_one(store, &folder(transfer), table, known).await,
        }
    }

    /// Notes that a table takes no changes.
    pub async fn refuse(store: StreamStore<'_>, transfer: &str, table: &str, refusal: Refusal) -> Result<()> {
        write_one(store, &refused_folder(transfer), table, refusal).await
    }

    /// Notes that a table takes changes again.
    pub async fn admit(store: StreamStore<'_>, transfer: &str, table: &str) -> Result<()> {
        store.remove(&record(&refused_folder(transfer), table)).await
    }
}

fn folder(transfer: &str) -> String {
    format!("{transfer}.tables")
}

fn refused_folder(transfer: &str) -> String {
    format!("{transfer}.refused")
}

/// The name of a table's record: names of tables may have any character.
fn record(folder: &str, table: &str) -> String {
    format!("{folder}/{:032x}", xxhash_rust::xxh3::xxh3_128(table.as_bytes()))
}

async fn read_all<T: DeserializeOwned>(store: StreamStore<'_>, folder: &str) -> Result<BTreeMap<String, T>> {
    let mut all = BTreeMap::new();
    for (name, _) in store.list(folder).await? {
        let Some(text) = store.read(&format!("{folder}/{name}")).await? else { continue };
        let OfTable { table, content } = parse(&text)?;
        all.insert(table, content);
    }
    Ok(all)
}

async fn read_one<T: DeserializeOwned>(store: StreamStore<'_>, name: &str) -> Result<Option<T>> {
    let Some(text) = store.read(name).await? else { return Ok(None) };
    Ok(Some(parse::<OfTable<T>>(&text)?.content))
}

async fn write_one<T: Serialize>(store: StreamStore<'_>, folder: &str, table: &str, content: T) -> Result<()> {
    let text = serde_json::to_vec_pretty(&OfTable { table: table.to_owned(), content })
        .map_err(|e| Error::bug("write the record of a stream's table").because(e))?;
    store.write(&record(folder, table), text).await
}

fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T> {
    serde_json::from_slice(text).map_err(|e| Error::setup("read the record of a stream's table").because(e))
}

/// What tells a transfer from one of its name in another warehouse, also after this one's folder was moved.
pub async fn owner(store: StreamStore<'_>, transfer: &str) -> Result<String> {
    let name = format!("{transfer}.owner");
    if let Some(known) = store.read(&name).await? {
        return String::from_utf8(known).map_err(|e| Error::setup("read the record of a transfer").because(e));
    }
    let owner = uuid::Uuid::new_v4().to_string();
    store.write(&name, owner.clone().into_bytes()).await?;
    Ok(owner)
}

/// The tables that a transfer reads and that have no key.
pub async fn tables_without_key(store: StreamStore<'_>, settings: &ConsumeSettings) -> Result<Vec<String>> {
    let tables: BTreeMap<String, KnownTable> = read_all(store, &folder(&settings.name)).await?;
    let selects = name_filter(&settings.include, &settings.exclude)?;
    let has_none = |(name, table): &(String, KnownTable)| {
        table.definition.primary_key.is_empty() && !settings.keys.contains_key(name) && selects(name)
    };
    Ok(tables.into_iter().filter(has_none).map(|(name, _)| name).collect())
}

/// Where a definition comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefinedBy {
    /// A control message, which has the table's key, also where there is none.
    Control,
    /// The members of a row, which do not tell the key.
    Row,
}

/// The definition with the columns of another one that it does not have, with wider types, and with the key of a control
/// message; `None` where it has all. Columns that are gone stay: the lake keeps their values of earlier rows. A column whose
/// type is narrower than before keeps the wider one.
///
/// # Errors
/// A column that has a type which the values before do not fit into, nor the other way around.
pub fn extended(
    before: &TableDefinition,
    now: &TableDefinition,
    by: DefinedBy,
) -> std::result::Result<Option<TableDefinition>, String> {
    let mut all = before.clone();
    for column in &now.columns {
        let is_alike = |known: &ColumnDefinition| known.name.eq_ignore_ascii_case(&column.name);
        let has_alike = by == DefinedBy::Row && all.columns.iter().any(is_alike);
        match all.columns.iter_mut().find(|known| known.name == column.name) {
            None if has_alike => {
                return Err(format!("column {:?} differs from another one by upper case only", column.name));
            }
            None => all.columns.push(column.clone()),
            Some(known) if lake::widens(&arrow_type(column), &arrow_type(known)) => {}
            Some(known) if lake::widens(&arrow_type(known), &arrow_type(column)) => known.clone_from(column),
            Some(known) => {
                return Err(format!(
                    "column {:?} has the type {} now, and was {}",
                    column.name,
                    column.native.as_deref().unwrap_or(column.column_type.name()),
                    known.native.as_deref().unwrap_or(known.column_type.name())
                ));
            }
        }
    }
    if by == DefinedBy::Control || !now.primary_key.is_empty() {
        all.primary_key.clone_from(&now.primary_key);
    }
    Ok((all != *before).then_some(all))
}

/// The columns of a message that the definition does not have, by their values; none where they are all known.
pub fn unknown_columns(definition: &TableDefinition, values: &Values<'_>) -> Vec<ColumnDefinition> {
    let is_new = |(at, (name, value)): &(usize, &(std::borrow::Cow<'_, str>, &serde_json::value::RawValue))| {
        definition.columns.get(*at).is_none_or(|column| column.name != *name)
            && definition.place(name).is_none()
            && value.get() != "null"
    };
    let column =
        |(_, (name, value)): (usize, &(std::borrow::Cow<'_, str>, &serde_json::value::RawValue))| ColumnDefinition {
            name: name.clone().into_owned(),
            column_type: inferred(value.get()),
            nullable: true,
            native: None,
        };
    values.0.iter().enumerate().filter(is_new).map(column).collect()
}
