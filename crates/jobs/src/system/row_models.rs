//! The models of endpoints for `predict` in SQL. Loaded ones are kept by the hash of their artifact.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ledger::Ledger;
use model::RowPredictor;
use sql::RowModel;

use crate::model_host::ARTIFACTS;

/// How many models are kept.
const MODELS_MAX: usize = 16;

static MODELS: Mutex<Option<HashMap<String, Arc<LoadedModel>>>> = Mutex::new(None);

struct LoadedModel(RowPredictor);

impl RowModel for LoadedModel {
    fn columns(&self) -> &[String] {
        self.0.columns()
    }

    fn is_category(&self, column: usize) -> bool {
        self.0.is_category(column)
    }

    fn value(&self, column: usize, text: &str) -> base::Result<f64> {
        self.0.value(column, text)
    }

    fn predict(&self, row: &[f64]) -> f64 {
        self.0.predict(row)
    }
}

/// The model of an endpoint.
pub fn model(ledger: &Ledger, endpoint: &str) -> base::Result<Arc<dyn RowModel>> {
    let hash = RowPredictor::artifact_of(ledger, endpoint)?;
    if let Some(kept) = MODELS.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().get(&hash) {
        return Ok(Arc::<LoadedModel>::clone(kept));
    }
    // Without the lock: other queries need not wait.
    let artifacts = ledger.folder().join(ARTIFACTS);
    let loaded = Arc::new(LoadedModel(RowPredictor::load(&artifacts, &hash)?));
    let mut guard = MODELS.lock().unwrap_or_else(PoisonError::into_inner);
    let models = guard.get_or_insert_default();
    if models.len() >= MODELS_MAX {
        models.clear();
    }
    models.insert(hash, Arc::clone(&loaded));
    Ok(loaded)
}
