//! All functions of a host: one pool for each version, created at its first invocation and replaced after a
//! deployment, and the concurrency limits.
//!
//! Each invocation looks up what is deployed, so a deployment by any process takes effect with the next event.
//! An event that is running ends in the version in which it began.

use std::any::Any;
use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::figures::{Counts, FunctionFigures};
use super::{Event, Function, LoopbackService, Outcome, Pieces, Pool, PoolSettings, instance};
use crate::definition::fill_in;
use crate::error::{Error, Kind, Result};
use crate::registry::{FunctionVersion, LATEST, Registry};
use sandbox::{Launcher, Limits};

/// How often idle instances are checked.
const MAINTENANCE_PERIOD: Duration = Duration::from_secs(1);
/// The wait before prewarming a function again that failed to start.
const WARM_AGAIN: Duration = Duration::from_secs(30);

/// Spare sandboxes for the next cold starts.
const SPARES: usize = 2;

/// Gives the value of a variable by its name.
type Variable = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;
/// Serves a port on the loopback interface of one instance of the given function: every client that connects
/// there is that function. Called within the Tokio runtime; what it returns is dropped with the instance.
pub type ServiceFn = Arc<dyn Fn(&FunctionVersion, TcpListener) -> Box<dyn Any + Send + Sync> + Send + Sync>;

/// The ports of the lake's SQL and of its objects on a function's loopback interface.
const SQL_PORT: u16 = 5432;
const OBJECTS_PORT: u16 = 9000;

/// Settings of a host for all of its functions.
#[derive(Clone)]
pub struct FleetSettings {
    /// How many events of all functions run at a time.
    pub concurrency_max: usize,
    /// The memory of all functions whose events run at a time, by their `memory_mb`.
    pub memory_mb_max: u64,
    /// Only where the host is root: each function runs as a user of its own, with this user id plus its number.
    pub users_from: Option<u32>,
    /// Gives the values of `${VARIABLES}` in a function's environment.
    pub variable: Variable,
    /// What serves the lake to functions.
    pub lake: LakeServices,
}

/// What serves the lake to the functions whose `[lake]` allows it. A host may serve neither.
#[derive(Clone, Default)]
pub struct LakeServices {
    /// Serves SQL on PostgreSQL's protocol.
    pub sql: Option<ServiceFn>,
    /// Serves the lake's objects over HTTP.
    pub objects: Option<ServiceFn>,
}

/// The functions of a host, ready to be invoked. Cheap to clone.
#[derive(Clone)]
pub struct Fleet {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    settings: Arc<PoolSettings>,
    fleet_settings: FleetSettings,
    busy: AtomicUsize,
    /// The memory of the functions whose events run.
    busy_mb: AtomicUsize,
    functions: Mutex<HashMap<String, Arc<FunctionState>>>,
}

/// A function with the pools of its versions.
#[derive(Default)]
struct FunctionState {
    busy: AtomicUsize,
    counts: Counts,
    warming: AtomicBool,
    versions: Mutex<HashMap<String, VersionPool>>,
}

/// A version in use, and the pool of its instances.
#[derive(Clone)]
struct VersionPool {
    found: Arc<FunctionVersion>,
    pool: Pool,
    last_used: Instant,
    /// When prewarming it last failed.
    warm_failed: Option<Instant>,
}

/// The outcome of an event, and the version that it ran in.
#[derive(Debug, Clone)]
pub struct Execution {
    /// What the function answered, and what the run used.
    pub outcome: Outcome,
    /// The version that ran it.
    pub function_version: Arc<FunctionVersion>,
}

/// Why an event was not run.
#[derive(Debug)]
pub enum Refusal {
    /// No such function, version or alias is deployed.
    Unknown,
    /// A concurrency limit is reached.
    Busy(ConcurrencyLimit),
    /// No instance could be started, or the event's files could not be handled.
    Failed(Error),
}

/// The concurrency limit that an event reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConcurrencyLimit {
    /// The function's own `concurrency`.
    Function,
    /// [`FleetSettings::concurrency_max`] of the host.
    Host,
}

impl Fleet {
    /// Removes what killed hosts have left, and starts no instance yet.
    pub fn new(registry: Registry, settings: PoolSettings, fleet_settings: FleetSettings) -> Fleet {
        Launcher::remove_leftovers();
        instance::remove_leftovers(&settings.roots);
        let inner = Inner {
            registry,
            settings: Arc::new(settings),
            fleet_settings,
            busy: AtomicUsize::new(0),
            busy_mb: AtomicUsize::new(0),
            functions: Mutex::default(),
        };
        Fleet { inner: Arc::new(inner) }
    }

    /// The registry of what is deployed.
    pub fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    /// The version that a name and a qualifier stand for. `None` where no such version is deployed.
    pub fn find(&self, name: &str, qualifier: &str) -> Result<Option<Arc<FunctionVersion>>> {
        Ok(self.version_pool(name, qualifier)?.map(|(_, entry)| entry.found))
    }

    /// Runs an event. With `pieces`, the response is sent there as it arrives.
    ///
    /// The future must be polled to its end: dropping it kills the instance.
    ///
    /// # Errors
    /// A [`Refusal`] where the event was not run. A failure of the function itself is part of the [`Outcome`].
    pub async fn invoke(
        &self,
        name: &str,
        qualifier: &str,
        event: Event,
        pieces: Option<Pieces>,
    ) -> Result<Execution, Refusal> {
        let (running, entry) = self.version_pool(name, qualifier).map_err(Refusal::Failed)?.ok_or(Refusal::Unknown)?;
        let ran = self.run(&running, entry, qualifier, event, pieces).await;
        match &ran {
            Ok(execution) => running.counts.add_run(&execution.outcome),
            Err(Refusal::Busy(_)) => running.counts.add_throttle(),
            Err(Refusal::Failed(_)) => running.counts.add_failure(),
            Err(Refusal::Unknown) => {}
        }
        ran
    }

    /// Runs an event within the limits.
    async fn run(
        &self,
        running: &FunctionState,
        entry: VersionPool,
        qualifier: &str,
        mut event: Event,
        pieces: Option<Pieces>,
    ) -> Result<Execution, Refusal> {
        if event.qualifier.is_none() && qualifier != LATEST {
            event.qualifier = Some(qualifier.to_owned());
        }
        let most = entry.found.policy.concurrency.map_or(usize::MAX, |most| most as usize);
        let _of_function = Permit::of(&running.busy, 1, most).ok_or(Refusal::Busy(ConcurrencyLimit::Function))?;
        let _of_host = Permit::of(&self.inner.busy, 1, self.inner.fleet_settings.concurrency_max)
            .ok_or(Refusal::Busy(ConcurrencyLimit::Host))?;
        let (own, most) = (entry.found.settings.memory_mb, self.inner.fleet_settings.memory_mb_max);
        // One that is larger than the limit may run alone.
        let _of_memory = Permit::of(&self.inner.busy_mb, own.min(most) as usize, most as usize)
            .ok_or(Refusal::Busy(ConcurrencyLimit::Host))?;
        let outcome = entry.pool.invoke_in_pieces(event, pieces).await.map_err(Refusal::Failed)?;
        Ok(Execution { outcome, function_version: entry.found })
    }

    /// What was counted of each function that was invoked, by name.
    pub fn figures(&self) -> Vec<FunctionFigures> {
        let functions = lock(&self.inner.functions);
        let figures =
            functions.iter().map(|(name, state)| state.counts.figures(name, state.busy.load(Ordering::Relaxed)));
        let mut all: Vec<FunctionFigures> = figures.collect();
        all.sort_by(|a, b| a.function.cmp(&b.function));
        all
    }

    /// How many events of all functions are running now.
    pub fn busy(&self) -> usize {
        self.inner.busy.load(Ordering::Relaxed)
    }

    /// Whether each idle instance of a function waits for its next event or has ended.
    pub fn is_at_rest(&self, name: &str) -> bool {
        let running = lock(&self.inner.functions).get(name).cloned();
        running.is_none_or(|running| lock(&running.versions).values().all(|entry| entry.pool.is_at_rest()))
    }

    /// How many instances of a function are idle.
    pub fn idle(&self, name: &str) -> usize {
        let running = lock(&self.inner.functions).get(name).cloned();
        running.map_or(0, |running| lock(&running.versions).values().map(|entry| entry.pool.idle()).sum())
    }

    /// Starts a task that prewarms functions and ends idle instances until the returned handle is dropped. Also
    /// keeps spare sandboxes ready.
    pub fn maintain(&self) -> Maintenance {
        let fleet = self.clone();
        if !Launcher::has_control_groups() {
            tracing::warn!(
                "no control groups can be created: the first process of each sandbox watches its memory, and processor time \
                 is not limited; as a service of systemd, set Delegate=cpu memory pids"
            );
        }
        match instance::mount_point(&self.inner.settings.roots) {
            Ok(mount_at) => self.inner.settings.launcher.keep_spares(SPARES, &mount_at),
            Err(error) => tracing::warn!(error = error.chain(), "start spare sandboxes"),
        }
        Maintenance(tokio::spawn(async move {
            let mut period = tokio::time::interval(MAINTENANCE_PERIOD);
            period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                period.tick().await;
                if let Err(error) = fleet.maintain_once() {
                    tracing::warn!(%error, "prewarm functions and end idle instances");
                }
            }
        }))
    }

    fn maintain_once(&self) -> Result<()> {
        for function in self.inner.registry.ledger().functions()? {
            let prewarmed = function.policy["prewarmed"].as_u64().unwrap_or_default();
            if prewarmed > 0 {
                self.warm(&function.name)?;
            }
        }
        let functions: Vec<_> =
            lock(&self.inner.functions).iter().map(|(name, running)| (name.clone(), Arc::clone(running))).collect();
        for (name, running) in functions {
            let shown: Vec<String> = lock(&running.versions).keys().cloned().collect();
            for shown in shown {
                self.end_unused(&name, &running, &shown)?;
            }
        }
        Ok(())
    }

    /// Ends what is idle for too long, and drops the pool of a version that was replaced or deleted.
    fn end_unused(&self, name: &str, running: &FunctionState, shown: &str) -> Result<()> {
        let chosen = self.inner.registry.ledger().resolve_function(name, shown)?;
        let mut versions = lock(&running.versions);
        let Some(entry) = versions.get(shown) else { return Ok(()) };
        let current = chosen.is_some_and(|chosen| chosen.version == entry.found.version);
        let keep = if shown == LATEST { entry.found.policy.prewarmed as usize } else { 0 };
        entry.pool.end_idle(keep);
        let idle_max = self.inner.settings.idle_max.max(MAINTENANCE_PERIOD);
        if !current || keep == 0 && entry.pool.idle() == 0 && entry.last_used.elapsed() > idle_max {
            versions.remove(shown);
        }
        Ok(())
    }

    /// Prewarms in the background, since a function may take long to start.
    fn warm(&self, name: &str) -> Result<()> {
        let Some((running, entry)) = self.version_pool(name, LATEST)? else { return Ok(()) };
        let count = entry.found.policy.prewarmed as usize;
        // The instance of a running event will be idle afterwards.
        let wanted = count.saturating_sub(running.busy.load(Ordering::Relaxed));
        let tried = entry.warm_failed.is_some_and(|at| at.elapsed() < WARM_AGAIN);
        if entry.pool.idle() >= wanted || tried || running.warming.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        tokio::spawn(async move {
            if let Err(error) = entry.pool.warm(wanted).await {
                tracing::warn!(%error, function = entry.found.name, "prewarm a function");
                if let Some(entry) = lock(&running.versions).get_mut(LATEST) {
                    entry.warm_failed = Some(Instant::now());
                }
            }
            running.warming.store(false, Ordering::Release);
        });
        Ok(())
    }

    /// Finds the pool of what is deployed now under a name and a qualifier, or creates it.
    fn version_pool(&self, name: &str, qualifier: &str) -> Result<Option<(Arc<FunctionState>, VersionPool)>> {
        let Some(chosen) = self.inner.registry.ledger().resolve_function(name, qualifier)? else { return Ok(None) };
        let latest = qualifier == LATEST;
        let running = match lock(&self.inner.functions) {
            functions if functions.contains_key(name) => Arc::clone(&functions[name]),
            mut functions => Arc::clone(functions.entry(name.to_owned()).or_default()),
        };
        let number;
        let shown = if latest {
            LATEST
        } else {
            number = chosen.version.to_string();
            &number
        };
        if let Some(entry) = lock(&running.versions).get_mut(shown)
            && entry.found.revision == chosen.revision
            && entry.found.version == chosen.version
        {
            entry.last_used = Instant::now();
            let entry = entry.clone();
            return Ok(Some((Arc::clone(&running), entry)));
        }
        let Some(found) = self.inner.registry.find(name, qualifier)? else { return Ok(None) };
        let entry = self.replace(&running, found)?;
        Ok(Some((running, entry)))
    }

    /// Puts a version in place of the one with the same label. The pool stays where only the policy has changed.
    fn replace(&self, running: &FunctionState, found: FunctionVersion) -> Result<VersionPool> {
        let mut versions = lock(&running.versions);
        let same = versions.get(&found.shown).filter(|entry| entry.found.content == found.content);
        let pool = same.map_or_else(|| self.pool(&found), |entry| Ok(entry.pool.clone()))?;
        let shown = found.shown.clone();
        let entry = VersionPool { found: Arc::new(found), pool, last_used: Instant::now(), warm_failed: None };
        versions.insert(shown, entry.clone());
        Ok(entry)
    }

    /// A pool for a version, with its variables filled in.
    fn pool(&self, found: &FunctionVersion) -> Result<Pool> {
        let fleet_settings = &self.inner.fleet_settings;
        let settings = &found.settings;
        let filled = settings.environment.iter().map(|(name, value)| {
            let filled = fill_in(value, &*fleet_settings.variable).map_err(|says| {
                Error::new(Kind::FixSetup, format!("fill in {name} of function {}: {says}", found.name))
            });
            Ok((name.clone(), filled?))
        });
        let function = Function {
            name: found.name.clone(),
            version: found.shown.clone(),
            handler: settings.handler.clone(),
            code: found.code,
            layers: found.layers.clone(),
            environment: filled.collect::<Result<_>>()?,
            timeout: settings.timeout,
            limits: Limits { memory_mb: settings.memory_mb, tmp_mb: settings.tmp_mb, ..Limits::default() },
            base: None,
            files: settings.files,
        };
        let user = match fleet_settings.users_from {
            None => None,
            Some(from) => {
                let user = u32::try_from(found.number).ok().and_then(|number| from.checked_add(number));
                let none_left = || {
                    Error::new(
                        Kind::FixSetup,
                        format!("find a user id for function {}: there is none left", found.name),
                    )
                };
                Some(user.ok_or_else(none_left)?)
            }
        };
        let services = loopback_services(&fleet_settings.lake, found)?;
        Ok(Pool::with_services(Arc::clone(&self.inner.settings), function, usize::MAX, user, services))
    }
}

/// The services that a function's `[lake]` allows, and no others.
fn loopback_services(lake: &LakeServices, found: &FunctionVersion) -> Result<Vec<LoopbackService>> {
    let (rights, name) = (&found.settings.lake, &found.name);
    let mut services = Vec::new();
    let service = |what: &str, serve: &Option<ServiceFn>, port, environment: &[(&str, String)]| {
        let none = || {
            Error::new(
                Kind::FixSetup,
                format!("serve the lake's {what} to function {name}: this host does not serve it"),
            )
        };
        let (serve, found) = (serve.clone().ok_or_else(none)?, found.clone());
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Ok::<_, Error>(LoopbackService { port, environment, serve: Arc::new(move |listener| serve(&found, listener)) })
    };
    if rights.sql {
        let url = format!("postgresql://{name}@127.0.0.1:{SQL_PORT}/wattlake");
        let environment = [
            ("PGHOST", "127.0.0.1".to_owned()),
            ("PGPORT", SQL_PORT.to_string()),
            ("PGUSER", name.clone()),
            ("PGDATABASE", "wattlake".to_owned()),
            ("WATTLAKE_SQL_URL", url),
        ];
        services.push(service("SQL", &lake.sql, SQL_PORT, &environment)?);
    }
    if !rights.objects.is_empty() {
        let url = format!("http://127.0.0.1:{OBJECTS_PORT}");
        services.push(service("objects", &lake.objects, OBJECTS_PORT, &[("WATTLAKE_OBJECTS_URL", url)])?);
    }
    Ok(services)
}

/// Handle of the task that [`Fleet::maintain`] starts. Dropping it stops the task.
pub struct Maintenance(JoinHandle<()>);

impl Drop for Maintenance {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A share of a limit, until it is dropped.
struct Permit<'a>(&'a AtomicUsize, usize);

impl Permit<'_> {
    fn of(count: &AtomicUsize, share: usize, most: usize) -> Option<Permit<'_>> {
        let more = |busy: usize| busy.checked_add(share).filter(|busy| *busy <= most);
        count.try_update(Ordering::AcqRel, Ordering::Acquire, more).ok().map(|_| Permit(count, share))
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::AcqRel);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
