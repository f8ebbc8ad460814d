//! RTP on the wire: a few threads, each with a poll loop over the sockets of its streams.
//!
//! ```text
//!            leg (async)                      engine (tick)
//!   MediaPort: configure, feed, ..      Inlet ^         | Outlet
//!        | bounded queue + wake               | rings   v + wake
//!   +----v------------------------------------+-------------------+
//!   | thread: poll -> Session A --packet--> Session B -> sockets  |
//!   +-------------------------------------------------------------+
//! ```
//!
//! A relay is a function call on one thread: the packet that was read is rewritten and sent before
//! the next one is read. Both legs of a call live on the same thread ([`Place::thread`]).

mod dtls;
mod handshakes;
mod hold;
mod legs;
mod pace;
mod port;
mod ports;
mod stream;
#[cfg(test)]
mod tests;
mod thread;

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::{fmt, io};

use crosspoint_codecs::format::MediaKind;
use crosspoint_proto::dtls::Fingerprint;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};
use tokio::sync::mpsc;

use crate::media::port::{StreamEvent, StreamId};
use crate::net::clock::Clock;

use dtls::Identity;
pub use port::{LocalAddress, MediaPort};
use ports::Ports;
pub use ports::PortsError;
use stream::Stream;
use thread::Handle;

/// Socket threads when the configuration names none: relaying takes some 10 us a packet, so one
/// thread carries a thousand calls, and two use a small machine well.
pub const THREADS: usize = 2;

/// Media ports when the configuration names none: 5000 streams.
pub const PORTS: RangeInclusive<u16> = 40_000..=49_999;

/// Events of one stream that wait for its leg. Overflow: the newest is dropped and counted; what
/// floods (keyframe requests, keys) is limited where it arises.
pub const EVENTS: usize = 32;

/// How the media side is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaConfig {
    /// Socket threads; at least one is started.
    pub threads: usize,
    /// The range that port pairs are taken from (`media.ports`).
    pub ports: RangeInclusive<u16>,
}

impl Default for MediaConfig {
    fn default() -> Self {
        Self { threads: THREADS, ports: PORTS }
    }
}

/// Why the media side did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MediaStartError {
    /// The port range is unusable.
    #[error(transparent)]
    Ports(#[from] PortsError),
    /// A thread or its poll could not be made.
    #[error("cannot start a media thread: {0}")]
    Thread(#[source] io::Error),
    /// The system gave no randomness.
    #[error("the system gave no random seed: {0}")]
    Randomness(String),
    /// No certificate could be made for peers of DTLS.
    #[error("cannot make a certificate for encrypted media: {0}")]
    Certificate(String),
}

/// Why a stream could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No port pair.
    #[error(transparent)]
    Ports(#[from] PortsError),
    /// The command queue of its thread is full.
    #[error("the media thread does not keep up")]
    Overloaded,
    /// The media side was stopped.
    #[error("media is stopped")]
    Stopped,
}

/// Where a stream shall live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The local address to bind.
    pub ip: IpAddr,
    /// The thread of the streams that it shall be joined with; `None`: the one with the fewest.
    pub thread: Option<usize>,
    /// Another stream of the same leg: they share a thread, whatever [`Self::thread`] says, and a
    /// timeline, so that sound and pictures stay together.
    pub beside: Option<StreamId>,
}

/// A stream that was opened: its port, and what it tells.
#[derive(Debug)]
pub struct Opened {
    /// To be shared with the conference. The last clone that is dropped closes the stream.
    pub port: Arc<MediaPort>,
    /// Events for the leg; ends when the stream is closed.
    pub events: mpsc::Receiver<StreamEvent>,
}

/// The media side of one gateway. Dropping it stops it.
pub struct MediaNet {
    shared: Arc<Shared>,
    joins: Mutex<Vec<JoinHandle<()>>>,
}

/// What all ports of a `MediaNet` have in common.
struct Shared {
    clock: Clock,
    identity: Arc<Identity>,
    ports: Ports,
    threads: Vec<Handle>,
    rng: Mutex<ChaCha12Rng>,
    next_id: AtomicU64,
    /// The thread of each open stream: a relay across threads is refused.
    places: Mutex<HashMap<StreamId, usize>>,
}

impl MediaNet {
    /// Starts the threads.
    pub fn start(config: &MediaConfig, clock: Clock) -> Result<Self, MediaStartError> {
        let ports = Ports::new(&config.ports)?;
        let identity = Arc::new(Identity::generate().map_err(MediaStartError::Certificate)?);
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| MediaStartError::Randomness(error.to_string()))?;
        let mut threads = Vec::new();
        let mut joins = Vec::new();
        for number in 0..config.threads.max(1) {
            match thread::start(number, clock) {
                Ok((handle, join)) => {
                    threads.push(handle);
                    joins.push(join);
                }
                Err(error) => {
                    halt(&threads, joins);
                    return Err(MediaStartError::Thread(error));
                }
            }
        }
        let shared = Shared {
            clock,
            identity,
            ports,
            threads,
            rng: Mutex::new(ChaCha12Rng::from_seed(seed)),
            next_id: AtomicU64::new(1),
            places: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared), joins: Mutex::new(joins) })
    }

    /// Opens a port pair with a stream that sends and takes nothing until it is configured.
    pub fn open(&self, kind: MediaKind, place: Place) -> Result<Opened, OpenError> {
        let threads = &self.shared.threads;
        let beside = place.beside.and_then(|sibling| self.shared.places().get(&sibling).copied());
        let wanted = beside.or(place.thread).and_then(|number| threads.get(number));
        let Some(thread) = wanted.or_else(|| threads.iter().min_by_key(|thread| thread.streams())) else {
            return Err(OpenError::Stopped);
        };
        let (start, seed) = self.shared.random();
        let pair = self.shared.ports.open(place.ip, start, stream::buffer(kind))?;
        let id = StreamId(self.shared.next_id.fetch_add(1, Ordering::Relaxed));
        let (events, receiver) = mpsc::channel(EVENTS);
        let identity = self.shared.identity.clone();
        let (stream, outside) =
            Stream::new(id, kind, pair, seed, self.shared.clock, identity, place.beside, events)
                .map_err(|source| PortsError::Socket { ip: place.ip, source })?;
        let port = MediaPort::new(self.shared.clone(), thread.number(), outside);
        thread.adopt(Box::new(stream))?;
        self.shared.places().insert(id, thread.number());
        Ok(Opened { port: Arc::new(port), events: receiver })
    }

    /// The digest of the certificate that its streams show to peers of DTLS. It is made anew at each
    /// start: what SDP says of it is for one call.
    pub fn fingerprint(&self) -> &Fingerprint {
        self.shared.identity.fingerprint()
    }

    /// The thread with the fewest streams: where the streams of a new call should live.
    pub fn quietest(&self) -> usize {
        self.shared.threads.iter().min_by_key(|thread| thread.streams()).map_or(0, Handle::number)
    }

    /// Socket threads.
    pub fn threads(&self) -> usize {
        self.shared.threads.len()
    }

    /// Port pairs in use.
    pub fn pairs_in_use(&self) -> usize {
        self.shared.ports.used()
    }

    /// Says goodbye on every stream, frees all ports and joins the threads. Blocks for the moment
    /// that takes; ports that are still held answer [`PortError::Closed`](crate::media::port::PortError).
    pub fn stop(&self) {
        let joins = std::mem::take(&mut *self.joins.lock().unwrap_or_else(PoisonError::into_inner));
        halt(&self.shared.threads, joins);
    }
}

impl Drop for MediaNet {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for MediaNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MediaNet")
            .field("threads", &self.threads())
            .field("pairs_in_use", &self.pairs_in_use())
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Where to start looking for ports, and a seed for a session.
    fn random(&self) -> (u64, [u8; 32]) {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        (rng.next_u64(), seed)
    }

    fn places(&self) -> std::sync::MutexGuard<'_, HashMap<StreamId, usize>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn halt(threads: &[Handle], joins: Vec<JoinHandle<()>>) {
    for thread in threads {
        thread.stop();
    }
    for join in joins {
        if join.join().is_err() {
            tracing::error!("a media thread had panicked");
        }
    }
    for thread in threads {
        thread.clear();
    }
}
