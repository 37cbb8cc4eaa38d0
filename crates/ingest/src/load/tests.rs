//! A month's bill that is loaded several times.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Decimal128Type, Field, Int64Type, Schema, SchemaRef};
use chrono::DateTime;
use proptest::prelude::*;

use super::{ColumnRoles, Document, LoadCounts, LoadPlan, entries_schema, plan};
use crate::Kind;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("site", DataType::Utf8, false),
        Field::new("line", DataType::Int64, true),
        Field::new("amount", DataType::Decimal128(12, 2), true),
        Field::new("kind", DataType::Utf8, true),
    ]))
}

type Row = (&'static str, i64, Option<i128>, &'static str);

fn rows(all: &[Row]) -> RecordBatch {
    let amounts: Decimal128Array = all.iter().map(|row| row.2).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(all.iter().map(|row| Some(row.0)).collect::<StringArray>()),
        Arc::new(all.iter().map(|row| Some(row.1)).collect::<Int64Array>()),
        Arc::new(amounts.with_precision_and_scale(12, 2).unwrap()),
        Arc::new(all.iter().map(|row| Some(row.3)).collect::<StringArray>()),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn document(inputs: &str) -> Document {
    Document {
        name: "bills/2026-09/PRD0042".to_owned(),
        inputs: inputs.to_owned(),
        code: "c0de".to_owned(),
        recorded_at: DateTime::from_timestamp(1_790_000_000, 0).unwrap(),
        again: false,
    }
}

fn roles() -> ColumnRoles {
    ColumnRoles { key: vec!["site".into()], amounts: vec!["amount".into()], carried: vec!["line".into()] }
}

/// A table that is only appended to.
struct Table(Vec<RecordBatch>);

impl Table {
    fn load(&mut self, inputs: &str, all: &[Row]) -> LoadPlan {
        self.load_as(&document(inputs), all)
    }

    fn load_as(&mut self, document: &Document, all: &[Row]) -> LoadPlan {
        let plan = plan(document, &roles(), &schema(), &[rows(all)], &self.0).unwrap();
        self.0.push(plan.entries.clone());
        plan
    }

    fn entries(&self) -> RecordBatch {
        concat_batches(&entries_schema(&schema()).unwrap(), &self.0).unwrap()
    }

    /// What SQL returns: `SELECT site, sum(amount) GROUP BY site`.
    fn sums(&self) -> BTreeMap<String, i128> {
        let entries = self.entries();
        let amounts = entries["amount"].as_primitive::<Decimal128Type>();
        let mut sums = BTreeMap::new();
        for (site, amount) in entries["site"].as_string::<i32>().iter().zip(amounts) {
            *sums.entry(site.unwrap().to_owned()).or_default() += amount.unwrap_or_default();
        }
        sums
    }

    fn whole(&self, column: &str) -> Vec<Option<i64>> {
        self.entries()[column].as_primitive::<Int64Type>().iter().collect()
    }
}

const FIRST: [Row; 3] = [("b", 2, Some(250), "SPOT"), ("a", 1, Some(100), "SPOT"), ("c", 3, None, "CR")];

#[test]
fn a_correction_reverses_and_enters_again() {
    let mut table = Table(Vec::new());
    let first = table.load("1", &FIRST);
    assert_eq!((first.version, first.counts), (1, LoadCounts { new: 3, ..LoadCounts::default() }));
    let sites: Vec<_> = first.entries["site"].as_string::<i32>().iter().flatten().collect();
    assert_eq!(sites, ["a", "b", "c"], "by key");

    let second =
        table.load("2", &[("a", 7, Some(100), "SPOT"), ("b", 2, Some(240), "SPOT"), ("d", 4, Some(5), "SPOT")]);
    assert_eq!((second.version, second.counts), (2, LoadCounts { new: 1, same: 1, changed: 1, withdrawn: 1 }));
    assert_eq!(table.whole("entry"), (1..=7).map(Some).collect::<Vec<_>>());
    assert_eq!(
        table.whole("reverses")[3..],
        [Some(2), None, Some(3), None],
        "b reversed, b entered, c reversed, d entered"
    );
    assert_eq!(table.whole("version")[3..], [Some(2); 4]);
    let amounts: Vec<_> = second.entries["amount"].as_primitive::<Decimal128Type>().iter().collect();
    assert_eq!(amounts, [Some(-250), Some(240), None, Some(5)]);
    assert_eq!(table.sums(), [("a", 100), ("b", 240), ("c", 0), ("d", 5)].map(|(k, v)| (k.to_owned(), v)).into());
    let kinds: Vec<_> = second.entries["kind"].as_string::<i32>().iter().flatten().collect();
    assert_eq!(kinds, ["SPOT", "SPOT", "CR", "SPOT"], "a reversal has the values of what it reverses");
    assert_eq!(second.entries["inputs_sha256"].as_string::<i32>().value(0), "2");
}

#[test]
fn the_same_again_adds_nothing() {
    let mut table = Table(Vec::new());
    table.load("1", &FIRST);
    let again = table.load("1", &FIRST);
    assert_eq!((again.entries.num_rows(), again.loaded_as, again.version), (0, Some(1), 1));
    let other_inputs = table.load("1b", &[FIRST[2], FIRST[0], FIRST[1]]);
    assert_eq!((other_inputs.entries.num_rows(), other_inputs.loaded_as, other_inputs.counts.same), (0, None, 3));
    // The line is not compared.
    assert_eq!(table.load("1c", &[FIRST[0], ("a", 9, Some(100), "SPOT"), FIRST[2]]).counts.same, 3);
}

#[test]
fn a_late_retry_reverses_nothing() {
    let mut table = Table(Vec::new());
    table.load("1", &FIRST);
    table.load("2", &[("a", 1, Some(90), "SPOT")]);
    let late = table.load("1", &FIRST);
    assert_eq!((late.loaded_as, late.version, late.entries.num_rows()), (Some(1), 2, 0));
    let meant = table.load_as(&Document { again: true, ..document("1") }, &FIRST);
    assert_eq!((meant.version, meant.counts), (3, LoadCounts { new: 2, changed: 1, ..LoadCounts::default() }));
    assert_eq!(table.sums()["a"], 100);
}

#[test]
fn documents_are_apart() {
    let mut table = Table(Vec::new());
    table.load("1", &FIRST);
    let other = table.load_as(&Document { name: "bills/2026-10/PRD0042".into(), ..document("1") }, &FIRST);
    assert_eq!((other.version, other.counts.new, other.loaded_as), (1, 3, None));
}

#[test]
fn what_can_not_be_loaded_is_refused() {
    let refused = |roles: &ColumnRoles, all: &RecordBatch, before: &[RecordBatch]| {
        let error = plan(&document("1"), roles, &all.schema(), std::slice::from_ref(all), before).unwrap_err();
        (error.kind, error.to_string())
    };
    let twice = rows(&[FIRST[0], FIRST[1], FIRST[0]]);
    assert_eq!(
        refused(&roles(), &twice, &[]),
        (Kind::FixInput, "load the rows: two rows have the key site = b".into())
    );
    let keyed = |key: &str| ColumnRoles { key: vec![key.into()], ..ColumnRoles::default() };
    let (kind, what) = refused(&keyed("sites"), &rows(&FIRST), &[]);
    assert_eq!(
        (kind, what.as_str()),
        (Kind::FixInput, "load the rows: they have no column \"sites\"; nearest: \"site\"")
    );
    assert!(refused(&ColumnRoles::default(), &rows(&FIRST), &[]).1.contains("they have no key"));
    let null = ColumnRoles { key: vec!["amount".into()], ..ColumnRoles::default() };
    assert!(refused(&null, &rows(&FIRST), &[]).1.contains("the key \"amount\" has no value in row 3"));
    let text = ColumnRoles { amounts: vec!["kind".into()], ..keyed("site") };
    assert!(refused(&text, &rows(&FIRST), &[]).1.contains("the amount \"kind\" is not a signed number"));
    assert!(entries_schema(&Schema::new(vec![Field::new("entry", DataType::Utf8, true)])).is_err());

    // Another table, and one that another program has written to.
    let entries = plan(&document("0"), &roles(), &schema(), &[rows(&FIRST)], &[]).unwrap().entries;
    assert!(
        refused(&roles(), &rows(&FIRST), &[rows(&FIRST)]).1.contains("the table's column \"document\" does not exist")
    );
    let mut columns = entries.columns().to_vec();
    columns[2] = Arc::new(Float64Array::from(vec![1.0; 3]));
    let named = entries.schema().fields().iter().map(|field| field.name().clone()).zip(columns).collect::<Vec<_>>();
    let (_, what) = refused(&roles(), &rows(&FIRST), &[RecordBatch::try_from_iter(named).unwrap()]);
    assert!(what.contains("\"amount\" is Float64, and the rows have Decimal128(12, 2)"), "{what}");
    let (kind, what) = refused(&roles(), &rows(&FIRST), &[entries.clone(), entries]);
    assert_eq!(kind, Kind::FixSetup);
    assert!(what.contains("the table has two entries in force for site = "), "{what}");
}

#[test]
fn texts_may_come_back_in_another_form() {
    let mut table = Table(Vec::new());
    table.load("1", &FIRST);
    let entries = table.entries();
    let whole = entries.schema();
    let views = whole.fields().iter().zip(entries.columns()).map(|(field, column)| {
        let column = if column.data_type() == &DataType::Utf8 {
            cast(column, &DataType::Utf8View).unwrap()
        } else {
            Arc::clone(column)
        };
        (field.name().clone(), column)
    });
    let before = RecordBatch::try_from_iter(views.collect::<Vec<_>>()).unwrap();
    let plan = plan(&document("2"), &roles(), &schema(), &[rows(&FIRST)], &[before]).unwrap();
    assert_eq!(plan.counts.same, 3);
}

const SITES: [&str; 4] = ["a", "b", "c", "d"];

fn any_document() -> impl Strategy<Value = Vec<Row>> {
    proptest::collection::vec(proptest::option::of((-3_i128..3, 0_usize..2)), SITES.len()).prop_map(|picked| {
        let row = |(site, picked): (&'static str, Option<(i128, usize)>)| {
            picked.map(|(amount, kind)| (site, 0, Some(amount), ["SPOT", "CR"][kind]))
        };
        SITES.into_iter().zip(picked).filter_map(row).collect()
    })
}

proptest! {
    /// After any history the sums are those of the last document, and each entry is reversed at most once.
    #[test]
    fn the_sum_is_what_is_in_force(history in proptest::collection::vec(any_document(), 1..8)) {
        let mut table = Table(Vec::new());
        for (at, all) in history.iter().enumerate() {
            table.load(&at.to_string(), all);
            let nothing = table.load(&format!("{at} again"), all);
            prop_assert_eq!(nothing.entries.num_rows(), 0);
        }
        let mut expected: BTreeMap<String, i128> = table.sums().into_keys().map(|site| (site, 0)).collect();
        expected.extend(history.last().unwrap().iter().map(|row| (row.0.to_owned(), row.2.unwrap())));
        prop_assert_eq!(table.sums(), expected);
        let (entry, reverses) = (table.whole("entry"), table.whole("reverses"));
        let mut taken: Vec<_> = reverses.iter().flatten().collect();
        let count = taken.len();
        taken.sort();
        taken.dedup();
        prop_assert_eq!(taken.len(), count);
        prop_assert_eq!(entry, (1..=reverses.len() as i64).map(Some).collect::<Vec<_>>());
    }
}
