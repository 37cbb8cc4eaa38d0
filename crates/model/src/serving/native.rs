//! A model that is predicted in this process. It is loaded by the first request, and dropped when it is idle.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base::{Error, ErrorContext, Kind, Result};
use lightgbm::{Model, Options};
use tokio::sync::Semaphore;

use super::formats::{self, Format};
use super::rows::Rows;
use super::{Invocation, Prediction, ServingError};

/// Without a request for so long, a model is dropped.
const IDLE_MAX: Duration = Duration::from_secs(300);
/// Predictions of more trees than this would hold up other requests of their thread: they get one of their own.
const TREES_INLINE_MAX: usize = 200_000;
/// How long a prediction waits for a thread.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// The longest text of a model that is loaded.
const MODEL_BYTES_MAX: u64 = 2 << 30;

/// A LightGBM model, served. Cheap to clone.
#[derive(Clone)]
pub(crate) struct NativeServer {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    loaded: Mutex<Option<Loaded>>,
    loading: tokio::sync::Mutex<()>,
    /// Has a permit for each prediction on a thread of its own.
    beside: Arc<Semaphore>,
}

struct Loaded {
    model: Arc<Model>,
    used_at: Instant,
}

impl NativeServer {
    /// A server of the model in an artifact's folder.
    pub fn new(folder: PathBuf) -> NativeServer {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let inner = Inner {
            folder,
            loaded: Mutex::default(),
            loading: tokio::sync::Mutex::default(),
            beside: Arc::new(Semaphore::new(processors)),
        };
        NativeServer { inner: Arc::new(inner) }
    }

    /// Checks that the model can be loaded.
    pub fn check(&self) -> Result<()> {
        load(&self.inner.folder).map(drop)
    }

    /// Answers a request.
    pub async fn invoke(&self, invocation: Invocation) -> Result<Prediction, ServingError> {
        let model = self.model().await?;
        let trees = model.trees();
        let content_type = invocation.content_type.as_deref().unwrap_or("text/csv");
        let Some(format) = Format::of(content_type) else {
            let message =
                format!("content type {content_type:?}: expected text/csv, application/json or application/jsonlines");
            return Err(ServingError::answered(415, message));
        };
        let answer_format = formats::answer_format(invocation.accept.as_deref(), format)?;
        let custom_attributes = invocation.custom_attributes.clone();
        // A row that names no column has two bytes.
        let rows_at_most = invocation.body.len() / 2 + 1;
        let predict = move || -> Result<Prediction, ServingError> {
            let rows = formats::rows(&invocation.body, format, model.columns())?;
            Ok(formats::answer(&predictions(&model, &rows), model.outputs(), answer_format))
        };
        let predicted = match rows_at_most.saturating_mul(trees) <= TREES_INLINE_MAX {
            true => predict(),
            false => self.predict_beside(predict).await,
        };
        predicted.map(|prediction| Prediction { custom_attributes, ..prediction })
    }

    /// Predicts on a thread of its own, with as many at a time as there are processors.
    async fn predict_beside(
        &self,
        predict: impl FnOnce() -> Result<Prediction, ServingError> + Send + 'static,
    ) -> Result<Prediction, ServingError> {
        let permit = tokio::time::timeout(WAIT_MAX, Arc::clone(&self.inner.beside).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else { return Err(ServingError::Overloaded) };
        let predicting = tokio::task::spawn_blocking(move || {
            // It is held until the prediction ends, also where its request is given up.
            let _permit = permit;
            predict()
        });
        predicting.await.unwrap_or_else(|error| Err(ServingError::answered(500, error.to_string())))
    }

    /// Drops the model where it is idle.
    pub fn end_idle(&self) {
        let mut loaded = self.lock();
        if loaded.as_ref().is_some_and(|loaded| loaded.used_at.elapsed() >= IDLE_MAX) {
            *loaded = None;
        }
    }

    /// Whether it is in memory.
    pub fn is_running(&self) -> bool {
        self.lock().is_some()
    }

    async fn model(&self) -> Result<Arc<Model>, ServingError> {
        if let Some(loaded) = self.lock().as_mut() {
            loaded.used_at = Instant::now();
            return Ok(Arc::clone(&loaded.model));
        }
        // One request loads it, the others wait, without a thread.
        let _loading = self.inner.loading.lock().await;
        if let Some(loaded) = self.lock().as_ref() {
            return Ok(Arc::clone(&loaded.model));
        }
        let folder = self.inner.folder.clone();
        let loading = tokio::task::spawn_blocking(move || load(&folder)).await;
        let loaded = loading.map_err(|error| ServingError::Failed(error.to_string()))?;
        let model = Arc::new(loaded.map_err(|error| ServingError::Failed(error.chain()))?);
        *self.lock() = Some(Loaded { model: Arc::clone(&model), used_at: Instant::now() });
        Ok(model)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Loaded>> {
        self.inner.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn predictions(model: &Model, rows: &Rows) -> Vec<f64> {
    let mut all = vec![0.0; rows.count * model.outputs()];
    let into = all.chunks_exact_mut(model.outputs());
    for (row, into) in rows.values.chunks_exact(model.columns().len()).zip(into) {
        model.predict(row, Options::default(), into);
    }
    all
}

/// Loads the model of an artifact's folder: its `model.txt`, or its only text file.
pub(crate) fn load(folder: &Path) -> Result<Model> {
    let file = model_file(folder)?;
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let doing = || format!("load the model {name}");
    let bytes = file.metadata().during(Kind::FixInput, doing())?.len();
    if bytes > MODEL_BYTES_MAX {
        return Err(Error::input(format!("{}: it has {bytes} bytes, at most {MODEL_BYTES_MAX} are loaded", doing())));
    }
    let text = std::fs::read_to_string(&file).during(Kind::FixInput, doing())?;
    Model::parse(&text).map_err(|error| error.within(doing()))
}

fn model_file(folder: &Path) -> Result<PathBuf> {
    let named = folder.join("model.txt");
    if named.is_file() {
        return Ok(named);
    }
    let entries = std::fs::read_dir(folder).during(Kind::FixSetup, "look for the model's file")?;
    let files = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file());
    let mut files: Vec<PathBuf> = files.collect();
    let texts = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "txt" || extension == "lgb");
    if files.len() > 1 {
        files.retain(texts);
    }
    match &files[..] {
        [only] => Ok(only.clone()),
        _ => {
            let error =
                Error::input(format!("the artifact has no model.txt, and {} files that could be it", files.len()));
            Err(error.hint("write the model with Booster.save_model(\"model.txt\")"))
        }
    }
}
