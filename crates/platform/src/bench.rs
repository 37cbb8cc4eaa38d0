//! Two tables for measuring transfers, a narrow one and a wide one. Existing ones are replaced.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use tokio_postgres::Client;

use crate::Result;
use crate::copy::{BINARY_FROZEN, Rows};
use crate::error::ErrorContext;
use crate::random::stream;

const SEED: u64 = 1;
const SERIES: u64 = 500;
/// 2020-01-01.
const START: i64 = 1_577_836_800;

/// Creates `bench.measures` with this number of rows: 500 series in the order of time, with a value every 10 minutes,
/// as meters send them.
pub async fn bench_measures(client: &Client, rows: u64) -> Result<()> {
    const COLUMNS: &str = "id bigint not null, series_id integer not null, ts timestamptz not null, \
        value double precision not null, quality smallint not null, \
        known_at timestamptz not null, source text not null";
    const SOURCES: [&str; 4] = ["SCADA", "DSO_RAW", "DSO_CORRECTED", "PRODUCER_DECLARED"];
    replace(client, "bench.measures", COLUMNS, async |copied| {
        let mut rng = stream(SEED, "measures", 0, 0);
        let mut levels: Vec<f64> = (0..SERIES).map(|_| rng.random_range(50.0..4_000.0)).collect();
        for id in 0..rows {
            let (series, step) = ((id % SERIES) as usize, (id / SERIES) as i64);
            let level = &mut levels[series];
            *level = (*level * (1.0 + 0.02 * rng.sample::<f64, _>(StandardNormal))).clamp(1.0, 6_000.0);
            let at = START + step * 600;
            copied.row(7);
            copied.i64(id as i64 + 1);
            copied.i32(series as i32 + 1);
            copied.instant(at, 0);
            copied.f64((*level * 1_000.0).round() / 1_000.0);
            copied.i16(if rng.random_ratio(1, 50) { rng.random_range(1..=4) } else { 0 });
            copied.instant(at + 600 + rng.random_range(2..90), rng.random_range(0..1_000_000));
            copied.text(SOURCES[series % SOURCES.len()]);
            copied.send_if_full().await?;
        }
        Ok(())
    })
    .await
}

/// Creates `bench.wide` with this number of rows: 16 columns of different types, about 270 bytes per row.
pub async fn bench_wide(client: &Client, rows: u64) -> Result<()> {
    const COLUMNS: &str = "id bigint not null, reference uuid not null, site_id integer not null, \
        kind smallint not null, is_active boolean not null, power_kw double precision not null, ratio real, \
        price numeric(18,6) not null, amount numeric(12,2) not null, day date not null, \
        recorded_at timestamptz not null, local_at timestamp not null, code varchar(40) not null, \
        label text not null, attributes jsonb not null, payload bytea";
    replace(client, "bench.wide", COLUMNS, async |copied| {
        let mut rng = stream(SEED, "wide", 0, 0);
        for id in 1..=rows {
            wide_row(copied, &mut rng, id);
            copied.send_if_full().await?;
        }
        Ok(())
    })
    .await
}

const LABELS: [&str; 6] = [
    "Énergie injectée, relève télécollectée",
    "Écart constaté à la clôture",
    "Prévision révisée à 18 h",
    "Parc éolien de l'Épine : bridage nocturne",
    "Centrale solaire à l'arrêt, défaut d'onduleur",
    "Débit réservé, crue de la Dordogne",
];

fn wide_row(rows: &mut Rows<'_>, rng: &mut ChaCha8Rng, id: u64) {
    let at = START + id as i64 * 7;
    let site_id: i32 = rng.random_range(1..=800);
    rows.row(16);
    rows.i64(id as i64);
    let mut uuid: [u8; 16] = rng.random();
    // Version 4, variant 1.
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    rows.bytes(&uuid);
    rows.i32(site_id);
    rows.i16(rng.random_range(0..12));
    rows.bool(rng.random_bool(0.9));
    rows.f64(f64::from(rng.random_range(0..40_000_u32)) / 10.0);
    match rng.random_bool(0.05) {
        true => rows.null(),
        false => rows.f32(rng.random()),
    }
    rows.numeric(rng.random_range(-60_000_000..220_000_000), 6);
    rows.numeric(rng.random_range(-900_000..90_000_000), 2);
    rows.date(at.div_euclid(86_400));
    rows.instant(at, rng.random_range(0..1_000_000));
    rows.instant(at + 3_600, 0);
    rows.text(&format!("PRD{site_id:04}-{:08X}", rng.random::<u32>()));
    rows.text(LABELS[rng.random_range(0..LABELS.len())]);
    let pas = if rng.random_bool(0.3) { 15 } else { 30 };
    rows.jsonb(&format!(r#"{{"pas": {pas}, "statut": "DÉFINITIF", "relève": {}}}"#, rng.random_range(1..999)));
    match rng.random_bool(0.3) {
        true => rows.null(),
        false => rows.bytes(&rng.random::<[u8; 24]>()),
    }
}

/// Creates, fills and indexes the table in one transaction, so that its rows are frozen: the first query that reads it
/// does not have to write hint bits.
async fn replace(
    client: &Client,
    table: &str,
    columns: &str,
    write: impl AsyncFnOnce(&mut Rows<'_>) -> Result<()>,
) -> Result<()> {
    let create = format!(
        "begin; set local client_min_messages = warning; set local synchronous_commit = off; \
         create schema if not exists bench; drop table if exists {table}; create table {table} ({columns})"
    );
    let names: Vec<_> = columns.split(", ").filter_map(|c| c.split(' ').next()).collect();
    let filled = async {
        client.batch_execute(&create).await.during(format!("create {table}"))?;
        let mut rows = Rows::begin(client, table, &names.join(", "), BINARY_FROZEN, &|_, _| {}).await?;
        write(&mut rows).await?;
        rows.finish().await?;
        let finish = format!("alter table {table} add primary key (id); commit");
        client.batch_execute(&finish).await.during(format!("add the key of {table}"))
    };
    if let Err(error) = filled.await {
        // The first error is returned; a further one would only mean that the connection has ended.
        let _ = client.batch_execute("rollback").await;
        return Err(error);
    }
    client.batch_execute(&format!("vacuum (analyze) {table}")).await.during(format!("analyze {table}"))
}
