//! What a SIP endpoint is made with.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::{Flow, Host};
use crate::{Instant, Transport};

/// Where the endpoint listens, and what it calls itself there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// How.
    pub transport: Transport,
    /// Where, as the driver reports it. For datagrams an unspecified address needs
    /// [`Self::advertised`] or [`Config::towards`], since nobody says which one they came to.
    pub address: SocketAddr,
    /// Host and port for Via and Contact, when others reach it under another name.
    pub advertised: Option<(Host, u16)>,
}

impl Listen {
    /// Under its own address.
    pub const fn new(transport: Transport, address: SocketAddr) -> Self {
        Self { transport, address, advertised: None }
    }

    /// Host and port for Via and Contact on that way.
    pub(super) fn name(&self, flow: &Flow, towards: Option<&Towards>) -> (Host, u16) {
        let port = self.address.port();
        match (&self.advertised, self.address.ip(), flow.local.ip()) {
            (Some((host, port)), ..) => (host.clone(), *port),
            (None, any, near) if any.is_unspecified() && near.is_unspecified() => {
                (Host::from(towards.map_or(near, |towards| towards.0(flow.remote.ip()))), port)
            }
            (None, any, near) if any.is_unspecified() => (Host::from(near), port),
            (None, own, _) => (Host::from(own), port),
        }
    }
}

/// Which address of ours leads to a peer, asked for what is said to him by datagrams from a listener on all
/// addresses. He is told of that one and of no other.
#[derive(Clone)]
pub struct Towards(pub Arc<dyn Fn(IpAddr) -> IpAddr + Send + Sync>);

impl fmt::Debug for Towards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Towards(..)")
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

    /// When what is over is forgotten that shall be remembered for so long: then, or less than a T1 later. All
    /// that end within one T1 share the moment, so that the driver wakes once for them.
    pub(super) fn forgotten(&self, now: Instant, after: Duration) -> Instant {
        let (at, step) = ((now + after).as_nanos(), u64::try_from(self.t1.as_nanos()).unwrap_or(u64::MAX));
        Instant::from_nanos(at.checked_next_multiple_of(step).unwrap_or(at))
    }
}

/// How much an endpoint takes on. Past a limit new work is refused, never what stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Calls, those that are ending included. Past it: 503 with Retry-After.
    pub calls: usize,
    /// Requests of ours at a time, each about 3 KiB. Past it: the command fails as unreachable.
    pub client_transactions: usize,
    /// Requests of peers at a time, each about 1 KiB; a finished one lingers for 32.5 s on UDP, so
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

/// How long a call stands without a sign of the far end (RFC 4028 section 10). A peer that knows nothing of
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
    /// What it calls itself to whom, where a listener is on all addresses and has no name.
    pub towards: Option<Towards>,
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
            towards: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promise_46_each_peer_is_told_the_address_that_leads_to_him_and_no_other() {
        let towards = Towards(Arc::new(|peer: IpAddr| match peer {
            IpAddr::V4(peer) if peer.is_private() => [10, 0, 0, 1].into(),
            IpAddr::V4(_) => [192, 0, 2, 1].into(),
            IpAddr::V6(_) => "2001:db8::1".parse().unwrap(),
        }));
        let any = |transport| Listen::new(transport, "0.0.0.0:5060".parse().unwrap());
        let name = |listen: &Listen, flow: &str| {
            let (host, port) = listen.name(&flow.parse().unwrap(), Some(&towards));
            format!("{host}:{port}")
        };
        let mut udp = any(Transport::Udp);
        assert_eq!(name(&udp, "udp 0.0.0.0:5060 10.0.0.7:5060"), "10.0.0.1:5060");
        assert_eq!(name(&udp, "udp 0.0.0.0:5060 198.51.100.7:5060"), "192.0.2.1:5060");
        // A connection has an end here.
        assert_eq!(name(&any(Transport::Tcp), "tcp 10.9.9.9:5060 10.0.0.7:40000 2"), "10.9.9.9:5060");
        let six = Listen::new(Transport::Udp, "[::]:5060".parse().unwrap());
        assert_eq!(name(&six, "udp [::]:5060 [2001:db8::7]:5060"), "[2001:db8::1]:5060");
        let one = Listen::new(Transport::Udp, "10.0.0.2:5060".parse().unwrap());
        assert_eq!(name(&one, "udp 10.0.0.2:5060 198.51.100.7:5060"), "10.0.0.2:5060");
        udp.advertised = Some((Host::parse("sip.example.com").unwrap(), 5062));
        assert_eq!(name(&udp, "udp 0.0.0.0:5060 10.0.0.7:5060"), "sip.example.com:5062");
    }
}
