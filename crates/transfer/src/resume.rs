//! Whether and how a transfer continues a table of its target, by a comparison of the table's checkpoint with the
//! source's catalogue. A table that can't be continued is refused in a named state with a hint, before rows are read.

mod columns;

use crate::checkpoint::{Checkpoint, LASTING_STATES, Origin, OriginColumn, Position};
use crate::cursor::TRANSACTION;
use crate::error::{Error, Result};
use crate::plan::{Mode, PlanColumn, Settings, TablePlan};
use crate::postgres::{Identity, TableKind};
use crate::timeline::{Continuity, Log};
use columns::has_same_form;
pub use columns::{keep_names, rewritten_relations};

/// What a run may do to a table that holds rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Permission {
    /// Add rows to it, or replace it where the transfer's mode does and a transfer has filled it.
    #[default]
    AsConfigured,
    /// Add rows to it, but never replace it: the mode was given on the command line.
    Add,
    /// Replace it, by an explicit option.
    Replace,
    /// Read it again and keep the rows that the source no longer has, by an explicit command.
    Resync,
}

/// What a run does with a table of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Reads the table whole, in place of the target's rows.
    Replace,
    /// Reads the table whole and keeps the rows that the source no longer has. Rows are matched by these columns.
    Merge(Vec<String>),
    /// Reads the rows that are new or changed since the position.
    Increment(Position),
}

/// The state of a table in the target.
#[derive(Debug, Clone, Default)]
pub struct TargetState {
    /// The checkpoint of the table's last transfer; none where no transfer has written one.
    pub checkpoint: Option<Checkpoint>,
    /// Whether the table exists and has rows.
    pub has_rows: bool,
}

/// What decides whether and how a transfer continues a table.
pub struct Resumption<'a> {
    /// The transfer's settings.
    pub settings: &'a Settings,
    /// What the run may do to a table that holds rows.
    pub permission: Permission,
    /// The identity of the source's database.
    pub identity: Identity,
    /// The source's log; none where the user may not read it.
    pub log: Option<&'a Log>,
}

impl Resumption<'_> {
    /// Decides how the table is read.
    ///
    /// # Errors
    /// In a named state with a hint, where the run would lose rows, duplicate them, or replace rows that the source no
    /// longer has.
    pub fn action(&self, plan: &TablePlan, state: &TargetState) -> Result<Action> {
        let origin = state.checkpoint.as_ref().and_then(|checkpoint| checkpoint.origin.as_ref());
        if let Some(origin) = origin.filter(|origin| self.settings.others.contains(&origin.transfer)) {
            return Err(self.other_transfer_error(plan, &origin.transfer));
        }
        if self.permission == Permission::Replace {
            return Ok(Action::Replace);
        }
        if !state.has_rows {
            // Rows that were deleted from the target are not read again. Where the increment is refused, the table is
            // read whole: there are no rows to lose.
            return Ok(match (&state.checkpoint, self.permission, self.settings.mode) {
                (Some(checkpoint), Permission::AsConfigured, Mode::Incremental) if !was_emptied(plan, checkpoint) => {
                    self.increment(plan, checkpoint).unwrap_or(Action::Replace)
                }
                _ => Action::Replace,
            });
        }
        let Some(checkpoint) = &state.checkpoint else {
            return match self.permission {
                Permission::Resync => self.merge(plan, None),
                _ => {
                    Err(self
                        .history_at_risk_error(plan, "no transfer has filled it, or another program has replaced it"))
                }
            };
        };
        let has_position = checkpoint.position.is_some();
        match (self.permission, self.settings.mode, &plan.cursor) {
            // The target has no row of its own to keep. Rows that were deleted in a gap of the log have to be found.
            (Permission::Resync, Mode::Changes, _) if self.is_mirror(plan, origin) => Ok(Action::Replace),
            (Permission::Resync, Mode::Changes, _) => self.merge(plan, origin),
            // From another mode, or where deleted rows are kept: rows that the source no longer has stay.
            (_, Mode::Changes, _) => {
                origin.map_or(Ok(()), |origin| self.check_same_source(plan, origin))?;
                if self.is_mirror(plan, origin) { Ok(Action::Replace) } else { self.merge(plan, origin) }
            }
            (Permission::Resync, Mode::Initial, _) | (Permission::Resync, _, None) => {
                Err(self.useless_resync_error(plan))
            }
            (Permission::Resync, ..) => self.merge(plan, origin),
            (Permission::Add, Mode::Initial, _) => {
                Err(self.history_at_risk_error(plan, "the mode INITIAL was given on the command line"))
            }
            (_, Mode::Initial, _) => {
                origin.map_or(Ok(()), |origin| self.check_same_database(plan, origin))?;
                Ok(Action::Replace)
            }
            (_, Mode::Incremental, Some(_)) if has_position => self.increment(plan, checkpoint),
            // It was read whole each time until now. From now on, its rows are kept.
            (_, Mode::Incremental, Some(_)) => {
                origin.map_or(Ok(()), |origin| self.check_same_source(plan, origin))?;
                self.merge(plan, origin)
            }
            (_, Mode::Incremental, None) if has_position => Err(self.cursor_lost_error(plan)),
            (_, Mode::Incremental, None) => {
                origin.map_or(Ok(()), |origin| self.check_same_database(plan, origin))?;
                Ok(Action::Replace)
            }
        }
    }

    /// Whether the target has the rows of this table of the source, and no others, and is to have no others.
    fn is_mirror(&self, plan: &TablePlan, origin: Option<&Origin>) -> bool {
        let is_mirror = |origin: &Origin| origin.mirrors && self.check_same_source(plan, origin).is_ok();
        self.settings.has_deletes() && origin.is_some_and(is_mirror)
    }

    fn increment(&self, plan: &TablePlan, checkpoint: &Checkpoint) -> Result<Action> {
        if let Some(origin) = &checkpoint.origin {
            self.check_same_source(plan, origin)?;
            self.check_same_order(plan, origin)?;
            self.check_same_key_values(plan, origin)?;
            self.check_same_columns(plan, origin)?;
        }
        if let Some(refusal) = checkpoint.position.as_ref().and_then(|position| position.refusal.as_ref())
            && let Some(state) = LASTING_STATES.into_iter().find(|state| *state == refusal.state)
        {
            let context = format!("{} (found by an earlier run)", refusal.context);
            let error = self.with_resync_hint(plan, Error::input(context).state(state));
            return Err(match (state, error.hint.clone()) {
                ("source-restored", Some(resync)) => error
                    .hint(format!("{resync}; where no transaction was lost: {}", self.command("hand-over", plan, ""))),
                _ => error,
            });
        }
        checkpoint.position.as_ref().map_or(Ok(()), |position| self.check_same_history(plan, position))?;
        Ok(checkpoint.position.clone().map_or(Action::Replace, Action::Increment))
    }

    fn merge(&self, plan: &TablePlan, origin: Option<&Origin>) -> Result<Action> {
        if plan.key.is_empty() {
            let context = format!("read {} again: it has no key by which its rows could be matched", self.name(plan));
            return Err(Error::setup(context).hint(format!(
                "[tables.{:?}] key = [...], or replace the target's rows: {}",
                self.name(plan),
                self.command("run", plan, " --replace")
            )));
        }
        let was = origin.map_or(&plan.key, |origin| &origin.key);
        let carried = |column: &String| plan.columns.iter().any(|planned| planned.name == *column);
        if was.is_empty() || !was.iter().all(carried) {
            let context = format!(
                "read {} again: the key of the target's rows, ({}), is no longer among its columns",
                self.name(plan),
                was.join(", ")
            );
            return Err(Error::setup(context).state("key-changed").hint(format!(
                "carry these columns, or replace the target's rows: {}",
                self.command("run", plan, " --replace")
            )));
        }
        origin.map_or(Ok(()), |origin| self.check_same_key_values(plan, origin))?;
        Ok(Action::Merge(was.clone()))
    }

    fn check_same_database(&self, plan: &TablePlan, origin: &Origin) -> Result<()> {
        if (origin.system, origin.database) != (self.identity.system, self.identity.database) {
            let context = format!(
                "continue {}: it was filled from another database (system {}, database {}); the source is system {}, \
                 database {}",
                self.name(plan),
                origin.system,
                origin.database,
                self.identity.system,
                self.identity.database
            );
            let other = match (&plan.cursor, self.settings.mode) {
                (Some(_), Mode::Incremental) => self.command("resync", plan, ""),
                // The table is read whole each time, and no rows of the other database would be kept.
                _ => self.command("run", plan, " --replace"),
            };
            return Err(Error::setup(context).state("other-source").hint(format!(
                "where the source is the same database after an upgrade: {}; else: {other}",
                self.command("hand-over", plan, ""),
            )));
        }
        Ok(())
    }

    fn check_same_source(&self, plan: &TablePlan, origin: &Origin) -> Result<()> {
        let table = &plan.source;
        self.check_same_database(plan, origin)?;
        let has_own_identity = matches!(table.kind, TableKind::Table | TableKind::Partitioned);
        // A view has no storage: what is a view now and had storage was a table.
        let was_table = !has_own_identity && table.leaves.is_empty() && !origin.storage.is_empty();
        if (has_own_identity && origin.table != table.oid) || was_table {
            let context = format!("continue {}: it was dropped and created again since the last run", self.name(plan));
            return Err(self.with_resync_hint(plan, Error::input(context).state("recreated")));
        }
        Ok(())
    }

    /// The log that was read up to the position must be part of the source's log.
    fn check_same_history(&self, plan: &TablePlan, position: &Position) -> Result<()> {
        let (Some(log), Some(before)) = (self.log, position.log) else { return Ok(()) };
        let table = self.name(plan);
        let behind = |what: String| Error::input(format!("continue {table}: {what}")).state("source-restored");
        let may_lack = "the source may have assigned values of its cursor again";
        match log.continuity(before) {
            Continuity::Complete => Ok(()),
            Continuity::Diverged(end) if log.is_standby && end == log.now => Err(Error::retry(format!(
                "continue {table}: the standby has replayed the log up to {end}, and rows up to {before} have been \
                 transferred"
            ))
            .hint("run it again when the standby has caught up, or transfer from the primary")),
            Continuity::Diverged(end) => Err(self.with_resync_hint(
                plan,
                behind(format!(
                    "the source was restored or failed over at {end}, and rows up to {before} have been transferred; \
                     {may_lack}"
                )),
            )),
            // With the right to read the history of timelines, the next run can tell.
            Continuity::Unknown => Err(Error::input(format!(
                "continue {table}: the source was restored or failed over (its log is at {}), and the user may not \
                 read at which \
                 place; rows up to {before} have been transferred, and {may_lack}",
                log.now
            ))
            .state("source-unproven")
            .hint(format!(
                "GRANT EXECUTE ON FUNCTION pg_read_file(text, bigint, bigint, boolean) TO the user; or read it again \
                 and keep \
                 the target's rows: {}; or, where no transaction was lost: {}",
                self.command("resync", plan, ""),
                self.command("hand-over", plan, "")
            ))),
        }
    }

    fn check_same_order(&self, plan: &TablePlan, origin: &Origin) -> Result<()> {
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
                "continue {}: its cursor was ({}) and is ({}) now",
                self.name(plan),
                shown(&was),
                shown(&cursor)
            );
            return Err(self.with_resync_hint(plan, Error::setup(context).state("cursor-changed")));
        }
        let filter = plan.filter.clone().unwrap_or_default();
        if let Some(was) = origin.filter.as_ref().filter(|was| **was != filter) {
            let shown =
                |filter: &str| if filter.is_empty() { "all rows".to_owned() } else { format!("rows with {filter}") };
            let context = format!(
                "continue {}: the mapping selected {}, and selects {} now",
                self.name(plan),
                shown(was),
                shown(&filter)
            );
            return Err(self.with_resync_hint(plan, Error::setup(context).state("filter-changed")));
        }
        if plan.key != origin.key {
            let context = format!(
                "continue {}: its key was ({}) and is ({}) now",
                self.name(plan),
                origin.key.join(", "),
                plan.key.join(", ")
            );
            return Err(self.with_resync_hint(plan, Error::input(context).state("key-changed")));
        }
        Ok(())
    }

    /// The columns must be those of the target's rows, and of types whose values have the same form.
    pub(crate) fn check_same_columns(&self, plan: &TablePlan, origin: &Origin) -> Result<()> {
        let changed = |column: &PlanColumn, what: &str| {
            let context = format!("continue {}: column {:?} {what}", self.name(plan), column.name);
            Err(self.with_resync_hint(plan, Error::input(context).state("columns-changed")))
        };
        for column in &plan.columns {
            let Some(was) = origin.columns.iter().find(|was| was.target == column.name) else { continue };
            if was.absent {
                return changed(column, "was not transferred for a while, and rows of that time lack its values");
            }
            let Some(source) = &column.source else { continue };
            if origin.table == plan.source.oid && was.number != 0 && was.number != source.number {
                return changed(column, "was dropped and created again, and the target has values of the old one");
            }
            if !has_same_form(&was.type_name, &source.type_name) {
                let what = format!(
                    "was of type {} and is of type {} now: earlier rows would keep values of the old form",
                    was.type_name, source.type_name
                );
                return changed(column, &what);
            }
        }
        Ok(())
    }

    /// The source's key must still give the values that the target has in its key, by which rows are matched.
    fn check_same_key_values(&self, plan: &TablePlan, origin: &Origin) -> Result<()> {
        let form = |was: &&OriginColumn| {
            let now = plan.columns.iter().find(|column| column.name == was.target).and_then(|now| now.source.as_ref());
            now.is_some_and(|now| !has_same_form(&was.type_name, &now.type_name))
        };
        if let Some(was) = origin.columns.iter().filter(|was| origin.key.contains(&was.target)).find(form) {
            let context = format!(
                "continue {}: column {:?} of its key was of type {}, and values of its type now have another form",
                self.name(plan),
                was.target,
                was.type_name
            );
            return Err(Error::input(context).state("key-changed").hint(format!(
                "change the type back, or replace the target's rows: {}",
                self.command("run", plan, " --replace")
            )));
        }
        let changed = origin.changed_expressions(plan);
        let Some((column, earlier)) = changed.iter().find(|(column, _)| origin.key.contains(column)) else {
            return Ok(());
        };
        let context = format!(
            "continue {}: column {column:?} of its key was carried as {}, and its mapping gives other values now",
            self.name(plan),
            earlier.join(" and as ")
        );
        Err(Error::input(context).state("key-changed").hint(format!(
            "carry it as before, or replace the target's rows: {}",
            self.command("run", plan, " --replace")
        )))
    }

    /// Checks the order of the source's rows against the position, after both were read.
    ///
    /// # Errors
    /// In a named state with a hint, where the cursor's values have started again: rows below the position would never
    /// be read.
    pub fn check_order(&self, plan: &TablePlan, position: &Position, order: &OrderState) -> Result<()> {
        let table = self.name(plan);
        let column = plan.cursor.as_ref().and_then(|cursor| cursor.integer());
        let high = position.high.as_ref().and_then(|high| high.0.first()?.parse::<i64>().ok());
        let integers = column.zip(high);
        if let Some((column, high)) = integers
            && is_restarted(column_sequence(plan, &column.column), position.sequence, high)
        {
            let context = format!(
                "continue {table}: the sequence of {:?} was restarted below {high}, the greatest value transferred",
                column.column
            );
            return Err(self.with_resync_hint(plan, Error::input(context).state("restarted")));
        }
        if order.is_refilled {
            let by = plan.cursor.as_ref().map_or_else(String::new, |cursor| cursor.display());
            let context = format!(
                "continue {table}: it was emptied and filled again, or rewritten, since the last run, with values of \
                 {by} that \
                 were transferred before"
            );
            return Err(self.with_resync_hint(plan, Error::input(context).state("refilled")));
        }
        let Some((column, high)) = integers else { return Ok(()) };
        let is_proven = column_sequence(plan, &column.column).is_some_and(|last| last.is_some_and(|last| last >= high));
        if order.is_behind && !is_proven {
            let context = format!(
                "continue {table}: the greatest {:?} is below {high}, the greatest value transferred",
                column.column
            );
            return Err(self.with_resync_hint(plan, Error::input(context).state("cursor-behind")));
        }
        Ok(())
    }

    fn other_transfer_error(&self, plan: &TablePlan, transfer: &str) -> Error {
        let context = format!("carry {}: the transfer {transfer} carries {}", self.name(plan), plan.target);
        Error::setup(context).state("other-transfer").hint(format!(
            "exclude the table from {transfer}, then {}; or set into = \"...\" for one of them",
            self.command("hand-over", plan, "")
        ))
    }

    /// A resync would be useless: the next run would replace the rows that it keeps.
    fn useless_resync_error(&self, plan: &TablePlan) -> Error {
        let context = format!(
            "read {} again and keep the rows of {}: the transfer reads it whole each time, and its next run would \
             drop the rows \
             that the source no longer has",
            self.name(plan),
            plan.target
        );
        Error::setup(context).state("history-at-risk").hint(self.cursor_hint(plan))
    }

    fn cursor_lost_error(&self, plan: &TablePlan) -> Error {
        let context = format!("replace {}: it holds rows, and was read by a cursor that it no longer has", plan.target);
        Error::setup(context).state("history-at-risk").hint(self.cursor_hint(plan))
    }

    fn cursor_hint(&self, plan: &TablePlan) -> String {
        format!(
            "to keep the rows that the source no longer has: mode = \"incremental\" and [tables.{:?}] cursor = \
             \"...\" (\"xmin\" \
             works for any ordinary table), then {}; to drop them: {}",
            self.name(plan),
            self.command("resync", plan, ""),
            self.command("run", plan, " --replace")
        )
    }

    fn history_at_risk_error(&self, plan: &TablePlan, why: &str) -> Error {
        let context = format!("replace {}: it holds rows, and {why}", plan.target);
        Error::setup(context).state("history-at-risk").hint(format!(
            "to keep the rows that the source no longer has: {}; to drop them: {}",
            self.command("resync", plan, ""),
            self.command("run", plan, " --replace")
        ))
    }

    fn with_resync_hint(&self, plan: &TablePlan, error: Error) -> Error {
        let command = self.command("resync", plan, "");
        error.hint(format!(
            "{command} reads it again: the source's rows replace those of the same key, and rows that the source no \
             longer has are \
             kept"
        ))
    }

    fn name(&self, plan: &TablePlan) -> String {
        plan.source.display()
    }

    fn command(&self, verb: &str, plan: &TablePlan, options: &str) -> String {
        self.settings.command(verb, &plan.source.display(), options)
    }
}

/// Whether the target has lost all rows that were transferred: its table is empty. The cursor `xmin` has a position
/// also where there was no row.
fn was_emptied(plan: &TablePlan, checkpoint: &Checkpoint) -> bool {
    let by_transaction = plan.cursor.as_ref().is_some_and(|cursor| cursor.is_transaction());
    !by_transaction && checkpoint.position.as_ref().is_some_and(|position| position.high.is_some())
}

/// The order of a source's rows, compared with the position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OrderState {
    /// The greatest value of the cursor is below the position.
    pub is_behind: bool,
    /// There are rows at or below the position, and all of them were written since the last run.
    pub is_refilled: bool,
}

/// The last value of the sequence that gives a column its values; `Some(None)` where it was never used, and `None`
/// without an ascending sequence that the user may read.
pub fn column_sequence(plan: &TablePlan, column: &str) -> Option<Option<i64>> {
    let column = plan.source.columns.iter().find(|c| c.name == column)?;
    column.sequence.filter(|sequence| sequence.grows && sequence.readable).map(|sequence| sequence.last)
}

/// Whether the sequence was set back since the last run, below the greatest value transferred. A sequence that had not
/// been used at the last run proves nothing.
fn is_restarted(sequence: Option<Option<i64>>, before: Option<i64>, high: i64) -> bool {
    match (sequence, before) {
        (Some(last), Some(before)) => last.is_none_or(|last| last < before && last < high),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
