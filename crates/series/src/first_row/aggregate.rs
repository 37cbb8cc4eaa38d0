//! The aggregate `first_row`: the whole first row of each group by an order. `row_number() = 1` and DISTINCT ON become
//! it.
//!
//! Its arguments are the columns to keep, then the keys of the order; the result is a struct of the kept columns. It is
//! used by this crate's optimizer rules only, always with GROUP BY: queries can't name it.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StructArray, UInt32Array};
use datafusion::arrow::compute::{SortOptions, interleave, take};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::{internal_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, Expr, GroupsAccumulator, Signature, SortExpr, Volatility,
};

use super::keys::Keys;

/// Rows that were first once, and are no longer, are removed once there are so many more of them than first rows.
const STALE_ROWS: usize = 16_384;

#[derive(Debug, PartialEq, Eq, Hash)]
struct FirstRow {
    order: Vec<SortOptions>,
    signature: Signature,
}

/// The name of the field of the result for the kept column number `at`.
pub(super) fn field_name(at: usize) -> String {
    at.to_string()
}

/// The call of `first_row` that keeps `kept` and orders by `order`. The expressions in `groups` are left out of the
/// order, since they are the same for all rows of a group; DISTINCT ON repeats them in its ORDER BY.
pub(super) fn first_row(kept: Vec<Expr>, mut order: Vec<SortExpr>, groups: &[Expr]) -> Expr {
    if order.iter().any(|key| !groups.contains(&key.expr)) {
        order.retain(|key| !groups.contains(&key.expr));
    }
    let options = order.iter().map(|key| SortOptions { descending: !key.asc, nulls_first: key.nulls_first });
    let row = FirstRow { order: options.collect(), signature: Signature::user_defined(Volatility::Immutable) };
    let keys = order.iter().map(|key| key.expr.clone());
    AggregateUDF::from(row).call(kept.into_iter().chain(keys).collect())
}

impl AggregateUDFImpl for FirstRow {
    fn name(&self) -> &str {
        "first_row"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        Ok(given.to_vec())
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        let Some(kept) = given.len().checked_sub(self.order.len()) else {
            return plan_err!("first_row takes the columns to keep and {} keys", self.order.len());
        };
        let field = |(at, of): (usize, &DataType)| Field::new(field_name(at), of.clone(), true);
        Ok(DataType::Struct(given[..kept].iter().enumerate().map(field).collect()))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let name = |at: usize| format_state_name(args.name, &field_name(at));
        let field = |(at, of): (usize, &FieldRef)| Arc::new(Field::new(name(at), of.data_type().clone(), true));
        Ok(args.input_fields.iter().enumerate().map(field).collect())
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        internal_err!("first_row without GROUP BY: no rule makes one")
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let DataType::Struct(kept) = args.return_field.data_type() else {
            return internal_err!("first_row returns a struct");
        };
        let keys: Vec<DataType> = args.expr_fields[kept.len()..].iter().map(|f| f.data_type().clone()).collect();
        Ok(Box::new(FirstRows {
            kept: kept.clone(),
            keys: Keys::new(&keys, &self.order)?,
            chunks: Vec::new(),
            rows: 0,
            bytes: 0,
            places: Vec::new(),
        }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// The first row of each group. The rows are in chunks, one for each input batch that had new first rows.
struct FirstRows {
    kept: Fields,
    keys: Keys,
    /// The kept columns of each chunk, then its keys.
    chunks: Vec<Vec<ArrayRef>>,
    /// The rows of all chunks, those included that are no longer first.
    rows: usize,
    bytes: usize,
    /// For each group the chunk, and the row in it.
    places: Vec<(u32, u32)>,
}

/// The place of a group without a row.
const NOWHERE: (u32, u32) = (u32::MAX, 0);

impl FirstRows {
    fn take_in(&mut self, columns: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        let given = self.keys.of_batch(&columns[self.kept.len()..])?;
        self.keys.grow(total);
        self.places.resize(total, NOWHERE);
        let new = self.chunks.len() as u32;
        let mut changed: Vec<usize> = Vec::new();
        for (row, &group) in groups.iter().enumerate() {
            if self.keys.beats(&given, row, group) {
                if self.places[group].0 != new {
                    changed.push(group);
                }
                self.places[group] = (new, row as u32);
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        let rows: UInt32Array = changed.iter().map(|group| self.places[*group].1).collect();
        for (row, group) in changed.iter().enumerate() {
            self.places[*group].1 = row as u32;
        }
        let chunk = columns.iter().map(|column| Ok(compact(take(column, &rows, None)?)));
        self.hold(chunk.collect::<Result<_>>()?, changed.len());
        if self.rows > 2 * self.places.len() + STALE_ROWS {
            self.forget_stale()?;
        }
        Ok(())
    }

    fn hold(&mut self, chunk: Vec<ArrayRef>, rows: usize) {
        self.bytes += chunk.iter().map(|column| column.get_array_memory_size()).sum::<usize>();
        self.rows += rows;
        self.chunks.push(chunk);
    }

    fn forget_stale(&mut self) -> Result<()> {
        let places = self.places.clone();
        let chunk = self.gather(&places)?;
        (self.chunks, self.rows, self.bytes) = (Vec::new(), 0, 0);
        for (row, place) in self.places.iter_mut().enumerate() {
            *place = (0, row as u32);
        }
        self.hold(chunk, places.len());
        Ok(())
    }

    fn gather(&self, places: &[(u32, u32)]) -> Result<Vec<ArrayRef>> {
        let places: Vec<(usize, usize)> = places.iter().map(|(chunk, row)| (*chunk as usize, *row as usize)).collect();
        let columns = self.chunks.first().map_or(0, Vec::len);
        let gathered = (0..columns).map(|at| {
            let parts: Vec<&dyn Array> = self.chunks.iter().map(|chunk| chunk[at].as_ref()).collect();
            Ok(compact(interleave(&parts, &places)?))
        });
        gathered.collect()
    }

    fn emit(&mut self, emitted: EmitTo) -> Result<Vec<ArrayRef>> {
        let places = emitted.take_needed(&mut self.places);
        self.keys.remove(emitted);
        let columns = self.gather(&places)?;
        if self.places.is_empty() {
            (self.chunks, self.rows, self.bytes) = (Vec::new(), 0, 0);
        }
        Ok(columns)
    }
}

/// The column without unused buffers: otherwise a few texts would keep the texts of their whole batch in memory.
fn compact(column: ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Utf8View => Arc::new(column.as_string_view().gc()),
        DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
        _ => column,
    }
}

impl GroupsAccumulator for FirstRows {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        if filter.is_some() {
            return internal_err!("first_row with FILTER: no rule makes one");
        }
        self.take_in(values, groups, total)
    }

    fn evaluate(&mut self, emitted: EmitTo) -> Result<ArrayRef> {
        let mut columns = self.emit(emitted)?;
        columns.truncate(self.kept.len());
        Ok(Arc::new(StructArray::try_new(self.kept.clone(), columns, None)?))
    }

    fn state(&mut self, emitted: EmitTo) -> Result<Vec<ArrayRef>> {
        self.emit(emitted)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.take_in(values, groups, total)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        match filter {
            Some(_) => internal_err!("first_row with FILTER: no rule makes one"),
            None => Ok(values.to_vec()),
        }
    }

    fn size(&self) -> usize {
        self.bytes + self.keys.size() + self.places.capacity() * size_of::<(u32, u32)>()
    }
}
