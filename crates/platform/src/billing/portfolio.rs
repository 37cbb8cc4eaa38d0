//! The producers, their contracts with the aggregator, and the formats of their files.

use crate::fleet::{Site, Technology};
use crate::output::Output;
use crate::random::stream;
use crate::registry::{eic, siret};
use rand::Rng;

/// A contract with all its versions.
pub(crate) struct Agreement {
    /// The number of the contract.
    pub contract: String,
    /// The producer.
    pub producer: &'static Producer,
    /// The code of the site in the files.
    pub site_code: String,
    /// The number of the metering point.
    pub prm: String,
    /// The site.
    pub site: Site,
    /// The kind of contract.
    pub kind: &'static str,
    /// The terms, in the order of their validity.
    pub versions: Vec<Terms>,
    /// Whether the grid operator meters it by quarters of an hour. Otherwise the producer's file is the main source.
    pub is_metered: bool,
    /// Whether it has forecasts, because its imbalances are shared.
    pub is_forecast: bool,
    /// Whether the aggregator may order it to stop.
    pub is_curtailed: bool,
}

/// The terms of a contract from a local day on, as texts of the file. What a kind does not use is empty.
#[derive(Clone, Default)]
pub(crate) struct Terms {
    /// The first day of their validity.
    pub valid_from: &'static str,
    /// The first day after their validity.
    pub valid_to: &'static str,
    /// EUR/MWh
    pub price: &'static str,
    /// EUR/MWh
    pub fee: &'static str,
    /// EUR/MW and month
    pub fee_per_mw: &'static str,
    /// EUR/MWh
    pub management_premium: &'static str,
    /// The capacity that is deducted, in MW.
    pub nbcapa_mw: &'static str,
    /// The producer's share of the imbalance costs.
    pub imbalance_share: &'static str,
    /// The price of guarantees of origin, in EUR/MWh.
    pub guarantee: &'static str,
    /// `yes` where a premium is paid for negative prices.
    pub negative_premium: &'static str,
    /// The VAT scheme.
    pub vat: &'static str,
}

/// A producer, with the format of its files.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Producer {
    /// Such as `PRD0001`.
    pub id: &'static str,
    /// The company's name.
    pub name: &'static str,
    /// The format of its files.
    pub format: FileFormat,
    /// The step of its files, in seconds.
    pub step_s: i64,
}

/// The format of a producer's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileFormat {
    /// CSV in UTF-8.
    Utf8,
    /// CSV in UTF-8 with a byte order mark.
    Utf8WithMark,
    /// CSV in Latin-1.
    Latin1,
    /// An Excel workbook.
    Workbook,
}

impl Producer {
    /// The company's SIRET.
    pub fn siret(&self) -> String {
        let number = self.id.bytes().fold(412_345_678, |number: u32, byte| number + u32::from(byte) * 7_919);
        siret(number)
    }
}

const PRODUCERS: [Producer; 7] = [
    Producer { id: "PRD0001", name: "Éoliennes citoyennes des Cévennes", format: FileFormat::Utf8, step_s: 900 },
    Producer { id: "PRD0002", name: "Coopérative solaire du Béarn", format: FileFormat::Utf8WithMark, step_s: 1_800 },
    Producer {
        id: "PRD0003",
        name: "Société hydroélectrique de l'Orée des Vosges",
        format: FileFormat::Workbook,
        step_s: 3_600,
    },
    Producer {
        id: "PRD0004",
        name: "Énergies renouvelables du Cœur de Brière",
        format: FileFormat::Latin1,
        step_s: 900,
    },
    Producer { id: "PRD0005", name: "SAS Électricité verte", format: FileFormat::Utf8, step_s: 3_600 },
    Producer {
        id: "PRD0006", name: "Régie d'électricité de la Forêt d'Othe", format: FileFormat::Utf8, step_s: 900
    },
    Producer { id: "PRD0007", name: "Les Producteurs associés du Guil", format: FileFormat::Utf8, step_s: 1_800 },
];

/// All contracts.
pub(crate) fn agreements(output: &Output) -> Vec<Agreement> {
    let since = Terms { valid_from: "2021-01-01", vat: "reverse_charge", ..Terms::default() };
    let spot = Terms { fee: "1.8500", imbalance_share: "0.5000", ..since.clone() };
    // Since October 2025 the premium for negative prices follows an order that is not computed.
    let solar =
        Terms { price: "78.9000", management_premium: "2.0000", negative_premium: "", vat: "none", ..since.clone() };
    let hydro =
        Terms { price: "132.1000", management_premium: "2.0000", nbcapa_mw: "0.6000", vat: "none", ..since.clone() };
    let fixed = Terms { price: "68.6115", valid_to: "2026-03-16", guarantee: "0.3500", ..since.clone() };
    // The price is indexed in the middle of a month.
    let indexed = Terms { price: "70.2500", valid_from: "2026-03-16", valid_to: "", ..fixed.clone() };
    let reference = Terms { fee: "2.3700", ..since.clone() };
    let both = Terms { fee: "2.1000", fee_per_mw: "35.0000", imbalance_share: "0.2500", ..since.clone() };
    let tariff = Terms { price: "98.1200", ..since.clone() };
    let small = Terms { price: "81.0400", guarantee: "0.5000", ..since.clone() };
    let all = [
        (1, 0, "SPOT_PASSTHROUGH", vec![spot]),
        (2, 1, "CR", vec![solar]),
        (3, 2, "CR", vec![hydro]),
        (4, 3, "FIXED_PPA", vec![fixed, indexed]),
        (5, 4, "M0_MINUS_FEE", vec![reference]),
        (6, 5, "SPOT_PASSTHROUGH", vec![both]),
        (7, 5, "OA", vec![tariff]),
        (10, 6, "FIXED_PPA", vec![small]),
    ];
    all.into_iter()
        .filter_map(|(site, producer, kind, versions)| agreement(output, site, producer, kind, versions))
        .collect()
}

fn agreement(output: &Output, id: u32, producer: usize, kind: &'static str, versions: Vec<Terms>) -> Option<Agreement> {
    let site = output.plants.iter().find(|plant| plant.site.id == id)?.site.clone();
    let prefix = match site.technology {
        Technology::Wind => "EOL",
        Technology::Solar => "PV",
        Technology::Hydro => "HYD",
    };
    let has_share = versions.iter().any(|terms| !terms.imbalance_share.is_empty());
    Some(Agreement {
        contract: format!("CTR-2021-{id:04}"),
        producer: &PRODUCERS[producer],
        site_code: format!("{prefix}-{id:03}"),
        prm: format!("{:014}", 30_000_000_000_000_u64 + u64::from(id)),
        kind,
        is_metered: site.technology != Technology::Hydro,
        is_forecast: has_share,
        is_curtailed: id <= 2,
        versions,
        site,
    })
}

impl Agreement {
    /// The EIC of its balance perimeter: all contracts are in that of the aggregator.
    pub fn perimeter(&self) -> String {
        eic(9_000)
    }

    /// The consumption of the plant's auxiliaries, in Wh per quarter.
    pub fn auxiliaries_wh(&self, seed: u64) -> i64 {
        let mut rng = stream(seed, "auxiliaries", self.site.id, 0);
        (self.site.pmax_kw * rng.random_range(0.5..1.5)).round() as i64
    }
}
