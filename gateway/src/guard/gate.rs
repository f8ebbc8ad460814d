//! Whose SIP is read, as sockets, the door and the management API of one gateway share it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::rates::{BAN, Ban, Entry, Kind, Rates};
use crate::config::Network;
use crate::events::{Events, What};
use crate::net::clock::Clock;

/// Clones are the same.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    rates: Mutex<Rates>,
    clock: Clock,
    events: Events,
    unread: AtomicU64,
}

impl Gate {
    /// One who has seen nobody yet. `most` messages a second of each source that is not trusted.
    pub fn new(most: usize, trusted: Vec<Network>, clock: Clock, events: Events) -> Self {
        let rates = Mutex::new(Rates::new(most, trusted));
        Self(Arc::new(Inner { rates, clock, events, unread: AtomicU64::new(0) }))
    }

    /// Whether a datagram is read. It has not been copied yet.
    pub fn reads(&self, from: SocketAddr, data: &[u8]) -> bool {
        self.enters(false, from, Kind::of(data)).is_none()
    }

    /// Bytes of a stream have come: how long to wait before they are read, for a stream can be slowed down.
    pub fn slows(&self, from: SocketAddr, data: &[u8]) -> Option<Duration> {
        self.enters(true, from, Kind::of(data))
    }

    /// Whether a connection is accepted.
    pub fn accepts(&self, from: SocketAddr) -> bool {
        let accepts = self.rates().connects(self.0.clock.now(), from);
        self.0.unread.fetch_add(u64::from(!accepts), Ordering::Relaxed);
        accepts
    }

    /// What came from there was refused.
    pub fn refused(&self, stream: bool, from: SocketAddr) {
        self.rates().refused(self.0.clock.now(), stream, from);
    }

    /// A device of ours is there, by its digest.
    pub fn proved(&self, stream: bool, from: SocketAddr) {
        self.rates().proved(self.0.clock.now(), stream, from);
    }

    /// Somebody is where he says: he has heard what we sent there.
    pub fn answers(&self, stream: bool, from: SocketAddr) {
        self.rates().answers(self.0.clock.now(), stream, from);
    }

    /// Who is banned, and for how long yet.
    pub fn bans(&self) -> Vec<(IpAddr, Duration)> {
        let now = self.0.clock.now();
        let bans = self.rates().bans(now);
        bans.into_iter().map(|Ban { source, until }| (source, until.saturating_since(now))).collect()
    }

    /// Lifts a ban; false: there is none.
    pub fn lift(&self, address: IpAddr) -> bool {
        self.rates().lift(self.0.clock.now(), address)
    }

    /// Messages and connections that were not read.
    pub fn unread(&self) -> u64 {
        self.0.unread.load(Ordering::Relaxed)
    }

    fn enters(&self, stream: bool, from: SocketAddr, kind: Kind) -> Option<Duration> {
        let entry = self.rates().message(self.0.clock.now(), stream, from, kind);
        match entry {
            Entry::Read => return None,
            Entry::Banned => self.tell(from.ip()),
            Entry::Over(_) => {}
        }
        self.0.unread.fetch_add(1, Ordering::Relaxed);
        Some(if let Entry::Over(wait) = entry { wait } else { BAN })
    }

    fn tell(&self, source: IpAddr) {
        let seconds = BAN.as_secs();
        tracing::warn!(%source, seconds, "banned: it goes on although it is refused");
        let at: SystemTime = self.0.clock.both().wall;
        self.0.events.tell(at, What::SourceBanned { source: source.to_canonical().to_string(), seconds });
    }

    fn rates(&self) -> MutexGuard<'_, Rates> {
        self.0.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("unread", &self.unread()).finish_non_exhaustive()
    }
}
