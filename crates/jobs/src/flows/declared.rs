//! The columns of tables that jobs fill by layouts, before a job has created them: for whoever has no such file yet, a
//! query of a function, a control or a prediction finds an empty table.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use config::Warehouse;
use config::flow::LoadSource;
use ingest::load::entries_schema;
use lake::TableName;
use sql::DeclaredTables;

/// The tables of loads, collects, trainings and predictions, by their names.
pub fn declared_tables(config: &Warehouse) -> DeclaredTables {
    let mut declared = DeclaredTables::new();
    for load in config.loads.values() {
        let layout = match &load.from {
            LoadSource::Ingest(name) => config.ingests.get(name).map(|ingest| &ingest.layout),
            LoadSource::Function { layout, .. } => Some(layout.as_ref()),
        };
        let Some(rows) = layout.map(ingest::layout::Layout::schema) else { continue };
        let schema = match load.document.is_empty() {
            true => Ok(with(
                &rows,
                &[
                    ("file_name", DataType::Utf8),
                    ("file_version", DataType::Int64),
                    ("file_sha256", DataType::Utf8),
                    ("file_row", DataType::Int64),
                    ("recorded_at", instant()),
                ],
            )),
            false => entries_schema(&rows),
        };
        declared.extend(schema.ok().map(|schema| (TableName::new(&load.schema, &load.table), schema)));
    }
    if !config.ingests.is_empty() {
        declared.extend(super::ingest::declared_tables().into_iter().flatten());
    }
    for collect in config.collects.values() {
        let parts = collect.items.first().into_iter().flat_map(|item| item.keys());
        let parts = parts.map(|part| (part.as_str(), DataType::Utf8));
        let own = [
            ("known_at", instant()),
            ("item", DataType::Utf8),
            ("answer_sha256", DataType::Utf8),
            ("answer_row", DataType::Int64),
            ("recorded_at", instant()),
        ];
        let added: Vec<(&str, DataType)> = parts.chain(own).collect();
        let schema = with(&collect.layout.schema(), &added);
        declared.insert(TableName::new(&collect.schema, &collect.table), schema);
    }
    for table in config.trainings.values().flat_map(|training| &training.tables) {
        let schema = with(&table.layout.schema(), &[("training_job", DataType::Utf8), ("recorded_at", instant())]);
        declared.insert(TableName::new(&table.schema, &table.table), schema);
    }
    // The types of columns that are kept are the query's.
    for prediction in config.predictions.values().filter(|prediction| prediction.keep.is_empty()) {
        let own = [
            ("prediction", DataType::Utf8),
            ("issued_at", instant()),
            ("variant", DataType::Utf8),
            ("input_sha256", DataType::Utf8),
            ("recorded_at", instant()),
        ];
        let schema = with(&prediction.layout.schema(), &own);
        declared.insert(TableName::new(&prediction.schema, &prediction.table), schema);
    }
    declared
}

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The columns with those that they lack of some others; all may be NULL.
fn with(rows: &SchemaRef, added: &[(&str, DataType)]) -> SchemaRef {
    let mut fields: Vec<Field> = rows.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    for (name, kind) in added {
        if rows.field_with_name(name).is_err() {
            fields.push(Field::new(*name, kind.clone(), true));
        }
    }
    Arc::new(Schema::new(fields))
}
