//! What a SIP endpoint is made with.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::Host;
use crate::Transport;

/// Where the endpoint listens, and what it calls itself there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// How.
    pub transport: Transport,
    /// Where, as the driver reports it. For datagrams an unspecified address needs
    /// [`Self::advertised`], since nobody says which one they came to.
    pub address: SocketAddr,
    /// Host and port for Via and Contact, when others reach it under another name.
    pub advertised: Option<(Host, u16)>,
}

impl Listen {
    /// Under its own address.
    pub const fn new(transport: Transport, address: SocketAddr) -> Self {
        Self { transport, address, advertised: None }
    }

    /// Host and port for Via and Contact on a way whose near end is `local`.
    pub(super) fn name(&self, local: IpAddr) -> (Host, u16) {
        match &self.advertised {
            Some((host, port)) => (host.clone(), *port),
            None if self.address.ip().is_unspecified() => (Host::from(local), self.address.port()),
            None => (Host::from(self.address.ip()), self.address.port()),
        }
    }
}

/// The protocol's times. All other transaction timers follow from these (RFC 3261 table 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Round trip estimate, and the first pause before a repetition.
    pub t1: Duration,
    /// Longest pause between repetitions of a non-INVITE request or an INVITE response.
    pub t2: Duration,
    /// How long a message stays in the network.
    pub t4: Duration,
    /// An INVITE that has no answer by then gets a 100. At most 200 ms (section 17.2.1).
    pub trying: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            trying: Duration::from_millis(150),
        }
    }
}

impl Timing {
    /// 64 times T1: the life of a transaction (timers B, F, H, J, L, M).
    pub const fn life(&self) -> Duration {
        self.t1.saturating_mul(64)
    }
}

/// How much an endpoint takes on. Past a limit new work is refused, never what stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Calls, those that are ending included. Past it: 503 with Retry-After.
    pub calls: usize,
    /// Requests of ours at a time, each about 3 KiB. Past it: the command fails as unreachable.
    pub client_transactions: usize,
    /// Requests of peers at a time, each about 1 KiB; a finished one lingers for 32 s on UDP, so
    /// this is 32 times the rate. Past it: 503 without state.
    pub server_transactions: usize,
    /// Stream connections of all kinds. Past it: closed at once.
    pub connections: usize,
    /// Stream connections that one address may open. Phones behind one NAT share one.
    pub connections_per_address: usize,
    /// A new connection must bring a whole message by then, and a message once begun its end.
    pub first_message: Duration,
    /// A connection on which nothing came or went is closed: an hour's registration and some.
    pub idle: Duration,
    /// Messages that wait for a connection to stand. Past it: dropped, the transaction times out.
    pub pending_messages: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            calls: 10_000,
            client_transactions: 20_000,
            server_transactions: 50_000,
            connections: 4_096,
            connections_per_address: 512,
            first_message: Duration::from_secs(10),
            idle: Duration::from_secs(3_900),
            pending_messages: 64,
        }
    }
}

/// How long a call stands without a sign of the far end (RFC 4028). A peer that knows nothing of
/// session timers has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTimer {
    /// Asked for, and given to who asks for more; refreshed at half of it.
    pub expires: Duration,
    /// Less is refused with 422. Not above [`Self::expires`].
    pub min_expires: Duration,
}

impl Default for SessionTimer {
    fn default() -> Self {
        Self {
            // What section 4 recommends: two requests an hour for each call.
            expires: Duration::from_secs(1_800),
            // The least that section 5 lets anybody ask for.
            min_expires: Duration::from_secs(90),
        }
    }
}

/// What a SIP endpoint is made with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens; requests of ours leave from there as well.
    pub listen: Vec<Listen>,
    /// For User-Agent and Server.
    pub product: String,
    /// The protocol's times.
    pub timing: Timing,
    /// How much it takes on.
    pub limits: Limits,
    /// How long its calls stand without a sign of the far end.
    pub session: SessionTimer,
    /// The owner is told of every message of a call ([`super::Event::Sighted`]).
    pub tap: bool,
}

impl Config {
    /// Defaults but for the addresses.
    pub fn new(listen: Vec<Listen>) -> Self {
        Self {
            listen,
            product: "Crosspoint".to_owned(),
            timing: Timing::default(),
            limits: Limits::default(),
            session: SessionTimer::default(),
            tap: false,
        }
    }
}
