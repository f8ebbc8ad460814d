//! Trunks: who calls from one, what a call to one goes by, and whether it is there.
//!
//! ```text
//!  door ── events ──> keep (one task each) ── commands ──> machine
//!                       │ watch: up or down
//!                       v
//!  routing, legs <── Trunks (what is known of each) ──> status
//! ```

mod keep;
mod watch;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crosspoint_proto::sdp::EncryptionPolicy;
use crosspoint_proto::sip::auth::{Account, Secret};
use crosspoint_proto::sip::{Event, Host, NameAddr, Source};
use crosspoint_proto::{Instant, Now, Transport};
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::keep::{INBOX, Means, Told};
pub use self::watch::Reach;
use crate::config::{Encryption, HostPort, Listen, Proxy, Trunk};
use crate::events::Events;

/// What this moment is.
pub type NowFn = Arc<dyn Fn() -> Now + Send + Sync>;

/// The trunks of one gateway. Clones share them.
#[derive(Clone, Default)]
pub struct Trunks(Arc<Vec<Arc<Line>>>);

/// One trunk, and what is known of it now.
struct Line {
    config: Arc<Trunk>,
    live: Mutex<Live>,
    /// Its task, while it is kept.
    task: Mutex<Option<mpsc::Sender<Told>>>,
}

#[derive(Clone, Debug, Default)]
struct Live {
    /// Where its host is, once that is known.
    address: Option<SocketAddr>,
    reach: Reach,
    registration: TrunkRegistration,
    /// By which proxies calls to it go.
    service_route: Vec<NameAddr>,
}

/// Whether we are registered at a trunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrunkRegistration {
    /// We are not, or not yet.
    #[default]
    No,
    /// We are, for so long if nothing comes between.
    Until(Instant),
    /// It was refused with that status; 408 when nothing came, 503 when it could not be sent.
    Failed(u16),
}

/// A trunk as it shows itself.
#[derive(Clone, Debug)]
pub struct TrunkView {
    /// What the configuration says of it.
    pub config: Arc<Trunk>,
    /// Where it is, once that is known.
    pub address: Option<SocketAddr>,
    /// Whether it answers.
    pub reach: Reach,
    /// Whether we are registered there.
    pub registration: TrunkRegistration,
}

impl Trunks {
    /// Those of a configuration.
    pub fn new(trunks: &[Trunk]) -> Self {
        let line = |config: &Trunk| {
            let host = &config.host;
            let address = host.host.parse::<IpAddr>().ok();
            // A port of zero: no flow is looked for by it.
            let address = address.map(|ip| SocketAddr::new(ip.to_canonical(), host.port.unwrap_or_default()));
            let live = Mutex::new(Live { address, ..Live::default() });
            Arc::new(Line { config: Arc::new(config.clone()), live, task: Mutex::default() })
        };
        Self(Arc::new(trunks.iter().map(line).collect()))
    }

    /// The trunk of that name.
    pub fn find(&self, name: &str) -> Option<Arc<Trunk>> {
        self.line(name).map(|line| line.config.clone())
    }

    /// The trunk that a request is from: the first of the configuration that names its source. An address
    /// can be forged in a datagram but not in a connection, so that one of a trunk that is reached by TCP
    /// or TLS counts for nothing when it comes by less. Where its certificate is pinned only that shows who it
    /// is: it calls by the connection that we opened, and whoever opens one to us is a stranger.
    pub fn of_source(&self, source: &Source) -> Option<Arc<Trunk>> {
        let from = source.remote.ip().to_canonical();
        let is = |line: &&Arc<Line>| {
            let named = match line.config.addresses.as_slice() {
                [] => line.live().address.is_some_and(|address| address.ip().to_canonical() == from),
                networks => networks.iter().any(|network| network.contains(from)),
            };
            let proven = line.config.fingerprint.is_none() || source.flow.is_opened();
            named && proven && strength(source.transport) >= strength(line.config.transport)
        };
        self.0.iter().find(is).map(|line| line.config.clone())
    }

    /// Whether it has been asked whether it is there, and does not answer.
    pub fn is_down(&self, name: &str) -> bool {
        self.line(name).is_some_and(|line| line.live().reach == Reach::Down)
    }

    /// All of them, in the order of the configuration.
    pub fn views(&self) -> Vec<TrunkView> {
        let view = |line: &Arc<Line>| {
            let Live { address, reach, registration, .. } = line.live().clone();
            TrunkView { config: line.config.clone(), address, reach, registration }
        };
        self.0.iter().map(view).collect()
    }

    /// An event of the machine that is about a trunk.
    pub fn deliver(&self, event: Event) {
        let line = keep::trunk_of(&event).and_then(|number| self.0.get(number));
        let task = line.and_then(|line| line.task().clone());
        if let (Some(line), Some(task)) = (line, task)
            && let Err(mpsc::error::TrySendError::Full(_)) = task.try_send(Told::Event(event))
        {
            tracing::warn!(trunk = line.config.name, "a trunk does not keep up with what it is told");
        }
    }

    /// Begins to keep every trunk. The tasks end some time after [`Self::leave`].
    pub(super) fn start(
        &self,
        machine: &mpsc::Sender<crosspoint_proto::sip::Command>,
        network: &Arc<dyn super::hop::Network>,
        listening: &[Listen],
        events: &Events,
        now: &NowFn,
        mut random: impl FnMut(&mut [u8]),
    ) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for (number, line) in self.0.iter().enumerate() {
            let (sender, inbox) = mpsc::channel(INBOX);
            *line.task() = Some(sender);
            let mut seed = [0; 32];
            random(&mut seed);
            let means = Means {
                machine: machine.clone(),
                network: network.clone(),
                listening: listening.to_vec(),
                rng: ChaCha12Rng::from_seed(seed),
                events: events.clone(),
                now: now.clone(),
            };
            tasks.spawn(keep::keep(number, line.clone(), means, inbox));
        }
        tasks
    }

    /// Has every registration taken back.
    pub fn leave(&self) {
        for line in self.0.iter() {
            if let Some(task) = line.task().as_ref() {
                let _ = task.try_send(Told::Leave);
            }
        }
    }

    /// By which proxies calls to that trunk go.
    pub(super) fn service_route(&self, name: &str) -> Vec<NameAddr> {
        self.line(name).map(|line| line.live().service_route.clone()).unwrap_or_default()
    }

    fn line(&self, name: &str) -> Option<&Arc<Line>> {
        self.0.iter().find(|line| line.config.name == name)
    }
}

impl Line {
    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn task(&self) -> MutexGuard<'_, Option<mpsc::Sender<Told>>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Trunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|line| &line.config.name)).finish()
    }
}

/// How hard it is to call from an address that is not one's own.
const fn strength(transport: Transport) -> u8 {
    match transport {
        Transport::Udp => 0,
        Transport::Tcp | Transport::Ws => 1,
        Transport::Tls | Transport::Wss => 2,
    }
}

/// The next hop of calls to a trunk.
pub(super) fn proxy(trunk: &Trunk) -> Proxy {
    Proxy { host: trunk.host.clone(), transport: trunk.transport, credentials: trunk.credentials.clone() }
}

/// Whom a caller of ours is said to be from there: the domain that we are known at.
pub(super) fn home(trunk: &Trunk) -> Option<Host> {
    trunk.registration.as_ref().and_then(|registration| Host::parse(&registration.domain).ok())
}

/// What we answer the challenges of these addresses with.
pub(super) fn account(credentials: &crate::config::Credentials, peers: Vec<IpAddr>) -> Account {
    Account {
        username: credentials.username.clone(),
        secret: Secret::Password(credentials.password.expose().to_owned()),
        realm: Some(credentials.realm.clone()),
        peers,
    }
}

/// A policy of the configuration in the words of the machine.
pub const fn policy(encryption: Encryption) -> EncryptionPolicy {
    match encryption {
        Encryption::None => EncryptionPolicy::None,
        Encryption::BestEffort => EncryptionPolicy::BestEffort,
        Encryption::Required => EncryptionPolicy::Required,
    }
}

/// A host as it stands in a URI.
pub(super) fn host(it: &HostPort) -> Option<Host> {
    let bracketed = if it.host.contains(':') { format!("[{}]", it.host) } else { it.host.clone() };
    Host::parse(&bracketed).ok()
}

#[cfg(test)]
mod tests {
    use crosspoint_proto::sip::Flow;

    use super::*;
    use crate::config::Config;

    fn trunks(text: &str) -> Trunks {
        Trunks::new(&Config::from_toml(text, "x.toml").unwrap().trunks)
    }

    fn source(from: &str, by: &str) -> Source {
        source_of(&format!("{by} 192.0.2.1:5060 {from}{}", if by == "udp" { "" } else { " 8" }))
    }

    fn source_of(flow: &str) -> Source {
        let flow: Flow = flow.parse().unwrap();
        let (transport, local, remote) = (flow.transport(), flow.local(), flow.remote());
        Source { transport, local, remote, flow, translated: false }
    }

    const TRUNKS: &str = r#"
        [[trunks]]
        name = "open"
        host = "192.0.2.40:5070"
        [[trunks]]
        name = "many"
        host = "sip.carrier.example"
        transport = "tcp"
        addresses = ["198.51.100.0/28", "2001:db8::/64"]
        [[trunks]]
        name = "named"
        host = "nowhere.example"
        transport = "tls"
        addresses = ["203.0.113.5"]
    "#;

    #[test]
    fn a_call_is_a_trunk_s_by_where_it_comes_from_and_by_what() {
        let trunks = trunks(TRUNKS);
        let of = |from, by| trunks.of_source(&source(from, by)).map(|it| it.name.clone());
        for (from, by, whose) in [
            ("192.0.2.40:5070", "udp", Some("open")),
            // Its port is whatever its system has chosen.
            ("192.0.2.40:1", "tls", Some("open")),
            ("192.0.2.41:5070", "udp", None),
            ("198.51.100.15:5060", "tcp", Some("many")),
            ("198.51.100.16:5060", "tcp", None),
            ("[2001:db8::9]:5060", "tls", Some("many")),
            ("[::ffff:198.51.100.1]:5060", "tcp", Some("many")),
            // A datagram from anywhere can say that it is from there.
            ("198.51.100.15:5060", "udp", None),
            ("203.0.113.5:5061", "tls", Some("named")),
            ("203.0.113.5:5061", "tcp", None),
        ] {
            assert_eq!(of(from, by).as_deref(), whose, "{from} {by}");
        }
    }

    #[test]
    fn where_a_certificate_is_pinned_an_address_shows_nothing() {
        let pin = "00".repeat(32);
        let text = format!(
            "[[trunks]]\nname = \"pinned\"\nhost = \"203.0.113.5\"\ntransport = \"tls\"\nfingerprint = \"{pin}\"\n"
        );
        let trunks = trunks(&text);
        let of = |flow| trunks.of_source(&source_of(flow)).map(|it| it.name.clone());
        // It has come to us, and may be anybody there; and we have gone to it.
        assert_eq!(of("tls 192.0.2.1:5061 203.0.113.5:40123 8"), None);
        assert_eq!(of("tls 192.0.2.1:5061 203.0.113.5:5061 9").as_deref(), Some("pinned"));
        assert_eq!(of("tls 192.0.2.1:5061 203.0.113.6:5061 9"), None);
        assert_eq!(of("tcp 192.0.2.1:5060 203.0.113.5:5060 9"), None);
    }
}
