//! One table from the source into its target: how it is carried is decided by what the target has and by a first look
//! at the source's rows under the snapshot; then the rows are read and put in place.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::Schema;
use lake::Lake;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::checkpoint::{Origin, Position};
use crate::cursor::Place;
use crate::error::{Context, Error, Result};
use crate::late::{self, Mark};
use crate::look::{self, Look, Looked};
use crate::plan::{Mode, TablePlan};
use crate::postgres::{Endpoint, Identity, Snapshot, TableKind};
use crate::read::{Pool, Progress, Reading, whole};
use crate::resume::{Asker, Extent, Held, Seen, keep_names, rewritten};
use crate::run::{How, Request};
use crate::target::lake::{Addition, Keep, Telling, Written};
use crate::target::{lake as to_lake, postgres as to_postgres};

/// The moment at which all tables are read.
pub struct Cut<'a> {
    pub pool: Arc<Pool>,
    pub snapshot: &'a Snapshot,
    pub version: u32,
    pub marks: &'a HashMap<u32, Mark>,
    pub identity: Identity,
    /// Of tables whose cursor is their key, by OID: the greatest key.
    pub greatest: HashMap<u32, Option<i64>>,
    /// Turns of tables whose rows take memory: of small ones, several go side by side.
    pub large: Semaphore,
}

/// What became of a table's rows.
pub struct Carried {
    pub how: How,
    pub written: Written,
    pub bytes_read: u64,
    pub position: Option<Position>,
}

/// A table whose extent is decided.
struct Decided {
    plan: Arc<TablePlan>,
    extent: Extent,
    how: How,
    origin: Option<Origin>,
    /// Of the position that the target has, whether it counts or not.
    top: Option<i64>,
}

/// What is asked of a table's rows before they are read.
struct Asked<'a> {
    decided: &'a Decided,
    /// The columns that the target has, where rows are added to it.
    present: Option<Schema>,
}

pub async fn into_lake(
    request: &Request,
    cut: &Cut<'_>,
    table: &TablePlan,
    lake: &Lake,
    present: Option<lake::Table>,
) -> Result<Carried> {
    let held = match &present {
        Some(present) => to_lake::held(present, &request.settings.name, table).await?,
        None => Held::default(),
    };
    let decided = decide(request, cut, table, &held)?;
    let schema = match &present {
        Some(present) => Some(present.schema().context("read the table's schema")?.as_ref().clone()),
        None => None,
    };
    let before = decided.position().cloned();
    let is_same = schema.as_ref().is_some_and(|schema| has_columns(schema, &decided.plan));
    if let Some(before) = before.as_ref().filter(|_| is_same)
        && cut.nothing_new(request, &decided, before)?
    {
        return Ok(Carried::nothing(&decided, before));
    }
    let looked = cut.look(request, Asked { decided: &decided, present: schema.clone() }).await?;
    let after = cut.after(&decided, looked.cut.clone());
    let keep = Keep {
        run: &request.run,
        origin: Origin::of(&request.settings.name, cut.identity, &decided.plan),
        before: decided.origin.as_ref(),
    };
    let Some(present) = present.filter(|_| decided.extent != Extent::Whole) else {
        let (queries, streams) = whole(&looked.plan, cut.version, request.settings.streams);
        let _turn = cut.turn(queries.len() > 1).await;
        let reading = Reading::new(&cut.pool, Arc::clone(&looked.plan), queries, request.progress(), Some(looked.wire));
        let written = to_lake::initial(lake, &reading, streams, &keep, after.clone()).await?;
        return Ok(Carried { how: decided.how, written, bytes_read: reading.bytes(), position: after });
    };
    let _turn = cut.turn(true).await;
    let (queries, streams) = cut.queries(&decided, &looked, TablePlan::select);
    let reading = Reading::new(&cut.pool, Arc::clone(&looked.plan), queries, request.progress(), Some(looked.wire));
    let addition = Addition {
        keep: &keep,
        telling: telling(&decided),
        before: before.as_ref(),
        after: after.clone(),
        defaults: looked.defaults,
        streams,
        operation: if decided.how == How::Resync { "resync" } else { "incremental" },
    };
    let written = to_lake::add(present, &reading, addition).await?;
    let position = if written.version.is_some() { after } else { before };
    Ok(Carried { how: decided.how, written, bytes_read: reading.bytes(), position })
}

pub async fn into_postgres(
    request: &Request,
    cut: &Cut<'_>,
    table: &TablePlan,
    endpoint: &Endpoint,
) -> Result<Carried> {
    let mut client = endpoint.connect().await?;
    let held = to_postgres::held(&client, &request.settings.name, table).await?;
    let decided = decide(request, cut, table, &held)?;
    let looked = cut.look(request, Asked { decided: &decided, present: None }).await?;
    let after = cut.after(&decided, looked.cut.clone());
    let keep = Keep {
        run: &request.run,
        origin: Origin::of(&request.settings.name, cut.identity, &decided.plan),
        before: decided.origin.as_ref(),
    };
    if decided.extent == Extent::Whole {
        let (queries, streams) = to_postgres::whole(&looked.plan, cut.version, request.settings.streams);
        let _turn = cut.turn(queries.len() > 1).await;
        let reading = Reading::new(&cut.pool, Arc::clone(&looked.plan), queries, request.progress(), Some(looked.wire));
        let written = to_postgres::initial(endpoint, &mut client, &reading, streams, &keep, after.as_ref()).await?;
        return Ok(Carried { how: decided.how, written, bytes_read: reading.bytes(), position: after });
    }
    let _turn = cut.turn(true).await;
    let (queries, _) = cut.queries(&decided, &looked, TablePlan::select_plain);
    let reading = Reading::new(&cut.pool, Arc::clone(&looked.plan), queries, request.progress(), Some(looked.wire));
    let written = to_postgres::add(endpoint, &client, &reading, &keep, after.as_ref(), &telling(&decided)).await?;
    Ok(Carried { how: decided.how, written, bytes_read: reading.bytes(), position: after })
}

fn decide(request: &Request, cut: &Cut<'_>, table: &TablePlan, held: &Held) -> Result<Decided> {
    let asker = Asker { settings: &request.settings, permission: request.permission, identity: cut.identity };
    let origin = held.checkpoint.as_ref().and_then(|kept| kept.origin.clone());
    let mut plan = table.clone();
    let kept = origin.as_ref().map_or(Ok(()), |origin| keep_names(&mut plan, origin));
    let extent = asker.extent(&plan, held)?;
    if extent == Extent::Whole {
        // What is made anew has the names that its columns have now.
        plan = table.clone();
    } else {
        kept?;
    }
    let how = match (&extent, request.settings.mode, &plan.cursor) {
        (Extent::Since(_), ..) => How::Incremental,
        (Extent::Beside(_), ..) => How::Resync,
        (Extent::Whole, Mode::Incremental, None) => How::Reload,
        (Extent::Whole, ..) => How::Initial,
    };
    let top = held.checkpoint.as_ref().and_then(|kept| kept.position.as_ref()?.top);
    Ok(Decided { plan: Arc::new(plan), extent, how, origin, top })
}

impl Decided {
    fn position(&self) -> Option<&Position> {
        match &self.extent {
            Extent::Since(position) => Some(position),
            Extent::Whole | Extent::Beside(_) => None,
        }
    }

    /// The condition that takes what came since; `None` is everything.
    fn condition(&self) -> Option<String> {
        late::condition(self.position()?, self.plan.cursor.as_ref()?)
    }
}

impl Cut<'_> {
    /// A first look at the table's rows, on the connection that will read them.
    async fn look(&self, request: &Request, asked: Asked<'_>) -> Result<Looked> {
        let decided = asked.decided;
        let mark = self.marks.get(&decided.plan.source.oid).cloned().unwrap_or_default();
        let look = Look {
            pool: Arc::clone(&self.pool),
            plan: Arc::clone(&decided.plan),
            mark: mark.place,
            position: decided.position().cloned(),
            condition: decided.condition(),
            origin: decided.origin.clone().filter(|_| decided.extent != Extent::Whole),
            present: asked.present.filter(|_| decided.extent != Extent::Whole),
            snapshot_xmin: self.snapshot.xmin,
            measures: decided.extent == Extent::Whole,
        };
        let looked = tokio::task::spawn_blocking(move || look::look(look));
        let looked = looked.await.map_err(|e| Error::bug("look at a table").because(e))??;
        if let Extent::Since(position) = &decided.extent {
            let asker = Asker { settings: &request.settings, permission: request.permission, identity: self.identity };
            asker.order_holds(&decided.plan, position, &looked.seen)?;
        }
        Ok(looked)
    }

    /// The position that the run leaves.
    fn after(&self, decided: &Decided, cut: Option<late::Cut>) -> Option<Position> {
        let plan = &decided.plan;
        let cursor = plan.cursor.as_ref()?;
        if cursor.is_transaction() {
            let place = Some(Place(vec![self.snapshot.xmin.to_string()]));
            return Some(Position {
                high: place.clone(),
                low: place,
                xmin: Some(self.snapshot.xmin),
                ..Position::default()
            });
        }
        let mark = self.marks.get(&plan.source.oid).cloned().unwrap_or_default();
        // The target keeps rows that the source no longer has: what is above the source's greatest may be known there.
        let top = match &decided.extent {
            Extent::Whole => None,
            Extent::Since(position) => position.top,
            Extent::Beside(_) => Some(decided.top.unwrap_or(i64::MAX)),
        };
        let position = late::next(&mark, cut, decided.position());
        let sequence =
            cursor.integer().and_then(|column| crate::resume::column_sequence(plan, &column.column)).flatten();
        // A view and a foreign table show no transactions: their overlap must do.
        let shows_none = plan.source.is_view() || plan.source.kind == TableKind::Foreign;
        let xid = position.xid.filter(|_| !shows_none);
        Some(Position { top, xid, xmin: Some(self.snapshot.xmin), sequence, ..position })
    }

    /// What is read where rows are added, and by how many streams.
    fn queries(
        &self,
        decided: &Decided,
        looked: &Looked,
        select: fn(&TablePlan, &str, Option<&str>) -> String,
    ) -> (Vec<String>, usize) {
        let plan = &looked.plan;
        let Some(condition) = decided.condition() else {
            return (vec![select(plan, &plan.source.rows(), None)], 1);
        };
        let mut queries = vec![select(plan, &plan.source.rows(), Some(&condition))];
        // A partition that was attached brings rows from before the position.
        let rest = format!("({condition}) IS NOT TRUE");
        queries.extend(looked.new_leaves.iter().map(|leaf| select(plan, &format!("ONLY {leaf}"), Some(&rest))));
        (queries, 1)
    }

    /// Where the cursor is a key that the source enforces, the greatest says by itself that no row came.
    fn nothing_new(&self, request: &Request, decided: &Decided, before: &Position) -> Result<bool> {
        let plan = &decided.plan;
        let Some(Some(greatest)) = self.greatest.get(&plan.source.oid) else { return Ok(false) };
        let is_settled = self.marks.get(&plan.source.oid).is_some_and(|mark| mark.is_settled);
        let is_same = is_settled
            && before.xid.is_none()
            && before.low.is_some()
            && before.low == before.high
            && before.high == Some(Place(vec![greatest.to_string()]));
        let Some(origin) = decided.origin.as_ref().filter(|_| is_same) else { return Ok(false) };
        let has_storage = |oid: u32| origin.file_node(oid).is_some();
        if !plan.source.leaves.iter().all(|leaf| has_storage(leaf.oid)) || !rewritten(plan, origin).is_empty() {
            return Ok(false);
        }
        let asker = Asker { settings: &request.settings, permission: request.permission, identity: self.identity };
        asker.order_holds(plan, before, &Seen::default())?;
        Ok(true)
    }

    /// Waits for the table's turn, where it needs one.
    async fn turn(&self, is_large: bool) -> Option<SemaphorePermit<'_>> {
        match is_large {
            // The semaphore is never closed.
            true => self.large.acquire().await.ok(),
            false => None,
        }
    }
}

impl Carried {
    fn nothing(decided: &Decided, position: &Position) -> Carried {
        Carried { how: decided.how, written: Written::default(), bytes_read: 0, position: Some(position.clone()) }
    }
}

fn telling(decided: &Decided) -> Telling {
    match &decided.extent {
        Extent::Beside(key) => Telling { key: key.clone(), cursor: None, top: None, high: None },
        Extent::Whole | Extent::Since(_) => Telling {
            key: decided.plan.key.clone(),
            cursor: decided.plan.cursor.clone().filter(|cursor| !cursor.is_transaction()),
            top: decided.position().and_then(|position| position.top),
            high: decided.position().and_then(|position| position.high.as_ref()?.0.first()?.parse().ok()),
        },
    }
}

/// The target's table has the plan's columns, in their types.
fn has_columns(schema: &Schema, plan: &TablePlan) -> bool {
    let has =
        |name: &String, data_type| schema.field_with_name(name).is_ok_and(|field| *field.data_type() == data_type);
    plan.columns.iter().all(|column| has(&column.name, column.kind.arrow()))
}

impl Request {
    pub(crate) fn progress(&self) -> Arc<dyn Progress> {
        Arc::clone(&self.progress)
    }
}
