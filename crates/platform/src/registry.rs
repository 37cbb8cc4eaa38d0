//! Generates and writes the tables of master data: producers, sites, units, contracts, metering points and series.

use rand::Rng;
use tokio_postgres::Client;

use crate::copy::{Lines, Progress};
use crate::error::ErrorContext;
use crate::fleet::{Site, Technology, producers, sites};
use crate::random::stream;
use crate::{Result, Scale};

/// The identifier of a site's 10-minute series.
pub(crate) fn measured_series(site_id: u32) -> i32 {
    site_id as i32 * 10 + 1
}

/// The identifier of a site's series of forecasts.
pub(crate) fn forecast_series(site_id: u32) -> i32 {
    site_id as i32 * 10 + 2
}

/// The identifier of the 1-second series of a site's first unit.
pub(crate) fn fast_series(site_id: u32) -> i32 {
    site_id as i32 * 10 + 3
}

/// The identifier of a unit, by its rank in the site, from 1 on.
pub(crate) fn unit_id(site_id: u32, rank: u32) -> u32 {
    site_id * 100 + rank
}

/// Fills the tables, and returns the number of rows of each.
pub(crate) async fn fill(client: &Client, scale: &Scale, progress: Progress<'_>) -> Result<Vec<(String, u64)>> {
    let sites = sites(scale);
    let stamp = crate::calendar::instant_text(scale.day_start(0));
    let tables = [
        ("platform.producers", "id, name, siret, created_at, updated_at", producer_lines(scale, &stamp)),
        (
            "platform.sites",
            "id, producer_id, name, technology, latitude, longitude, commissioned, updated_at",
            site_lines(&sites, &stamp),
        ),
        ("platform.units", "id, site_id, name, technology, pmax_kw, updated_at", unit_lines(&sites, &stamp)),
        (
            "platform.contracts",
            "id, reference, producer_id, site_id, kind, valid, parameters, price, updated_at",
            contract_lines(scale, &sites, &stamp),
        ),
        ("platform.metering_points", "prm, site_id, eic, updated_at", metering_lines(&sites, &stamp)),
        (
            "platform.series",
            "id, site_id, unit_id, quantity, source, step, unit, updated_at",
            series_lines(scale, &sites, &stamp),
        ),
    ];
    let mut counts = Vec::new();
    for (table, columns, lines) in tables {
        counts.push((table.to_owned(), lines.copy(client, table, columns, progress).await?));
        if columns.starts_with("id,") {
            // The sequence continues after the last identifier.
            let sql = format!("select setval(pg_get_serial_sequence('{table}', 'id'), (select max(id) from {table}))");
            client.batch_execute(&sql).await.during(format!("set the next id of {table}"))?;
        }
    }
    Ok(counts)
}

fn producer_lines(scale: &Scale, stamp: &str) -> Lines {
    let mut lines = Lines::default();
    for id in 1..=producers(scale) {
        let mut rng = stream(scale.seed, "producer", id, 0);
        let rank = id as usize - 1;
        let form = FORMS[rank % FORMS.len()];
        let of = OF[rank / FORMS.len() % OF.len()];
        let round = rank / FORMS.len() / OF.len();
        let suffix = if round == 0 { String::new() } else { format!(" {}", round + 1) };
        let created = format!("{}-{:02}-15 09:30:00+01", rng.random_range(2012..2025), rng.random_range(1..=12));
        lines.push(&[
            &id,
            &format!("{form} {of}{suffix}"),
            &siret(rng.random_range(300_000_000..899_999_999)),
            &created,
            &stamp,
        ]);
    }
    lines
}

const FORMS: [&str; 7] = [
    "Énergies renouvelables",
    "Société hydroélectrique",
    "Éoliennes citoyennes",
    "Coopérative solaire",
    "SAS Électricité verte",
    "Régie d'électricité",
    "Les Producteurs associés",
];
const OF: [&str; 5] = ["du Cœur de Brière", "de la Forêt d'Othe", "des Cévennes", "du Béarn", "de l'Orée des Vosges"];

/// A SIRET: the SIREN of a number and the establishment 0001, with both check digits (Luhn).
pub(crate) fn siret(number: u32) -> String {
    let siren = with_luhn(&(number / 10).to_string());
    with_luhn(&format!("{siren}0001"))
}

fn with_luhn(digits: &str) -> String {
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(i, byte)| {
            let doubled = u32::from(byte - b'0') * if i % 2 == 0 { 2 } else { 1 };
            doubled / 10 + doubled % 10
        })
        .sum();
    format!("{digits}{}", (10 - sum % 10) % 10)
}

fn site_lines(sites: &[Site], stamp: &str) -> Lines {
    let mut lines = Lines::default();
    for s in sites {
        let technology = s.technology.label();
        lines.push(&[&s.id, &s.producer_id, &s.name, &technology, &s.latitude, &s.longitude, &s.commissioned, &stamp]);
    }
    lines
}

fn unit_lines(sites: &[Site], stamp: &str) -> Lines {
    let mut lines = Lines::default();
    for site in sites {
        let kind = match site.technology {
            Technology::Wind => "Éolienne E",
            Technology::Solar => "Onduleur O",
            Technology::Hydro => "Groupe G",
        };
        for rank in 1..=site.units {
            let pmax_kw = format!("{:.3}", site.pmax_kw / f64::from(site.units));
            let name = format!("{kind}{rank:02}");
            lines.push(&[&unit_id(site.id, rank), &site.id, &name, &site.technology.label(), &pmax_kw, &stamp]);
        }
    }
    lines
}

/// The contracts: one per site, two consecutive ones for every fourth site, and a demand response for every fifth.
fn contract_lines(scale: &Scale, sites: &[Site], stamp: &str) -> Lines {
    let mut lines = Lines::default();
    let mut id = 0;
    for site in sites {
        let mut rng = stream(scale.seed, "contract", site.id, 0);
        let kind = match (site.technology, site.id % 5) {
            (_, 0) => "FIXED_PPA",
            (_, 1) => "SPOT_PASSTHROUGH",
            (Technology::Solar, 2) => "OA",
            (_, 3) => "M0_MINUS_FEE",
            _ => "CR",
        };
        let changed = if site.id % 4 == 0 { Some(scale.day_start(scale.days / 2)) } else { None };
        let mut push = |suffix: &str, kind: &str, valid: String, rng: &mut rand_chacha::ChaCha8Rng| {
            id += 1;
            let reference = format!("CTR-{}-{:04}{suffix}", site.commissioned.format("%Y"), site.id);
            let (price, parameters) = terms(kind, site, rng);
            lines.push(&[&id, &reference, &site.producer_id, &site.id, &kind, &valid, &parameters, &price, &stamp]);
        };
        let since = site.commissioned;
        match changed.map(crate::calendar::date_of) {
            Some(change) => {
                push("", kind, format!("[{since},{change})"), &mut rng);
                push("", kind, format!("[{change},)"), &mut rng);
            }
            None => push("", kind, format!("[{since},)"), &mut rng),
        }
        if site.id % 5 == 0 {
            push("-D", "DEMAND_RESPONSE", format!("[{since},)"), &mut rng);
        }
    }
    lines
}

/// The price of a contract in EUR/MWh, and the parameters of its kind.
fn terms(kind: &str, site: &Site, rng: &mut rand_chacha::ChaCha8Rng) -> (String, String) {
    let price = f64::from(rng.random_range(550_000..920_000_u32)) / 10_000.0;
    let fee = f64::from(rng.random_range(80..250_u32)) / 100.0;
    let parameters = match kind {
        "SPOT_PASSTHROUGH" => format!(r#"{{"fee_eur_mwh": {fee}, "imbalance_share": 0.5}}"#),
        "M0_MINUS_FEE" => format!(r#"{{"fee_eur_mwh": {fee}, "reference": "M0 {}"}}"#, site.technology.label()),
        "CR" => format!(
            r#"{{"te_eur_mwh": {price}, "management_premium_eur_mwh": 2.0, "nbcapa_mw": {}}}"#,
            site.pmax_kw / 5_000.0
        ),
        "DEMAND_RESPONSE" => {
            format!(r#"{{"notice_min": 30, "activations_max": 40, "power_kw": {}}}"#, site.pmax_kw / 10.0)
        }
        _ => format!(r#"{{"indexation": "L", "guarantees_of_origin": {}}}"#, kind == "FIXED_PPA"),
    };
    (format!("{price:.4}"), parameters)
}

fn metering_lines(sites: &[Site], stamp: &str) -> Lines {
    let mut lines = Lines::default();
    for site in sites {
        lines.push(&[&format!("{:014}", 30_000_000_000_000_u64 + u64::from(site.id)), &site.id, &eic(site.id), &stamp]);
    }
    lines
}

/// A site's EIC: 15 characters and a check character, which must not be a hyphen.
pub(crate) fn eic(site_id: u32) -> String {
    let mut number = 100_000_000 + u64::from(site_id);
    loop {
        let code = format!("17W{number:012}");
        match eic_check_character(&code) {
            '-' => number += 1_000_000,
            control => return format!("{code}{control}"),
        }
    }
}

/// The check character of an EIC, by ENTSO-E's algorithm modulo 37.
pub(crate) fn eic_check_character(code: &str) -> char {
    const ALPHABET: &[u8; 37] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-";
    let value = |byte: u8| ALPHABET.iter().position(|c| *c == byte).unwrap_or_default();
    let sum: usize = code.bytes().zip((2..=16).rev()).map(|(byte, weight)| value(byte) * weight).sum();
    char::from(ALPHABET[36 - (sum + 36) % 37])
}

fn series_lines(scale: &Scale, sites: &[Site], stamp: &str) -> Lines {
    let mut lines = Lines::default();
    for site in sites {
        let null = crate::copy::Null;
        let id = site.id;
        lines.push(&[&measured_series(id), &id, &null, &"active_power", &"SCADA", &"00:10:00", &"kW", &stamp]);
        lines.push(&[&forecast_series(id), &id, &null, &"active_power", &"FORECAST", &"00:30:00", &"kW", &stamp]);
        if id <= scale.fast_series {
            let unit = unit_id(id, 1);
            lines.push(&[&fast_series(id), &id, &unit, &"active_power", &"SCADA", &"00:00:01", &"kW", &stamp]);
        }
    }
    lines
}
