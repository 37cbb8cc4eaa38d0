//! `percentile_cont`, `percentile_disc` and `mode`, each `WITHIN GROUP (ORDER BY x)`.
//!
//! The engine lacks the last two, and its `percentile_cont` interpolates with a precision of six digits.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, new_empty_array};
use datafusion::arrow::compute::{SortOptions, cast, concat, sort};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Schema};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::functions_aggregate::percentile_cont::percentile_cont_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Signature, Volatility};
use datafusion::scalar::ScalarValue;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// `percentile_cont`, which interpolates between two values.
    Continuous,
    /// `percentile_disc`, which returns one of the values.
    Discrete,
    /// `mode`, the most frequent value; of several, the first in the order.
    Mode,
}

/// `percentile_cont`, with its aliases, `percentile_disc` and `mode`.
pub(super) fn functions() -> Vec<AggregateUDF> {
    // Under its alias, a session that is made from another would register the engine's own again.
    let aliases = percentile_cont_udaf().aliases().to_vec();
    [(Kind::Continuous, aliases), (Kind::Discrete, Vec::new()), (Kind::Mode, Vec::new())]
        .map(|(kind, aliases)| {
            AggregateUDF::from(OrderedSet { kind, signature: Signature::user_defined(Volatility::Immutable), aliases })
        })
        .into()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OrderedSet {
    kind: Kind,
    signature: Signature,
    aliases: Vec<String>,
}

fn list_of(data_type: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(data_type, true)))
}

impl AggregateUDFImpl for OrderedSet {
    fn name(&self) -> &str {
        match self.kind {
            Kind::Continuous => "percentile_cont",
            Kind::Discrete => "percentile_disc",
            Kind::Mode => "mode",
        }
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.name();
        let value = |value: &DataType| match self.kind {
            Kind::Continuous if value.is_numeric() || value.is_null() => Ok(DataType::Float64),
            Kind::Continuous => plan_err!("{name} needs numbers, not {value}"),
            Kind::Discrete | Kind::Mode => Ok(value.clone()),
        };
        match (self.kind, given) {
            (Kind::Mode, [only]) => Ok(vec![value(only)?]),
            (Kind::Continuous | Kind::Discrete, [first, DataType::List(_) | DataType::LargeList(_)]) => {
                Ok(vec![value(first)?, list_of(DataType::Float64)])
            }
            (Kind::Continuous | Kind::Discrete, [first, fraction]) if fraction.is_numeric() => {
                Ok(vec![value(first)?, DataType::Float64])
            }
            (Kind::Mode, _) => plan_err!("mode has no argument: mode() WITHIN GROUP (ORDER BY x)"),
            _ => plan_err!("{name} needs a fraction: {name}(0.5) WITHIN GROUP (ORDER BY x)"),
        }
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        Ok(match given.get(1) {
            Some(DataType::List(_)) => list_of(given[0].clone()),
            _ => given[0].clone(),
        })
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let options = args.order_bys.first().map_or_else(SortOptions::default, |order| order.options);
        let result = match self.kind {
            Kind::Mode => SetResult::Mode,
            kind => {
                let given = constant(&args)?;
                let (fractions, is_list) = fractions(&given)?;
                SetResult::Percentiles { fractions, is_list, is_continuous: kind == Kind::Continuous }
            }
        };
        let values = new_empty_array(args.expr_fields[0].data_type());
        let is_descending = options.descending;
        Ok(Box::new(SetAccumulator { values: vec![values], bytes: 0, result, is_descending }))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let values = list_of(args.input_fields[0].data_type().clone());
        Ok(vec![Arc::new(Field::new(format!("{}[values]", args.name), values, true))])
    }

    fn supports_within_group_clause(&self) -> bool {
        true
    }
}

/// The value of the second argument.
///
/// # Errors
/// If it is not a constant.
fn constant(args: &AccumulatorArgs<'_>) -> Result<ArrayRef> {
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)?;
    match args.exprs[1].evaluate(&row) {
        Ok(ColumnarValue::Scalar(value)) => value.to_array(),
        Ok(ColumnarValue::Array(array)) => Ok(array),
        Err(_) => plan_err!("the fraction of a percentile must be a constant"),
    }
}

fn fractions(given: &ArrayRef) -> Result<(Vec<Option<f64>>, bool)> {
    let (values, is_list) = match given.as_list_opt::<i32>() {
        Some(lists) => (lists.value(0), true),
        None => (Arc::clone(given), false),
    };
    let values = cast(&values, &DataType::Float64)?;
    let fractions: Vec<Option<f64>> = values.as_primitive::<Float64Type>().iter().collect();
    if let Some(wrong) = fractions.iter().flatten().find(|value| !(0.0..=1.0).contains(*value)) {
        return exec_err!("percentile value {wrong} is not between 0 and 1");
    }
    Ok((fractions, is_list))
}

#[derive(Debug)]
enum SetResult {
    Percentiles { fractions: Vec<Option<f64>>, is_list: bool, is_continuous: bool },
    Mode,
}

/// Collects all values, since any of them may be the result.
#[derive(Debug)]
struct SetAccumulator {
    values: Vec<ArrayRef>,
    bytes: usize,
    result: SetResult,
    is_descending: bool,
}

impl SetAccumulator {
    fn push(&mut self, values: ArrayRef) {
        self.bytes += values.get_array_memory_size();
        self.values.push(values);
    }

    /// All values that are not NULL, as one array.
    fn all(&mut self) -> Result<ArrayRef> {
        if self.values.len() > 1 {
            let parts: Vec<&dyn Array> = self.values.iter().map(AsRef::as_ref).collect();
            self.values = vec![concat(&parts)?];
            self.bytes = self.values[0].get_array_memory_size();
        }
        Ok(Arc::clone(&self.values[0]))
    }
}

impl Accumulator for SetAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let column = &values[0];
        let known = match column.logical_null_count() {
            0 => Arc::clone(column),
            _ => datafusion::arrow::compute::filter(column, &datafusion::arrow::compute::is_not_null(column)?)?,
        };
        if !known.is_empty() {
            // A copy, since a slice would keep the whole batch in memory.
            self.push(concat(&[known.as_ref()])?);
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let all = self.all()?;
        let options = SortOptions { descending: self.is_descending, nulls_first: false };
        let sorted = sort(&all, Some(options))?;
        match &self.result {
            SetResult::Mode => mode(&sorted),
            SetResult::Percentiles { fractions, is_list: false, is_continuous } => {
                at_fraction(&sorted, fractions.first().copied().flatten(), *is_continuous)
            }
            SetResult::Percentiles { is_list: true, .. } if sorted.is_empty() => {
                ScalarValue::try_from(&list_of(sorted.data_type().clone()))
            }
            SetResult::Percentiles { fractions, is_continuous, .. } => {
                let values = fractions.iter().map(|fraction| at_fraction(&sorted, *fraction, *is_continuous));
                let values = ScalarValue::iter_to_array(values.collect::<Result<Vec<_>>>()?)?;
                Ok(SingleRowListArrayBuilder::new(values).build_list_scalar())
            }
        }
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.bytes
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![SingleRowListArrayBuilder::new(self.all()?).build_list_scalar()])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for list in states[0].as_list::<i32>().iter().flatten().filter(|list| !list.is_empty()) {
            self.push(list);
        }
        Ok(())
    }
}

fn at_fraction(sorted: &ArrayRef, fraction: Option<f64>, is_continuous: bool) -> Result<ScalarValue> {
    let Some(fraction) = fraction.filter(|_| !sorted.is_empty()) else {
        return ScalarValue::try_from(sorted.data_type());
    };
    let count = sorted.len() as f64;
    if !is_continuous {
        let position = (fraction * count).ceil().max(1.0) as usize - 1;
        return ScalarValue::try_from_array(sorted, position.min(sorted.len() - 1));
    }
    let position = fraction * (count - 1.0);
    let values = sorted.as_primitive::<Float64Type>();
    let (low, high) = (values.value(position.floor() as usize), values.value(position.ceil() as usize));
    Ok(ScalarValue::from(if low == high { low } else { low + (position - position.floor()) * (high - low) }))
}

fn mode(sorted: &ArrayRef) -> Result<ScalarValue> {
    if sorted.is_empty() {
        return ScalarValue::try_from(sorted.data_type());
    }
    let converter = RowConverter::new(vec![SortField::new(sorted.data_type().clone())])?;
    let rows = converter.convert_columns(&[Arc::clone(sorted)])?;
    let (mut best, mut first) = (0..0, 0);
    for at in 0..=rows.num_rows() {
        if at == rows.num_rows() || rows.row(at) != rows.row(first) {
            if at - first > best.len() {
                best = first..at;
            }
            first = at;
        }
    }
    ScalarValue::try_from_array(sorted, best.start)
}
