//! How the values of a table's tuples in the log become its columns in the lake.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::chunk::TupleMapping;
use super::pgoutput::{Relation, RelationColumn};
use super::projection::{Input, Projection};
use crate::checkpoint::Origin;
use crate::error::{Error, Result};
use crate::plan::{PlanColumn, TablePlan};
use crate::postgres::{Column, quote};

/// The mapping of a table's tuples. `has_binary` is false where the server sends texts. `known` has the columns that
/// were transferred: the log may have an earlier name of a column than the catalogue, and may lack those that were added
/// since. Columns without a value are left out.
///
/// # Errors
/// Where a column of the lake is in the catalogue, and the log does not have it by any known name.
pub fn tuple_mapping(
    plan: &TablePlan,
    known: &KnownColumns,
    relation: &Relation,
    has_binary: bool,
) -> Result<TupleMapping> {
    let places = places(plan, known, relation)?;
    let place_of = |name: &str| {
        let listed = plan.source.columns.iter().position(|column| column.name == name)?;
        places.iter().position(|place| *place == Some(listed))
    };
    let (mut planned, mut inputs) = (Vec::new(), Vec::new());
    for column in &plan.columns {
        let from: Option<Vec<usize>> = match &column.source {
            Some(source) if !is_generated(plan, &source.name) => match place_of(&source.name) {
                Some(at) => Some(vec![at]),
                None if !known.has(source.number) => None,
                None => return Err(missing(plan, &source.name)),
            },
            // An expression names its columns.
            _ => Some((0..places.len()).filter(|at| is_named(plan, column, places[*at])).collect()),
        };
        if let Some(from) = from {
            planned.push(column);
            inputs.push(from);
        }
    }
    let is_same = |at: usize, name: &str| {
        places[at].is_some_and(|known| {
            plan.source.columns[known].name == name && has_same_type(&plan.source.columns[known], &relation.columns[at])
        })
    };
    let is_carried = |(column, inputs): (&&PlanColumn, &Vec<usize>)| match (&column.source, inputs.as_slice()) {
        (Some(source), [at]) => {
            column.expression == quote(&source.name) && !is_generated(plan, &source.name) && is_same(*at, &source.name)
        }
        _ => false,
    };
    let is_direct = has_binary && plan.filter.is_none() && planned.iter().zip(&inputs).all(is_carried);
    let matching: Vec<usize> = match plan.key.is_empty() {
        true => (0..planned.len()).collect(),
        false => plan.key.iter().filter_map(|key| planned.iter().position(|column| column.name == *key)).collect(),
    };
    if matching.len() < plan.key.len() {
        return Err(missing(plan, &plan.key.join(", ")));
    }
    check_identity(plan, relation, &matching, &inputs)?;
    let projection = match is_direct {
        true => None,
        false => Some(Arc::new(projection(plan, relation, &places, &planned, &matching))),
    };
    let columns = planned.iter().map(|column| (column.name.clone(), column.kind.clone())).collect();
    Ok(TupleMapping { columns, inputs, matching, is_keyed: !plan.key.is_empty(), projection })
}

/// The columns of a table that were transferred, by all names that they are known to have had.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownColumns(BTreeMap<String, i16>);

impl KnownColumns {
    /// Adds the names in an origin.
    pub fn add(&mut self, origin: &Origin) {
        let columns = origin.columns.iter().filter(|column| column.number != 0);
        self.0.extend(columns.map(|column| (column.name.clone(), column.number)));
    }

    fn has(&self, number: i16) -> bool {
        self.0.values().any(|known| *known == number)
    }
}

/// For each column of the log its place in the catalogue: by its name, by a name that it had when it was transferred,
/// or by its place among its neighbours, since both are in the order of the columns' numbers. `None` where it was
/// dropped since.
///
/// # Errors
/// Where a column may have been dropped or renamed.
fn places(plan: &TablePlan, known: &KnownColumns, relation: &Relation) -> Result<Vec<Option<usize>>> {
    let columns = &plan.source.columns;
    let by_name = |column: &RelationColumn| columns.iter().position(|c| c.name == column.name);
    let by_number = |column: &RelationColumn| {
        let number = known.0.get(&column.name)?;
        columns.iter().position(|c| c.number == *number)
    };
    let by = |first: &dyn Fn(&RelationColumn) -> Option<usize>, then: &dyn Fn(&RelationColumn) -> Option<usize>| {
        relation.columns.iter().map(|column| first(column).or_else(|| then(column))).collect::<Vec<_>>()
    };
    // Another column may have the name now that a column had when the log was written.
    let is_ordered = |places: &Vec<Option<usize>>| {
        let numbers: Vec<i16> = places.iter().flatten().map(|place| columns[*place].number).collect();
        numbers.is_sorted_by(|a, b| a < b)
    };
    let mut places = by(&by_name, &by_number);
    if !is_ordered(&places) {
        places = by(&by_number, &by_name);
    }
    if !is_ordered(&places) {
        let first = relation.columns.first().map_or("", |column| column.name.as_str());
        return Err(missing(plan, first));
    }
    let taken = places.clone();
    for at in (0..places.len()).filter(|at| taken[*at].is_none()) {
        let number = |place: &Option<usize>| place.map(|place| columns[place].number);
        let least = taken[..at].iter().rev().find_map(number).unwrap_or(0);
        let greatest = taken[at..].iter().find_map(number).unwrap_or(i16::MAX);
        let is_candidate = |place: &usize| {
            let column: &Column = &columns[*place];
            column.number > least
                && column.number < greatest
                && column.generated.is_none()
                && has_same_type(column, &relation.columns[at])
                && !taken.contains(&Some(*place))
        };
        let mut candidates = (0..columns.len()).filter(is_candidate);
        match (candidates.next(), candidates.next()) {
            (None, _) => {}
            // Between two columns that are there, a column is never added.
            (Some(only), None) if greatest < i16::MAX && known.has(columns[only].number) => places[at] = Some(only),
            _ => return Err(missing(plan, &relation.columns[at].name)),
        }
    }
    Ok(places)
}

fn is_named(plan: &TablePlan, column: &PlanColumn, place: Option<usize>) -> bool {
    let Some(name) = place.map(|place| plan.source.columns[place].name.as_str()) else { return false };
    let generated = column
        .source
        .as_ref()
        .and_then(|source| plan.source.columns.iter().find(|known| known.name == source.name)?.generated.as_deref());
    names(generated.unwrap_or(&column.expression), name)
}

/// Whether an expression names a column.
fn names(expression: &str, column: &str) -> bool {
    expression.contains(column) || expression.contains(&quote(column))
}

/// The log must have the key of old rows: the identity may have been another one when the row was written.
fn check_identity(plan: &TablePlan, relation: &Relation, matching: &[usize], inputs: &[Vec<usize>]) -> Result<()> {
    let has_flags = relation.columns.iter().any(|column| column.is_identity);
    // The description of a partitioned table may have no identity: that of the partitions counts.
    if relation.identity == b'f' || plan.key.is_empty() || !has_flags {
        return Ok(());
    }
    let is_in_log = |at: &usize| inputs[*at].iter().all(|input| relation.columns[*input].is_identity);
    match matching.iter().find(|at| !is_in_log(at)) {
        None => Ok(()),
        Some(_) => {
            let what = format!(
                "stream changes of {}: its replica identity was another one than ({})",
                plan.source.display(),
                plan.key.join(", ")
            );
            Err(Error::input(what).state("columns-changed").hint(plan.resync_command.clone()))
        }
    }
}

fn has_same_type(known: &Column, column: &RelationColumn) -> bool {
    (known.type_oid, known.modifier) == (column.type_oid, column.modifier)
}

/// Whether the log describes a table as the plan has it.
pub fn is_described_by(plan: &TablePlan, relation: &Relation) -> bool {
    let published = plan.source.columns.iter().filter(|known| known.generated.is_none());
    let has_all = relation
        .columns
        .iter()
        .zip(published.clone())
        .all(|(column, known)| known.name == column.name && has_same_type(known, column));
    has_all && published.count() == relation.columns.len()
}

fn is_generated(plan: &TablePlan, name: &str) -> bool {
    plan.source.columns.iter().any(|column| column.name == name && column.generated.is_some())
}

fn projection(
    plan: &TablePlan,
    relation: &Relation,
    places: &[Option<usize>],
    planned: &[&PlanColumn],
    matching: &[usize],
) -> Projection {
    let input = |(column, place): (&RelationColumn, &Option<usize>)| match place.map(|at| &plan.source.columns[at]) {
        Some(known) if has_same_type(known, column) => (known.name.clone(), Input::Type(known.input_type.clone())),
        // The type was changed since: the value is cast as the server has cast it.
        Some(known) => {
            let type_name = known.input_type.clone();
            (known.name.clone(), Input::Changed { from: column.type_oid, modifier: column.modifier, to: type_name })
        }
        // A column that was dropped since.
        None => (column.name.clone(), Input::Dropped),
    };
    // The log has no values of generated columns: their expression takes their place, with the column's type.
    let computed = |expression: &str| {
        plan.source.columns.iter().fold(expression.to_owned(), |expression, generated| match &generated.generated {
            Some(by) => expression.replace(&quote(&generated.name), &format!("(({by})::{})", generated.type_name)),
            None => expression,
        })
    };
    let expression = |column: &&PlanColumn| (column.name.clone(), column.kind.clone(), computed(&column.expression));
    let filter = plan.filter.as_deref().map(computed);
    let is_filtered_by = |at: &usize| {
        let name = places[*at].map(|place| plan.source.columns[place].name.as_str());
        name.zip(filter.as_deref()).is_some_and(|(name, filter)| names(filter, name))
    };
    Projection {
        table: plan.source.display(),
        inputs: relation.columns.iter().zip(places).map(input).collect(),
        columns: planned.iter().map(expression).collect(),
        filter_inputs: (0..places.len()).filter(is_filtered_by).collect(),
        filter,
        matching: matching.to_vec(),
    }
}

fn missing(plan: &TablePlan, column: &str) -> Error {
    let table = plan.source.display();
    let what = format!(
        "stream changes of {table}: its columns were changed, and column {column:?} can't be told from another one"
    );
    Error::input(what).state("columns-changed").hint(plan.resync_command.clone())
}
