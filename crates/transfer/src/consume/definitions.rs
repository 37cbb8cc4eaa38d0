//! The tables as control messages have defined them. They are kept beside the lake's tables: a worker that begins in the
//! middle of a stream needs them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stream::message::{ColumnDefinition, TableDefinition, Values};

use super::cell::{arrow_type, inferred};
use crate::changes::StreamStore;
use crate::error::{Error, Result};

/// The definitions of a transfer's tables, by `schema.table`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definitions(pub BTreeMap<String, KnownTable>);

/// A table of [`Definitions`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownTable {
    /// Its columns and its key.
    #[serde(flatten)]
    pub definition: TableDefinition,
    /// Why it takes no changes, until it is read again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
}

/// Why a table takes no changes: the shards go on without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The replay in which it was refused.
    pub epoch: u64,
    /// The error.
    pub reason: String,
    /// What a user can do about it.
    #[serde(default)]
    pub hint: Option<String>,
}

impl Definitions {
    /// Reads those of a transfer.
    pub async fn read(store: StreamStore<'_>, transfer: &str) -> Result<Definitions> {
        let Some(text) = store.read(&name(transfer)).await? else { return Ok(Definitions::default()) };
        serde_json::from_slice(&text)
            .map_err(|e| Error::setup("read the definitions of the stream's tables").because(e))
    }

    /// Changes what is known of a table, beside what other workers may have added.
    pub async fn change(
        store: StreamStore<'_>,
        transfer: &str,
        table: &str,
        change: impl FnOnce(&mut KnownTable),
    ) -> Result<()> {
        let mut all = Definitions::read(store, transfer).await?;
        let before = all.0.get(table).cloned();
        let mut known = before.clone().unwrap_or_default();
        change(&mut known);
        if before.as_ref() == Some(&known) {
            return Ok(());
        }
        all.0.insert(table.to_owned(), known);
        let text = serde_json::to_vec_pretty(&all)
            .map_err(|e| Error::bug("write the definitions of the stream's tables").because(e))?;
        store.write(&name(transfer), text).await
    }
}

/// The tables of a transfer that have no key.
pub async fn tables_without_key(store: StreamStore<'_>, transfer: &str) -> Result<Vec<String>> {
    let all = Definitions::read(store, transfer).await?.0.into_iter();
    // One that was never defined has no rows.
    let has_none = |table: &TableDefinition| table.primary_key.is_empty() && !table.columns.is_empty();
    Ok(all.filter(|(_, table)| has_none(&table.definition)).map(|(name, _)| name).collect())
}

/// The definition with the columns of another one that it does not have, and with wider types; `None` where it has all.
/// Columns that are gone stay: the lake keeps their values of earlier rows. A column whose type is narrower than before
/// keeps the wider one.
///
/// # Errors
/// A column that has a type which the values before do not fit into, nor the other way around.
pub fn extended(
    before: &TableDefinition,
    now: &TableDefinition,
) -> std::result::Result<Option<TableDefinition>, String> {
    let mut all = before.clone();
    for column in &now.columns {
        match all.columns.iter_mut().find(|known| known.name == column.name) {
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
    if !now.primary_key.is_empty() {
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

fn name(transfer: &str) -> String {
    format!("{transfer}.tables")
}
