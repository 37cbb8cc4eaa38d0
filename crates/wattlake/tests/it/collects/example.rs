//! The example's definitions of collects, each with an answer in the shape of its service.

use std::fs;
use std::path::Path;

use chrono::{DateTime, DurationRound, SecondsFormat, TimeDelta, Utc};
use platform::partner::{Partner, PartnerAnswer, PartnerRequest};
use serde_json::json;

use crate::world::{EXAMPLE, Warehouse};

/// A warehouse with one of the example's definitions, whose service is at the partner's URL by the variable.
fn collect_of(name: &str, variable: &str, partner: &Partner) -> Warehouse {
    let text = |path: String| fs::read_to_string(Path::new(EXAMPLE).join(path)).unwrap();
    let collect = text(format!("collects/more/{name}.toml"));
    let layout = text(format!("layouts/forecast/{name}.toml"));
    let files = [
        ("wattlake.toml", "lake.url = 'lake'\nserve.timezone = 'Europe/Paris'\n"),
        (&format!("collects/{name}.toml"), &collect),
        (&format!("layouts/forecast/{name}.toml"), &layout),
    ];
    Warehouse::new(&files).with_env(variable, &partner.url())
}

fn hour(hours: i64) -> DateTime<Utc> {
    Utc::now().duration_trunc(TimeDelta::hours(1)).unwrap() + TimeDelta::hours(hours)
}

fn text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// With an offset, as French services have it.
fn local(at: DateTime<Utc>) -> String {
    at.with_timezone(&chrono::FixedOffset::east_opt(3600).unwrap()).to_rfc3339_opts(SecondsFormat::Secs, false)
}

#[test]
fn hubeau_gives_flows_in_real_time() {
    let partner = Partner::start(0, |request| {
        let station = request.parameter("code_entite").unwrap_or_default();
        let row = |hours: i64, flow: f64| {
            json!({"code_site": &station[..8], "code_station": station, "grandeur_hydro": "Q", "date_obs": text(hour(hours)),
                "date_debut_serie": text(hour(-24)), "date_fin_serie": text(hour(-1)), "resultat_obs": flow,
                "code_statut": 4, "libelle_statut": "Donnée brute", "code_methode_obs": 0, "libelle_methode_obs": "Mesurée",
                "code_qualification_obs": 16, "libelle_qualification_obs": "Non qualifiée", "continuite_obs_hydro": true,
                "longitude": 5.1, "latitude": 43.2})
        };
        let next = format!("{}?{}", request.path, "code_entite=Y862000101&cursor=2");
        let body = match request.parameter("cursor") {
            Some(_) => json!({"count": 2, "next": null, "api_version": "2.0.1", "data": [row(-2, 1250.5)]}),
            None => json!({"count": 2, "next": next, "api_version": "2.0.1", "data": [row(-1, 1300.0)]}),
        };
        PartnerAnswer { status: 206, ..PartnerAnswer::ok(body.to_string()) }
    })
    .unwrap();
    let warehouse = collect_of("hubeau-realtime", "HUBEAU_URL", &partner);
    warehouse.ok(&["run", "collect:hubeau-realtime"]).has("2 new values");
    let rows = warehouse.sql("select value, quality from forecast.flows_realtime order by starts_at");
    assert_eq!(rows[0], json!({"value": 1250.5, "quality": "Non qualifiée"}));
}

fn token(request: &PartnerRequest) -> Option<PartnerAnswer> {
    (request.path == "/token/oauth/")
        .then(|| PartnerAnswer::ok("{\"access_token\": \"t\", \"token_type\": \"Bearer\", \"expires_in\": 7200}"))
}

#[test]
fn rte_gives_prices_and_the_tension() {
    let prices = Partner::start(0, |request| {
        token(request).unwrap_or_else(|| {
            let values: Vec<_> = (0..24)
                .map(|n| json!({"start_date": local(hour(n)), "end_date": local(hour(n + 1)), "value": 11000.0, "price": 41.5 + n as f64}))
                .collect();
            PartnerAnswer::ok(json!({"france_power_exchanges": [
                {"start_date": local(hour(0)), "end_date": local(hour(24)), "updated_date": local(hour(-12)), "values": values}]}).to_string())
        })
    })
    .unwrap();
    let warehouse = collect_of("rte-day-ahead", "RTE_URL", &prices)
        .with_env("RTE_CLIENT_ID", "id")
        .with_env("RTE_CLIENT_SECRET", "secret");
    warehouse.ok(&["run", "collect:rte-day-ahead"]).has("24 new values");
    let known =
        format!("select count(*) as n from market.day_ahead where known_at = timestamptz '{}'", text(hour(-12)));
    assert_eq!(warehouse.number(&known), 24);
    let asked = prices.take_requests().into_iter().find(|request| request.method == "GET").unwrap();
    assert!(
        asked.parameter("start_date").unwrap().ends_with("T00:00:00+01:00")
            || asked.parameter("start_date").unwrap().ends_with("+02:00")
    );

    let tension = Partner::start(0, |request| {
        token(request).unwrap_or_else(|| {
            PartnerAnswer::ok(
                json!({"imbalance_data": [{"start_date": local(hour(-3)), "end_date": local(hour(-1)),
                "resolution": "PT15M", "updated_date": local(hour(-1)), "values": [
                    {"start_date": local(hour(-3)), "end_date": local(hour(-2)), "imbalance": 512, "trend": "POSITIVE",
                     "positive_imbalance_settlement_price": 38.11, "negative_imbalance_settlement_price": 44.02},
                    {"start_date": local(hour(-2)), "end_date": local(hour(-1)), "imbalance": -77, "trend": "NEGATIVE",
                     "positive_imbalance_settlement_price": null, "negative_imbalance_settlement_price": 91.5}]}]})
                .to_string(),
            )
        })
    })
    .unwrap();
    let warehouse = collect_of("rte-tension", "RTE_URL", &tension)
        .with_env("RTE_CLIENT_ID", "id")
        .with_env("RTE_CLIENT_SECRET", "secret");
    warehouse.ok(&["run", "collect:rte-tension"]).has("2 new values");
    let rows = warehouse.sql("select trend, resolution_s from market.tension order by starts_at");
    assert_eq!(rows[1], json!({"trend": "NEGATIVE", "resolution_s": 900}));
}

#[test]
fn entsoe_gives_prices_whose_gaps_are_filled() {
    let partner = Partner::start(0, |request| {
        let minutes = |at: DateTime<Utc>| at.format("%Y-%m-%dT%H:%MZ").to_string();
        if request.parameter("periodStart").is_none_or(|start| start.len() != 12) {
            return PartnerAnswer::ok("<Acknowledgement_MarketDocument><Reason><code>999</code></Reason></Acknowledgement_MarketDocument>");
        }
        PartnerAnswer::ok(format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Publication_MarketDocument xmlns=\"urn:iec62325.351:tc57wg16:451-3:publicationdocument:7:3\">\
             <mRID>1</mRID><type>A44</type><TimeSeries><mRID>1</mRID><in_Domain.mRID codingScheme=\"A01\">10YFR-RTE------C</in_Domain.mRID>\
             <currency_Unit.name>EUR</currency_Unit.name><curveType>A03</curveType><Period><timeInterval><start>{}</start><end>{}</end>\
             </timeInterval><resolution>PT60M</resolution><Point><position>1</position><price.amount>55.1</price.amount></Point>\
             <Point><position>4</position><price.amount>-2.5</price.amount></Point></Period></TimeSeries></Publication_MarketDocument>",
            minutes(hour(-6)), minutes(hour(0))
        ))
    })
    .unwrap();
    let warehouse = collect_of("entsoe-day-ahead", "ENTSOE_URL", &partner).with_env("ENTSOE_TOKEN", "a-token");
    warehouse.ok(&["run", "collect:entsoe-day-ahead"]).has("6 new values");
    let rows = warehouse.sql("select price_eur_mwh from market.day_ahead_entsoe order by starts_at");
    let prices: Vec<String> = rows.iter().map(|row| row["price_eur_mwh"].to_string().replace('"', "")).collect();
    assert_eq!(prices, ["55.1", "55.1", "55.1", "-2.5", "-2.5", "-2.5"]);
    // No data is no fault.
    partner.answer_by(|_| {
        PartnerAnswer::ok(
            "<Acknowledgement_MarketDocument>\n<Reason><code>999</code></Reason></Acknowledgement_MarketDocument>",
        )
    });
    warehouse.ok(&["run", "collect:entsoe-day-ahead"]).has("0 new values, 0 revised").has("0 quarantined");
}

#[test]
fn open_meteo_gives_issues_of_forecasts() {
    let answer = |warm: f64| {
        let hours: Vec<i64> = (0..48).collect();
        json!({"latitude": 44.1, "longitude": 5.2, "generationtime_ms": 0.1, "utc_offset_seconds": 0, "timezone": "GMT",
            "hourly_units": {"time": "iso8601", "temperature_2m": "°C"},
            "hourly": {"time": hours.iter().map(|n| hour(*n).format("%Y-%m-%dT%H:%M").to_string()).collect::<Vec<_>>(),
                "temperature_2m": hours.iter().map(|n| warm + *n as f64 / 10.0).collect::<Vec<_>>(),
                "precipitation": hours.iter().map(|_| 0.0).collect::<Vec<_>>(),
                "snowfall": hours.iter().map(|_| 0.0).collect::<Vec<_>>()}})
    };
    let partner = Partner::start(0, move |_| PartnerAnswer::ok(answer(5.0).to_string())).unwrap();
    let warehouse = collect_of("open-meteo", "OPEN_METEO_URL", &partner);
    warehouse.ok(&["run", "collect:open-meteo"]).has("48 new values");
    partner.answer_by(move |_| PartnerAnswer::ok(answer(6.5).to_string()));
    warehouse.ok(&["run", "collect:open-meteo"]).has("0 new values, 48 revised");
    let versions = "select count(*) as n from (select starts_at from forecast.weather_forecasts group by starts_at having count(distinct known_at) = 2) as v";
    assert_eq!(warehouse.number(versions), 48);
}
