//! The instances of one version of a function: started when needed, kept warm, and never more than the
//! concurrency limit.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::instance::{Instance, InstanceResult, InstanceSettings};
use super::logs::Sink;
use super::{Event, Function, LoopbackService, Outcome, Pieces};
use crate::error::{Error, ErrorContext, Kind, Result};
use crate::store::Store;
use sandbox::Launcher;

/// How long an instance is idle before it is paused.
const PAUSE_AFTER: Duration = Duration::from_millis(100);

/// Settings that all pools of a host share.
pub struct PoolSettings {
    /// Holds the code and the layers of functions.
    pub store: Store,
    /// Starts the sandboxes.
    pub launcher: Launcher,
    /// An existing folder for the sandboxes' mount points and for the instances' inputs.
    pub roots: PathBuf,
    /// Variables that every function gets beside AWS's own.
    pub environment: BTreeMap<String, String>,
    /// An instance that is idle for so long is ended.
    pub idle_max: Duration,
    /// Takes each line that a function prints.
    pub sink: Sink,
}

/// The instances of one version of a function. Cheap to clone.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Arc<PoolSettings>,
    function: Arc<Function>,
    arn: Arc<str>,
    services: Vec<LoopbackService>,
    /// Only where the host is root: the user id that only this function has.
    user: Option<u32>,
    /// Has a permit for each further event that may run.
    free: Semaphore,
    /// Idle instances, each with the time since when. The one used last is taken first, so that the others can end.
    idle: Mutex<Vec<(Instance, Instant)>>,
}

impl Pool {
    /// A pool without services. It runs at most `concurrency` events at a time; `user` is the functions' user id,
    /// only where the host is root.
    pub fn new(settings: Arc<PoolSettings>, function: Function, concurrency: usize, user: Option<u32>) -> Pool {
        Pool::with_services(settings, function, concurrency, user, Vec::new())
    }

    /// As [`Pool::new`], with services on each instance's loopback interface.
    pub fn with_services(
        settings: Arc<PoolSettings>,
        function: Function,
        concurrency: usize,
        user: Option<u32>,
        services: Vec<LoopbackService>,
    ) -> Pool {
        let inner = Inner {
            settings,
            arn: arn(&function.name).into(),
            function: Arc::new(function),
            services,
            user,
            free: Semaphore::new(concurrency.clamp(1, Semaphore::MAX_PERMITS)),
            idle: Mutex::default(),
        };
        Pool { inner: Arc::new(inner) }
    }

    /// The version that its instances run.
    pub fn function(&self) -> &Function {
        &self.inner.function
    }

    /// Runs an event in a warm instance, or in a new one.
    ///
    /// # Errors
    /// [`Kind::Retry`] where the concurrency limit is reached; any error that keeps an instance from starting. A
    /// failure of the function itself is part of the [`Outcome`].
    pub async fn invoke(&self, event: Event) -> Result<Outcome> {
        self.invoke_in_pieces(event, None).await
    }

    /// As [`Pool::invoke`]. With `pieces`, the response is sent there as it arrives, and the outcome's is empty.
    pub async fn invoke_in_pieces(&self, event: Event, pieces: Option<Pieces>) -> Result<Outcome> {
        let Ok(_busy) = self.inner.free.try_acquire() else {
            let context = format!("invoke {}: its concurrency limit is reached", self.inner.function.name);
            return Err(Error::new(Kind::Retry, context));
        };
        let arn = match &event.qualifier {
            Some(qualifier) => format!("{}:{qualifier}", self.inner.arn).into(),
            None => Arc::clone(&self.inner.arn),
        };
        let (mut event, mut pieces, mut warm) = (event, pieces, self.take());
        loop {
            let mut instance = match warm.take() {
                Some(warm) => warm,
                None => self.start().await?,
            };
            match instance.invoke(event, &arn, pieces).await? {
                InstanceResult::Done(outcome, alive) => {
                    if alive {
                        let since = Instant::now();
                        self.lock().push((instance, since));
                        self.pause_later(since);
                    }
                    return Ok(outcome);
                }
                InstanceResult::NotTaken(work, alive) => {
                    (event, pieces) = (work.event, work.pieces);
                    if alive {
                        let since = Instant::now();
                        self.lock().insert(0, (instance, since));
                        self.pause_later(since);
                    }
                }
            }
        }
    }

    /// Starts instances until `count` are idle, and waits until they are ready.
    ///
    /// # Errors
    /// [`Kind::FixInput`] where the function fails before it asks for its first event; any error that keeps an
    /// instance from starting.
    pub async fn warm(&self, count: usize) -> Result<()> {
        while self.lock().len() < count {
            let mut instance = self.start().await?;
            if let Err(failure) = instance.warm().await {
                let context = format!("start {}: {}", self.inner.function.name, String::from_utf8_lossy(&failure.body));
                return Err(Error::new(Kind::FixInput, context));
            }
            let since = Instant::now();
            self.lock().push((instance, since));
            self.pause_later(since);
        }
        Ok(())
    }

    /// Pauses the instance that is idle since then, unless it has got another event by then: nothing of a function runs
    /// between its events, and events that follow one another do not wait.
    fn pause_later(&self, since: Instant) {
        let inner = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            tokio::time::sleep(PAUSE_AFTER).await;
            let Some(inner) = inner.upgrade() else { return };
            let mut idle = inner.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.iter_mut().filter(|(_, at)| *at == since).for_each(|(instance, _)| instance.pause());
        });
    }

    /// Ends instances that are idle for longer than [`PoolSettings::idle_max`], but leaves `keep` of them, and drops
    /// those that have ended by themselves. To be called at regular intervals.
    pub fn end_idle(&self, keep: usize) {
        let idle_max = self.inner.settings.idle_max;
        let mut idle = self.lock();
        // An instance that does not ask for its next event hangs after its last one.
        let timeout = self.inner.function.timeout;
        idle.retain(|(instance, since)| instance.is_alive() && (instance.is_waiting() || since.elapsed() < timeout));
        // Those that did not ask for their next event in time.
        idle.iter_mut().filter(|(_, since)| since.elapsed() >= PAUSE_AFTER).for_each(|(instance, _)| instance.pause());
        // The first ones have been idle longest.
        let mut above = idle.len().saturating_sub(keep);
        idle.retain(|(_, since)| {
            let ends = above > 0 && since.elapsed() >= idle_max;
            above -= usize::from(ends);
            !ends
        });
    }

    /// How many instances are idle.
    pub fn idle(&self) -> usize {
        self.lock().len()
    }

    /// Whether each idle instance waits for its next event or has ended: then the next event gets a warm instance
    /// at once.
    pub fn is_at_rest(&self) -> bool {
        self.lock().iter().all(|(instance, _)| instance.is_waiting() || !instance.is_alive())
    }

    fn take(&self) -> Option<Instance> {
        let mut idle = self.lock();
        idle.retain(|(instance, _)| instance.is_alive());
        let ready = idle.iter().rposition(|(instance, _)| instance.is_waiting());
        // An instance that has just answered is ready sooner than a new one.
        let at = ready.or(idle.len().checked_sub(1))?;
        Some(idle.remove(at).0)
    }

    async fn start(&self) -> Result<Instance> {
        let inner = Arc::clone(&self.inner);
        let handle = Handle::current();
        let starting = tokio::task::spawn_blocking(move || {
            let settings = &inner.settings;
            let instance_settings = InstanceSettings {
                store: &settings.store,
                launcher: &settings.launcher,
                roots: &settings.roots,
                user: inner.user,
                environment: settings.environment.clone(),
                sink: Arc::clone(&settings.sink),
                services: &inner.services,
            };
            Instance::start(Arc::clone(&inner.function), &instance_settings, &handle)
        });
        starting.await.during(Kind::Bug, "start an instance")?
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Instance, Instant)>> {
        self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A function's ARN, without a qualifier. There is one account and one region, `local`.
pub(crate) fn arn(name: &str) -> String {
    format!("arn:aws:lambda:local:000000000000:function:{name}")
}
