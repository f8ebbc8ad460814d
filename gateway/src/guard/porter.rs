//! The guard as all doors of one gateway share it, and how its counters reach the disk.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crosspoint_codecs::clock::Instant;
use tokio::sync::Notify;

use super::seldom::Seldom;
use super::{Attempt, Guard, Source, Verdict, Visitor, Who, store};
use crate::alias::Alias;
use crate::events::{Attempt as Told, Events, What};
use crate::net::clock::Clock;
use crate::registrar::{Refusal, Registrar};

/// Sources are written so often at most; rooms at once.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// Refusals are told so often at most.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// What is over is taken out of the store so often.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// Stands at every door. Clones are the same.
#[derive(Clone)]
pub struct Porter(Arc<Inner>);

struct Inner {
    guard: Mutex<Guard>,
    clock: Box<dyn Fn() -> Instant + Send + Sync>,
    /// Whether aliases that nobody has are answered as rooms are that want a PIN.
    hides: Box<dyn Fn() -> bool + Send + Sync>,
    events: Events,
    /// When a refusal was told last, and how many were not since.
    refused: Mutex<(Instant, u64)>,
    /// Whose refused calls and registrations are in the log.
    seldom: Mutex<Seldom>,
    /// A room has spent something: the store should know.
    spent: Notify,
}

impl Porter {
    /// One who knows of no attempt yet. Nobody else knows `secret`; `hides` is asked each time, for it
    /// may be changed while the gateway runs.
    pub fn new(
        secret: [u8; 16],
        hides: impl Fn() -> bool + Send + Sync + 'static,
        clock: impl Fn() -> Instant + Send + Sync + 'static,
        events: Events,
    ) -> Self {
        let guard = Mutex::new(Guard::new(secret));
        let (refused, seldom) = (Mutex::default(), Mutex::default());
        let (clock, hides) = (Box::new(clock), Box::new(hides));
        Self(Arc::new(Inner { guard, clock, hides, events, refused, seldom, spent: Notify::new() }))
    }

    /// One for tests, on tokio's clock.
    #[cfg(test)]
    pub(crate) fn of_a_test(hides: bool, events: &Events) -> Self {
        let begun = tokio::time::Instant::now();
        let clock = move || Instant::from_nanos(u64::try_from(begun.elapsed().as_nanos()).unwrap());
        Self::new([7; 16], move || hides, clock, events.clone())
    }

    /// Whether aliases that nobody has are answered as rooms are that want a PIN.
    pub fn hides(&self) -> bool {
        (self.0.hides)()
    }

    /// Whether a refusal of that source goes into the log now; if so, how many did not since the last.
    pub fn logs(&self, source: Option<IpAddr>) -> Option<u64> {
        let mut seldom = self.0.seldom.lock().unwrap_or_else(PoisonError::into_inner);
        seldom.tells((self.0.clock)(), Source::of_peer(source))
    }

    /// Where attempts are told.
    pub fn events(&self) -> &Events {
        &self.0.events
    }

    /// Has a PIN read, if it may be; `None`: it was not, or it was wrong. `digits` are those of the
    /// shortest PIN of the room; there is no room where it does not exist.
    pub fn attempt<T>(
        &self,
        visitor: &Visitor,
        room: Option<&str>,
        digits: usize,
        read: impl FnOnce() -> Option<T>,
    ) -> Option<T> {
        let now = self.now();
        let verdict = self.guard().attempt(now, Attempt { who: &visitor.who, room, digits }, read);
        match verdict {
            Verdict::Right(right) => {
                self.tell(visitor, room, Told::Right);
                Some(right)
            }
            Verdict::Wrong => {
                self.0.spent.notify_one();
                tracing::warn!(source = %visitor.who, service = room, "a PIN was wrong");
                self.tell(visitor, room, Told::Wrong);
                None
            }
            Verdict::Refused(wait) => {
                self.refused(now, visitor, room, wait);
                None
            }
        }
    }

    /// Has the password of `device` read, if it may be; `None`: it was not, or it was wrong.
    pub fn password<T>(
        &self,
        source: Option<IpAddr>,
        device: &Alias,
        read: impl FnOnce() -> Option<T>,
    ) -> Option<T> {
        let now = self.now();
        let source = Source::of_peer(source);
        let verdict = self.guard().password(now, source, device, read);
        match verdict {
            Verdict::Right(right) => Some(right),
            // Who asks tells of it.
            Verdict::Wrong => None,
            Verdict::Refused(wait) => {
                self.unread(now, &Who::Source(source), None, wait);
                None
            }
        }
    }

    /// Somebody has asked for an alias that nobody has. Whether he is told nothing of any for a while.
    pub fn missed(&self, visitor: &Visitor) -> bool {
        let now = self.now();
        let wait = self.guard().missed(now, &visitor.who);
        if !wait.is_zero() {
            self.refused(now, visitor, None, wait);
        }
        !wait.is_zero()
    }

    /// Whether somebody is told nothing of `room` for a while, not even whether it exists.
    pub fn turns_away(&self, visitor: &Visitor, room: Option<&str>) -> bool {
        let now = self.now();
        let wait = self.guard().turned_away(now, &visitor.who, room);
        if !wait.is_zero() {
            self.refused(now, visitor, room, wait);
        }
        !wait.is_zero()
    }

    /// Somebody has entered a room that wants no PIN of anybody.
    pub fn entered(&self, visitor: &Visitor, room: &str) {
        self.guard().entered(self.now(), &visitor.who, room);
    }

    /// Takes up what an earlier run has stored. Before any door opens.
    pub async fn recall(&self, registrar: &Registrar, clock: Clock) -> Result<(), Refusal> {
        let now = clock.both();
        let stored = registrar.transact(move |of| store::read(of, now)).await?;
        self.guard().restore(now.mono, stored);
        Ok(())
    }

    /// Writes what changes, for as long as it is awaited.
    pub async fn keep(self, registrar: Registrar, clock: Clock) {
        let mut swept = tokio::time::Instant::now();
        loop {
            // Whichever is first; a source alone can wait.
            let _ = tokio::time::timeout(WRITE_EVERY, self.0.spent.notified()).await;
            if swept.elapsed() >= SWEEP_EVERY {
                swept = tokio::time::Instant::now();
                let now = clock.both();
                // What is left over is taken out the next time.
                let _ = registrar.transact(move |of| store::sweep(of, now)).await;
            }
            self.write(&registrar, clock).await;
        }
    }

    /// Writes what has changed; `false`: it could not.
    async fn write(&self, registrar: &Registrar, clock: Clock) -> bool {
        let changes = self.guard().changes();
        if changes.is_empty() {
            return true;
        }
        let (now, rows) = (clock.both(), changes.clone());
        let stored = registrar.transact(move |to| store::write(to, &rows, now)).await.is_ok();
        self.guard().saved(changes, stored);
        stored
    }

    fn refused(&self, now: Instant, visitor: &Visitor, room: Option<&str>, wait: Duration) {
        if self.unread(now, &visitor.who, room, wait) {
            self.tell(visitor, room, Told::Refused);
        }
    }

    /// Logs it once a second: a flood of guesses pushes nothing else out of the log and the events.
    fn unread(&self, now: Instant, source: &Who, room: Option<&str>, wait: Duration) -> bool {
        let more = {
            let mut last = self.0.refused.lock().unwrap_or_else(PoisonError::into_inner);
            last.1 += 1;
            if now.saturating_since(last.0) < TELL_EVERY {
                return false;
            }
            std::mem::replace(&mut *last, (now, 0)).1 - 1
        };
        let wait = wait.as_secs();
        tracing::warn!(%source, service = room, wait, more, "an attempt was refused unread");
        true
    }

    fn tell(&self, visitor: &Visitor, room: Option<&str>, result: Told) {
        // What does not exist has no PIN.
        let Some(room) = room else { return };
        let (source, protocol) = (visitor.source.map(|it| it.to_string()), visitor.protocol);
        let what = What::PinAttempt { service: room.to_owned(), source, protocol, result };
        self.0.events.tell(SystemTime::now(), what);
    }

    fn now(&self) -> Instant {
        (self.0.clock)()
    }

    fn guard(&self) -> MutexGuard<'_, Guard> {
        self.0.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Porter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Porter").field("sources", &self.guard().len()).finish_non_exhaustive()
    }
}
