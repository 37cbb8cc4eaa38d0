use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Int64Type};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

fn batch(rows: &[(i64, String)]) -> RecordBatch {
    let schema = Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("v", DataType::Utf8, true)]);
    let ids = Int64Array::from_iter_values(rows.iter().map(|(id, _)| *id));
    let values = StringArray::from_iter_values(rows.iter().map(|(_, v)| v));
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(ids), Arc::new(values)]).unwrap()
}

fn rows_of(batch: &RecordBatch) -> Vec<(i64, String)> {
    let (ids, values) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_string::<i32>());
    (0..batch.num_rows()).map(|at| (ids.value(at), values.value(at).to_owned())).collect()
}

/// Random operations on a table, applied one by one and as a chunk.
struct Model {
    random: StdRng,
    is_unique: bool,
    /// The rows after all operations.
    now: Vec<(i64, String)>,
    operations: Vec<Operation>,
    new: Vec<(i64, String)>,
    old: Vec<(i64, String)>,
    /// The rows that were deleted last, where no other row has their key.
    deleted: BTreeMap<i64, String>,
}

impl Model {
    fn new(random: StdRng, is_unique: bool, now: Vec<(i64, String)>) -> Model {
        let (operations, new, old, deleted) = (Vec::new(), Vec::new(), Vec::new(), BTreeMap::new());
        Model { random, is_unique, now, operations, new, old, deleted }
    }

    fn pick(&mut self) -> Option<usize> {
        (!self.now.is_empty()).then(|| self.random.random_range(0..self.now.len()))
    }

    fn step(&mut self) {
        let value = format!("v{}", self.random.random_range(0..3));
        let free = |now: &[(i64, String)], id: i64| !now.iter().any(|(other, _)| *other == id);
        match self.random.random_range(0..20) {
            0 => {
                self.now.clear();
                self.operations.push(Operation::Truncate);
            }
            1..8 => {
                let id = self.random.random_range(0..20);
                if !self.is_unique || free(&self.now, id) {
                    self.deleted.remove(&id);
                    self.now.push((id, value.clone()));
                    self.new.push((id, value));
                    self.operations.push(Operation::Insert);
                }
            }
            8..12 => {
                let Some(at) = self.pick() else { return };
                if self.is_unique {
                    self.now[at].1.clone_from(&value);
                    self.new.push(self.now[at].clone());
                    self.operations.push(Operation::Update);
                }
            }
            12..16 => {
                let Some(at) = self.pick() else { return };
                let id = self.random.random_range(0..20);
                if !self.is_unique || free(&self.now, id) || self.now[at].0 == id {
                    self.deleted.remove(&id);
                    let old = std::mem::replace(&mut self.now[at], (id, value));
                    self.old.push(old);
                    self.new.push(self.now[at].clone());
                    self.operations.push(Operation::UpdateKey);
                }
            }
            _ => {
                let Some(at) = self.pick() else { return };
                let old = self.now.swap_remove(at);
                self.deleted.insert(old.0, old.1.clone());
                self.old.push(old);
                self.operations.push(Operation::Delete);
            }
        }
    }
}

/// What a table of these rows has after the chunk.
fn applied(before: &[(i64, String)], chunk: &Chunk, matching: &Matching) -> Vec<(i64, String)> {
    let net = net_effect(chunk, matching).unwrap();
    let mut rows = if net.truncated_at.is_some() { Vec::new() } else { before.to_vec() };
    for at in 0..net.removed.num_rows() {
        let mut left = net.counts[at];
        let id = net.removed.column(0).as_primitive::<Int64Type>().value(at);
        let value = net.removed.column_by_name("v").map(|column| column.as_string::<i32>().value(at).to_owned());
        rows.retain(|row| {
            let is_it = left > 0 && row.0 == id && value.as_ref().is_none_or(|value| row.1 == *value);
            left -= u32::from(is_it);
            !is_it
        });
    }
    let new = rows_of(&chunk.rows);
    rows.extend(net.kept.values().iter().map(|at| new[*at as usize].clone()));
    rows.sort();
    rows
}

fn compare(seed: u64, is_unique: bool, looks_up_inserts: bool) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut before: Vec<(i64, String)> = Vec::new();
    for id in 0..20 {
        for _ in 0..random.random_range(0..if is_unique { 2 } else { 3 }) {
            before.push((id, format!("v{}", random.random_range(0..3))));
        }
    }
    let mut model = Model::new(random, is_unique, before.clone());
    for _ in 0..40 {
        model.step();
    }
    let columns: Vec<String> = if is_unique { vec!["id".into()] } else { vec!["id".into(), "v".into()] };
    let matching = Matching { columns, is_unique, deletes: Deletes::Apply, looks_up_inserts };
    let chunk = Chunk {
        operations: model.operations,
        rows: batch(&model.new),
        old: batch(&model.old),
        unchanged: Vec::new(),
        selected: None,
        parts: Vec::new(),
    };
    model.now.sort();
    assert_eq!(applied(&before, &chunk, &matching), model.now, "seed {seed}, unique {is_unique}");
}

#[test]
fn a_chunk_comes_to_what_its_operations_come_to() {
    for seed in 0..2_000 {
        compare(seed, true, false);
        compare(seed, true, true);
        compare(seed, false, false);
    }
}

#[test]
fn deleted_rows_are_marked() {
    for seed in 0..2_000 {
        let mut random = StdRng::seed_from_u64(seed);
        let rows: Vec<(i64, String)> =
            (0..20).filter(|_| random.random_bool(0.5)).map(|id| (id, "v0".into())).collect();
        // Some of the keys that the source does not have are those of rows that are marked already.
        let marked = |id: &i64| !rows.iter().any(|row| row.0 == *id);
        let marked: BTreeMap<i64, String> = (0..20).filter(marked).map(|id| (id, "v1".to_owned())).collect();
        let mut model = Model { deleted: marked.clone(), ..Model::new(random, true, rows.clone()) };
        for _ in 0..40 {
            model.step();
            if model.operations.last() == Some(&Operation::Truncate) {
                // A chunk in which rows are marked has it at its beginning only.
                model = Model { deleted: marked.clone(), ..Model::new(model.random, true, rows.clone()) };
            }
        }
        let matching =
            Matching { columns: vec!["id".into()], is_unique: true, deletes: Deletes::Mark, looks_up_inserts: true };
        let chunk = Chunk {
            operations: model.operations,
            rows: batch(&model.new),
            old: batch(&model.old),
            unchanged: Vec::new(),
            selected: None,
            parts: Vec::new(),
        };
        let net = net_effect(&chunk, &matching).unwrap();
        let ids = net.removed.column(0).as_primitive::<Int64Type>().values();
        let mut now: Vec<(i64, String)> = rows.iter().filter(|row| !ids.contains(&row.0)).cloned().collect();
        let mut deleted: BTreeMap<i64, String> = marked.into_iter().filter(|row| !ids.contains(&row.0)).collect();
        let (new, is_deleted) = (rows_of(&chunk.rows), |at| net.deleted.iter().any(|(base, _)| *base == Base::Row(at)));
        for at in net.kept.values() {
            let row = new[*at as usize].clone();
            if is_deleted(*at) { drop(deleted.insert(row.0, row.1)) } else { now.push(row) }
        }
        for (base, _) in &net.deleted {
            if let Base::Before(index) = base
                && let Some(row) = rows.iter().find(|row| row.0 == ids[*index as usize])
            {
                deleted.insert(row.0, row.1.clone());
            }
        }
        now.sort();
        model.now.sort();
        assert_eq!((now, deleted), (model.now, model.deleted), "seed {seed}");
    }
}

#[test]
fn rows_that_are_not_selected_are_removed_and_not_added() {
    let matching =
        Matching { columns: vec!["id".into()], is_unique: true, deletes: Deletes::Apply, looks_up_inserts: false };
    let new: Vec<(i64, String)> = [1, 2, 3].map(|id| (id, "new".to_owned())).to_vec();
    let chunk = Chunk {
        operations: vec![Operation::Insert, Operation::Update, Operation::Update],
        rows: batch(&new),
        old: batch(&[]),
        unchanged: Vec::new(),
        selected: Some(vec![false, false, true]),
        parts: Vec::new(),
    };
    let before = [(2, "old".to_owned()), (3, "old".to_owned())];
    assert_eq!(applied(&before, &chunk, &matching), [(3, "new".to_owned())]);
}

#[test]
fn unchanged_values_come_from_the_row_before() {
    let matching =
        Matching { columns: vec!["id".into()], is_unique: true, deletes: Deletes::Apply, looks_up_inserts: false };
    let new: Vec<(i64, String)> = [7, 7, 8].map(|id| (id, String::new())).to_vec();
    let chunk = Chunk {
        operations: vec![Operation::Update, Operation::Update, Operation::Update],
        rows: batch(&new),
        old: batch(&[]),
        unchanged: vec![(0, 1), (1, 1), (2, 1)],
        selected: None,
        parts: Vec::new(),
    };
    let net = net_effect(&chunk, &matching).unwrap();
    assert_eq!(net.kept.values(), &[1, 2]);
    assert_eq!(net.bases.get(&1), Some(&Base::Row(0)));
    assert_eq!((net.bases.get(&0), net.bases.get(&2)), (Some(&Base::Before(0)), Some(&Base::Before(1))));
    assert_eq!(net.removed.column(0).as_primitive::<Int64Type>().values(), &[7, 8]);
    assert_eq!(net.removed.column(0).len(), 2);
}
