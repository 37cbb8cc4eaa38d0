//! A table of a stream whose target is a PostgreSQL: its changes that wait to be applied, and the statements for them.

use std::cell::RefCell;
use std::collections::HashMap;

use super::chunk::{TupleMapping, new_fields};
use super::mapping::{KnownColumns, is_described_by};
use super::pgoutput::{Field, Message, Relation, Tuple};
use super::projection::{Projector, RawTuples};
use super::status::ChangeCounts;
use crate::checkpoint::Origin;
use crate::destination::postgres::columns::{list, target};
use crate::error::{Error, Result};
use crate::lsn::Lsn;
use crate::plan::TablePlan;
use crate::postgres::{Parameter, quote};

/// A table of the stream.
pub struct TargetTable {
    /// The plan, by which the values are read.
    pub plan: TablePlan,
    /// What the target stores of the columns.
    pub origin: Origin,
    /// The columns by all names that they are known to have had.
    pub known: KnownColumns,
    /// Changes of transactions that were committed before this position are in the target.
    pub durable: Lsn,
    /// What was received and committed.
    pub counts: ChangeCounts,
    /// The description before changes that the target has: it is followed with the first other change.
    pub later: Option<Relation>,
    relation: Option<Relation>,
    mapping: Option<TupleMapping>,
    /// The names of the prepared statements.
    statements: RefCell<HashMap<Statement, String>>,
    rows: RawTuples,
    old: RawTuples,
    computed: Option<ComputedRows>,
}

/// A statement that is prepared for a table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Statement {
    /// Adds a row, in place of the one with its key.
    Insert,
    /// Updates the columns but these of one row.
    Update(Vec<usize>),
    /// Removes one row.
    Delete,
    /// Removes all rows.
    Truncate,
}

/// A change that waits to be applied.
pub struct WaitingChange {
    /// The OID of its table.
    pub table: u32,
    /// The size of its values.
    pub bytes: usize,
    kind: ChangeKind,
    new: Option<usize>,
    old: Option<usize>,
    /// The columns that an update did not change, and that the log does not have.
    unchanged: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChangeKind {
    Insert,
    Update,
    Delete,
    Truncate,
}

/// An execution of a statement.
pub struct Execution<'a> {
    /// The statement.
    pub statement: Statement,
    /// Its parameters.
    pub parameters: Vec<Parameter<'a>>,
    /// It must change a row: otherwise the target lacks one.
    pub must_match: bool,
}

/// Values that the source has computed.
struct ComputedRows {
    /// For each new row whether the filter selects it, and its columns.
    new: Vec<(bool, Vec<Option<Vec<u8>>>)>,
    /// For each old row the columns by which rows are matched.
    old: Vec<Vec<Option<Vec<u8>>>>,
}

impl TargetTable {
    /// A table that has the changes before `durable`.
    pub fn new(plan: TablePlan, origin: Origin, durable: Lsn) -> Self {
        let mut known = KnownColumns::default();
        known.add(&origin);
        TargetTable {
            plan,
            origin,
            known,
            durable,
            counts: ChangeCounts::default(),
            later: None,
            relation: None,
            mapping: None,
            statements: RefCell::default(),
            rows: RawTuples::default(),
            old: RawTuples::default(),
            computed: None,
        }
    }

    /// `schema.name` at the source.
    pub fn name(&self) -> String {
        self.plan.source.display()
    }

    /// Whether the description of the table is another one than before.
    pub fn has_changed(&self, relation: &Relation) -> bool {
        self.relation.as_ref() != Some(relation)
    }

    /// Whether the plan was made of another state of the table than this description.
    pub fn needs_plan(&self, relation: &Relation) -> bool {
        self.relation.is_some() || !is_described_by(&self.plan, relation)
    }

    /// Reads the table's changes by another description from now on. None may wait.
    pub fn describe(&mut self, relation: Relation, plan: TablePlan, mapping: TupleMapping, origin: Origin) {
        self.known.add(&origin);
        self.counts.ddls += u64::from(self.relation.is_some());
        (self.plan, self.origin) = (plan, origin);
        (self.relation, self.mapping) = (Some(relation), Some(mapping));
        // Their columns and types may have changed.
        self.statements.borrow_mut().clear();
    }

    /// Collects a change.
    pub fn collect(&mut self, oid: u32, message: &Message<'_>) -> Result<Option<WaitingChange>> {
        let name = self.name();
        let mapping = self
            .mapping
            .as_ref()
            .ok_or_else(|| Error::bug(format!("read the log: a change of {name} before its description")))?;
        let change = |kind, new, old, unchanged, bytes| WaitingChange { table: oid, bytes, kind, new, old, unchanged };
        let push_old = |old: &mut RawTuples, tuple: Tuple<'_>| -> Result<usize> {
            let fields: Vec<Field<'_>> = tuple.fields().collect();
            let mut inputs = mapping.matching.iter().flat_map(|column| &mapping.inputs[*column]);
            if mapping.is_keyed && inputs.any(|at| fields.get(*at) == Some(&Field::Null)) {
                let what = format!("apply a change of {name}: the log does not have the key of the old row");
                return Err(Error::input(what).state("value-missing"));
            }
            old.push(&fields);
            Ok(old.len() - 1)
        };
        Ok(Some(match message {
            Message::Insert { new, .. } => {
                self.counts.inserts += 1;
                self.rows.push(&new_fields(*new, None));
                change(ChangeKind::Insert, Some(self.rows.len() - 1), None, Vec::new(), new.bytes())
            }
            Message::Update { old, new, .. } => {
                self.counts.updates += 1;
                let fields = new_fields(*new, *old);
                let unchanged = mapping.unchanged(&name, &fields)?;
                let bytes = new.bytes() + old.map_or(0, |old| old.bytes());
                let old = old.map(|old| push_old(&mut self.old, old)).transpose()?;
                self.rows.push(&fields);
                change(ChangeKind::Update, Some(self.rows.len() - 1), old, unchanged, bytes)
            }
            Message::Delete { old, .. } => {
                self.counts.deletes += 1;
                let bytes = old.bytes();
                change(ChangeKind::Delete, None, Some(push_old(&mut self.old, *old)?), Vec::new(), bytes)
            }
            Message::Truncate(_) => {
                self.counts.truncates += 1;
                change(ChangeKind::Truncate, None, None, Vec::new(), 0)
            }
            _ => return Ok(None),
        }))
    }

    /// Computes the columns of the changes that wait, where the source has to do that.
    pub fn compute(&mut self, projector: &Projector) -> Result<()> {
        let Some(projection) = self.mapping.as_ref().and_then(|mapping| mapping.projection.clone()) else {
            return Ok(());
        };
        let owned = |values: &[Option<&[u8]>]| values.iter().map(|value| value.map(<[u8]>::to_vec)).collect();
        let (mut new, mut old) = (Vec::with_capacity(self.rows.len()), Vec::with_capacity(self.old.len()));
        let all: Vec<usize> = (0..projection.columns.len()).collect();
        projector.each_row(&projection, &self.rows, &all, projection.filter.as_deref(), |is_selected, values| {
            new.push((is_selected, owned(values)));
            Ok(())
        })?;
        projector.each_row(&projection, &self.old, &projection.matching, None, |_, values| {
            old.push(owned(values));
            Ok(())
        })?;
        self.computed = Some(ComputedRows { new, old });
        Ok(())
    }

    /// Forgets the values of changes that were applied.
    pub fn clear(&mut self) {
        (self.rows, self.old, self.computed) = (RawTuples::default(), RawTuples::default(), None);
    }

    /// The name of a prepared statement; with its SQL where it is not prepared yet.
    pub fn prepared(&self, statement: &Statement) -> Result<(String, Option<String>)> {
        let mut statements = self.statements.borrow_mut();
        if let Some(name) = statements.get(statement) {
            return Ok((name.clone(), None));
        }
        let name = format!("wattlake_{}_{}_{}", self.plan.source.oid, self.counts.ddls, statements.len());
        let sql = self.sql(statement)?;
        statements.insert(statement.clone(), name.clone());
        Ok((name, Some(sql)))
    }

    /// The executions that apply a change. With `keeps`, rows that the source deletes stay.
    pub fn executions(&self, change: &WaitingChange, keeps: bool) -> Result<Vec<Execution<'_>>> {
        let mapping = self.mapping()?;
        let execution = |statement, parameters| Execution { statement, parameters, must_match: false };
        let old = change.old.map(|at| self.old_key(at)).transpose()?;
        let Some(at) = change.new else {
            return Ok(match (change.kind, old) {
                _ if keeps => Vec::new(),
                (ChangeKind::Truncate, _) => vec![execution(Statement::Truncate, Vec::new())],
                (_, Some(old)) => vec![execution(Statement::Delete, old)],
                (_, None) => Vec::new(),
            });
        };
        let (is_selected, new) = self.new_row(at)?;
        let key_of_new: Vec<Parameter<'_>> = mapping.matching.iter().map(|column| new[*column]).collect();
        if change.kind == ChangeKind::Insert {
            return Ok(if is_selected { vec![execution(Statement::Insert, new)] } else { Vec::new() });
        }
        let is_same_key = mapping.is_keyed && old.as_ref().is_none_or(|old| *old == key_of_new);
        let before = old.unwrap_or_else(|| key_of_new.clone());
        if !is_selected {
            return Ok(vec![execution(Statement::Delete, before)]);
        }
        if mapping.is_keyed && change.unchanged.is_empty() {
            let insert = execution(Statement::Insert, new);
            return Ok(if is_same_key { vec![insert] } else { vec![execution(Statement::Delete, before), insert] });
        }
        let mut executions = Vec::new();
        if mapping.is_keyed && !is_same_key && keeps {
            executions.push(execution(Statement::Delete, key_of_new));
        }
        let changed = new.into_iter().enumerate().filter(|(column, _)| !change.unchanged.contains(column));
        let parameters = changed.map(|(_, value)| value).chain(before).collect();
        let statement = Statement::Update(change.unchanged.clone());
        executions.push(Execution { statement, parameters, must_match: true });
        Ok(executions)
    }

    fn mapping(&self) -> Result<&TupleMapping> {
        self.mapping.as_ref().ok_or_else(|| Error::bug(format!("apply changes of {}: no description", self.name())))
    }

    /// Whether the filter selects a new row, and its columns.
    fn new_row(&self, at: usize) -> Result<(bool, Vec<Parameter<'_>>)> {
        if let Some(computed) = &self.computed {
            let (is_selected, values) = computed.new.get(at).ok_or_else(|| self.malformed())?;
            return Ok((*is_selected, values.iter().map(binary).collect()));
        }
        let mapping = self.mapping()?;
        let fields = self.rows.fields(at, self.width()).ok_or_else(|| self.malformed())?;
        let value = |inputs: &Vec<usize>| fields.get(*inputs.first()?).map(|field| Parameter::from(*field));
        let values: Option<Vec<Parameter<'_>>> = mapping.inputs.iter().map(value).collect();
        Ok((true, values.ok_or_else(|| self.malformed())?))
    }

    /// The columns of an old row by which rows are matched.
    fn old_key(&self, at: usize) -> Result<Vec<Parameter<'_>>> {
        if let Some(computed) = &self.computed {
            return Ok(computed.old.get(at).ok_or_else(|| self.malformed())?.iter().map(binary).collect());
        }
        let mapping = self.mapping()?;
        let fields = self.old.fields(at, self.width()).ok_or_else(|| self.malformed())?;
        let value = |column: &usize| {
            let at = mapping.inputs[*column].first()?;
            fields.get(*at).map(|field| Parameter::from(*field))
        };
        let values: Option<Vec<Parameter<'_>>> = mapping.matching.iter().map(value).collect();
        values.ok_or_else(|| self.malformed())
    }

    fn width(&self) -> usize {
        self.relation.as_ref().map_or(0, |relation| relation.columns.len())
    }

    #[cold]
    fn malformed(&self) -> Error {
        Error::bug(format!("read the log: a row of {} does not fit its description", self.name()))
    }

    fn sql(&self, statement: &Statement) -> Result<String> {
        let mapping = self.mapping()?;
        let target = target(&self.plan);
        let type_of = |column: usize| {
            let name = &mapping.columns[column].0;
            self.plan.columns.iter().find(|planned| planned.name == *name).map_or("text", |planned| &planned.type_name)
        };
        let name = |column: usize| quote(&mapping.columns[column].0);
        // The parameter has the type of the source's column, so that its binary format is that of the log.
        let parameter = |number: usize, column: usize| format!("${number}::{}", type_of(column));
        let all = 0..mapping.columns.len();
        let row_of = |first: usize| -> String {
            let is_same = |(at, column): (usize, &usize)| match mapping.is_keyed {
                true => format!("{} = {}", name(*column), parameter(first + at, *column)),
                // As texts: some types have no equality, and equal values of others look different.
                false => {
                    format!("{}::text IS NOT DISTINCT FROM ({})::text", name(*column), parameter(first + at, *column))
                }
            };
            let same: Vec<String> = mapping.matching.iter().enumerate().map(is_same).collect();
            match mapping.is_keyed {
                true => same.join(" AND "),
                false => format!("ctid = (SELECT ctid FROM {target} WHERE {} LIMIT 1)", same.join(" AND ")),
            }
        };
        Ok(match statement {
            Statement::Insert => {
                let values: Vec<String> = all.clone().map(|column| parameter(column + 1, column)).collect();
                let names: Vec<String> = mapping.columns.iter().map(|(name, _)| name.clone()).collect();
                let insert = format!("INSERT INTO {target} ({}) VALUES ({})", list(&names), values.join(", "));
                let sets = all.filter(|column| !mapping.matching.contains(column));
                let sets: Vec<String> = sets.map(|column| format!("{0} = excluded.{0}", name(column))).collect();
                match (mapping.is_keyed, sets.is_empty()) {
                    (false, _) => insert,
                    (true, true) => format!("{insert} ON CONFLICT ({}) DO NOTHING", list(&self.plan.key)),
                    (true, false) => {
                        format!("{insert} ON CONFLICT ({}) DO UPDATE SET {}", list(&self.plan.key), sets.join(", "))
                    }
                }
            }
            Statement::Update(unchanged) => {
                let changed: Vec<usize> = all.filter(|column| !unchanged.contains(column)).collect();
                let set = |(at, column): (usize, &usize)| format!("{} = {}", name(*column), parameter(at + 1, *column));
                let sets: Vec<String> = changed.iter().enumerate().map(set).collect();
                format!("UPDATE {target} SET {} WHERE {}", sets.join(", "), row_of(changed.len() + 1))
            }
            Statement::Delete => format!("DELETE FROM {target} WHERE {}", row_of(1)),
            Statement::Truncate => format!("TRUNCATE {target}"),
        })
    }
}

fn binary(value: &Option<Vec<u8>>) -> Parameter<'_> {
    Parameter { is_binary: true, value: value.as_deref() }
}
