//! The model of an endpoint as a function of rows, for queries.

use std::path::Path;

use base::{Error, Result};
use ledger::{ContentKind, EndpointState, Ledger};
use lightgbm::Options;

use super::artifact::ArtifactStore;
use super::container::Container;
use super::definition::{EndpointConfig, Model};
use super::serving;

/// A model that predicts one number for a row, in this process.
#[derive(Debug)]
pub struct RowPredictor(lightgbm::Model);

impl RowPredictor {
    /// The hash of the artifact of the variant with the greatest weight of an endpoint, if that is a LightGBM model.
    ///
    /// # Errors
    /// [`base::Kind::FixInput`] where there is no such endpoint, or its model runs as a program.
    pub fn artifact_of(ledger: &Ledger, endpoint: &str) -> Result<String> {
        let row = ledger.endpoint(endpoint)?.filter(|row| row.state == EndpointState::InService);
        let missing_endpoint = || {
            let error = Error::input(format!("there is no endpoint {endpoint:?} in service"));
            error.hint("wattlake endpoint list shows all with their states; wattlake serve brings them into service")
        };
        let row = row.ok_or_else(missing_endpoint)?;
        let read = |error| Error::setup(format!("read endpoint {endpoint}")).because(error);
        let missing = || Error::setup(format!("the configuration of endpoint {endpoint} is not there"));
        let config = ledger.content(ContentKind::EndpointConfig, &row.config)?.ok_or_else(missing)?;
        let config: EndpointConfig = serde_json::from_value(config.content).map_err(read)?;
        let weight = |variant: &super::Variant| row.weights[&variant.name].as_f64().unwrap_or(variant.weight);
        let chosen = config.variants.iter().max_by(|a, b| weight(a).total_cmp(&weight(b))).ok_or_else(missing)?;
        let model = ledger.content(ContentKind::Model, &chosen.model)?.ok_or_else(missing)?;
        let model: Model = serde_json::from_value(model.content).map_err(read)?;
        match (model.container, model.artifact) {
            (Container::LightGbm, Some(artifact)) => Ok(artifact),
            _ => Err(Error::input(format!("the model of endpoint {endpoint} runs as a program"))
                .hint("predict is for models of the image wattlake/lightgbm; invoke others by HTTP")),
        }
    }

    /// Loads the model of an artifact.
    ///
    /// # Errors
    /// It is damaged, or predicts several numbers for a row.
    pub fn load(artifacts: &Path, hash: &str) -> Result<RowPredictor> {
        let model = serving::load(&ArtifactStore::open(artifacts)?.path(hash))?;
        match model.outputs() {
            1 => Ok(RowPredictor(model)),
            several => {
                Err(Error::input(format!("the model predicts {several} numbers for a row, predict returns one")))
            }
        }
    }

    /// The names of its columns.
    pub fn columns(&self) -> &[String] {
        self.0.columns().names()
    }

    /// Whether a column has categories.
    pub fn is_category(&self, column: usize) -> bool {
        self.0.columns().is_category(column)
    }

    /// The value of a column's text.
    ///
    /// # Errors
    /// [`base::Kind::FixInput`] for a text that is no number, in a column without categories.
    pub fn value(&self, column: usize, text: &str) -> Result<f64> {
        self.0.columns().value(column, text)
    }

    /// Predicts a row.
    pub fn predict(&self, row: &[f64]) -> f64 {
        let mut predicted = [0.0];
        self.0.predict(row, Options::default(), &mut predicted);
        predicted[0]
    }
}
