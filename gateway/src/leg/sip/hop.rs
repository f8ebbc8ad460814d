//! The next hop of a call that we make: by the target's own words or by the rule's proxy.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;

use crosspoint_proto::Transport;
use crosspoint_proto::sip::{DEFAULT_PORT, DEFAULT_TLS_PORT, Flow, Host, SipUri};

use super::locate::{Naptr, Srv};
use crate::cause::Reason;
use crate::config::Proxy;

/// A lookup under way. What is not known is an empty list.
pub(super) type Lookup<T> = Pin<Box<dyn Future<Output = Result<Vec<T>, Reason>> + Send>>;

/// How the outside is reached: the operating system, but in tests. Dropping a lookup gives up at
/// once.
pub(super) trait Network: Send + Sync {
    /// The NAPTR records of a domain.
    fn naptr(&self, name: &str) -> Lookup<Naptr>;

    /// The SRV records of a service.
    fn srv(&self, name: &str) -> Lookup<Srv>;

    /// The addresses of a host.
    fn addresses(&self, name: &str) -> Lookup<IpAddr>;

    /// Our own address as `peer` sees it.
    fn local_address_towards(&self, peer: IpAddr) -> io::Result<IpAddr>;
}

/// Where a call goes first.
pub(super) struct Hop {
    pub(super) host: Host,
    /// When the target or the rule names one.
    pub(super) port: Option<u16>,
    pub(super) transport: Transport,
    /// The transport, when the target or the rule names one.
    pub(super) asked: Option<Transport>,
    /// It was named, so that there is nothing to ask about it (RFC 3263 section 4.1).
    pub(super) settled: bool,
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
        let settled = proxy.is_some() || asked.is_some() && uri.transport().is_some();
        Self { host, port, transport, asked, settled }
    }

    /// Where it is, when no name has to be looked up.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        let usual = if self.transport == Transport::Tls { DEFAULT_TLS_PORT } else { DEFAULT_PORT };
        self.host.address().map(|ip| SocketAddr::new(ip, self.port.unwrap_or(usual)))
    }
}
