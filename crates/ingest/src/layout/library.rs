//! Ready-made layouts of files that meters, market places and inverters deliver. `layouts/README.md` says where each shape is
//! known from.

/// A ready-made layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadyMade {
    /// Its name, such as `enedis-r63-csv`.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

impl ReadyMade {
    /// What it is for: its first line.
    pub fn about(&self) -> &'static str {
        let first = self.text.lines().next().unwrap_or_default();
        let first = first.trim_start_matches(['#', ' ']);
        first.split_once(['.', ';']).map_or(first, |(first, _)| first)
    }
}

macro_rules! ready_made {
    ($($name:literal),* $(,)?) => {
        &[$(ReadyMade { name: $name, text: include_str!(concat!("../../layouts/", $name, ".toml")) }),*]
    };
}

/// All ready-made layouts, by name.
pub fn all() -> &'static [ReadyMade] {
    ready_made![
        "eco2mix",
        "enedis-linky-hours",
        "enedis-r151-xml",
        "enedis-r171-xml",
        "enedis-r4x-xml",
        "enedis-r50-xml",
        "enedis-r63-csv",
        "enedis-r63-json",
        "enedis-r65-json",
        "enphase-custom-report",
        "enphase-energy",
        "entsoe-generation-xml",
        "entsoe-prices-csv",
        "entsoe-prices-csv-utc",
        "entsoe-prices-xml",
        "fronius-solarweb",
        "greenbyte-scada",
        "huawei-inverter-5min",
        "huawei-plant-report",
        "la-haute-borne",
        "rte-generation-per-unit-json",
        "sma-sunny-explorer-day",
        "sma-webui",
        "solaredge-energy-json",
    ]
}
