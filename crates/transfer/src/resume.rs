//! Whether a transfer may go on with a table of its target, and how: by what the target keeps of the table's origin,
//! held against the source's catalogue. What can't go on is a named state with a hint; nothing is read before.

mod columns;

use crate::checkpoint::{Checkpoint, LASTING, Origin, OriginColumn, Position};
use crate::cursor::TRANSACTION;
use crate::error::{Error, Result};
use crate::plan::{Mode, PlanColumn, Settings, TablePlan};
use crate::postgres::{Identity, TableKind};
use crate::timeline::{Continuity, Log};
use columns::has_same_form;
pub use columns::{changed_expressions, keep_names, rewritten};

/// What a run may do to a table that holds rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Permission {
    /// Add to it; replace it where the transfer's own file says so, and the transfer has made it.
    #[default]
    File,
    /// Add to it, never replace it: the mode was given by hand.
    Add,
    /// Replace it: asked for by name.
    Replace,
    /// Read it again, and keep what the source no longer has: asked for by name.
    Resync,
}

/// What a run does with a table of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Reads it whole, in place of what the target has.
    Replace,
    /// Reads it whole and keeps the rows that the source no longer has; rows are matched by this key.
    Merge(Vec<String>),
    /// Reads what came since the position.
    Increment(Position),
}

/// What the target has of a table.
#[derive(Debug, Clone, Default)]
pub struct TargetState {
    pub checkpoint: Option<Checkpoint>,
    pub has_rows: bool,
}

/// By what a transfer decides whether it may go on with a table.
pub struct Resumption<'a> {
    pub settings: &'a Settings,
    pub permission: Permission,
    pub identity: Identity,
    /// Where the source tells of it.
    pub log: Option<&'a Log>,
}

impl Resumption<'_> {
    /// Decides how the table is carried.
    ///
    /// # Errors
    /// With a state, where going on would lose rows, double them or replace what the source no longer has.
    pub fn action(&self, plan: &TablePlan, state: &TargetState) -> Result<Action> {
        let origin = state.checkpoint.as_ref().and_then(|checkpoint| checkpoint.origin.as_ref());
        if let Some(origin) = origin.filter(|origin| self.settings.others.contains(&origin.transfer)) {
            return Err(self.of_another(plan, &origin.transfer));
        }
        if self.permission == Permission::Replace {
            return Ok(Action::Replace);
        }
        if !state.has_rows {
            // What was carried and is gone need not come again; where the order does not go on, nothing is at risk.
            return Ok(match (&state.checkpoint, self.permission, self.settings.mode) {
                (Some(checkpoint), Permission::File, Mode::Incremental) if !was_emptied(plan, checkpoint) => {
                    self.increment(plan, checkpoint).unwrap_or(Action::Replace)
                }
                _ => Action::Replace,
            });
        }
        let Some(checkpoint) = &state.checkpoint else {
            return match self.permission {
                Permission::Resync => self.merge(plan, None),
                _ => Err(self.at_risk(plan, "no transfer has made it, or another program has replaced it")),
            };
        };
        let has_position = checkpoint.position.is_some();
        match (self.permission, self.settings.mode, &plan.cursor) {
            (Permission::Resync, Mode::Initial, _) | (Permission::Resync, _, None) => Err(self.not_kept(plan)),
            (Permission::Resync, ..) => self.merge(plan, origin),
            (Permission::Add, Mode::Initial, _) => Err(self.at_risk(plan, "INITIAL was asked for by hand")),
            (_, Mode::Initial, _) => {
                origin.map_or(Ok(()), |origin| self.same_database(plan, origin))?;
                Ok(Action::Replace)
            }
            (_, Mode::Incremental, Some(_)) if has_position => self.increment(plan, checkpoint),
            // It was read whole each time until now: what it has stays from here on.
            (_, Mode::Incremental, Some(_)) => {
                origin.map_or(Ok(()), |origin| self.same_source(plan, origin))?;
                self.merge(plan, origin)
            }
            (_, Mode::Incremental, None) if has_position => Err(self.without_cursor(plan)),
            (_, Mode::Incremental, None) => {
                origin.map_or(Ok(()), |origin| self.same_database(plan, origin))?;
                Ok(Action::Replace)
            }
        }
    }

    fn increment(&self, plan: &TablePlan, checkpoint: &Checkpoint) -> Result<Action> {
        if let Some(origin) = &checkpoint.origin {
            self.same_source(plan, origin)?;
            self.same_order(plan, origin)?;
            self.same_key_values(plan, origin)?;
            self.same_columns(plan, origin)?;
        }
        if let Some(refusal) = checkpoint.position.as_ref().and_then(|position| position.refusal.as_ref())
            && let Some(state) = LASTING.into_iter().find(|state| *state == refusal.state)
        {
            let context = format!("{} (found by an earlier run)", refusal.context);
            let error = self.resync(plan, Error::input(context).state(state));
            return Err(match (state, error.hint.clone()) {
                ("source-restored", Some(resync)) => error
                    .hint(format!("{resync}; where no transaction was lost: {}", self.command("hand-over", plan, ""))),
                _ => error,
            });
        }
        checkpoint.position.as_ref().map_or(Ok(()), |position| self.same_history(plan, position))?;
        Ok(checkpoint.position.clone().map_or(Action::Replace, Action::Increment))
    }

    fn merge(&self, plan: &TablePlan, origin: Option<&Origin>) -> Result<Action> {
        if plan.key.is_empty() {
            let context = format!("read {} again: it has no key by which its rows could be matched", self.name(plan));
            return Err(Error::setup(context).hint(format!(
                "[tables.{:?}] key = [...], or replace what the target has: {}",
                self.name(plan),
                self.command("run", plan, " --replace")
            )));
        }
        let was = origin.map_or(&plan.key, |origin| &origin.key);
        let carried = |column: &String| plan.columns.iter().any(|planned| planned.name == *column);
        if was.is_empty() || !was.iter().all(carried) {
            let context = format!(
                "read {} again: the key of the target's rows, ({}), is no longer carried",
                self.name(plan),
                was.join(", ")
            );
            return Err(Error::setup(context).state("key-changed").hint(format!(
                "carry these columns, or replace what the target has: {}",
                self.command("run", plan, " --replace")
            )));
        }
        origin.map_or(Ok(()), |origin| self.same_key_values(plan, origin))?;
        Ok(Action::Merge(was.clone()))
    }

    fn same_database(&self, plan: &TablePlan, origin: &Origin) -> Result<()> {
        if (origin.system, origin.database) != (self.identity.system, self.identity.database) {
            let context = format!(
                "go on with {}: it was filled from another database (system {}, database {}), and this is system {}, database {}",
                self.name(plan),
                origin.system,
                origin.database,
                self.identity.system,
                self.identity.database
            );
            let other = match (&plan.cursor, self.settings.mode) {
                (Some(_), Mode::Incremental) => self.command("resync", plan, ""),
                // It is read whole each time, and nothing of the other database would stay.
                _ => self.command("run", plan, " --replace"),
            };
            return Err(Error::setup(context).state("other-source").hint(format!(
                "where the one is the other after an upgrade: {}; else {other}",
                self.command("hand-over", plan, ""),
            )));
        }
        Ok(())
    }

    fn same_source(&self, plan: &TablePlan, origin: &Origin) -> Result<()> {
        let table = &plan.source;
        self.same_database(plan, origin)?;
        let has_own_identity = matches!(table.kind, TableKind::Table | TableKind::Partitioned);
        // A view has no rows of its own: what is one now, and had some, was a table.
        let was_table = !has_own_identity && table.leaves.is_empty() && !origin.storage.is_empty();
        if (has_own_identity && origin.table != table.oid) || was_table {
            let context = format!("go on with {}: it was dropped and made anew since the last run", self.name(plan));
            return Err(self.resync(plan, Error::input(context).state("recreated")));
        }
        Ok(())
    }

    /// What was carried must still be part of the source's history.
    fn same_history(&self, plan: &TablePlan, position: &Position) -> Result<()> {
        let (Some(log), Some(before)) = (self.log, position.log) else { return Ok(()) };
        let table = self.name(plan);
        let behind = |what: String| Error::input(format!("go on with {table}: {what}")).state("source-restored");
        let may_lack = "values of its cursor may have been given out again";
        match log.continuity(before) {
            Continuity::Whole => Ok(()),
            Continuity::Cut(end) if log.is_standby && end == log.now => Err(Error::retry(format!(
                "go on with {table}: the standby has replayed the log up to {end}, and rows up to {before} have been carried"
            ))
            .hint("run it again when the standby has caught up, or carry from the primary")),
            Continuity::Cut(end) => Err(self.resync(
                plan,
                behind(format!(
                    "the source was restored or failed over at {end}, and rows up to {before} have been carried; {may_lack}"
                )),
            )),
            // With the right to read it, the next run proves the one or the other.
            Continuity::Unknown => Err(Error::input(format!(
                "go on with {table}: the source was restored or failed over (its log is at {}), and the user may not read at which place; rows up to \
                 {before} have been carried, and {may_lack}",
                log.now
            ))
            .state("source-unproven")
            .hint(format!(
                "GRANT EXECUTE ON FUNCTION pg_read_file(text, bigint, bigint, boolean) to the user; or {} reads it again and \
                 keeps what the target has; or, where no transaction was lost, {}",
                self.command("resync", plan, ""),
                self.command("hand-over", plan, "")
            ))),
        }
    }

    fn same_order(&self, plan: &TablePlan, origin: &Origin) -> Result<()> {
        let columns = plan.cursor.iter().flat_map(|cursor| &cursor.columns);
        let cursor: Vec<&str> = columns.map(|column| column.name.as_str()).collect();
        let was: Vec<&str> = origin.cursor.iter().map(|(name, _)| name.as_str()).collect();
        if cursor != was {
            // The system column has no name in the target.
            let shown = |columns: &[&str]| match columns {
                [""] => TRANSACTION.to_owned(),
                columns => columns.join(", "),
            };
            let context = format!(
                "go on with {}: its cursor was ({}) and is ({}) now",
                self.name(plan),
                shown(&was),
                shown(&cursor)
            );
            return Err(self.resync(plan, Error::setup(context).state("cursor-changed")));
        }
        let filter = plan.filter.clone().unwrap_or_default();
        if let Some(was) = origin.filter.as_ref().filter(|was| **was != filter) {
            let shown =
                |filter: &str| if filter.is_empty() { "all rows".to_owned() } else { format!("rows with {filter}") };
            let context = format!(
                "go on with {}: the mapping took {}, and takes {} now",
                self.name(plan),
                shown(was),
                shown(&filter)
            );
            return Err(self.resync(plan, Error::setup(context).state("filter-changed")));
        }
        if plan.key != origin.key {
            let context = format!(
                "go on with {}: its key was ({}) and is ({}) now",
                self.name(plan),
                origin.key.join(", "),
                plan.key.join(", ")
            );
            return Err(self.resync(plan, Error::input(context).state("key-changed")));
        }
        Ok(())
    }

    /// Columns must be those that the target's rows have, and of types whose values have the same form.
    fn same_columns(&self, plan: &TablePlan, origin: &Origin) -> Result<()> {
        let changed = |column: &PlanColumn, what: &str| {
            let context = format!("go on with {}: column {:?} {what}", self.name(plan), column.name);
            Err(self.resync(plan, Error::input(context).state("columns-changed")))
        };
        for column in &plan.columns {
            let Some(was) = origin.columns.iter().find(|was| was.target == column.name) else { continue };
            if was.absent {
                return changed(column, "was not carried for a while, and rows of that time lack its values");
            }
            let Some(source) = &column.source else { continue };
            if origin.table == plan.source.oid && was.number != 0 && was.number != source.number {
                return changed(column, "was dropped and made anew, and the target has values of the old one");
            }
            if !has_same_form(&was.type_name, &source.type_name) {
                let what = format!(
                    "was of type {} and is of type {} now: rows from before would keep values of the old form",
                    was.type_name, source.type_name
                );
                return changed(column, &what);
            }
        }
        Ok(())
    }

    /// Rows are matched by the values that the target has in its key.
    fn same_key_values(&self, plan: &TablePlan, origin: &Origin) -> Result<()> {
        let form = |was: &&OriginColumn| {
            let now = plan.columns.iter().find(|column| column.name == was.target).and_then(|now| now.source.as_ref());
            now.is_some_and(|now| !has_same_form(&was.type_name, &now.type_name))
        };
        if let Some(was) = origin.columns.iter().filter(|was| origin.key.contains(&was.target)).find(form) {
            let context = format!(
                "go on with {}: column {:?} of its key was of type {}, and the values of its type now have another form",
                self.name(plan),
                was.target,
                was.type_name
            );
            return Err(Error::input(context).state("key-changed").hint(format!(
                "change the type back, or replace what the target has: {}",
                self.command("run", plan, " --replace")
            )));
        }
        let changed = changed_expressions(plan, origin);
        let Some((column, earlier)) = changed.iter().find(|(column, _)| origin.key.contains(column)) else {
            return Ok(());
        };
        let context = format!(
            "go on with {}: column {column:?} of its key was carried as {}, and its mapping gives other values now",
            self.name(plan),
            earlier.join(" and as ")
        );
        Err(Error::input(context).state("key-changed").hint(format!(
            "carry it as before, or replace what the target has: {}",
            self.command("run", plan, " --replace")
        )))
    }

    /// What the source's rows say of the position, once they can be seen.
    ///
    /// # Errors
    /// With a state, where the integers of the cursor have begun again: rows below the position would never come.
    pub fn order_holds(&self, plan: &TablePlan, position: &Position, seen: &OrderState) -> Result<()> {
        let table = self.name(plan);
        let column = plan.cursor.as_ref().and_then(|cursor| cursor.integer());
        let high = position.high.as_ref().and_then(|high| high.0.first()?.parse::<i64>().ok());
        let integers = column.zip(high);
        if let Some((column, high)) = integers
            && restarted(column_sequence(plan, &column.column), position.sequence, high)
        {
            let context = format!(
                "go on with {table}: the sequence of {:?} was restarted below {high}, the greatest value carried",
                column.column
            );
            return Err(self.resync(plan, Error::input(context).state("restarted")));
        }
        if seen.is_refilled {
            let by = plan.cursor.as_ref().map_or_else(String::new, |cursor| cursor.display());
            let context = format!(
                "go on with {table}: it was emptied and filled again, or written anew, since the last run, with values of {by} \
                 that were carried before"
            );
            return Err(self.resync(plan, Error::input(context).state("refilled")));
        }
        let Some((column, high)) = integers else { return Ok(()) };
        let is_proven = column_sequence(plan, &column.column).is_some_and(|last| last.is_some_and(|last| last >= high));
        if seen.is_behind && !is_proven {
            let context = format!(
                "go on with {table}: the greatest {:?} is below {high}, the greatest value carried",
                column.column
            );
            return Err(self.resync(plan, Error::input(context).state("cursor-behind")));
        }
        Ok(())
    }

    fn of_another(&self, plan: &TablePlan, transfer: &str) -> Error {
        let context = format!("carry {}: the transfer {transfer} carries {}", self.name(plan), plan.target);
        Error::setup(context).state("other-transfer").hint(format!(
            "exclude the table from {transfer}, then {}; or set into = \"...\" for one of them",
            self.command("hand-over", plan, "")
        ))
    }

    /// What a resync keeps, the next run would drop.
    fn not_kept(&self, plan: &TablePlan) -> Error {
        let context = format!(
            "read {} again and keep what {} has: the transfer reads it whole each time, and its next run would drop the rows \
             that the source no longer has",
            self.name(plan),
            plan.target
        );
        Error::setup(context).state("history-at-risk").hint(self.with_cursor(plan))
    }

    fn without_cursor(&self, plan: &TablePlan) -> Error {
        let context =
            format!("replace {}: it holds rows, and it was carried by a cursor, and has none now", plan.target);
        Error::setup(context).state("history-at-risk").hint(self.with_cursor(plan))
    }

    fn with_cursor(&self, plan: &TablePlan) -> String {
        format!(
            "to keep the rows that the source no longer has: mode = \"incremental\" and [tables.{:?}] cursor = \"...\" (\"xmin\" \
             serves any table of PostgreSQL's own), then {}; to drop them: {}",
            self.name(plan),
            self.command("resync", plan, ""),
            self.command("run", plan, " --replace")
        )
    }

    fn at_risk(&self, plan: &TablePlan, why: &str) -> Error {
        let context = format!("replace {}: it holds rows, and {why}", plan.target);
        Error::setup(context).state("history-at-risk").hint(format!(
            "to keep the rows that the source no longer has: {}; to drop them: {}",
            self.command("resync", plan, ""),
            self.command("run", plan, " --replace")
        ))
    }

    fn resync(&self, plan: &TablePlan, error: Error) -> Error {
        let command = self.command("resync", plan, "");
        error.hint(format!(
            "{command} reads it again and keeps what the target has: rows of the source win by key, rows gone from the source stay"
        ))
    }

    fn name(&self, plan: &TablePlan) -> String {
        plan.source.display()
    }

    fn command(&self, verb: &str, plan: &TablePlan, options: &str) -> String {
        self.settings.command(verb, &plan.source.display(), options)
    }
}

/// The target has lost all that was carried. The order by transactions has a position also where no row was.
fn was_emptied(plan: &TablePlan, checkpoint: &Checkpoint) -> bool {
    let by_transaction = plan.cursor.as_ref().is_some_and(|cursor| cursor.is_transaction());
    !by_transaction && checkpoint.position.as_ref().is_some_and(|position| position.high.is_some())
}

/// Whether the order of a table's rows goes on from its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OrderState {
    /// The greatest place lies below the position.
    pub is_behind: bool,
    /// Rows at or below the position are there, and all of them were written since the last run.
    pub is_refilled: bool,
}

/// Of the sequence that gives a column its values, the last one: `None` without such a sequence.
pub fn column_sequence(plan: &TablePlan, column: &str) -> Option<Option<i64>> {
    let column = plan.source.columns.iter().find(|c| c.name == column)?;
    column.sequence.filter(|sequence| sequence.grows && sequence.readable).map(|sequence| sequence.last)
}

/// The sequence has gone back since the last run, below what was carried. One that was never used says nothing.
fn restarted(sequence: Option<Option<i64>>, before: Option<i64>, high: i64) -> bool {
    match (sequence, before) {
        (Some(last), Some(before)) => last.is_none_or(|last| last < before && last < high),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
