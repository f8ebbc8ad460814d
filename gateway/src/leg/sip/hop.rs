//! The next hop of a call that we make: by the target's own words or by the rule's proxy.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use crosspoint_proto::Transport;
use crosspoint_proto::sip::{DEFAULT_PORT, DEFAULT_TLS_PORT, Destination, Flow, Host, SipUri};

use tokio::sync::Semaphore;

use crate::cause::Reason;
use crate::config::Proxy;

/// Names that may be looked up at a time: each lookup takes a thread of tokio's pool for blocking
/// work (512), for as long as the resolver likes. Overflow: the call fails at once as congestion.
const LOOKUPS: usize = 128;

/// A lookup under way.
pub(super) type Lookup = Pin<Box<dyn Future<Output = Result<SocketAddr, Reason>> + Send>>;

/// How the outside is reached: the operating system, but in tests.
pub(super) trait Network: Send + Sync {
    /// The first address of a name. Dropping the lookup gives up at once.
    fn lookup(&self, name: &str, port: u16) -> Lookup;

    /// Our own address as `peer` sees it.
    fn local_address_towards(&self, peer: IpAddr) -> io::Result<IpAddr>;
}

/// The operating system's network.
pub(super) struct System {
    lookups: Arc<Semaphore>,
}

impl System {
    pub(super) fn new() -> Self {
        Self { lookups: Arc::new(Semaphore::new(LOOKUPS)) }
    }
}

impl Network for System {
    fn lookup(&self, name: &str, port: u16) -> Lookup {
        let (room, name) = (self.lookups.clone().try_acquire_owned(), name.to_owned());
        Box::pin(async move {
            let Ok(room) = room else {
                tracing::warn!(host = name, "too many names are being looked up");
                return Err(Reason::Congestion);
            };
            // On a task of its own: whoever gives up leaves the thread busy, and the room with it.
            let query = tokio::spawn(async move {
                let found = tokio::net::lookup_host((name.as_str(), port)).await;
                let first = found.ok().and_then(|mut addresses| addresses.next());
                if first.is_none() {
                    tracing::warn!(host = name, "the name of a next hop has no address");
                }
                drop(room);
                first
            });
            query.await.ok().flatten().ok_or(Reason::Unreachable)
        })
    }

    fn local_address_towards(&self, peer: IpAddr) -> io::Result<IpAddr> {
        crate::net::local_address_towards(peer)
    }
}

/// Where a call goes first.
pub(super) struct Hop {
    host: Host,
    port: u16,
    pub(super) transport: Transport,
    /// The transport, when the target or the rule names one.
    asked: Option<Transport>,
}

impl Hop {
    pub(super) fn of(uri: &SipUri, flow: Option<&Flow>, proxy: Option<&Proxy>) -> Self {
        let asked = match uri.transport().map(str::to_ascii_lowercase).as_deref() {
            _ if proxy.is_some() => proxy.map(|proxy| proxy.transport),
            _ if uri.secure => Some(Transport::Tls),
            Some("tcp") => Some(Transport::Tcp),
            Some("tls") => Some(Transport::Tls),
            Some("udp") => Some(Transport::Udp),
            _ => None,
        };
        let transport = flow.map_or_else(|| asked.unwrap_or(Transport::Udp), Flow::transport);
        let (host, port) = match proxy {
            Some(proxy) => {
                let host = &proxy.host.host;
                let bracketed = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                (Host::parse(&bracketed).unwrap_or_else(|_| Host::Name(host.clone())), proxy.host.port)
            }
            None => (uri.host.clone(), uri.port),
        };
        let usual = if transport == Transport::Tls { DEFAULT_TLS_PORT } else { DEFAULT_PORT };
        Self { host, port: port.unwrap_or(usual), transport, asked }
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.host.address().map(|ip| SocketAddr::new(ip, self.port))
    }

    pub(super) async fn resolve(&self, network: &dyn Network) -> Result<SocketAddr, Reason> {
        match (&self.host, self.address()) {
            (_, Some(address)) => Ok(address),
            (Host::Name(name), None) => network.lookup(name, self.port).await,
            (_, None) => Err(Reason::Unreachable),
        }
    }

    pub(super) fn destination(&self, address: SocketAddr) -> Destination {
        let name = match &self.host {
            Host::Name(name) => Some(name.clone()),
            _ => None,
        };
        Destination::Address { transport: self.asked, address, name }
    }
}
