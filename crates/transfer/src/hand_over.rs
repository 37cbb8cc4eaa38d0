//! Lets a transfer continue with tables that another transfer has filled, or that were filled from another server: the
//! checkpoint is written again with the same position, and no row is read or written.

use crate::checkpoint::{Checkpoint, Origin, Position};
use crate::destination::{lake as to_lake, postgres as to_postgres};
use crate::error::{Context, Error, Result};
use crate::plan::{Settings, TablePlan, plan};
use crate::postgres::{Catalog, TableKind};
use crate::run::{Request, Target, retain_tables};
use crate::timeline::Log;

/// A table whose checkpoint now names this transfer and this source.
#[derive(Debug)]
pub struct HandOver {
    /// `schema.name` at the source.
    pub source: String,
    /// The table's name in the target.
    pub target: String,
    /// The cursor value from which the transfer continues, as text for messages.
    pub position: String,
}

/// Hands the request's tables over to its transfer. All of them are checked before the first checkpoint is written;
/// each checkpoint is a commit of its own.
///
/// # Errors
/// Where a table is not in the target, no transfer has filled it, or it is another table than the one that was
/// transferred.
pub async fn hand_over(request: &Request) -> Result<Vec<HandOver>> {
    let client = request.source.connect().await?;
    let catalog = Catalog::read(&client).await?;
    let mut plan = plan(&client, &catalog, &request.settings).await?;
    retain_tables(&mut plan, &request.tables, &request.settings.name)?;
    if let Some(refused) = plan.refused.into_iter().next() {
        return Err(refused.error);
    }
    let log = Log::of(&client).await?.map(|log| log.now);
    let mut ready = Vec::new();
    for table in plan.tables {
        let kept = checkpoint(request, &table).await?;
        if request.tables.is_empty() && kept.is_none() {
            // All tables of the transfer are meant: one that was never transferred begins with the next run.
            continue;
        }
        let Some((origin, position)) = kept.and_then(|kept| Some((kept.origin?, kept.position))) else {
            let name = table.source.display();
            return Err(Error::setup(format!("hand {name} over: no transfer has filled {}", table.target)).hint(
                format!("{} reads it and keeps what the target has", request.settings.command("resync", &name, "")),
            ));
        };
        let now = Origin::of(&request.settings.name, catalog.identity, &table);
        is_one_table(&request.settings, &origin, &now, &table)?;
        can_be_matched(&origin, &now, &table)?;
        // Which rows were read, and in which order, does not change: only their source does.
        let is_same = (now.system, now.database, now.table) == (origin.system, origin.database, origin.table);
        // Another server has other numbers of columns and transactions.
        let columns = if is_same { origin.columns } else { now.clone().with_earlier_columns(&origin, &table).columns };
        let position = position.map(|position| match is_same {
            true => Position { log, refusal: None, ..position },
            // A transaction number of another server means nothing here: all rows are read once and matched by key.
            false if table.cursor.as_ref().is_some_and(|cursor| cursor.is_transaction()) => {
                Position { log, ..Position::default() }
            }
            false => Position { xid: None, xmin: None, log, refusal: None, ..position },
        });
        // The next run compares the file nodes, and finds whether the table was emptied and filled again.
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

/// A table that was dropped and created again in the same database is another table: its rows begin below the position.
fn is_one_table(settings: &Settings, before: &Origin, now: &Origin, table: &TablePlan) -> Result<()> {
    let has_own_identity = matches!(table.source.kind, TableKind::Table | TableKind::Partitioned);
    let is_one_database = (before.system, before.database) == (now.system, now.database);
    if !has_own_identity || !is_one_database || before.table == now.table {
        return Ok(());
    }
    let name = table.source.display();
    let context = format!("hand {name} over: it was dropped and created again since its last run");
    Err(Error::input(context)
        .state("recreated")
        .hint(format!("{} reads it again and keeps the rows of the target", settings.command("resync", &name, ""))))
}

/// Another server's transactions have other numbers: a table whose cursor is `xmin` is read again whole, and its rows
/// can be matched by their key only.
fn can_be_matched(before: &Origin, now: &Origin, table: &TablePlan) -> Result<()> {
    let by_transaction = table.cursor.as_ref().is_some_and(|cursor| cursor.is_transaction());
    if !by_transaction || !table.key.is_empty() || before.system == now.system {
        return Ok(());
    }
    let name = table.source.display();
    let context = format!(
        "hand {name} over: its cursor is \"xmin\", another server has other transaction numbers, and it has no key"
    );
    Err(Error::setup(context).state("other-source").hint(format!(
        "declare [tables.{name:?}] key = [...], or replace the target's table: {}",
        table.replace_command
    )))
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
        Target::Stream(_) => Ok(None),
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
        Target::Stream(_) => Err(Error::bug("hand over a table that is published")),
    }
}
