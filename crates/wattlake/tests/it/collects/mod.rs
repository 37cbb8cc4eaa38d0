//! Collects from a partner's API: what is new and revised, page by page; a partner that answers nonsense, late, twice,
//! with another unit, by a wrong clock, too often, or never; a collect that is killed.

mod changed;
mod clock;
mod example;
mod followed;
#[cfg(feature = "failpoints")]
mod killed;
mod partner_faults;
mod values;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, DurationRound, SecondsFormat, TimeDelta, Utc};
use platform::partner::{Partner, PartnerAnswer, PartnerRequest};
use serde_json::{Value, json};

use crate::world::Warehouse;

const LAYOUT: &str = r#"
format = "json"
rows = "data"
key = ["station", "starts_at"]
[columns.station]
type = "text"
[columns.starts_at]
header = "at"
type = "timestamp"
[columns.flow_ls]
header = "value"
type = "double"
required = true
min = 0
[columns.status]
type = "text"
"#;

/// A partner's values, by station and time.
pub type Values = BTreeMap<(String, DateTime<Utc>), Value>;

/// A partner whose values are set by the test, and a warehouse that collects them.
pub struct World {
    pub partner: Partner,
    pub warehouse: Warehouse,
    values: Arc<Mutex<Values>>,
}

/// The beginning of this hour.
pub fn this_hour() -> DateTime<Utc> {
    Utc::now().duration_trunc(TimeDelta::hours(1)).unwrap()
}

pub fn text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

impl World {
    /// `more` are further keys of the collect, before its sections. The overlap is 6 hours, where it has none.
    pub fn new(more: &str, request: &str) -> World {
        let values: Arc<Mutex<Values>> = Arc::default();
        let shared = Arc::clone(&values);
        let partner = Partner::start(0, move |request| answer(&shared.lock().unwrap(), request)).unwrap();
        let overlap = if more.contains("overlap") { "" } else { "overlap = '6h'" };
        let collect = format!(
            "layout = 'layouts/flows.toml'\ntable = 'forecast.flows'\nsince = '3d'\n{overlap}\nstep = '1h'\n{more}\n\
             [request]\nurl = '{}/flows/{{station}}'\nretries = 1\n{request}\n\
             [request.query]\nfrom = '{{from}}'\nto = '{{to}}'\n[each]\nstation = ['V1', 'V2']\n",
            partner.url()
        );
        let files = [
            ("wattlake.toml", "lake.url = 'lake'\n"),
            ("layouts/flows.toml", LAYOUT),
            ("collects/flows.toml", &collect),
        ];
        World { partner, warehouse: Warehouse::new(&files), values }
    }

    /// Sets a value, or removes it.
    pub fn set(&self, station: &str, at: DateTime<Utc>, value: Option<Value>) {
        let mut values = self.values.lock().unwrap();
        match value {
            Some(value) => values.insert((station.to_owned(), at), value),
            None => values.remove(&(station.to_owned(), at)),
        };
    }

    /// Sets both stations' values of some hours, counted back from this one.
    pub fn set_hours(&self, hours: impl Iterator<Item = i64>, value: impl Fn(i64) -> f64) {
        for hour in hours {
            for station in ["V1", "V2"] {
                self.set(station, this_hour() - TimeDelta::hours(hour), Some(json!(value(hour))));
            }
        }
    }

    /// The values that are set.
    pub fn values(&self) -> Arc<Mutex<Values>> {
        Arc::clone(&self.values)
    }

    /// Answers as at the beginning.
    pub fn answer_as_set(&self) {
        let shared = Arc::clone(&self.values);
        self.partner.answer_by(move |request| answer(&shared.lock().unwrap(), request));
    }

    /// Runs the collect. Returns the run's figures.
    pub fn collect(&self) -> Value {
        self.warehouse.json(&["run", "collect:flows", "--json"]).pop().unwrap()
    }

    /// The versions of a station's value, the oldest first.
    pub fn versions(&self, station: &str, at: DateTime<Utc>) -> Vec<f64> {
        let query = format!(
            "select flow_ls from forecast.flows where station = '{station}' and starts_at = timestamptz '{}' order by known_at",
            text(at)
        );
        self.warehouse.sql(&query).iter().map(|row| row["flow_ls"].as_f64().unwrap()).collect()
    }
}

fn answer(values: &Values, request: &PartnerRequest) -> PartnerAnswer {
    let instant = |name: &str| request.parameter(name).and_then(|text| text.parse::<DateTime<Utc>>().ok());
    let (Some(from), Some(to)) = (instant("from"), instant("to")) else { return PartnerAnswer::status(400) };
    let station = request.path.rsplit('/').next().unwrap_or_default();
    let rows = values.iter().filter(|((of, at), _)| of == station && (from..to).contains(at));
    let rows: Vec<Value> =
        rows.map(|((station, at), value)| json!({"station": station, "at": text(*at), "value": value})).collect();
    PartnerAnswer::ok(json!({"count": rows.len(), "data": rows}).to_string())
}
