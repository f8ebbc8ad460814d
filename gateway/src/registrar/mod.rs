//! The registrar: which devices exist, and where each can be reached now.
//!
//! One thread owns the store and all changes; readers share what was last committed. A REGISTER is
//! acknowledged after its commit and never before; those that come while a commit is under way
//! share the next one.
//!
//! ```text
//!  register() ─> bounded queue ─> writer: apply, commit, publish ─> answer
//!  bindings(), device() <─ what was published
//! ```

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use crosspoint_proto::Instant;
use crosspoint_proto::sip::Flow;
use rusqlite::Transaction;
use tokio::sync::oneshot;

use crate::alias::Alias;
use crate::config::DeviceEntry;
use crate::events::{Events, What};
use crate::net::clock::Clock;

mod bindings;
mod decoys;
mod device;
mod schema;
mod store;
mod work;
mod writer;

pub use bindings::{
    Applied, Binding, CONTACTS, Change, Contact, Contacts, DEFAULT_Q, Expiry, Refusal, Register, apply,
    one_flow_each,
};
use decoys::Decoys;
pub use device::{Device, Origin};
pub use store::{FILE, Store, StoreError};
pub(crate) use store::{from_millis, in_millis, millis};
use work::Task;
use writer::{Job, Writer};

/// Requests that wait for the writer. Overflow: refused with [`Refusal::Full`] at once, so that a
/// storm after a restart is shed instead of timing out as a whole.
const QUEUE: usize = 4096;

/// Closed connections that are remembered, for those whose REGISTER is on its way to the disk meanwhile. Beyond
/// that the oldest is forgotten: its binding stands until it expires, and calls to it fail.
const CLOSED: usize = 1024;

/// What a registrar is opened with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The realm that passwords are bound to.
    pub realm: String,
    /// Bounds of expiries.
    pub expiry: Expiry,
    /// Bindings of all aliases together.
    pub registrations: usize,
    /// Devices of the configuration file.
    pub devices: Vec<DeviceEntry>,
    /// Told of registrations that come and go (S77).
    pub events: Events,
}

/// Who keeps tables of his own in the store.
pub trait Watch: Send {
    /// The store has been opened, or another connection has written to it. What it says is logged.
    fn look(&self, store: &Store) -> Result<(), StoreError>;
}

/// Nobody does.
impl Watch for () {
    fn look(&self, _: &Store) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Several, none of which suffers from what is wrong with another.
impl Watch for Vec<Box<dyn Watch>> {
    fn look(&self, store: &Store) -> Result<(), StoreError> {
        self.iter().map(|it| it.look(store)).fold(Ok(()), Result::and)
    }
}

/// A handle; clones are the same registrar. It stops when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Registrar {
    shared: Arc<Shared>,
    stop: Arc<Stop>,
}

/// What readers see: always what is on disk.
#[derive(Debug, Default)]
struct Shared {
    bindings: RwLock<HashMap<Alias, Arc<[Binding]>>>,
    devices: ArcSwap<HashMap<Alias, Arc<Device>>>,
    decoys: ArcSwap<Decoys>,
    failing: AtomicBool,
    /// Bindings have been lost since the writer has looked.
    lost: AtomicBool,
    /// The connections that were closed last, [`CLOSED`] at most.
    closed: Mutex<VecDeque<Flow>>,
    /// Who has registered over each connection that stands: of the many that close, few have brought a device.
    /// Taken while `bindings` is.
    flows: Mutex<HashMap<Flow, HashSet<Alias>>>,
}

impl Shared {
    fn closed(&self) -> MutexGuard<'_, VecDeque<Flow>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flows(&self) -> MutexGuard<'_, HashMap<Flow, HashSet<Alias>>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Stop {
    /// `None` once it stops.
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Registrar {
    /// Opens the store of a data folder, which no other gateway may use meanwhile, and starts the
    /// writer's thread. Blocks for the time of reading the store.
    pub fn open(folder: &Path, settings: Settings, clock: Clock) -> Result<Self, StoreError> {
        Self::open_watched(folder, settings, clock, Box::new(()))
    }

    /// The same; `watch` looks at the store at once, and on the writer's thread within a second of
    /// each time that another connection has written.
    pub fn open_watched(
        folder: &Path,
        settings: Settings,
        clock: Clock,
        watch: Box<dyn Watch>,
    ) -> Result<Self, StoreError> {
        let store = Store::open_exclusive(folder)?;
        let shared = Arc::new(Shared::default());
        let mut writer = Writer::new(store, Arc::clone(&shared), settings, clock, watch);
        writer.load()?;
        let (jobs, queue): (SyncSender<Job>, Receiver<Job>) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name("registrar".into()).spawn(move || writer.run(&queue));
        let thread = thread
            .map_err(|error| StoreError::Io { file: folder.into(), reason: format!("no thread: {error}") })?;
        Ok(Self { shared, stop: Arc::new(Stop { jobs: Some(jobs), thread: Some(thread) }) })
    }

    /// Takes a REGISTER of a device that has authenticated. `Ok` has all bindings of the alias,
    /// best first, and means that they are on disk.
    pub async fn register(&self, request: Register) -> Result<Arc<[Binding]>, Refusal> {
        let Some(jobs) = &self.stop.jobs else { return Err(Refusal::Storage) };
        let (answer, answered) = oneshot::channel();
        match jobs.try_send(Job::Register(Box::new(request), answer)) {
            Ok(()) => answered.await.unwrap_or(Err(Refusal::Storage)),
            Err(TrySendError::Full(_)) => Err(Refusal::Full),
            Err(TrySendError::Disconnected(_)) => Err(Refusal::Storage),
        }
    }

    /// Has the writer look at what other connections have written, at once; comes back when what they
    /// wrote is in effect.
    pub async fn look(&self) {
        let Some(jobs) = self.stop.jobs.clone() else { return };
        let (done, told) = oneshot::channel();
        // A queue that is full has a look within a second anyway.
        if jobs.try_send(Job::Look(done)).is_ok() {
            let _ = told.await;
        }
    }

    /// Takes these for the devices of the configuration file; comes back when they may register and those
    /// that are not among them may not. Registrations of the others stand.
    pub async fn set_devices(&self, devices: Vec<DeviceEntry>) {
        let Some(jobs) = self.stop.jobs.clone() else { return };
        let (done, told) = oneshot::channel();
        // A full queue is worked off within milliseconds, and this must not get lost.
        let sent = tokio::task::spawn_blocking(move || jobs.send(Job::Devices(devices, done))).await;
        if matches!(sent, Ok(Ok(()))) {
            let _ = told.await;
        }
    }

    /// Has `work` done within the writer's next transaction, for who keeps tables of his own in the
    /// store. `Ok` means that what it wrote is on disk. Others' work is not touched by its errors.
    pub(crate) async fn transact<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Refusal> {
        let Some(jobs) = &self.stop.jobs else { return Err(Refusal::Storage) };
        let (task, answered) = Task::boxed(work);
        match jobs.try_send(Job::Work(task)) {
            Ok(()) => answered.await.unwrap_or(Err(Refusal::Storage)),
            Err(TrySendError::Full(_)) => Err(Refusal::Full),
            Err(TrySendError::Disconnected(_)) => Err(Refusal::Storage),
        }
    }

    /// Where an alias can be reached now, best first. Empty when nowhere.
    pub fn bindings(&self, alias: &Alias, now: Instant) -> Vec<Binding> {
        let all = self.shared.bindings.read().unwrap_or_else(PoisonError::into_inner);
        let of_alias = all.get(alias).map(|it| it.iter());
        of_alias.into_iter().flatten().filter(|it| it.expires > now && !it.is_lost()).cloned().collect()
    }

    /// The device of an alias, with what its digest is checked against.
    pub fn device(&self, alias: &Alias) -> Option<Arc<Device>> {
        self.shared.devices.load().get(alias).cloned()
    }

    /// Whether who claims that name has a hash by SHA-512-256 of his password: as his device has it, and of who
    /// has none as if he had one. It takes as long either way.
    pub fn has_third_hash(&self, name: &str, device: Option<&Device>) -> bool {
        let decoy = std::hint::black_box(self.shared.decoys.load().is_old(name));
        device.map_or(!decoy, |device| device.sha512_256.is_some())
    }

    /// All devices, by alias.
    pub fn devices(&self) -> Vec<Arc<Device>> {
        let mut devices: Vec<_> = self.shared.devices.load().values().cloned().collect();
        devices.sort_by(|a, b| a.alias.cmp(&b.alias));
        devices
    }

    /// How many devices there are.
    pub fn device_count(&self) -> usize {
        self.shared.devices.load().len()
    }

    /// All bindings that stand, by alias.
    pub fn registrations(&self, now: Instant) -> Vec<(Alias, Vec<Binding>)> {
        let all = self.shared.bindings.read().unwrap_or_else(PoisonError::into_inner);
        let standing = |bindings: &Arc<[Binding]>| -> Vec<Binding> {
            bindings.iter().filter(|it| it.expires > now && !it.is_lost()).cloned().collect()
        };
        let mut list: Vec<_> =
            all.iter().map(|(alias, bindings)| (alias.clone(), standing(bindings))).collect();
        drop(all);
        list.retain(|(_, bindings)| !bindings.is_empty());
        list.sort_by(|a, b| a.0.cmp(&b.0));
        list
    }

    /// Whether the last registration could not be stored.
    pub fn is_failing(&self) -> bool {
        self.shared.failing.load(Ordering::Relaxed)
    }

    /// The connection of a flow is closed: devices that registered over it are called at their contact's address
    /// from now on, and those that are there by that connection alone are there no more ([`Binding::is_lost`]).
    /// Not awaited and not stored; a restart closes all of them.
    pub fn flow_closed(&self, flow: Flow) {
        // First: what is shown after this is held against it.
        let mut closed = self.closed();
        if closed.len() >= CLOSED {
            closed.pop_front();
        }
        closed.push_back(flow);
        drop(closed);
        self.forget_flow(flow);
    }

    fn closed(&self) -> MutexGuard<'_, VecDeque<Flow>> {
        self.shared.closed()
    }

    fn forget_flow(&self, flow: Flow) {
        let mut all = self.shared.bindings.write().unwrap_or_else(PoisonError::into_inner);
        let Some(devices) = self.shared.flows().remove(&flow) else { return };
        for alias in devices {
            let Some(bindings) = all.get_mut(&alias) else { continue };
            if bindings.iter().any(|it| it.flow == Some(flow)) {
                *bindings = bindings
                    .iter()
                    .cloned()
                    .map(|it| Binding { flow: it.flow.filter(|its| *its != flow), ..it })
                    .collect();
                self.shared.lost.store(true, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests;
