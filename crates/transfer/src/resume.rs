//! Whether a transfer may go on with a table of its target, and how: by what the target keeps of the table's origin,
//! held against the source's catalogue. What can't go on is a named state with a hint; nothing is read before.

use std::collections::BTreeMap;

use crate::checkpoint::{Checkpoint, Origin, OriginColumn, Position};
use crate::error::{Error, Result};
use crate::plan::{Mode, Settings, TablePlan};
use crate::postgres::{Identity, TableKind, quote};
use crate::timeline::{Continuity, Log};

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
                (Some(checkpoint), Permission::File, Mode::Incremental) => {
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
            (Permission::Resync, ..) => self.merge(plan, origin),
            (Permission::Add, Mode::Initial, _) => Err(self.at_risk(plan, "INITIAL was asked for by hand")),
            (_, Mode::Initial, _) => Ok(Action::Replace),
            (_, Mode::Incremental, Some(_)) if has_position => self.increment(plan, checkpoint),
            // It was read whole each time until now: what it has stays from here on.
            (_, Mode::Incremental, Some(_)) => {
                origin.map_or(Ok(()), |origin| self.same_source(plan, origin))?;
                self.merge(plan, origin)
            }
            (_, Mode::Incremental, None) if has_position => {
                Err(self.at_risk(plan, "it was carried by a cursor, and has none now"))
            }
            (_, Mode::Incremental, None) => Ok(Action::Replace),
        }
    }

    fn increment(&self, plan: &TablePlan, checkpoint: &Checkpoint) -> Result<Action> {
        if let Some(origin) = &checkpoint.origin {
            self.same_source(plan, origin)?;
            self.same_order(plan, origin)?;
            self.same_key_values(plan, origin)?;
        }
        checkpoint.position.as_ref().map_or(Ok(()), |position| self.same_history(plan, position))?;
        Ok(checkpoint.position.clone().map_or(Action::Replace, Action::Increment))
    }

    fn merge(&self, plan: &TablePlan, origin: Option<&Origin>) -> Result<Action> {
        if plan.key.is_empty() {
            let context = format!("read {} again: it has no key by which its rows could be matched", self.name(plan));
            return Err(Error::setup(context).mend(format!(
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
            return Err(Error::setup(context).state("key-changed").mend(format!(
                "carry these columns, or replace what the target has: {}",
                self.command("run", plan, " --replace")
            )));
        }
        origin.map_or(Ok(()), |origin| self.same_key_values(plan, origin))?;
        Ok(Action::Merge(was.clone()))
    }

    fn same_source(&self, plan: &TablePlan, origin: &Origin) -> Result<()> {
        let table = &plan.source;
        if (origin.system, origin.database) != (self.identity.system, self.identity.database) {
            let context = format!(
                "go on with {}: it was filled from another database (system {}, database {}), and this is system {}, database {}",
                self.name(plan),
                origin.system,
                origin.database,
                self.identity.system,
                self.identity.database
            );
            return Err(Error::setup(context).state("other-source").mend(format!(
                "where the one is the other after an upgrade: {}; else {}",
                self.command("hand-over", plan, ""),
                self.command("resync", plan, "")
            )));
        }
        let has_own_identity = matches!(table.kind, TableKind::Table | TableKind::Partitioned);
        if has_own_identity && origin.table != table.oid {
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
            .mend("run it again when the standby has caught up, or carry from the primary")),
            Continuity::Cut(end) => Err(self.resync(
                plan,
                behind(format!(
                    "the source was restored or failed over at {end}, and rows up to {before} have been carried; {may_lack}"
                )),
            )),
            Continuity::Unknown => Err(behind(format!(
                "the source was restored or failed over (its log is at {}), and the user may not read at which place; rows up to \
                 {before} have been carried, and {may_lack}",
                log.now
            ))
            .mend(format!(
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
            let context = format!(
                "go on with {}: its cursor was ({}) and is ({}) now",
                self.name(plan),
                was.join(", "),
                cursor.join(", ")
            );
            return Err(self.resync(plan, Error::setup(context).state("cursor-changed")));
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

    /// Rows are matched by the values that the target has in its key.
    fn same_key_values(&self, plan: &TablePlan, origin: &Origin) -> Result<()> {
        let changed = changed_expressions(plan, origin);
        let Some((column, earlier)) = changed.iter().find(|(column, _)| origin.key.contains(column)) else {
            return Ok(());
        };
        let context = format!(
            "go on with {}: column {column:?} of its key was carried as {}, and its mapping gives other values now",
            self.name(plan),
            earlier.join(" and as ")
        );
        Err(Error::input(context).state("key-changed").mend(format!(
            "carry it as before, or replace what the target has: {}",
            self.command("run", plan, " --replace")
        )))
    }

    /// What the source's rows say of the position, once they can be seen.
    ///
    /// # Errors
    /// With a state, where the integers of the cursor have begun again: rows below the position would never come.
    pub fn order_holds(&self, plan: &TablePlan, position: &Position, seen: &OrderState) -> Result<()> {
        let Some(column) = plan.cursor.as_ref().and_then(|cursor| cursor.integer()) else { return Ok(()) };
        let Some(high) = position.high.as_ref().and_then(|high| high.0.first()?.parse::<i64>().ok()) else {
            return Ok(());
        };
        let table = self.name(plan);
        if restarted(column_sequence(plan, &column.column), position.sequence, high) {
            let context = format!(
                "go on with {table}: the sequence of {:?} was restarted below {high}, the greatest value carried",
                column.column
            );
            return Err(self.resync(plan, Error::input(context).state("restarted")));
        }
        let is_proven = column_sequence(plan, &column.column).is_some_and(|last| last.is_some_and(|last| last >= high));
        if seen.is_behind && !is_proven {
            let context = format!(
                "go on with {table}: the greatest {:?} is below {high}, the greatest value carried",
                column.column
            );
            return Err(self.resync(plan, Error::input(context).state("cursor-behind")));
        }
        if seen.is_refilled {
            let context = format!(
                "go on with {table}: it was emptied and filled again, or written anew, since the last run, with values of {:?} \
                 that were carried before",
                column.column
            );
            return Err(self.resync(plan, Error::input(context).state("refilled")));
        }
        Ok(())
    }

    fn of_another(&self, plan: &TablePlan, transfer: &str) -> Error {
        let context = format!("carry {}: the transfer {transfer} carries {}", self.name(plan), plan.target);
        Error::setup(context).state("other-transfer").mend(format!(
            "exclude the table from {transfer}, then {}; or set into = \"...\" for one of them",
            self.command("hand-over", plan, "")
        ))
    }

    fn at_risk(&self, plan: &TablePlan, why: &str) -> Error {
        let context = format!("replace {}: it holds rows, and {why}", plan.target);
        Error::setup(context).state("history-at-risk").mend(format!(
            "to keep the rows that the source no longer has: {}; to drop them: {}",
            self.command("resync", plan, ""),
            self.command("run", plan, " --replace")
        ))
    }

    fn resync(&self, plan: &TablePlan, error: Error) -> Error {
        let command = self.command("resync", plan, "");
        error.mend(format!(
            "{command} reads it again and keeps what the target has: rows of the source win by key, rows gone from the source stay"
        ))
    }

    fn name(&self, plan: &TablePlan) -> String {
        plan.source.display()
    }

    fn command(&self, verb: &str, plan: &TablePlan, options: &str) -> String {
        format!("wattlake transfer {verb} {} --table {}{options}", self.settings.name, plan.source.display())
    }
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

/// Relations that were truncated or written anew since the last run, where no change of a column's type explains it: one
/// that was added seldom does.
pub fn rewritten(plan: &TablePlan, origin: &Origin) -> Vec<u32> {
    let known: BTreeMap<i16, &str> = origin.columns.iter().map(|c| (c.number, c.type_name.as_str())).collect();
    let columns = plan.columns.iter().filter_map(|column| column.source.as_ref());
    if columns.into_iter().any(|column| known.get(&column.number).is_some_and(|was| *was != column.type_name)) {
        return Vec::new();
    }
    let leaves = plan.source.leaves.iter();
    leaves
        .filter(|leaf| origin.file_node(leaf.oid).is_some_and(|node| node != leaf.file_node))
        .map(|leaf| leaf.oid)
        .collect()
}

/// Columns that rows of the target may have by another expression than the plan's: their names, and those expressions.
pub fn changed_expressions(plan: &TablePlan, origin: &Origin) -> Vec<(String, Vec<String>)> {
    let mut changed = Vec::new();
    for column in &plan.columns {
        let Some(was) = origin.columns.iter().find(|was| was.target == column.name) else { continue };
        // A column that was renamed has another expression, and the same values.
        let renamed = |expression: &String| match &column.source {
            Some(now) if now.number == was.number => expression.replace(&quote(&was.name), &quote(&now.name)),
            _ => expression.clone(),
        };
        let all = was.earlier.iter().chain([&was.expression]).map(renamed);
        let earlier: Vec<String> = all.filter(|earlier| *earlier != column.expression).collect();
        if !earlier.is_empty() {
            changed.push((column.name.clone(), earlier));
        }
    }
    changed
}

/// Lets columns that were renamed at the source keep their names in the target, followed by their numbers.
///
/// # Errors
/// Where another column of the source now has the name that a renamed one has in the target.
pub fn keep_names(plan: &mut TablePlan, origin: &Origin) -> Result<()> {
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for column in &plan.columns {
        let Some(source) = &column.source else { continue };
        let was = origin.columns.iter().find(|was| was.number == source.number && origin.table == plan.source.oid);
        // Renamed at the source, now or before. Where neither is so, the mapping gives it another name.
        let follows = |was: &OriginColumn| was.planned == column.name || was.name != source.name;
        if let Some(was) = was.filter(|was| follows(was) && was.target != column.name) {
            names.insert(column.name.clone(), was.target.clone());
        }
    }
    if names.is_empty() {
        return Ok(());
    }
    for column in &plan.columns {
        if !names.contains_key(&column.name)
            && let Some((now, _)) = names.iter().find(|(_, was)| **was == column.name)
        {
            let context = format!(
                "carry {}: column {:?} was renamed to {now:?}, and another column is called {:?} now",
                plan.source.display(),
                column.name,
                column.name
            );
            return Err(Error::input(context)
                .state("columns-changed")
                .mend("give the new column another name with a table mapping, or replace what the target has"));
        }
    }
    let keep = |name: &mut String| {
        if let Some(was) = names.get(name) {
            name.clone_from(was);
        }
    };
    for column in &mut plan.columns {
        let planned = column.name.clone();
        keep(&mut column.name);
        if let Some(source) = column.source.as_mut().filter(|_| planned != column.name) {
            source.planned = Some(planned);
        }
    }
    plan.key.iter_mut().for_each(keep);
    plan.cursor.iter_mut().flat_map(|cursor| &mut cursor.columns).for_each(|column| keep(&mut column.name));
    Ok(())
}

#[cfg(test)]
mod tests;
