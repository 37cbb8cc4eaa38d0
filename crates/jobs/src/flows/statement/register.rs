//! The register: a table of the lake with a row for each issued statement. Rows never change.

use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{ArrayRef, BooleanArray, Decimal128Array, Int64Array, RecordBatch};
use chrono::{DateTime, SubsecRound, Utc};
use ingest::objects::Hash;
use lake::{Lake, TableName};
use ledger::Run;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sql::Session;

use crate::flows::columns::Columns;
use crate::flows::control::{instants, texts};
use crate::flows::rows;

const OPERATION: &str = "statement";

/// A row of the register: one issued statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name of the statement's job.
    pub statement: String,
    pub period: String,
    pub producer_id: String,
    pub producer: String,
    /// Such as `2026-03-PRD0042-1`.
    pub number: String,
    /// Counts the statements of a producer's month, from 1.
    pub version: i64,
    /// The number of the statement that it replaces.
    pub replaces: Option<String>,
    pub issued_at: DateTime<Utc>,
    /// How many lines it has.
    pub lines: i64,
    /// The amount without VAT; negative for a credit note.
    pub cents: i64,
    pub vat_cents: i64,
    /// The hash of what the queries returned.
    pub inputs: String,
    pub page: Hash,
    pub workbook: Hash,
    /// The e-invoices and the PDFs.
    pub invoices: Vec<InvoiceFile>,
    pub run_id: String,
}

impl Entry {
    /// Whether it has e-invoices, and not PDFs only.
    pub fn has_einvoices(&self) -> bool {
        self.invoices.iter().any(|file| file.name.ends_with(".xml"))
    }
}

/// An e-invoice of a statement, or a PDF of one of its documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceFile {
    /// The name of its file, which is its number with its syntax.
    pub name: String,
    pub sha256: String,
}

/// Adds entries in one commit. Of two concurrent commits with the same position, one fails.
pub async fn add(lake: &Lake, run: &Run, table: &TableName, position: &str, entries: &[Entry]) -> Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let newest = entries.iter().map(|entry| entry.version).max().unwrap_or_default();
    let position = (position.to_owned(), Utc::now().timestamp_micros().max(newest));
    let batch = batch(entries)?;
    let schema = batch.schema();
    rows::append(lake, table, run.id(), OPERATION, &schema, vec![batch], vec![position]).await.map(drop)
}

fn batch(entries: &[Entry]) -> Result<RecordBatch> {
    let text = |of: fn(&Entry) -> Option<String>| texts(entries.iter().map(of));
    let number = |of: fn(&Entry) -> i64| -> ArrayRef { Arc::new(entries.iter().map(of).collect::<Int64Array>()) };
    let money = |of: fn(&Entry) -> i64| -> Result<ArrayRef> {
        let cents: Decimal128Array = entries.iter().map(|entry| Some(i128::from(of(entry)))).collect();
        Ok(Arc::new(cents.with_precision_and_scale(14, 2)?))
    };
    let is_credit: BooleanArray = entries.iter().map(|entry| Some(entry.cents < 0)).collect();
    let now = Utc::now().trunc_subsecs(6);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("statement", text(|e| Some(e.statement.clone()))),
        ("period", text(|e| Some(e.period.clone()))),
        ("producer_id", text(|e| Some(e.producer_id.clone()))),
        ("producer", text(|e| Some(e.producer.clone()))),
        ("number", text(|e| Some(e.number.clone()))),
        ("version", number(|e| e.version)),
        ("replaces", text(|e| e.replaces.clone())),
        ("issued_at", instants(entries.iter().map(|e| Some(e.issued_at)))),
        ("is_credit_note", Arc::new(is_credit)),
        ("lines", number(|e| e.lines)),
        ("amount", money(|e| e.cents)?),
        ("vat_amount", money(|e| e.vat_cents)?),
        ("due", money(|e| e.cents + e.vat_cents)?),
        ("inputs_sha256", text(|e| Some(e.inputs.clone()))),
        ("page_sha256", text(|e| Some(e.page.to_string()))),
        ("workbook_sha256", text(|e| Some(e.workbook.to_string()))),
        ("invoices", text(|e| serde_json::to_string(&e.invoices).ok())),
        ("run_id", text(|e| Some(e.run_id.clone()))),
        ("recorded_at", instants(entries.iter().map(|_| Some(now)))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .context("write the register of statements")
}

/// All entries of a register, in the order in which they were added.
pub async fn entries(session: &Session, table: &TableName) -> Result<Vec<Entry>> {
    let Some(stored) = session.lake.table(table).await? else { return Ok(Vec::new()) };
    // Registers of earlier versions have no e-invoices.
    let invoices = if stored.schema()?.field_with_name("invoices").is_ok() { "invoices" } else { "NULL AS invoices" };
    let query = format!(
        "SELECT statement, period, producer_id, producer, number, version, replaces, issued_at, lines,
                CAST(amount * 100 AS bigint) AS cents, CAST(vat_amount * 100 AS bigint) AS vat_cents, inputs_sha256,
                page_sha256, workbook_sha256, {invoices}, run_id
         FROM \"{}\".\"{}\" ORDER BY recorded_at, number",
        table.schema, table.table
    );
    let columns = Columns::of(&rows::query(session, &query).await.with_context(|| format!("read {table}"))?)?;
    let rows = columns.objects()?;
    rows.iter()
        .map(entry)
        .collect::<Option<Vec<Entry>>>()
        .with_context(|| format!("a row of {table} lacks a value that Wattlake writes"))
}

fn entry(row: &Map<String, Value>) -> Option<Entry> {
    let text = |name: &str| row.get(name)?.as_str().map(str::to_owned);
    let number = |name: &str| row.get(name)?.as_i64();
    Some(Entry {
        statement: text("statement")?,
        period: text("period")?,
        producer_id: text("producer_id")?,
        producer: text("producer")?,
        number: text("number")?,
        version: number("version")?,
        replaces: text("replaces"),
        issued_at: DateTime::parse_from_rfc3339(&text("issued_at")?).ok()?.to_utc(),
        lines: number("lines")?,
        cents: number("cents")?,
        vat_cents: number("vat_cents")?,
        inputs: text("inputs_sha256")?,
        page: text("page_sha256")?.parse().ok()?,
        workbook: text("workbook_sha256")?.parse().ok()?,
        invoices: text("invoices").and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
        run_id: text("run_id")?,
    })
}
