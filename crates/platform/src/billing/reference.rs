//! Writes the aggregator's own tables as CSV: fields separated by `,`, a decimal point, UTF-8, instants in UTC. Each
//! row has the instant since which it is known, so that a bill can be computed as of an earlier instant.

use std::fmt::Write;

use super::month::{Month, QUARTER_S, local_midnight};
use super::portfolio::{Agreement, Terms};
use super::{BillingData, File, hundredths, instant, instant_text};
use crate::calendar::{DAY_S, is_weekend, paris, season};
use crate::fleet::Technology;
use chrono::NaiveDate;

/// 2025-11-24 08:00 UTC, before the first month.
const KNOWN_FROM_START_AT: i64 = 1_763_971_200;
/// 2026-03-10 09:00 UTC: the fixed price is indexed from the 16th on.
const INDEXED_AT: i64 = 1_773_133_200;

/// The files of all tables and months.
pub(crate) fn files(data: &BillingData) -> Vec<File> {
    let mut files = vec![
        file("contracts.csv", contracts(&data.agreements, KNOWN_FROM_START_AT), KNOWN_FROM_START_AT),
        file("contracts.csv", contracts(&data.agreements, INDEXED_AT), INDEXED_AT),
        file("precedence.csv", precedence(), KNOWN_FROM_START_AT),
        file("prices-capacity.csv", capacity(), KNOWN_FROM_START_AT),
    ];
    files.extend(data.months.first().map(|first| file("prices-2025.csv", prices_before(first), first.from)));
    for month in &data.months {
        let name = month.name;
        files.push(file(&format!("meters-{name}.csv"), meters(data, month), month.later(0, 10)));
        files.push(file(&format!("prices-{name}.csv"), prices(data, month), month.later(0, 13)));
        files.push(file(&format!("orders-{name}.csv"), orders(data, month), month.later(0, 3)));
        let at = month.later(19, 6);
        // Only for months in which telemetry failed.
        files.extend(corrected(data, month, at).map(|text| file(&format!("meters-{name}-corrected.csv"), text, at)));
    }
    files
}

fn file(name: &str, text: String, at: i64) -> File {
    File { name: format!("reference/{name}"), bytes: text.into_bytes(), available_at: instant(at) }
}

const CONTRACT_COLUMNS: &str = "contract_id,producer_id,producer,siret,site_id,site,technology,prm,perimeter,pmax_kw,\
    kind,valid_from,valid_to,price_eur_mwh,fee_eur_mwh,fee_eur_mw_month,management_premium_eur_mwh,nbcapa_mw,\
    imbalance_share,go_eur_mwh,negative_premium,vat,vat_rate_pct,known_at\n";

/// The table of contracts as it is known at an instant.
fn contracts(agreements: &[Agreement], at: i64) -> String {
    let mut text = CONTRACT_COLUMNS.to_owned();
    for agreement in agreements {
        let count = if at < INDEXED_AT { 1 } else { agreement.versions.len() };
        for (rank, terms) in agreement.versions.iter().take(count).enumerate() {
            // The first version has no end until the second one is agreed.
            let is_changed = agreement.versions.len() > 1;
            let valid_to = if rank + 1 == count && rank + 1 < agreement.versions.len() { "" } else { terms.valid_to };
            let known_at = if is_changed { at } else { KNOWN_FROM_START_AT };
            contract(&mut text, agreement, terms, valid_to, known_at);
        }
    }
    text
}

fn contract(text: &mut String, agreement: &Agreement, terms: &Terms, valid_to: &str, known_at: i64) {
    let (producer, site) = (agreement.producer, &agreement.site);
    let pmax_kw = format!("{:.3}", site.pmax_kw);
    let fields = [
        &agreement.contract,
        producer.id,
        producer.name,
        &producer.siret(),
        &agreement.site_code,
        &site.name,
        site.technology.label(),
        &agreement.prm,
        &agreement.perimeter(),
        &pmax_kw,
        agreement.kind,
        terms.valid_from,
        valid_to,
        terms.price,
        terms.fee,
        terms.fee_per_mw,
        terms.management_premium,
        terms.nbcapa_mw,
        terms.imbalance_share,
        terms.guarantee,
        terms.negative_premium,
        terms.vat,
        "",
        &instant_text(known_at),
    ];
    push(text, &fields);
}

/// Adds a row. No field contains a comma, so none needs quotes.
fn push(text: &mut String, fields: &[&str]) {
    text.push_str(&fields.join(","));
    text.push('\n');
}

fn precedence() -> String {
    let mut text = "kind,source,rank,valid_from,valid_to,known_at\n".to_owned();
    let known_at = instant_text(KNOWN_FROM_START_AT);
    for (rank, source) in ["DSO_CORRECTED", "DSO_RAW", "PRODUCER_DECLARED", "SCADA"].iter().enumerate() {
        let rank = (rank + 1).to_string();
        push(&mut text, &["*", source, &rank, "2020-01-01", "", &known_at]);
    }
    text
}

const PRICE_COLUMNS: &str = "series,starts_at,step,price,known_at\n";

/// The capacity prices (Prefcapa), in EUR/MW and year.
fn capacity() -> String {
    let mut text = PRICE_COLUMNS.to_owned();
    for (year, price) in [(2025, "11384.70"), (2026, "14211.50")] {
        let first = NaiveDate::from_ymd_opt(year, 1, 1).unwrap_or_default();
        let starts_at = instant_text(local_midnight(first));
        push(&mut text, &["PREFCAPA", &starts_at, "P1Y", price, &instant_text(KNOWN_FROM_START_AT)]);
    }
    text
}

/// The day-ahead prices of the year before the first month, which premiums for hours of negative price count: by the hour,
/// and by the quarter since deliveries of October. Higher in winter and in the evening, negative on sunny weekends.
fn prices_before(first: &Month) -> String {
    let midnight = |month: u32| local_midnight(NaiveDate::from_ymd_opt(2025, month, 1).unwrap_or_default());
    let (begin, quarters_from) = (midnight(1), midnight(10));
    let known_at = instant_text(first.from);
    let mut text = PRICE_COLUMNS.to_owned();
    let mut at = begin;
    while at < first.from {
        let (step_s, step) = if at < quarters_from { (3_600, "PT60M") } else { (QUARTER_S, "PT15M") };
        let local = paris(at);
        let hour = local.rem_euclid(DAY_S) as f64 / 3_600.0;
        let daily = 2_000.0 * ((hour - 19.0) * std::f64::consts::PI / 12.0).cos();
        let sun =
            if is_weekend(local) && (11.0..16.0).contains(&hour) { -9_000.0 * season(at, 172.0).max(0.0) } else { 0.0 };
        let cents = (6_000.0 + 2_500.0 * season(at, 15.0) + daily + sun).round() as i64;
        let _ = writeln!(text, "DAY_AHEAD_FR,{},{step},{},{known_at}", instant_text(at), hundredths(cents));
        at += step_s;
    }
    text
}

fn prices(data: &BillingData, month: &Month) -> String {
    let mut text = PRICE_COLUMNS.to_owned();
    for at in month.quarters() {
        // The results of the auction are known at noon of the day before.
        let day = at - (at - month.from).rem_euclid(DAY_S);
        let _ = writeln!(
            text,
            "DAY_AHEAD_FR,{},PT15M,{},{}",
            instant_text(at),
            hundredths(data.prices.day_ahead(at)),
            instant_text(day - DAY_S / 2)
        );
    }
    for at in month.quarters() {
        let known_at = (at + DAY_S / 2).min(month.later(0, 12));
        let price = hundredths(data.prices.imbalance(at));
        let _ = writeln!(text, "IMBALANCE_FR,{},PT15M,{price},{}", instant_text(at), instant_text(known_at));
    }
    for (series, technology) in
        [("M0_WIND", Technology::Wind), ("M0_SOLAR", Technology::Solar), ("M0_HYDRO", Technology::Hydro)]
    {
        let price = hundredths(data.prices.reference(month, technology));
        let _ =
            writeln!(text, "{series},{},P1M,{price},{}", instant_text(month.from), instant_text(month.later(0, 12)));
    }
    text
}

const METER_COLUMNS: &str = "prm,source,starts_at,step,energy_wh,withdrawal_wh,quality,known_at\n";

fn meters(data: &BillingData, month: &Month) -> String {
    let mut text = METER_COLUMNS.to_owned();
    for (agreement, energies) in data.agreements.iter().zip(&data.energies) {
        let prm = &agreement.prm;
        // A day is known at five in the next morning, and the last one before the file is available.
        let known_at = |at: i64| instant_text((at - at.rem_euclid(DAY_S) + DAY_S + 5 * 3_600).min(month.later(0, 9)));
        for at in month.quarters().filter(|_| agreement.is_metered) {
            let (wh, quality) = match energies.is_estimated(at) {
                true => (energies.estimated_wh(at), "estimated"),
                false => (energies.injected_wh(at), "measured"),
            };
            let (start, known_at, withdrawn) = (instant_text(at), known_at(at), energies.withdrawn_wh);
            let _ = writeln!(text, "{prm},DSO_RAW,{start},PT15M,{wh},{withdrawn},{quality},{known_at}");
        }
        for at in month.quarters().filter(|_| agreement.is_forecast) {
            let (start, wh) = (instant_text(at), energies.forecast_wh(at));
            let issued_at = instant_text(at - at.rem_euclid(DAY_S) - DAY_S / 2);
            let _ = writeln!(text, "{prm},FORECAST,{start},PT15M,{wh},0,estimated,{issued_at}");
        }
        for at in month.quarters().step_by((3_600 / QUARTER_S) as usize) {
            let (start, wh, withdrawn) = (instant_text(at), energies.scada_wh(at), energies.withdrawn_wh * 4);
            let seen_at = instant_text(at + 3_600);
            let _ = writeln!(text, "{prm},SCADA,{start},PT60M,{wh},{withdrawn},measured,{seen_at}");
        }
    }
    perimeter(&mut text, data, month);
    text
}

/// Adds the energy of all plants together, as the system operator measures it.
fn perimeter(text: &mut String, data: &BillingData, month: &Month) {
    let Some(code) = data.agreements.first().map(Agreement::perimeter) else { return };
    for at in month.quarters().step_by((3_600 / QUARTER_S) as usize) {
        let wh: i64 = data.energies.iter().map(|one| one.sum_wh(at, 3_600)).sum();
        let (start, known_at) = (instant_text(at), instant_text((at + 12 * 3_600).min(month.later(0, 9))));
        let _ = writeln!(text, "{code},TSO,{start},PT60M,{wh},0,measured,{known_at}");
    }
}

/// The grid operator's corrections after the month was billed; `None` where there are none.
fn corrected(data: &BillingData, month: &Month, at: i64) -> Option<String> {
    let mut text = METER_COLUMNS.to_owned();
    let known_at = instant_text(at - 3_600);
    for (agreement, energies) in data.agreements.iter().zip(&data.energies).filter(|(one, _)| one.is_metered) {
        for at in month.quarters().filter(|at| energies.is_estimated(*at)) {
            let (start, wh, withdrawn) = (instant_text(at), energies.injected_wh(at), energies.withdrawn_wh);
            let prm = &agreement.prm;
            let _ = writeln!(text, "{prm},DSO_CORRECTED,{start},PT15M,{wh},{withdrawn},corrected,{known_at}");
        }
    }
    (text != METER_COLUMNS).then_some(text)
}

fn orders(data: &BillingData, month: &Month) -> String {
    let mut text = "order_id,contract_id,prm,starts_at,ends_at,reason,known_at\n".to_owned();
    for (agreement, energies) in data.agreements.iter().zip(&data.energies) {
        for order in energies.orders.iter().filter(|order| (month.from..month.to).contains(&order.from)) {
            let (starts_at, ends_at) = (instant_text(order.from), instant_text(order.to));
            let id = format!("ORD-{}-{}", agreement.site_code, starts_at.replace([':', '-'], ""));
            let given_at = instant_text(order.from - 2 * 3_600);
            let reason = "negative day-ahead price";
            push(&mut text, &[&id, &agreement.contract, &agreement.prm, &starts_at, &ends_at, reason, &given_at]);
        }
    }
    text
}
