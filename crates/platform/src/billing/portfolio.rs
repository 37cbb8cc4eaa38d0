//! Who sells to the aggregator, on which terms, and how each of them sends files.

use crate::fleet::{Site, Technology};
use crate::output::Output;
use crate::random::stream;
use crate::registry::{eic, siret};
use rand::Rng;

/// A contract over all its versions.
pub(crate) struct Agreement {
    pub contract: String,
    pub producer: &'static Producer,
    pub site_code: String,
    pub prm: String,
    pub site: Site,
    pub kind: &'static str,
    pub versions: Vec<Terms>,
    /// Whether the grid's operator meters it by the quarter; else the producer's file is all there is.
    pub is_metered: bool,
    /// Whether it is forecast: its imbalances are shared.
    pub is_forecast: bool,
    /// Whether the aggregator may order it to stop.
    pub is_curtailed: bool,
}

/// From a local day on. What a kind has no use for is empty.
#[derive(Clone, Default)]
pub(crate) struct Terms {
    pub valid_from: &'static str,
    /// The first day on which they no longer hold.
    pub valid_to: &'static str,
    pub price: &'static str,
    pub fee: &'static str,
    pub fee_per_mw: &'static str,
    pub management_premium: &'static str,
    pub nbcapa_mw: &'static str,
    pub imbalance_share: &'static str,
    pub guarantee: &'static str,
    pub negative_premium: &'static str,
    pub vat: &'static str,
}

/// Whose file it is, and how it is written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Producer {
    pub id: &'static str,
    pub name: &'static str,
    pub form: Form,
    pub step_s: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Utf8,
    Utf8WithMark,
    Latin1,
    Sheet,
}

impl Producer {
    pub fn siret(&self) -> String {
        let number = self.id.bytes().fold(412_345_678, |number: u32, byte| number + u32::from(byte) * 7_919);
        siret(number)
    }
}

const PRODUCERS: [Producer; 7] = [
    Producer { id: "PRD0001", name: "Éoliennes citoyennes des Cévennes", form: Form::Utf8, step_s: 900 },
    Producer { id: "PRD0002", name: "Coopérative solaire du Béarn", form: Form::Utf8WithMark, step_s: 1_800 },
    Producer {
        id: "PRD0003", name: "Société hydroélectrique de l'Orée des Vosges", form: Form::Sheet, step_s: 3_600
    },
    Producer { id: "PRD0004", name: "Énergies renouvelables du Cœur de Brière", form: Form::Latin1, step_s: 900 },
    Producer { id: "PRD0005", name: "SAS Électricité verte", form: Form::Utf8, step_s: 3_600 },
    Producer { id: "PRD0006", name: "Régie d'électricité de la Forêt d'Othe", form: Form::Utf8, step_s: 900 },
    Producer { id: "PRD0007", name: "Les Producteurs associés du Guil", form: Form::Utf8, step_s: 1_800 },
];

pub(crate) fn agreements(output: &Output) -> Vec<Agreement> {
    let since = Terms { valid_from: "2021-01-01", vat: "reverse_charge", ..Terms::default() };
    let spot = Terms { fee: "1.8500", imbalance_share: "0.5000", ..since.clone() };
    let solar =
        Terms { price: "78.9000", management_premium: "2.0000", negative_premium: "yes", vat: "none", ..since.clone() };
    let hydro =
        Terms { price: "132.1000", management_premium: "2.0000", nbcapa_mw: "0.6000", vat: "none", ..since.clone() };
    let fixed = Terms { price: "68.6115", valid_to: "2026-03-16", guarantee: "0.3500", ..since.clone() };
    // Indexed in the middle of a month.
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
    /// Of the balance perimeter that it is in: all are in the aggregator's one.
    pub fn perimeter(&self) -> String {
        eic(9_000)
    }

    /// What the plant's own machines take, in Wh a quarter.
    pub fn auxiliaries_wh(&self, seed: u64) -> i64 {
        let mut rng = stream(seed, "auxiliaries", self.site.id, 0);
        (self.site.pmax_kw * rng.random_range(0.5..1.5)).round() as i64
    }
}
