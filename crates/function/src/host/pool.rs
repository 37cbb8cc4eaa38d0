//! The instances of one version of a function: started when needed, kept warm, never more than
//! its concurrency.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::instance::{Instance, Invoked, Making};
use super::logs::Sink;
use super::{Event, Function, Opening, Outcome, Pieces};
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
    arn: Arc<str>,
    openings: Vec<Opening>,
    /// Only where the host is root: the user that this function alone runs as.
    user: Option<u32>,
    free: Semaphore,
    /// The one used last is taken first, so that the others can end.
    idle: Mutex<Vec<(Instance, Instant)>>,
}

impl Pool {
    pub fn new(settings: Arc<Settings>, function: Function, concurrency: usize, user: Option<u32>) -> Pool {
        Pool::with_openings(settings, function, concurrency, user, Vec::new())
    }

    pub fn with_openings(
        settings: Arc<Settings>,
        function: Function,
        concurrency: usize,
        user: Option<u32>,
        openings: Vec<Opening>,
    ) -> Pool {
        let inner = Inner {
            settings,
            arn: arn(&function.name, &function.version).into(),
            function: Arc::new(function),
            openings,
            user,
            free: Semaphore::new(concurrency.clamp(1, Semaphore::MAX_PERMITS)),
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
        self.invoke_in_pieces(event, None).await
    }

    /// With `pieces`, a response goes there as it comes, and the outcome's is empty.
    pub async fn invoke_in_pieces(&self, event: Event, pieces: Option<Pieces>) -> Result<Outcome> {
        let Ok(_busy) = self.inner.free.try_acquire() else {
            let context = format!("invoke {}: all of its instances are busy", self.inner.function.name);
            return Err(Error::new(Kind::Retry, context));
        };
        let (mut event, mut pieces, mut warm) = (event, pieces, self.take());
        loop {
            let mut instance = match warm.take() {
                Some(warm) => warm,
                None => self.start().await?,
            };
            match instance.invoke(event, &self.inner.arn, pieces).await? {
                Invoked::Done(outcome, alive) => {
                    if alive {
                        self.lock().push((instance, Instant::now()));
                    }
                    return Ok(outcome);
                }
                Invoked::NotTaken(work, alive) => {
                    (event, pieces) = (work.event, work.pieces);
                    if alive {
                        self.lock().insert(0, (instance, Instant::now()));
                    }
                }
            }
        }
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

    /// Ends what has had no work for longer than [`Settings::idle_max`], but `keep` of them, and
    /// lets go of what has ended by itself; called now and then.
    pub fn cool(&self, keep: usize) {
        let idle_max = self.inner.settings.idle_max;
        let mut idle = self.lock();
        // One that asks for no event has got stuck behind its last one.
        let timeout = self.inner.function.timeout;
        idle.retain(|(instance, since)| instance.is_alive() && (instance.is_waiting() || since.elapsed() < timeout));
        // The first ones have waited longest.
        let mut above = idle.len().saturating_sub(keep);
        idle.retain(|(_, since)| {
            let ends = above > 0 && since.elapsed() >= idle_max;
            above -= usize::from(ends);
            !ends
        });
    }

    pub fn idle(&self) -> usize {
        self.lock().len()
    }

    /// Whether each idle instance has asked for its next event, or has ended: an event that comes now
    /// finds a warm one at once.
    pub fn is_at_rest(&self) -> bool {
        self.lock().iter().all(|(instance, _)| instance.is_waiting() || !instance.is_alive())
    }

    fn take(&self) -> Option<Instance> {
        let mut idle = self.lock();
        idle.retain(|(instance, _)| instance.is_alive());
        let ready = idle.iter().rposition(|(instance, _)| instance.is_waiting());
        // One that has just answered is quicker than a new one.
        let at = ready.or(idle.len().checked_sub(1))?;
        Some(idle.remove(at).0)
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
                openings: &inner.openings,
            };
            Instance::start(Arc::clone(&inner.function), &making, &handle)
        });
        starting.await.during(Kind::Bug, "start an instance")?
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Instance, Instant)>> {
        self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As AWS names it; there is one account here, and one region.
pub(crate) fn arn(name: &str, version: &str) -> String {
    let unqualified = format!("arn:aws:lambda:local:000000000000:function:{name}");
    if version == crate::registry::LATEST { unqualified } else { format!("{unqualified}:{version}") }
}
