//! The files of the example warehouse, built into the program.

/// Paths relative to the warehouse, each with its content.
pub const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/example.rs"));

/// The names of the files of the forecast flow begin like this.
const FORECAST: [&str; 9] = [
    "collects/",
    "containers/",
    "controls/forecast",
    "endpoints/",
    "layers/python.toml",
    "layouts/forecast/",
    "marts/forecast/",
    "predictions/",
    "trainings/",
];

/// The files of the forecast flow only.
pub fn forecast() -> impl Iterator<Item = (&'static str, &'static str)> {
    FILES.iter().copied().filter(|(name, _)| is_of_forecast(name))
}

fn is_of_forecast(name: &str) -> bool {
    FORECAST.iter().any(|beginning| name.starts_with(beginning))
}

/// The files of the billing flow only: no transfer and no mart that reads the platform's tables.
pub fn billing() -> impl Iterator<Item = (&'static str, &'static str)> {
    const FOLDERS: [&str; 9] = [
        "controls/",
        "functions/",
        "ingests/",
        "layers/",
        "layouts/",
        "loads/",
        "marts/billing/",
        "statements/",
        "templates/",
    ];
    let is_of_billing = |name: &str| FOLDERS.iter().any(|folder| name.starts_with(folder)) && !is_of_forecast(name);
    FILES.iter().copied().filter(move |(name, _)| is_of_billing(name))
}
