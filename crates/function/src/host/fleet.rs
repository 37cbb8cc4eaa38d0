//! All functions of a host: each version's pool, made when it is first asked for, renewed when it
//! is deployed anew, and the bounds on how many run at a time.
//!
//! What is deployed is looked up at each invocation: a deployment by any process counts for the
//! next event. An event that is running ends in the version that it began in.

use std::any::Any;
use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::{Event, Function, Opening, Outcome, Pieces, Pool, Settings, instance};
use crate::definition::fill_in;
use crate::error::{Error, Kind, Result};
use crate::registry::{Found, LATEST, Registry};
use crate::sandbox::{Launcher, Limits};

/// How often idle instances are looked at.
const TEND_PERIOD: Duration = Duration::from_secs(1);
/// A function that does not start is not tried at each look.
const WARM_AGAIN: Duration = Duration::from_secs(30);

/// Sandboxes that stand ready for the next cold start.
const SPARES: usize = 2;

type Variable = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;
/// Takes over a port on the loopback of one instance: whatever connects there is that function. It
/// is called within the runtime; what it returns is dropped with the instance.
pub type Serve = Arc<dyn Fn(&Found, TcpListener) -> Box<dyn Any + Send + Sync> + Send + Sync>;

/// Where the lake's SQL and its objects are on a function's loopback.
const SQL_PORT: u16 = 5432;
const OBJECTS_PORT: u16 = 9000;

/// What the host grants its functions.
#[derive(Clone)]
pub struct Rules {
    /// Events that run at a time, of all functions.
    pub concurrency_max: usize,
    /// Only where the host is root: each function runs as a user of its own, this one or one above.
    pub users_from: Option<u32>,
    /// What `${VARIABLES}` in a function's environment are.
    pub variable: Variable,
    pub lake: Lake,
}

/// How functions reach what their `[lake]` allows; a host may serve neither.
#[derive(Clone, Default)]
pub struct Lake {
    pub sql: Option<Serve>,
    pub objects: Option<Serve>,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Fleet {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    settings: Arc<Settings>,
    rules: Rules,
    busy: AtomicUsize,
    functions: Mutex<HashMap<String, Arc<Running>>>,
}

/// One function, whatever its versions.
#[derive(Default)]
struct Running {
    busy: AtomicUsize,
    warming: AtomicBool,
    versions: Mutex<HashMap<String, Slot>>,
}

#[derive(Clone)]
struct Slot {
    found: Arc<Found>,
    pool: Pool,
    used: Instant,
    warmed: Option<Instant>,
}

/// What came of an event, and what it ran in.
#[derive(Debug, Clone)]
pub struct Ran {
    pub outcome: Outcome,
    pub found: Arc<Found>,
}

/// Why an event was not run.
#[derive(Debug)]
pub enum Refusal {
    Unknown,
    Busy(Busy),
    Failed(Error),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Busy {
    /// As many as the function's `concurrency` allows are running.
    Function,
    /// As many as the host allows are running.
    Host,
}

impl Fleet {
    pub fn new(registry: Registry, settings: Settings, rules: Rules) -> Fleet {
        Launcher::sweep();
        instance::sweep(&settings.roots);
        let inner = Inner {
            registry,
            settings: Arc::new(settings),
            rules,
            busy: AtomicUsize::new(0),
            functions: Mutex::default(),
        };
        Fleet { inner: Arc::new(inner) }
    }

    pub fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    /// What a name and a qualifier lead to.
    pub fn find(&self, name: &str, qualifier: &str) -> Result<Option<Arc<Found>>> {
        Ok(self.slot(name, qualifier)?.map(|(_, slot)| slot.found))
    }

    /// Runs an event. A function that fails is no refusal: its [`Outcome`] says so. It must not be
    /// dropped half-way: that kills the instance.
    pub async fn invoke(
        &self,
        name: &str,
        qualifier: &str,
        event: Event,
        pieces: Option<Pieces>,
    ) -> Result<Ran, Refusal> {
        let (running, slot) = self.slot(name, qualifier).map_err(Refusal::Failed)?.ok_or(Refusal::Unknown)?;
        let most = slot.found.policy.concurrency.map_or(usize::MAX, |most| most as usize);
        let _of_function = Taken::of(&running.busy, most).ok_or(Refusal::Busy(Busy::Function))?;
        let _of_host =
            Taken::of(&self.inner.busy, self.inner.rules.concurrency_max).ok_or(Refusal::Busy(Busy::Host))?;
        let outcome = slot.pool.invoke_in_pieces(event, pieces).await.map_err(Refusal::Failed)?;
        Ok(Ran { outcome, found: slot.found })
    }

    /// Events of all functions that are running now.
    pub fn busy(&self) -> usize {
        self.inner.busy.load(Ordering::Relaxed)
    }

    /// Whether each idle instance of a function has asked for its next event, or has ended.
    pub fn is_at_rest(&self, name: &str) -> bool {
        let running = lock(&self.inner.functions).get(name).cloned();
        running.is_none_or(|running| lock(&running.versions).values().all(|slot| slot.pool.is_at_rest()))
    }

    /// Instances of a function that wait for an event.
    pub fn idle(&self, name: &str) -> usize {
        let running = lock(&self.inner.functions).get(name).cloned();
        running.map_or(0, |running| lock(&running.versions).values().map(|slot| slot.pool.idle()).sum())
    }

    /// Keeps what is to be warm warm and ends what is idle, for as long as the handle is kept;
    /// makes sandboxes ahead.
    pub fn tend(&self) -> Tending {
        let fleet = self.clone();
        match instance::mount_point(&self.inner.settings.roots) {
            Ok(mount_at) => self.inner.settings.launcher.keep_spares(SPARES, &mount_at),
            Err(error) => tracing::warn!(error = error.chain(), "make sandboxes ahead"),
        }
        Tending(tokio::spawn(async move {
            let mut period = tokio::time::interval(TEND_PERIOD);
            period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                period.tick().await;
                if let Err(error) = fleet.look() {
                    tracing::warn!(%error, "look after functions");
                }
            }
        }))
    }

    fn look(&self) -> Result<()> {
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
                self.cool(&name, &running, &shown)?;
            }
        }
        Ok(())
    }

    /// What was replaced or deleted ends; what is there may be idle for a while.
    fn cool(&self, name: &str, running: &Running, shown: &str) -> Result<()> {
        let chosen = self.inner.registry.ledger().choose_function(name, shown)?;
        let mut versions = lock(&running.versions);
        let Some(slot) = versions.get(shown) else { return Ok(()) };
        let current = chosen.is_some_and(|chosen| chosen.version == slot.found.version);
        let keep = if shown == LATEST { slot.found.policy.prewarmed as usize } else { 0 };
        slot.pool.cool(keep);
        let idle_max = self.inner.settings.idle_max.max(TEND_PERIOD);
        if !current || keep == 0 && slot.pool.idle() == 0 && slot.used.elapsed() > idle_max {
            versions.remove(shown);
        }
        Ok(())
    }

    /// In the background: it takes as long as the function takes to start.
    fn warm(&self, name: &str) -> Result<()> {
        let Some((running, slot)) = self.slot(name, LATEST)? else { return Ok(()) };
        let count = slot.found.policy.prewarmed as usize;
        // An event that is running has an instance, which will be idle.
        let wanted = count.saturating_sub(running.busy.load(Ordering::Relaxed));
        let tried = slot.warmed.is_some_and(|at| at.elapsed() < WARM_AGAIN);
        if slot.pool.idle() >= wanted || tried || running.warming.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        tokio::spawn(async move {
            if let Err(error) = slot.pool.warm(wanted).await {
                tracing::warn!(%error, function = slot.found.name, "warm a function");
                if let Some(slot) = lock(&running.versions).get_mut(LATEST) {
                    slot.warmed = Some(Instant::now());
                }
            }
            running.warming.store(false, Ordering::Release);
        });
        Ok(())
    }

    fn slot(&self, name: &str, qualifier: &str) -> Result<Option<(Arc<Running>, Slot)>> {
        let Some(chosen) = self.inner.registry.ledger().choose_function(name, qualifier)? else { return Ok(None) };
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
        if let Some(slot) = lock(&running.versions).get_mut(shown)
            && slot.found.revision == chosen.revision
            && slot.found.version == chosen.version
        {
            slot.used = Instant::now();
            let slot = slot.clone();
            return Ok(Some((Arc::clone(&running), slot)));
        }
        let Some(found) = self.inner.registry.find(name, qualifier)? else { return Ok(None) };
        let slot = self.renewed(&running, found)?;
        Ok(Some((running, slot)))
    }

    /// The same content goes on in its pool, however the function is treated now.
    fn renewed(&self, running: &Running, found: Found) -> Result<Slot> {
        let mut versions = lock(&running.versions);
        let same = versions.get(&found.shown).filter(|slot| slot.found.content == found.content);
        let pool = same.map_or_else(|| self.pool(&found), |slot| Ok(slot.pool.clone()))?;
        let shown = found.shown.clone();
        let slot = Slot { found: Arc::new(found), pool, used: Instant::now(), warmed: None };
        versions.insert(shown, slot.clone());
        Ok(slot)
    }

    fn pool(&self, found: &Found) -> Result<Pool> {
        let rules = &self.inner.rules;
        let settings = &found.settings;
        let filled = settings.environment.iter().map(|(name, value)| {
            let filled = fill_in(value, &*rules.variable).map_err(|says| {
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
        let user = match rules.users_from {
            None => None,
            Some(from) => {
                let user = u32::try_from(found.number).ok().and_then(|number| from.checked_add(number));
                let none_left = || Error::new(Kind::FixSetup, format!("find a user for function {}", found.name));
                Some(user.ok_or_else(none_left)?)
            }
        };
        let openings = openings(&rules.lake, found)?;
        Ok(Pool::with_openings(Arc::clone(&self.inner.settings), function, usize::MAX, user, openings))
    }
}

/// What its rights allow, and nothing else.
fn openings(lake: &Lake, found: &Found) -> Result<Vec<Opening>> {
    let (rights, name) = (&found.settings.lake, &found.name);
    let mut openings = Vec::new();
    let opening = |what: &str, serve: &Option<Serve>, port, environment: &[(&str, String)]| {
        let none =
            || Error::new(Kind::FixSetup, format!("open the lake's {what} to function {name}: it is not served"));
        let (serve, found) = (serve.clone().ok_or_else(none)?, found.clone());
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Ok::<_, Error>(Opening { port, environment, serve: Arc::new(move |listener| serve(&found, listener)) })
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
        openings.push(opening("SQL", &lake.sql, SQL_PORT, &environment)?);
    }
    if !rights.objects.is_empty() {
        let url = format!("http://127.0.0.1:{OBJECTS_PORT}");
        openings.push(opening("objects", &lake.objects, OBJECTS_PORT, &[("WATTLAKE_OBJECTS_URL", url)])?);
    }
    Ok(openings)
}

/// Ends with it.
pub struct Tending(JoinHandle<()>);

impl Drop for Tending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One of a bounded number.
struct Taken<'a>(&'a AtomicUsize);

impl Taken<'_> {
    fn of(count: &AtomicUsize, most: usize) -> Option<Taken<'_>> {
        let one_more = |busy: usize| (busy < most).then_some(busy + 1);
        count.try_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok().map(|_| Taken(count))
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
