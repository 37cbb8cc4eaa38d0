//! The answers of public services, in their shapes: Hub'Eau's daily flows, page by page, and Open-Meteo's daily weather,
//! a list for each variable.

use chrono::{DateTime, Days, NaiveDate, Utc};
use serde_json::{Value, json};

use super::{Catchment, DayRecord, PartnerAnswer, PartnerRequest};

/// An instant of the partner's clock.
pub type Instant = DateTime<Utc>;

/// The first day of the partner's data.
const FIRST_DAY: NaiveDate = match NaiveDate::from_ymd_opt(2018, 1, 1) {
    Some(day) => day,
    None => NaiveDate::MIN,
};
const SEED: u64 = 20_180_101;
/// The rows of a page, where a request does not say it.
const PAGE_ROWS: usize = 1000;

/// A partner with daily flows and weather, up to the day before its clock's.
pub struct HydroPartner {
    catchments: Vec<(Catchment, Vec<DayRecord>)>,
}

impl HydroPartner {
    /// The partner of the demo, with the days that are over at `now`.
    pub fn demo(now: Instant) -> HydroPartner {
        let count = usize::try_from((now.date_naive() - FIRST_DAY).num_days()).unwrap_or_default();
        let catchments = Catchment::demo().into_iter();
        HydroPartner {
            catchments: catchments
                .map(|catchment| {
                    let days = catchment.days(FIRST_DAY, count, SEED);
                    (catchment, days)
                })
                .collect(),
        }
    }

    /// Answers a request: `/v2/hydrometrie/obs_elab` or `/v1/archive`.
    pub fn answer(&self, request: &PartnerRequest) -> PartnerAnswer {
        let body = match request.path.as_str() {
            "/v2/hydrometrie/obs_elab" => self.flows(request),
            "/v1/archive" => self.weather(request),
            _ => return PartnerAnswer::status(404),
        };
        match body {
            Some(body) => PartnerAnswer::ok(body.to_string()).with("content-type", "application/json"),
            None => {
                PartnerAnswer { status: 400, ..PartnerAnswer::ok("{\"message\": \"a parameter is missing or wrong\"}") }
            }
        }
    }

    /// The days of a station that a request asks for.
    fn days(&self, station: &str, from: &str, to: &str) -> Option<(&Catchment, Vec<&DayRecord>)> {
        let (catchment, days) = self.catchments.iter().find(|(catchment, _)| catchment.code == station)?;
        let (from, to): (NaiveDate, NaiveDate) = (from.parse().ok()?, to.parse().ok()?);
        Some((catchment, days.iter().filter(|day| (from..=to).contains(&day.day)).collect()))
    }

    fn flows(&self, request: &PartnerRequest) -> Option<Value> {
        let parameter = |name: &str| request.parameter(name);
        let station = parameter("code_entite")?;
        let (_, days) = self.days(station, parameter("date_debut_obs_elab")?, parameter("date_fin_obs_elab")?)?;
        let size = parameter("size").map_or(Some(PAGE_ROWS), |size| size.parse().ok())?;
        let page: usize = parameter("page").map_or(Some(1), |page| page.parse().ok())?;
        let skipped = page.checked_sub(1)?.checked_mul(size)?;
        let rows: Vec<Value> = days.iter().skip(skipped).take(size).map(|day| flow(station, day)).collect();
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(request.query.iter().filter(|(name, _)| name != "page"));
        let next = format!("{}?{}", request.path, query.append_pair("page", &(page + 1).to_string()).finish());
        Some(json!({
            "count": days.len(), "next": (skipped + size < days.len()).then_some(next), "api_version": "2.0.1", "data": rows,
        }))
    }

    fn weather(&self, request: &PartnerRequest) -> Option<Value> {
        let parameter = |name: &str| request.parameter(name);
        let (_, days) = self.days(parameter("station")?, parameter("start_date")?, parameter("end_date")?)?;
        let list = |value: fn(&DayRecord) -> Value| days.iter().map(|day| value(day)).collect::<Vec<Value>>();
        Some(json!({
            "latitude": 44.1, "longitude": 5.2, "timezone": "UTC",
            "daily_units": {"time": "iso8601", "precipitation_sum": "mm", "temperature_2m_mean": "°C"},
            "daily": {
                "time": list(|day| json!(day.day.to_string())),
                "precipitation_sum": list(|day| json!(day.rain_mm)),
                "temperature_2m_mean": list(|day| json!(day.temperature_c)),
                "et0_fao_evapotranspiration": list(|day| json!(day.evaporation_mm)),
            },
        }))
    }
}

fn flow(station: &str, day: &DayRecord) -> Value {
    let published = day.day.checked_add_days(Days::new(1)).unwrap_or(day.day);
    json!({
        "code_site": &station[..station.len().min(8)], "code_station": station,
        "date_obs_elab": day.day.to_string(), "resultat_obs_elab": day.flow_ls,
        "date_prod": format!("{published}T05:10:00Z"), "code_statut": "4", "libelle_statut": "Donnée brute",
        "code_methode": "0", "code_qualification": "16", "libelle_qualification": "Non qualifiée",
        "grandeur_hydro_elab": "QmnJ",
    })
}
