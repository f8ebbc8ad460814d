//! The registrar's one thread: applies requests, commits them in groups, publishes, answers;
//! between them lets bindings expire and notices what `crosspoint device` changed.

use super::work::Work;
use super::*;

/// Requests of one commit, and the time that a group may collect. A group holds what came while
/// the commit before it was under way and [`APART`] of it, so that nobody waits for a group to fill.
const GROUP: usize = 512;
const COLLECT: Duration = Duration::from_millis(5);

/// How long after a commit the next one begins. Who comes alone never waits; of a thousand a second 25
/// share what a commit costs, and wait a twentieth of the time after which a telephone sends again (RFC
/// 3261 section 17.1.2.2, T1).
const APART: Duration = Duration::from_millis(25);

/// How often expiries and foreign changes are looked at. A contact is gone for callers at its very
/// end; this is when it is deleted and told.
const SWEEP: Duration = Duration::from_secs(1);

/// While the disk fails: one line a minute, for a full disk would be filled by its own log.
const COMPLAIN: Duration = Duration::from_secs(60);

/// No revision of the store: those begin at 1.
const NEVER: i64 = 0;

pub(super) enum Job {
    Register(Box<Register>, oneshot::Sender<Result<Arc<[Binding]>, Refusal>>),
    /// Looks at what others have written, and tells when it has.
    Look(oneshot::Sender<()>),
    Work(Box<dyn Work>),
    /// Takes these for the devices of the configuration file, and tells when they may register.
    Devices(Vec<DeviceEntry>, oneshot::Sender<()>),
}

type Answer = (oneshot::Sender<Result<Arc<[Binding]>, Refusal>>, Result<Arc<[Binding]>, Refusal>);

/// A contact that changed, and where its device is.
struct Told {
    alias: Alias,
    contact: String,
    source: Option<String>,
    change: Change,
}

/// What a group has changed so far, on top of what is published.
#[derive(Default)]
struct Changes {
    bindings: HashMap<Alias, Vec<Binding>>,
    /// Bindings that came to be, and that ceased, in all of its requests.
    added: usize,
    removed: usize,
    told: Vec<Told>,
}

pub(super) struct Writer {
    store: Store,
    shared: Arc<Shared>,
    settings: Settings,
    clock: Clock,
    /// Looks at the store whenever another connection has written.
    watch: Box<dyn Watch>,
    /// `PRAGMA data_version` when the store was last looked at.
    version: i64,
    /// The devices' revision when they were last read.
    devices: i64,
    /// Devices of the configuration file, hashed.
    configured: HashMap<Alias, Arc<Device>>,
    /// Bindings of all aliases.
    count: usize,
    /// No binding ends before; a refresh makes it too early, never too late.
    next_end: Instant,
    swept: Instant,
    /// When the last commit ended.
    committed: Instant,
    complained: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        store: Store,
        shared: Arc<Shared>,
        settings: Settings,
        clock: Clock,
        watch: Box<dyn Watch>,
    ) -> Self {
        let swept = clock.now();
        Self {
            store,
            shared,
            settings,
            clock,
            watch,
            version: 0,
            devices: NEVER,
            configured: HashMap::new(),
            count: 0,
            next_end: Instant::ZERO,
            swept,
            committed: Instant::ZERO,
            complained: None,
        }
    }

    /// Reads devices and bindings. An expiry is cut to the longest that is allowed, so that a wall
    /// clock that was set back never extends one.
    pub(super) fn load(&mut self) -> Result<(), StoreError> {
        self.version = self.store.version()?;
        self.load_devices()?;
        self.watch.look(&self.store)?;
        let now = self.clock.both();
        let mut all: HashMap<Alias, Vec<Binding>> = HashMap::new();
        for (alias, mut binding, left) in self.store.bindings(now.wall)? {
            binding.expires = now.mono + left.min(self.settings.expiry.most);
            all.entry(alias).or_default().push(binding);
        }
        for bindings in all.values_mut() {
            bindings.sort_by(|a, b| b.q.cmp(&a.q).then(b.expires.cmp(&a.expires)));
        }
        self.publish(all);
        self.sweep();
        Ok(())
    }

    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            match jobs.recv_timeout(SWEEP) {
                Ok(first) => self.group(first, jobs),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = self.clock.now();
            if now.saturating_since(self.swept) >= SWEEP {
                self.swept = now;
                self.notice_devices();
                self.sweep();
            }
        }
    }

    fn group(&mut self, first: Job, jobs: &Receiver<Job>) {
        // Asleep, not waiting for jobs: each would wake this thread.
        std::thread::sleep(APART.saturating_sub(self.clock.now().saturating_since(self.committed)));
        let mut group = vec![first];
        let began = self.clock.now();
        while group.len() < GROUP && self.clock.now().saturating_since(began) < COLLECT {
            let Ok(next) = jobs.try_recv() else { break };
            group.push(next);
        }
        let mut changes = Changes::default();
        let (mut answers, mut lookers, mut works) = (Vec::<Answer>::new(), Vec::new(), Vec::new());
        let mut configured = None;
        for job in group {
            match job {
                Job::Register(request, answer) => answers.push((answer, self.apply(&request, &mut changes))),
                Job::Look(done) => lookers.push(done),
                Job::Work(work) => works.push(work),
                Job::Devices(devices, done) => {
                    configured = Some(devices);
                    lookers.push(done);
                }
            }
        }
        let stored = self.commit_with(changes.bindings, &mut works);
        self.committed = self.clock.now();
        works.into_iter().for_each(|work| work.answer(stored));
        if stored {
            changes.told.into_iter().for_each(|told| self.tell(told));
        }
        for (answer, result) in answers {
            // What only asked for what stands is as good as before.
            let _ = answer.send(if stored || result.is_err() { result } else { Err(Refusal::Storage) });
        }
        if let Some(devices) = configured {
            self.set_devices(devices);
        }
        if !lookers.is_empty() {
            self.notice_devices();
            self.sweep();
            lookers.into_iter().for_each(|done| {
                let _ = done.send(());
            });
        }
    }

    /// Applies one request on top of those before it in the group.
    fn apply(&self, request: &Register, changes: &mut Changes) -> Result<Arc<[Binding]>, Refusal> {
        if !self.shared.devices.load().contains_key(&request.alias) {
            return Err(Refusal::UnknownAlias);
        }
        let published;
        let current = match changes.bindings.get(&request.alias) {
            Some(bindings) => bindings.as_slice(),
            None => {
                published = self.published(&request.alias);
                &published
            }
        };
        let applied = apply(current, request, self.settings.expiry, self.clock.now())?;
        let (before, after) = (current.len(), applied.bindings.len());
        let count = (self.count + changes.added + after).saturating_sub(changes.removed + before);
        if after > before && count > self.settings.registrations {
            return Err(Refusal::Full);
        }
        let answer = applied.bindings.as_slice().into();
        if !applied.changes.is_empty() {
            changes.added += after;
            changes.removed += before;
            let source = request.flow.map(|flow| flow.remote().to_string());
            changes.told.extend(applied.changes.into_iter().map(|(uri, change)| Told {
                alias: request.alias.clone(),
                contact: uri.to_string(),
                source: source.clone(),
                change,
            }));
            changes.bindings.insert(request.alias.clone(), applied.bindings);
        }
        Ok(answer)
    }

    fn published(&self, alias: &Alias) -> Arc<[Binding]> {
        let all = self.shared.bindings.read().unwrap_or_else(PoisonError::into_inner);
        all.get(alias).cloned().unwrap_or_default()
    }

    /// Stores, then shows. `false`: neither.
    fn commit(&mut self, changed: HashMap<Alias, Vec<Binding>>) -> bool {
        self.commit_with(changed, &mut [])
    }

    fn commit_with(&mut self, changed: HashMap<Alias, Vec<Binding>>, works: &mut [Box<dyn Work>]) -> bool {
        if changed.is_empty() && works.is_empty() {
            return true;
        }
        let now = self.clock.both();
        let rows = changed.iter().map(|(alias, bindings)| (alias, bindings.as_slice()));
        let others = |within: &Transaction<'_>| works.iter_mut().try_for_each(|work| work.run(within));
        if let Err(error) = self.store.replace_and(rows, now, others) {
            self.complain(&error);
            return false;
        }
        self.complained = None;
        self.shared.failing.store(false, Ordering::Relaxed);
        self.publish(changed);
        true
    }

    fn publish(&mut self, changed: HashMap<Alias, Vec<Binding>>) {
        let mut all = self.shared.bindings.write().unwrap_or_else(PoisonError::into_inner);
        let (closed, mut flows) = (self.shared.closed(), self.shared.flows());
        for (alias, mut bindings) in changed {
            for binding in &mut bindings {
                let Some(flow) = binding.flow.filter(|it| it.transport().is_stream()) else { continue };
                if closed.contains(&flow) {
                    // While it was written.
                    binding.flow = None;
                    self.shared.lost.store(true, Ordering::Relaxed);
                } else {
                    flows.entry(flow).or_default().insert(alias.clone());
                }
            }
            self.count += bindings.len();
            if let Some(end) = bindings.iter().map(|it| it.expires).min() {
                self.next_end = self.next_end.min(end);
            }
            let old =
                if bindings.is_empty() { all.remove(&alias) } else { all.insert(alias, bindings.into()) };
            self.count -= old.map_or(0, |it| it.len());
        }
    }

    /// Deletes what has ended, what nobody can be reached by, and what belongs to devices that no longer exist.
    fn sweep(&mut self) {
        let now = self.clock.now();
        let lost = self.shared.lost.swap(false, Ordering::Relaxed);
        if now < self.next_end && !lost {
            return;
        }
        let (mut changed, mut told, mut next_end) = (HashMap::new(), Vec::new(), Instant::FAR);
        {
            let devices = self.shared.devices.load();
            let all = self.shared.bindings.read().unwrap_or_else(PoisonError::into_inner);
            for (alias, bindings) in all.iter() {
                let removed = !devices.contains_key(alias);
                let stays = |it: &&Binding| !removed && it.expires > now && !it.is_lost();
                let standing: Vec<_> = bindings.iter().filter(stays).cloned().collect();
                next_end = standing.iter().map(|it| it.expires).fold(next_end, Instant::min);
                if standing.len() < bindings.len() {
                    let gone = bindings.iter().filter(|it| !stays(it));
                    told.extend(gone.map(|it| {
                        let source = it.flow.map(|flow| flow.remote().to_string());
                        let reason = match removed {
                            true => "device removed",
                            false if it.expires <= now => "expired",
                            false => "connection closed",
                        };
                        (alias.clone(), it.uri.to_string(), source, reason)
                    }));
                    changed.insert(alias.clone(), standing);
                }
            }
        }
        if self.commit(changed) {
            self.next_end = next_end;
            let at = self.clock.both().wall;
            for (alias, contact, source, reason) in told {
                tracing::info!(%alias, %contact, reason, "registration deleted");
                let alias = alias.to_string();
                let what = if reason == "expired" {
                    What::RegistrationExpired { alias, contact, source }
                } else {
                    What::RegistrationDeleted { alias, contact, source, reason }
                };
                self.settings.events.tell(at, what);
            }
        }
    }

    fn tell(&self, told: Told) {
        let Told { alias, contact, source, change } = told;
        let at = self.clock.both().wall;
        match change {
            Change::Added => {
                tracing::info!(%alias, %contact, "registration added");
                let alias = alias.to_string();
                self.settings.events.tell(at, What::RegistrationAdded { alias, contact, source });
            }
            Change::Refreshed => tracing::debug!(%alias, %contact, "registration refreshed"),
            Change::Removed => {
                let reason = "unregistered";
                tracing::info!(%alias, %contact, reason, "registration deleted");
                let alias = alias.to_string();
                let what = What::RegistrationDeleted { alias, contact, source, reason };
                self.settings.events.tell(at, what);
            }
        }
    }

    /// Reads the devices again when another process has written.
    fn notice_devices(&mut self) {
        let result = match self.store.version() {
            Ok(version) if version == self.version => return,
            Ok(version) => {
                self.version = version;
                // Neither suffers from what is wrong with the other.
                let (devices, others) = (self.load_devices(), self.watch.look(&self.store));
                devices.and(others)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            self.complain(&error);
        }
        // Bindings of a removed device go with the next sweep: at once.
        self.next_end = Instant::ZERO;
    }

    fn set_devices(&mut self, devices: Vec<DeviceEntry>) {
        let before = std::mem::replace(&mut self.settings.devices, devices);
        let before: HashMap<_, _> = before.iter().map(|it| (&it.alias, it)).collect();
        // Whose password is another one must be hashed anew; the hashes of all others are kept.
        let kept: HashMap<_, _> = self
            .settings
            .devices
            .iter()
            .filter(|it| before.get(&it.alias) == Some(it))
            .filter_map(|it| self.shared.devices.load().get(&it.alias).cloned())
            .map(|it| (it.alias.clone(), it))
            .collect();
        self.configured = kept;
        self.devices = NEVER;
        if let Err(error) = self.load_devices() {
            self.complain(&error);
        }
        self.next_end = Instant::ZERO;
    }

    fn load_devices(&mut self) -> Result<(), StoreError> {
        let revision = self.store.revision("devices")?;
        if std::mem::replace(&mut self.devices, revision) == revision {
            return Ok(());
        }
        let mut devices = HashMap::new();
        let mut foreign = Vec::new();
        for device in self.store.devices()? {
            if device.realm != self.settings.realm {
                foreign.push(device.realm.clone());
            }
            devices.insert(device.alias.clone(), Arc::new(device));
        }
        if let Some(stored) = foreign.first() {
            let (count, stored) = (foreign.len(), stored.clone());
            return Err(StoreError::OtherRealm { count, stored, configured: self.settings.realm.clone() });
        }
        for entry in &self.settings.devices {
            // Hashed once: this runs again whenever the store changes.
            let device = self
                .configured
                .entry(entry.alias.clone())
                .or_insert_with(|| Arc::new(Device::from_config(entry, &self.settings.realm)))
                .clone();
            if devices.insert(entry.alias.clone(), device).is_some() {
                tracing::warn!(alias = %entry.alias, "device in the configuration file and in the store: the file counts");
            }
        }
        let aliases = |of: &HashMap<Alias, Arc<Device>>| of.keys().cloned().collect::<HashSet<_>>();
        let before = aliases(&self.shared.devices.load());
        for alias in before.symmetric_difference(&aliases(&devices)) {
            let what = if before.contains(alias) { "removed" } else { "added" };
            tracing::debug!(%alias, what, "device changed");
        }
        self.shared.decoys.store(Arc::new(Decoys::new(self.store.decoys()?, &devices)));
        self.shared.devices.store(Arc::new(devices));
        Ok(())
    }

    fn complain(&mut self, error: &StoreError) {
        self.shared.failing.store(true, Ordering::Relaxed);
        let now = self.clock.now();
        if self.complained.is_none_or(|last| now.saturating_since(last) >= COMPLAIN) {
            self.complained = Some(now);
            tracing::error!(%error, "registrations cannot be stored");
        }
    }
}
