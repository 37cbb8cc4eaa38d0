//! The instances of one version of a function: started when needed, kept warm, never more than
//! its concurrency.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::instance::{Instance, Making};
use super::logs::Sink;
use super::{Event, Function, Outcome};
use crate::error::{During, Error, Kind, Result};
use crate::sandbox::Launcher;
use crate::store::Store;

/// What all pools of a host share.
pub struct Settings {
    pub store: Store,
    pub launcher: Launcher,
    /// An existing folder for the points that sandboxes are mounted on.
    pub roots: PathBuf,
    /// Variables that every function gets, beside AWS's own.
    pub environment: BTreeMap<String, String>,
    /// An instance without work for so long ends.
    pub idle_max: Duration,
    pub sink: Sink,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Arc<Settings>,
    function: Arc<Function>,
    arn: String,
    /// Only where the host is root: the user that this function alone runs as.
    user: Option<u32>,
    free: Semaphore,
    /// The one used last is taken first, so that the others can end.
    idle: Mutex<Vec<(Instance, Instant)>>,
}

impl Pool {
    pub fn new(settings: Arc<Settings>, function: Function, concurrency: usize, user: Option<u32>) -> Pool {
        let arn = format!("arn:aws:lambda:local:000000000000:function:{}", function.name);
        let inner = Inner {
            settings,
            function: Arc::new(function),
            arn,
            user,
            free: Semaphore::new(concurrency.max(1)),
            idle: Mutex::default(),
        };
        Pool { inner: Arc::new(inner) }
    }

    pub fn function(&self) -> &Function {
        &self.inner.function
    }

    /// Runs an event in a warm instance, or in a new one.
    ///
    /// # Errors
    /// [`Kind::Retry`] where as many as allowed are busy; what keeps an instance from starting.
    /// A function that fails is no error here: its [`Outcome`] says so.
    pub async fn invoke(&self, event: Event) -> Result<Outcome> {
        let Ok(_busy) = self.inner.free.try_acquire() else {
            let context = format!("invoke {}: all of its instances are busy", self.inner.function.name);
            return Err(Error::new(Kind::Retry, context));
        };
        let mut instance = match self.take() {
            Some(warm) => warm,
            None => self.start().await?,
        };
        let (outcome, alive) = instance.invoke(event, &self.inner.arn).await;
        if alive {
            self.lock().push((instance, Instant::now()));
        }
        Ok(outcome)
    }

    /// Starts instances until so many are idle, and waits until they are ready.
    pub async fn warm(&self, count: usize) -> Result<()> {
        while self.lock().len() < count {
            let mut instance = self.start().await?;
            if let Err(failure) = instance.warm().await {
                let context = format!("start {}: {}", self.inner.function.name, String::from_utf8_lossy(&failure.body));
                return Err(Error::new(Kind::FixInput, context));
            }
            self.lock().push((instance, Instant::now()));
        }
        Ok(())
    }

    /// Ends what has had no work for longer than [`Settings::idle_max`]; called now and then.
    pub fn cool(&self) {
        let idle_max = self.inner.settings.idle_max;
        self.lock().retain(|(_, since)| since.elapsed() < idle_max);
    }

    pub fn idle(&self) -> usize {
        self.lock().len()
    }

    fn take(&self) -> Option<Instance> {
        let (instance, _) = self.lock().pop()?;
        Some(instance)
    }

    async fn start(&self) -> Result<Instance> {
        let inner = Arc::clone(&self.inner);
        let handle = Handle::current();
        let starting = tokio::task::spawn_blocking(move || {
            let settings = &inner.settings;
            let making = Making {
                store: &settings.store,
                launcher: &settings.launcher,
                roots: &settings.roots,
                user: inner.user,
                environment: settings.environment.clone(),
                sink: Arc::clone(&settings.sink),
            };
            Instance::start(Arc::clone(&inner.function), &making, &handle)
        });
        starting.await.during(Kind::Bug, "start an instance")?
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Instance, Instant)>> {
        self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
