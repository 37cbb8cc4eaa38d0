//! The files that producers complete, made up from what the platform measured: one a producer and
//! month, `;` and decimal commas, a line with the totals. Each can be spoilt as files are in real life.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::flows::columns::Columns;
use crate::flows::rows;
use crate::warehouse::Warehouse;

const HEADER: &str = "schema_version;producteur_id;contrat_id;site_id;prm;mois;horodate_debut;pas;energie_injectee_kwh;\
    energie_soutiree_auxiliaires_kwh;disponibilite_pct;code_evenement;source;statut;commentaire";
const PRODUCERS: u32 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// One energy with a point where the comma belongs.
    DecimalPoint,
    /// Not in UTF-8, with accents.
    Latin1,
    /// The hours of a day are given again, a little higher.
    Corrected,
}

struct Step {
    contract: String,
    site: String,
    prm: String,
    /// With its offset: local time.
    at: String,
    wh: i64,
}

pub struct File {
    producer: u32,
    month: String,
    steps: Vec<Step>,
}

/// By producer.
pub async fn producers(warehouse: &Warehouse, month: &str) -> Result<BTreeMap<u32, File>> {
    let lake = warehouse.lake().await?;
    let session = rows::session(warehouse, &lake)?;
    let query = format!(
        "SELECT s.producer_id, min(c.reference) AS contract, upper(substr(s.technology, 1, 2)) || '-' || s.id AS site, p.prm,
                to_char(date_trunc('hour', m.ts) AT TIME ZONE 'Europe/Paris', '%Y-%m-%dT%H:%M:%S') AS local,
                date_trunc('hour', m.ts) AS hour, coalesce(sum(m.energy_wh), 0) AS wh
         FROM platform.measurements_10min m
         JOIN platform.series r ON r.id = m.series_id AND r.quantity = 'active_power' AND r.unit_id IS NULL
         JOIN platform.sites s ON s.id = r.site_id
         JOIN platform.metering_points p ON p.site_id = s.id
         JOIN (SELECT DISTINCT site_id, reference FROM platform.contracts WHERE kind <> 'DEMAND_RESPONSE') c
           ON c.site_id = s.id
         WHERE s.producer_id <= {PRODUCERS} AND r.source = 'SCADA'
           AND date_trunc('month', m.ts AT TIME ZONE 'Europe/Paris') = timestamp '{month}-01 00:00:00'
         GROUP BY s.producer_id, s.technology, s.id, p.prm, date_trunc('hour', m.ts)
         ORDER BY s.producer_id, p.prm, hour"
    );
    let columns = Columns::of(&rows::asked(&session, &query).await.context("ask what producers will declare")?)?;
    let mut files: BTreeMap<u32, File> = BTreeMap::new();
    for row in (0..columns.rows()).map(|row| columns.row(row)) {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let producer = row["producer_id"].as_u64().context("a producer's number")?.try_into()?;
        let file =
            files.entry(producer).or_insert_with(|| File { producer, month: month.to_owned(), steps: Vec::new() });
        file.steps.push(Step {
            contract: text("contract"),
            site: text("site"),
            prm: text("prm"),
            at: with_offset(&text("local"), &text("hour"))?,
            wh: whole(&row["wh"]).context("an energy")?,
        });
    }
    Ok(files)
}

fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// A local time with what it is ahead of UTC.
fn with_offset(local: &str, utc: &str) -> Result<String> {
    let clock = chrono::NaiveDateTime::parse_from_str(local, "%Y-%m-%dT%H:%M:%S").context("read a local time")?;
    let instant = chrono::DateTime::parse_from_rfc3339(utc).context("read an instant")?.naive_utc();
    let hours = (clock - instant).num_hours();
    Ok(format!("{local}+{hours:02}:00"))
}

impl File {
    pub fn name(&self) -> String {
        format!("PRD{:04}_{}.csv", self.producer, self.month)
    }

    pub fn bytes(&self, fault: Fault) -> Vec<u8> {
        let mut lines = vec![HEADER.to_owned()];
        let corrected = format!("{}-12T", self.month);
        let mut total = 0;
        for (at, step) in self.steps.iter().enumerate() {
            let is_corrected = fault == Fault::Corrected && step.at.starts_with(&corrected);
            let wh = if is_corrected { step.wh + step.wh / 50 } else { step.wh };
            total += wh;
            let mut energy = kwh(wh);
            if fault == Fault::DecimalPoint && at == 200 {
                energy = energy.replace(',', ".");
            }
            let comment =
                if fault == Fault::Latin1 && at == 0 { "relevé à distance, période complète" } else { "" };
            let source = if is_corrected { "SCADA" } else { "COMPTEUR" };
            lines.push(format!(
                "1;PRD{:04};{};{};{};{};{};PT60M;{energy};0;100,0;;{source};DEFINITIF;{comment}",
                self.producer, step.contract, step.site, step.prm, self.month, step.at
            ));
        }
        lines.push(format!("#TOTAL;{};{}", self.steps.len(), kwh(total)));
        let text = lines.join("\r\n") + "\r\n";
        match fault {
            // Every character here is one of Latin-1.
            Fault::Latin1 => text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect(),
            _ => [b"\xEF\xBB\xBF", text.as_bytes()].concat(),
        }
    }
}

/// With a comma.
fn kwh(wh: i64) -> String {
    format!("{},{:03}", wh / 1000, wh % 1000)
}
