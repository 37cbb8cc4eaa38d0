//! The columns and rows of a producer's monthly file, whose layout is in docs/billing.md.

use super::instant;
use crate::calendar::paris;

/// The columns of the file, with French names.
pub(crate) const COLUMNS: [&str; 15] = [
    "schema_version",
    "producteur_id",
    "contrat_id",
    "site_id",
    "prm",
    "mois",
    "horodate_debut",
    "pas",
    "energie_injectee_kwh",
    "energie_soutiree_auxiliaires_kwh",
    "disponibilite_pct",
    "code_evenement",
    "source",
    "statut",
    "commentaire",
];

/// One step of a metering point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// The number of the contract.
    pub contract: String,
    /// The code of the site.
    pub site: String,
    /// The number of the metering point.
    pub prm: String,
    /// The start of the step.
    pub at: i64,
    /// The text of the start in the file, where it is not that of `at`.
    pub written_at: Option<String>,
    /// The length of the step, in seconds.
    pub step_s: i64,
    /// The injected energy.
    pub energy_wh: i64,
    /// The energy withdrawn by auxiliaries.
    pub auxiliaries_wh: i64,
    /// The available power in percent.
    pub availability_pct: i64,
    /// The code of the event, or empty.
    pub event: &'static str,
    /// Where the energy comes from: `COMPTEUR` or `ESTIME`.
    pub source: &'static str,
    /// `DEFINITIF` or `PROVISOIRE`.
    pub status: &'static str,
    /// A comment, or empty.
    pub comment: &'static str,
}

/// The start of a row as it is written: local time with its offset.
pub(crate) fn starts_at(row: &Row) -> String {
    if let Some(text) = &row.written_at {
        return text.clone();
    }
    local_text(row.at)
}

/// An instant as local time with its offset.
pub(crate) fn local_text(at: i64) -> String {
    let offset_h = (paris(at) - at) / 3_600;
    format!("{}+{offset_h:02}:00", instant(paris(at)).format("%Y-%m-%dT%H:%M:%S"))
}

/// A step in ISO 8601, such as `PT15M`.
pub(crate) fn step(step_s: i64) -> String {
    format!("PT{}M", step_s / 60)
}
