//! The next hop of a call that we make: by the target's own words or by the rule's proxy.

use std::net::SocketAddr;

use crosspoint_proto::Transport;
use crosspoint_proto::sip::{DEFAULT_PORT, DEFAULT_TLS_PORT, Destination, Flow, Host, SipUri};

use crate::config::Proxy;

/// Where a call goes first.
pub(super) struct Hop {
    pub(super) host: Host,
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

    pub(super) async fn resolve(&self) -> Option<SocketAddr> {
        match &self.host {
            Host::Name(name) => tokio::net::lookup_host((name.as_str(), self.port)).await.ok()?.next(),
            _ => self.address(),
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
