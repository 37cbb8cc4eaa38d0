//! Lets a transfer go on with tables that another one carried, or that were carried from another server: the checkpoint
//! is written again, with its position as it is, and no row moves.

use crate::checkpoint::{Checkpoint, Origin, Position};
use crate::error::{Context, Error, Result};
use crate::plan::{Settings, TablePlan, plan};
use crate::postgres::{Catalog, TableKind};
use crate::run::{Request, Target, only};
use crate::target::{lake as to_lake, postgres as to_postgres};
use crate::timeline::Log;

/// A table that was handed over.
#[derive(Debug)]
pub struct HandOver {
    pub source: String,
    pub target: String,
    /// From where the transfer goes on, for people.
    pub position: String,
}

/// Hands the request's tables over to its transfer: all of them are looked at before the first is written.
///
/// # Errors
/// Where a table is not in the target, or no transfer has made it.
pub async fn hand_over(request: &Request) -> Result<Vec<HandOver>> {
    let client = request.source.connect().await?;
    let catalog = Catalog::read(&client).await?;
    let mut plan = plan(&client, &catalog, &request.settings).await?;
    only(&mut plan, &request.tables, &request.settings.name)?;
    if let Some(refused) = plan.refused.into_iter().next() {
        return Err(refused.error);
    }
    let log = Log::of(&client).await?.map(|log| log.now);
    let mut ready = Vec::new();
    for table in plan.tables {
        let kept = checkpoint(request, &table).await?;
        if request.tables.is_empty() && kept.is_none() {
            // All of the transfer's tables were asked for: what was never carried begins with the next run.
            continue;
        }
        let Some((origin, position)) = kept.and_then(|kept| Some((kept.origin?, kept.position))) else {
            let name = table.source.display();
            return Err(Error::setup(format!("hand {name} over: no transfer has made {}", table.target)).hint(
                format!("{} reads it and keeps what the target has", request.settings.command("resync", &name, "")),
            ));
        };
        let now = Origin::of(&request.settings.name, catalog.identity, &table);
        is_one_table(&request.settings, &origin, &now, &table)?;
        can_be_matched(&origin, &now, &table)?;
        // What was read, and by which order, stays what it was: only where it comes from is another.
        let is_same = (now.system, now.database, now.table) == (origin.system, origin.database, origin.table);
        // Another server numbers columns and transactions in its own way.
        let columns = if is_same { origin.columns } else { now.clone().beside(&origin, &table).columns };
        let position = position.map(|position| match is_same {
            true => Position { log, refusal: None, ..position },
            // Nor is a place in the order of transactions one here: all is read once, and matched by its key.
            false if table.cursor.as_ref().is_some_and(|cursor| cursor.is_transaction()) => {
                Position { log, ..Position::default() }
            }
            false => Position { xid: None, xmin: None, log, refusal: None, ..position },
        });
        // Whether it was emptied and filled again since, the next run says by its files.
        let storage = if is_same { origin.storage } else { now.storage.clone() };
        let origin = Origin { key: origin.key, cursor: origin.cursor, columns, storage, filter: origin.filter, ..now };
        ready.push((table, Checkpoint { origin: Some(origin), position }));
    }
    let mut taken = Vec::new();
    for (table, checkpoint) in ready {
        write(request, &table, &checkpoint).await?;
        let high = checkpoint.position.and_then(|position| position.high);
        taken.push(HandOver {
            source: table.source.display(),
            target: table.target.to_string(),
            position: high.map_or_else(|| "the beginning".to_owned(), |high| high.to_string()),
        });
    }
    Ok(taken)
}

/// A table that was dropped and made anew in its database is another one: its rows begin again below the position.
fn is_one_table(settings: &Settings, before: &Origin, now: &Origin, table: &TablePlan) -> Result<()> {
    let has_own_identity = matches!(table.source.kind, TableKind::Table | TableKind::Partitioned);
    let is_one_database = (before.system, before.database) == (now.system, now.database);
    if !has_own_identity || !is_one_database || before.table == now.table {
        return Ok(());
    }
    let name = table.source.display();
    let context = format!("hand {name} over: it was dropped and made anew since it was carried");
    Err(Error::input(context)
        .state("recreated")
        .hint(format!("{} reads it again and keeps what the target has", settings.command("resync", &name, ""))))
}

/// Another server's transactions have other numbers: rows by `xmin` are all read again, which takes a key.
fn can_be_matched(before: &Origin, now: &Origin, table: &TablePlan) -> Result<()> {
    let by_transaction = table.cursor.as_ref().is_some_and(|cursor| cursor.is_transaction());
    if !by_transaction || !table.key.is_empty() || before.system == now.system {
        return Ok(());
    }
    let name = table.source.display();
    let context =
        format!("hand {name} over: it is carried by \"xmin\", which another server numbers anew, and it has no key");
    Err(Error::setup(context)
        .state("other-source")
        .hint(format!("[tables.{name:?}] key = [...], or replace what the target has: {}", table.replace)))
}

async fn checkpoint(request: &Request, table: &TablePlan) -> Result<Option<Checkpoint>> {
    let transfer = &request.settings.name;
    match &request.target {
        Target::Lake(lake) => match lake.table(&table.target).await.context("open the table in the lake")? {
            Some(present) => Ok(to_lake::target_state(&present, transfer, table).await?.checkpoint),
            None => Ok(None),
        },
        Target::Postgres(endpoint) => {
            let client = endpoint.connect().await?;
            to_postgres::prepare(&client).await?;
            Ok(to_postgres::target_state(&client, transfer, table).await?.checkpoint)
        }
    }
}

async fn write(request: &Request, table: &TablePlan, checkpoint: &Checkpoint) -> Result<()> {
    match &request.target {
        Target::Lake(lake) => match lake.table(&table.target).await.context("open the table in the lake")? {
            Some(present) => to_lake::hand_over(&present, &request.run, checkpoint).await,
            None => Ok(()),
        },
        Target::Postgres(endpoint) => {
            to_postgres::hand_over(&endpoint.connect().await?, &request.run, table, checkpoint).await
        }
    }
}
