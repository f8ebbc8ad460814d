//! Which clients are registered by HTTP, and which calls ring at them. Pure: time comes in as an
//! argument. Whoever holds a registration's [`Rings`] sees every change.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use tokio::sync::{oneshot, watch};

use crate::alias::Alias;
use crate::cause::{Cause, Reason};
use crate::leg::{Caller, LegId, Venue};
use crate::uuid::Uuid;

/// ConnectLegs that one device may have at a time: a person's computers and telephones, and what crashed
/// and has not expired yet. All of them ring. Overflow: another is refused.
pub const CLIENTS_A_DEVICE: usize = 10;

/// Calls that ring at one client at a time. Overflow: the next caller is told that it is busy.
pub const RINGS: usize = 8;

/// What a client sees of the calls that ring at it.
pub type Rings = watch::Receiver<Vec<Arc<Ring>>>;

/// A call that rings at a client.
pub struct Ring {
    /// The leg that stands for the client until it takes the call.
    pub leg: LegId,
    /// What was called: the client's device.
    pub called: String,
    /// Who calls.
    pub caller: Caller,
    /// Where the client comes in when it takes the call.
    pub venue: Venue,
    /// By what the client takes or rejects it: made when it is first told.
    pub(super) token: OnceLock<Option<String>>,
    /// Told how the client ends the ringing.
    pub(super) verdict: Mutex<Option<oneshot::Sender<Verdict>>>,
}

/// How the ringing ends.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The client takes the call. What is sent is dropped when the leg is over.
    Taken(oneshot::Sender<()>),
    /// It does not.
    Over(Cause),
}

impl Ring {
    /// The client takes the call: the conference is told so by the leg. `None`: it is too late; else
    /// the receiver fails when the leg is over, whether the client is in or not.
    pub fn take(&self) -> Option<oneshot::Receiver<()>> {
        let (stands, over) = oneshot::channel();
        self.settle(Verdict::Taken(stands)).then_some(over)
    }

    /// The word by which the client takes or rejects the call, the same each time: `make` makes it the
    /// first time. A secret.
    pub fn token(&self, make: impl FnOnce() -> Option<String>) -> Option<&str> {
        self.token.get_or_init(make).as_deref()
    }

    /// The client does not take the call.
    pub fn reject(&self) {
        self.settle(Verdict::Over(Cause::remote(Reason::Rejected)));
    }

    /// Whether the client has taken the call or rejected it, or has left.
    pub fn is_settled(&self) -> bool {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// False when it has ended otherwise before.
    fn settle(&self, verdict: Verdict) -> bool {
        let mut waits = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        waits.take().is_some_and(|waits| waits.send(verdict).is_ok())
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("leg", &self.leg).field("venue", &self.venue).finish_non_exhaustive()
    }
}

/// A registration, as others are shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Its number.
    pub uuid: Uuid,
    /// The device.
    pub alias: Alias,
    /// When it ends unless it is refreshed.
    pub until: Instant,
    /// Where its requests come from.
    pub source: Option<SocketAddr>,
    /// What the client calls itself; may be empty.
    pub user_agent: String,
}

impl Registered {
    /// What is left of it.
    pub fn remaining(&self, now: Instant) -> Duration {
        self.until.saturating_since(now)
    }
}

/// No more clients are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the device, or the gateway, has as many registered clients as it may")]
pub struct Full;

/// All registrations by HTTP.
#[derive(Debug)]
pub(super) struct Table {
    by_device: HashMap<Alias, Vec<Client>>,
    count: usize,
    most: usize,
}

#[derive(Debug)]
struct Client {
    it: Registered,
    rings: watch::Sender<Vec<Arc<Ring>>>,
}

impl Table {
    /// Nobody yet, and at most `most` at a time.
    pub(super) fn new(most: usize) -> Self {
        Self { by_device: HashMap::new(), count: 0, most }
    }

    pub(super) fn add(&mut self, now: Instant, it: Registered) -> Result<(), Full> {
        if self.count >= self.most {
            self.expire(now);
        }
        let of_device = self.by_device.get(&it.alias).map_or(0, Vec::len);
        if self.count >= self.most || of_device >= CLIENTS_A_DEVICE {
            return Err(Full);
        }
        self.count += 1;
        let rings = watch::channel(Vec::new()).0;
        self.by_device.entry(it.alias.clone()).or_default().push(Client { it, rings });
        Ok(())
    }

    /// It goes on until then; false when there is none.
    pub(super) fn refresh(&mut self, alias: &Alias, uuid: Uuid, until: Instant) -> bool {
        let client = self.client_mut(alias, uuid);
        client.map(|client| client.it.until = until).is_some()
    }

    /// It is over. Calls that ring there ring no longer.
    pub(super) fn remove(&mut self, alias: &Alias, uuid: Uuid) -> Option<Registered> {
        let clients = self.by_device.get_mut(alias)?;
        let at = clients.iter().position(|client| client.it.uuid == uuid)?;
        let gone = clients.remove(at);
        if clients.is_empty() {
            self.by_device.remove(alias);
        }
        self.count -= 1;
        gone.leave();
        Some(gone.it)
    }

    /// Those of a device that stand.
    pub(super) fn of(&self, alias: &Alias, now: Instant) -> Vec<Registered> {
        let clients = self.by_device.get(alias).into_iter().flatten();
        clients.filter(|client| now < client.it.until).map(|client| client.it.clone()).collect()
    }

    /// All that stand.
    pub(super) fn all(&self, now: Instant) -> Vec<Registered> {
        let clients = self.by_device.values().flatten();
        let mut all: Vec<_> =
            clients.filter(|client| now < client.it.until).map(|client| client.it.clone()).collect();
        all.sort_by(|a, b| (&a.alias, a.uuid).cmp(&(&b.alias, b.uuid)));
        all
    }

    /// The calls of a client, as they come and go.
    pub(super) fn rings(&self, alias: &Alias, uuid: Uuid) -> Option<Rings> {
        self.client(alias, uuid).map(|client| client.rings.subscribe())
    }

    /// Where its requests come from.
    pub(super) fn source(&self, alias: &Alias, uuid: Uuid) -> Option<SocketAddr> {
        self.client(alias, uuid)?.it.source
    }

    /// Another call rings there.
    pub(super) fn ring(&self, alias: &Alias, uuid: Uuid, ring: Arc<Ring>) -> Result<(), Reason> {
        let client = self.client(alias, uuid).ok_or(Reason::Unavailable)?;
        if client.rings.borrow().len() >= RINGS {
            return Err(Reason::Busy);
        }
        client.rings.send_modify(|rings| rings.push(ring));
        Ok(())
    }

    /// It rings no longer.
    pub(super) fn hush(&self, alias: &Alias, uuid: Uuid, leg: LegId) {
        if let Some(client) = self.client(alias, uuid) {
            client.rings.send_modify(|rings| rings.retain(|ring| ring.leg != leg));
        }
    }

    fn expire(&mut self, now: Instant) {
        for clients in self.by_device.values_mut() {
            for late in clients.extract_if(.., |client| now >= client.it.until) {
                late.leave();
                self.count -= 1;
            }
        }
        self.by_device.retain(|_, clients| !clients.is_empty());
    }

    fn client(&self, alias: &Alias, uuid: Uuid) -> Option<&Client> {
        self.by_device.get(alias)?.iter().find(|client| client.it.uuid == uuid)
    }

    fn client_mut(&mut self, alias: &Alias, uuid: Uuid) -> Option<&mut Client> {
        self.by_device.get_mut(alias)?.iter_mut().find(|client| client.it.uuid == uuid)
    }
}

impl Client {
    /// Who rings there hears that nobody is there any more.
    fn leave(&self) {
        let rings = self.rings.send_replace(Vec::new());
        for ring in rings {
            ring.settle(Verdict::Over(Cause::remote(Reason::Unavailable)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alias::Domains;

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(1_000 * (500 + seconds))
    }

    fn bob() -> Alias {
        Alias::parse("bob", &Domains::default()).unwrap()
    }

    fn uuid(number: u8) -> Uuid {
        Uuid::of([number; 16])
    }

    fn registered(number: u8, until: u64) -> Registered {
        let user_agent = String::new();
        Registered { uuid: uuid(number), alias: bob(), until: at(until), source: None, user_agent }
    }

    fn ring(leg: u64) -> (Arc<Ring>, oneshot::Receiver<Verdict>) {
        let (verdict, told) = oneshot::channel();
        let venue = Venue { service: "call".into(), alias: "call".into(), kind: "gateway" };
        let caller = Caller { address: "alice".into(), name: "Alice".into(), hops: 70, venue: None };
        let verdict = Mutex::new(Some(verdict));
        let (called, token) = ("bob".into(), OnceLock::new());
        (Arc::new(Ring { leg: LegId(leg), called, caller, venue, token, verdict }), told)
    }

    #[test]
    fn a_device_has_several_clients_and_each_ends_by_itself() {
        let mut table = Table::new(100);
        table.add(at(0), registered(1, 120)).unwrap();
        table.add(at(0), registered(2, 60)).unwrap();
        assert_eq!(table.of(&bob(), at(59)).len(), 2);
        assert_eq!(table.of(&bob(), at(60)), [registered(1, 120)]);
        assert!(table.refresh(&bob(), uuid(2), at(180)) && !table.refresh(&bob(), uuid(3), at(180)));
        assert_eq!(table.all(at(100)), [registered(1, 120), registered(2, 180)]);
        assert_eq!(table.remove(&bob(), uuid(1)), Some(registered(1, 120)));
        assert_eq!(table.remove(&bob(), uuid(1)), None);
        assert_eq!(table.remove(&bob(), uuid(2)), Some(registered(2, 180)));
        assert!(table.by_device.is_empty() && table.count == 0);
    }

    #[test]
    fn there_are_only_so_many_of_a_device_and_in_all() {
        let mut table = Table::new(CLIENTS_A_DEVICE + 1);
        let most = u8::try_from(CLIENTS_A_DEVICE).unwrap();
        assert!((0..most).all(|number| table.add(at(0), registered(number, 120)).is_ok()));
        assert_eq!(table.add(at(0), registered(99, 120)), Err(Full), "one device has its bound");
        let other = |number| Registered {
            alias: Alias::parse("carol", &Domains::default()).unwrap(),
            ..registered(number, 10)
        };
        table.add(at(0), other(100)).unwrap();
        assert_eq!(table.add(at(9), other(101)), Err(Full), "and so have all together");
        table.add(at(10), other(101)).expect("an old one makes room");
        assert_eq!(table.count, usize::from(most) + 1);
    }

    #[test]
    fn a_client_sees_calls_come_and_go_and_a_caller_that_it_left() {
        let mut table = Table::new(10);
        table.add(at(0), registered(1, 120)).unwrap();
        let mut rings = table.rings(&bob(), uuid(1)).unwrap();
        let (one, mut told) = ring(7);
        table.ring(&bob(), uuid(1), one).unwrap();
        assert!(rings.has_changed().unwrap());
        assert_eq!(rings.borrow_and_update()[0].leg, LegId(7));
        table.hush(&bob(), uuid(1), LegId(7));
        assert!(rings.borrow_and_update().is_empty() && told.try_recv().is_err());
        for leg in 0..u64::try_from(RINGS).unwrap() {
            table.ring(&bob(), uuid(1), ring(leg).0).unwrap();
        }
        assert_eq!(table.ring(&bob(), uuid(1), ring(99).0), Err(Reason::Busy));
        let first = rings.borrow()[0].clone();
        first.reject();
        table.remove(&bob(), uuid(1)).unwrap();
        assert!(rings.borrow().is_empty());
        assert_eq!(table.ring(&bob(), uuid(1), ring(99).0), Err(Reason::Unavailable));
    }

    #[test]
    fn only_the_first_verdict_counts() {
        let (one, mut told) = ring(1);
        assert!(!one.is_settled());
        one.reject();
        assert!(one.is_settled() && one.take().is_none());
        let Ok(Verdict::Over(cause)) = told.try_recv() else { panic!("no verdict") };
        assert_eq!(cause, Cause::remote(Reason::Rejected));
        let (other, told) = ring(2);
        drop(told);
        assert!(other.take().is_none(), "the leg is gone");
    }
}
