//! Follows the columns of a table: the lake gets columns that were added at the source, renamed ones keep their names,
//! and wider types are applied to all rows.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use tokio_postgres::Client;

use super::chunk::TupleMapping;
use super::mapping::tuple_mapping;
use super::pgoutput::Relation;
use super::source;
use super::table_stream::{LogForm, TableStream, WriterState, matching};
use super::table_writer::TableWriter;
use crate::checkpoint::{Origin, Position, Refusal};
use crate::destination::deleted_rows::without_deleted_at;
use crate::destination::evolve::{Evolution, evolve};
use crate::destination::{lake as to_lake, postgres as to_postgres};
use crate::error::{Context, Error, Result};
use crate::plan::{TablePlan, plan};
use crate::postgres::wire::Wire;
use crate::postgres::{Catalog, Identity};
use crate::probe;
use crate::request::{Request, Target};
use crate::resume::{Permission, Resumption, keep_names};

/// How often, and after which waits, a transaction's state is looked at.
const VISIBLE_TRIES: u32 = 1000;
const VISIBLE_WAIT: Duration = Duration::from_millis(5);

/// What the columns of a table are followed with.
pub struct SchemaChange<'a> {
    /// The transfer's settings, source and target.
    pub request: &'a Request,
    /// The form of the log's values.
    pub form: LogForm,
    /// The transaction whose changes follow.
    pub xid: u32,
}

/// Reads the changes of a table by its new description, and adapts the lake's table to it.
///
/// # Errors
/// Where the lake's rows would lack values that the log does not have, or a type can't hold the earlier values.
pub async fn follow(change: &SchemaChange<'_>, table: &mut TableStream, relation: Relation) -> Result<()> {
    let request = change.request;
    let replanned = match table.needs_plan(&relation) {
        true => Some(plan_again(change, &table.plan, &table.origin).await?),
        false => None,
    };
    let planned = replanned.as_ref().map_or(&*table.plan, |(plan, _)| plan);
    let identity = Identity { system: table.origin.system, database: table.origin.database };
    let resumption =
        Resumption { settings: &request.settings, permission: Permission::AsConfigured, identity, log: None };
    resumption.check_same_columns(planned, &table.origin)?;
    let has_binary = change.form.has_binary;
    let mapping = tuple_mapping(planned, &table.known, &relation, has_binary)?;
    let fields = mapping.columns.iter().map(|(name, kind)| arrow::datatypes::Field::new(name, kind.arrow(), true));
    let available = Schema::new(fields.collect::<Vec<_>>());
    check_history(table, planned, &mapping)?;
    let planned = planned.clone();
    let origin = described_origin(request, &table.origin, &planned, &relation, &mapping);
    if origin != table.origin
        && let WriterState::Idle(writer) = &mut table.writer
    {
        writer.set_origin(origin.clone());
    }
    let WriterState::Idle(writer) = &mut table.writer else {
        return Err(Error::bug("follow the columns of a table while changes are applied"));
    };
    adapt(request, writer, &planned, &available).await?;
    let mut matching = matching(&planned, &origin, &request.settings);
    if !matching.is_unique {
        // By all columns that the log has.
        matching.columns = mapping.columns.iter().map(|(name, _)| name.clone()).collect();
    }
    writer.set_matching(matching);
    table.known.add(&origin);
    table.origin = origin;
    table.describe(relation, replanned.map(|(plan, _)| plan), change.form)
}

/// Refuses to go on with a history whose rows are known by other columns from now on: a new copy begins another span.
fn check_history(table: &TableStream, plan: &TablePlan, mapping: &TupleMapping) -> Result<()> {
    let Some(span) = table.history() else { return Ok(()) };
    // Without a key, rows are known by all columns that the log has.
    let before = table.origin.columns.iter().filter(|column| !column.absent).map(|column| &column.target);
    let is_other = span.key.is_empty() && !before.eq(mapping.columns.iter().map(|(name, _)| name));
    if plan.key != span.key || is_other {
        let what = format!("record the history of {}: its rows are identified by other columns now", table.name());
        return Err(Error::input(what).state("columns-changed").hint(plan.resync_command.clone()));
    }
    Ok(())
}

/// What the lake stores of the columns that the log has, by the names that they have in it.
pub fn described_origin(
    request: &Request,
    before: &Origin,
    plan: &TablePlan,
    relation: &Relation,
    mapping: &TupleMapping,
) -> Origin {
    let mut described = plan.clone();
    described.columns.retain(|column| mapping.columns.iter().any(|(name, _)| *name == column.name));
    let identity = Identity { system: before.system, database: before.database };
    let mut origin = Origin::of(&request.settings.name, identity, &described);
    for (column, inputs) in origin.columns.iter_mut().zip(&mapping.inputs) {
        if let ([at], true) = (inputs.as_slice(), column.number != 0) {
            column.name.clone_from(&relation.columns[*at].name);
        }
    }
    let history = before.history.clone();
    Origin {
        mirrors: before.mirrors,
        marks: before.marks,
        stream: before.stream.clone(),
        history,
        ..origin.with_earlier_columns(before, plan)
    }
}

/// Gives the lake's table the columns that the log has values for.
async fn adapt(request: &Request, writer: &mut TableWriter, plan: &TablePlan, available: &Schema) -> Result<()> {
    let present = writer.schema();
    let name = plan.source.display();
    let (schema, rewrites) = match evolve(&name, &present, available, &plan.replace_command)? {
        Evolution::Same => return Ok(()),
        Evolution::Add(schema) => (schema, false),
        Evolution::Rewrite(schema) => (schema, true),
    };
    let added: Vec<&str> = available
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .filter(|name| present.field_with_name(name).is_err())
        .collect();
    check_values(plan, &added)?;
    let defaults = defaults(request, plan, &present, &added).await?;
    if !rewrites && defaults.is_none() {
        return writer.add_columns(schema);
    }
    if writer.has_changes() {
        let what =
            format!("stream changes of {name}: its columns were changed in a transaction that also changed its rows");
        return Err(Error::input(what).state("columns-changed").hint(plan.resync_command.clone()));
    }
    rewrite(request, writer, schema, defaults.as_ref()).await
}

/// The log must have the values of columns that were added, or older rows must have a constant default in them.
pub fn check_values(plan: &TablePlan, added: &[&str]) -> Result<()> {
    for column in plan.columns.iter().filter(|column| added.contains(&column.name.as_str())) {
        let Some(source) = &column.source else { continue };
        let known = plan.source.columns.iter().find(|known| known.number == source.number);
        if known.is_some_and(|known| (known.filled && known.missing.is_none()) || known.generated.is_some()) {
            let what = format!(
                "stream changes of {}: column {:?} was added, and the log does not have the values that older rows have in it",
                plan.source.display(),
                column.name
            );
            return Err(Error::input(what).state("columns-changed").hint(plan.resync_command.clone()));
        }
    }
    Ok(())
}

/// The constant defaults that older rows have in columns that were added.
async fn defaults(
    request: &Request,
    plan: &TablePlan,
    present: &SchemaRef,
    added: &[&str],
) -> Result<Option<RecordBatch>> {
    let mut plan = plan.clone();
    plan.columns.retain(|column| added.contains(&column.name.as_str()));
    if !plan.columns.iter().any(|column| column.source.as_ref().is_some_and(|source| source.missing.is_some())) {
        return Ok(None);
    }
    let (source, present) = (request.source.clone(), Arc::clone(present));
    let reading = tokio::task::spawn_blocking(move || {
        probe::defaults(&mut Wire::connect(&source)?, &plan, Some(present.as_ref()))
    });
    reading.await.map_err(|e| Error::bug("read the defaults of added columns").because(e))?
}

/// Commits wider types and the values of new columns in all rows.
async fn rewrite(
    request: &Request,
    writer: &mut TableWriter,
    schema: SchemaRef,
    defaults: Option<&RecordBatch>,
) -> Result<()> {
    let (table, run) = (writer.table().clone(), &request.run);
    let context = "apply the source's new types and columns";
    if let Some(history) = writer.history_mut() {
        history.rewrite(&without_deleted_at(&schema), defaults).await?;
    }
    let files = table.rewrite(run, Arc::clone(&schema), defaults).await.context(context)?;
    table.replace_files(run, "widen", schema).files(files).write().await.context(context)?;
    writer.set_table(table.reload().await.context(context)?)
}

/// The plan of a table by the catalogue as it is now.
pub async fn plan_again(
    change: &SchemaChange<'_>,
    before: &TablePlan,
    origin: &Origin,
) -> Result<(TablePlan, Identity)> {
    let request = change.request;
    let client = request.source.connect().await?;
    wait_until_visible(&client, change.xid).await?;
    let catalog = Catalog::read(&client).await?;
    let identity = catalog.identity;
    let mut planned = plan(&client, &catalog, &request.settings).await?;
    let (oid, name) = (before.source.oid, before.source.display());
    planned.tables.retain(|planned| planned.source.oid == oid);
    planned.refused.retain(|refused| refused.table == name);
    source::plan_identities(&client, &mut planned).await?;
    match (planned.tables.pop(), planned.refused.pop()) {
        (Some(mut plan), _) => {
            keep_names(&mut plan, origin)?;
            plan.target = before.target.clone();
            Ok((plan, identity))
        }
        (None, Some(refused)) => Err(refused.error),
        (None, None) => Err(Error::input(format!("stream changes of {name}: it was dropped at the source"))
            .state("missing")
            .hint("the lake keeps the table; remove it from the transfer, or resync it where it was created again")),
    }
}

/// Waits until other sessions see a transaction: the log has it a moment before.
async fn wait_until_visible(client: &Client, xid: u32) -> Result<()> {
    // The log has the lower half of the transaction's number.
    let sql = "SELECT pg_xact_status((((pg_snapshot_xmax(pg_current_snapshot())::text::bigint >> 32) << 32) | $1)::text::xid8)";
    for _ in 0..VISIBLE_TRIES {
        let row = client.query_one(sql, &[&i64::from(xid)]).await.context("look at a transaction's state")?;
        if row.get::<_, Option<String>>(0).as_deref() != Some("in progress") {
            return Ok(());
        }
        tokio::time::sleep(VISIBLE_WAIT).await;
    }
    Err(Error::retry(format!("read the catalogue after transaction {xid}: it is not visible yet")))
}

/// Stores in the table why it can't continue. It stays until a resync.
pub async fn store_refusal(
    request: &Request,
    plan: &TablePlan,
    error: &Error,
    reached_micros: Option<i64>,
) -> Result<()> {
    let state = error.state.unwrap_or("errored").to_owned();
    let refusal = Refusal { state, context: base::chain(error) };
    let position = Position { refusal: Some(refusal), ..Position::default() };
    match &request.target {
        Target::Lake(lake) => match lake.table(&plan.target).await.context("open the table in the lake")? {
            Some(table) => to_lake::refuse(&table, &request.run, &position, reached_micros).await,
            None => Ok(()),
        },
        Target::Postgres(endpoint) => to_postgres::write_position(&endpoint.connect().await?, plan, &position).await,
        // Its applier records it.
        Target::Stream(_) => Ok(()),
    }
}
