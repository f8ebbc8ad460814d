//! What is to be found again after a `kill -9`: of each conference its lock and who was there by the client
//! API, and which tokens are whose. Written by the registrar's writer, in its transactions.
//!
//! ```text
//!  Room ─> Pages (the latest state alone) ─> transaction ─> Saved
//!  API  ─> token ─────────────────────────> transaction ─┘
//!  at start: Ledger::recall ─> Found ─> Rooms::take_up, ClientApi::take_up
//! ```
//!
//! A page is written when it has changed, what comes meanwhile with the next: there is one write of a
//! conference under way at a time, and one page in memory. What cannot be written is tried again each second.

use std::fmt;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::sleep;

use super::policy::{Left, PartyId};
use crate::net::clock::Clock;
use crate::registrar::{Refusal, Registrar};
use crate::uuid::Uuid;

mod store;
#[cfg(test)]
mod tests;

pub use store::{Found, TokenHash};

/// A token that is not refreshed for so long is none any more, and a conference that nobody comes back to
/// within is over.
pub const LIFE: Duration = Duration::from_secs(120);
/// Whether a conference was alive is known to that, so that its lock holds for at least 90 s after a kill.
const SEEN_EVERY: Duration = Duration::from_secs(30);
/// What could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// What is over and could not be deleted is tried again so often; then its age deletes it.
const DELETIONS: u32 = 120;

/// What is written of a conference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its own name: a service has one conference after another.
    pub conference: Uuid,
    /// Of which service.
    pub service: String,
    /// Its lock and so on. Parties have their numbers of this process.
    pub left: Left,
    /// Their names, in the same order.
    pub names: Vec<Named>,
}

/// What others call a party.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// In the roster.
    pub uuid: Uuid,
    /// On screens.
    pub name: String,
    /// When he came.
    pub since: SystemTime,
}

/// Where it is written. Clones are the same.
#[derive(Clone)]
pub struct Ledger {
    registrar: Registrar,
    clock: Clock,
}

/// How far the pages of a conference have come.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    stored: u64,
    failed: u64,
}

/// The pages of one conference; dropped when it is over.
#[derive(Debug)]
pub struct Pages {
    latest: watch::Sender<(u64, Option<Page>)>,
    progress: watch::Receiver<Progress>,
}

/// Tells whether something is on disk.
#[derive(Clone, Debug)]
pub struct Saved(Option<(u64, watch::Receiver<Progress>)>);

impl Saved {
    /// There is no ledger: what is said is all.
    pub const fn at_once() -> Self {
        Self(None)
    }

    /// Whether it is already.
    pub fn is_done(&self) -> bool {
        self.0.as_ref().is_none_or(|(number, progress)| progress.borrow().stored >= *number)
    }

    /// Waits until it is, or could not be.
    pub async fn wait(self) -> bool {
        let Some((number, mut progress)) = self.0 else { return true };
        let reached = progress.wait_for(|it| it.stored >= number || it.failed >= number).await;
        reached.is_ok_and(|it| it.stored >= number)
    }
}

impl Pages {
    /// Has `page` written, unless it is there already. `None`: nothing is worth it.
    pub fn write(&self, page: Option<Page>) -> Saved {
        self.latest.send_if_modified(|(number, latest)| {
            let differs = *latest != page;
            if differs {
                (*number, *latest) = (*number + 1, page);
            }
            differs
        });
        Saved(Some((self.latest.borrow().0, self.progress.clone())))
    }
}

impl Ledger {
    /// In the store of `registrar`.
    pub const fn new(registrar: Registrar, clock: Clock) -> Self {
        Self { registrar, clock }
    }

    /// For a conference; `stored` is what the store has of it already.
    pub fn pages(&self, stored: Option<Page>) -> Pages {
        let (latest, wanted) = watch::channel((0, stored.clone()));
        let (told, progress) = watch::channel(Progress::default());
        tokio::spawn(self.clone().follow(stored, wanted, told));
        Pages { latest, progress }
    }

    async fn follow(
        self,
        mut stored: Option<Page>,
        mut wanted: watch::Receiver<(u64, Option<Page>)>,
        told: watch::Sender<Progress>,
    ) {
        let mut failed = false;
        loop {
            tokio::select! {
                changed = wanted.changed() => if changed.is_err() { break },
                () = sleep(AGAIN), if failed => {}
            }
            let (number, page) = wanted.borrow_and_update().clone();
            failed = !self.write(&stored, &page).await;
            if failed {
                told.send_modify(|it| it.failed = number);
            } else {
                stored = page;
                told.send_modify(|it| it.stored = number);
            }
        }
        // The conference is over.
        for _ in 0..DELETIONS {
            if self.write(&stored, &None).await {
                return;
            }
            sleep(AGAIN).await;
        }
    }

    async fn write(&self, before: &Option<Page>, after: &Option<Page>) -> bool {
        if before == after {
            return true;
        }
        let (before, after, now) = (before.clone(), after.clone(), self.clock.both());
        let write =
            move |to: &rusqlite::Transaction<'_>| store::write(to, before.as_ref(), after.as_ref(), now);
        self.registrar.transact(write).await.is_ok()
    }

    /// Writes down that `token` is that of a party for so long, and that the one before, if any, is not for
    /// longer than that. On disk when this comes back.
    pub async fn token(
        &self,
        party: Uuid,
        token: (TokenHash, Duration),
        before: Option<(TokenHash, Duration)>,
    ) -> Result<(), Refusal> {
        let now = self.clock.both();
        self.registrar.transact(move |to| store::token(to, party, token, before, now)).await
    }

    /// The tokens of a party are none any more.
    pub async fn forget(&self, party: Uuid) -> Result<(), Refusal> {
        self.registrar.transact(move |to| store::forget(to, party)).await
    }

    /// What was left when the last process ended. `number` gives parties their numbers.
    pub async fn recall(
        &self,
        number: impl FnMut() -> PartyId + Send + 'static,
    ) -> Result<Vec<Found>, Refusal> {
        let now = self.clock.both();
        self.registrar.transact(move |from| store::recall(from, now, number)).await
    }

    /// Everything has ended as it should: a new process goes on with nothing.
    pub async fn close(&self) -> Result<(), Refusal> {
        self.registrar.transact(store::clear).await
    }

    /// Writes down again and again that what is there is alive, for as long as it is awaited.
    pub async fn keep(self) {
        loop {
            sleep(SEEN_EVERY).await;
            let now = self.clock.both();
            // The next time is soon enough.
            let _ = self.registrar.transact(move |to| store::seen(to, now)).await;
        }
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").finish_non_exhaustive()
    }
}
