//! Reads the versions of values that a collect's table has.

use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Schema, SchemaRef};
use lake::{Lake, TableName};

use super::rows::{Columns, ITEM, KNOWN_AT, instant_type};
use super::windows::Window;
use crate::flows::moment::instant_text;
use crate::warehouse::Warehouse;

/// With how many of the newest values an answer's unit is compared.
const UNIT_VALUES: usize = 500;

/// The table of a collect. Where it does not exist yet, it has no rows.
pub struct KnownRows<'a> {
    pub warehouse: &'a Warehouse,
    pub lake: &'a Lake,
    pub target: TableName,
    pub columns: &'a Columns,
}

impl KnownRows<'_> {
    /// The versions of an item's values of a window that the table has, in the layout's columns, and `known_at`.
    pub async fn of_window(&self, item: &str, window: Window) -> Result<RecordBatch> {
        let mut names: Vec<&str> = self.columns.names.iter().map(String::as_str).collect();
        names.push(KNOWN_AT);
        self.between(item, &names, window).await
    }

    /// The versions of a window, in some columns.
    pub async fn between(&self, item: &str, names: &[&str], window: Window) -> Result<RecordBatch> {
        let time = quoted(&self.columns.time);
        let (from, to) = (instant_text(window.from), instant_text(window.to));
        let condition = format!("{time} >= TIMESTAMPTZ '{from}' AND {time} < TIMESTAMPTZ '{to}'");
        self.select(item, names, &condition, "").await
    }

    /// The newest values of an item.
    pub async fn newest(&self, item: &str) -> Result<RecordBatch> {
        let names: Vec<&str> = self.columns.names.iter().map(String::as_str).chain([KNOWN_AT]).collect();
        let order = format!("ORDER BY {} DESC LIMIT {UNIT_VALUES}", quoted(&self.columns.time));
        self.select(item, &names, "true", &order).await
    }

    async fn select(&self, item: &str, names: &[&str], condition: &str, order: &str) -> Result<RecordBatch> {
        let schema = self.known_schema(names)?;
        let target = &self.target;
        let Some(table) = self.lake.table(target).await? else { return Ok(RecordBatch::new_empty(schema)) };
        let there = table.schema()?;
        let selected = names.iter().map(|name| match there.field_with_name(name) {
            Ok(_) => quoted(name),
            // A column that the layout has got since the table was last written.
            Err(_) => format!("NULL AS {}", quoted(name)),
        });
        let selected: Vec<String> = selected.collect();
        let (table, item) = (format!("{}.{}", quoted(&target.schema), quoted(&target.table)), item.replace('\'', "''"));
        let query =
            format!("SELECT {} FROM {table} WHERE {ITEM} = '{item}' AND {condition} {order}", selected.join(", "));
        let session = crate::flows::rows::session(self.warehouse, self.lake)?;
        let batches = crate::flows::rows::query(&session, &query).await.with_context(|| format!("read {target}"))?;
        let batches: Vec<RecordBatch> =
            batches.iter().map(|batch| lake::conform(batch, &schema)).collect::<lake::Result<_>>()?;
        concat_batches(&schema, &batches).context("put known rows together")
    }

    /// The types of columns as the table has them.
    fn known_schema(&self, names: &[&str]) -> Result<SchemaRef> {
        let known_at = Field::new(KNOWN_AT, instant_type(), true);
        let fields: Vec<Field> = names
            .iter()
            .map(|name| match self.columns.schema.field_with_name(name) {
                Ok(field) => Ok(field.clone().with_nullable(true)),
                Err(_) if *name == KNOWN_AT => Ok(known_at.clone()),
                Err(error) => Err(error),
            })
            .collect::<Result<_, _>>()?;
        Ok(Arc::new(Schema::new(fields)))
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
