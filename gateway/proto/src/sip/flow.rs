//! Flows (RFC 5626 section 2): the ways on which a far end reached us, kept to reach it again.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use crate::{ConnId, Transport};

/// A way to a far end that it opened itself: a connection, or a pair of UDP addresses through
/// whatever NAT lies between. Opaque to its holders; its text ("udp 192.0.2.1:5060 192.0.2.7:40123",
/// "tls 192.0.2.1:5061 192.0.2.7:51000 8") can be stored beside a binding. After a restart the
/// text of a connection names none, for the number is part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flow {
    pub(super) transport: Transport,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// Of a stream.
    pub(super) conn: Option<ConnId>,
}

impl Flow {
    /// How.
    pub const fn transport(&self) -> Transport {
        self.transport
    }

    /// Our end.
    pub const fn local(&self) -> SocketAddr {
        self.local
    }

    /// The far end as the network shows it.
    pub const fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Whether it is a connection that this endpoint opened, and whose far end it has checked (TLS, RFC
    /// 5922 section 7).
    pub fn is_opened(&self) -> bool {
        // Odd numbers are ours.
        self.conn.is_some_and(|conn| !conn.0.is_multiple_of(2))
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", word(self.transport), self.local, self.remote)?;
        self.conn.map_or(Ok(()), |conn| write!(f, " {}", conn.0))
    }
}

/// The text is not that of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a flow: expected transport, local and remote address, and a connection number for streams")]
pub struct FlowError;

impl FromStr for Flow {
    type Err = FlowError;

    fn from_str(text: &str) -> Result<Self, FlowError> {
        let mut words = text.split(' ');
        let first = words.next().ok_or(FlowError)?;
        let transport = Transport::ALL.into_iter().find(|it| word(*it) == first).ok_or(FlowError)?;
        let mut address = || words.next().and_then(|w| w.parse().ok()).ok_or(FlowError);
        let (local, remote) = (address()?, address()?);
        let conn = match words.next() {
            Some(number) => Some(ConnId(number.parse().map_err(|_| FlowError)?)),
            None => None,
        };
        if conn.is_some() != transport.is_stream() || words.next().is_some() {
            return Err(FlowError);
        }
        Ok(Self { transport, local, remote, conn })
    }
}

/// The transport's word in status and records.
pub(super) const fn word(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
        Transport::Tls => "tls",
        Transport::Ws => "ws",
        Transport::Wss => "wss",
    }
}

/// Its word in URIs (RFC 3261 section 19.1.1); TLS makes no difference there to WebSocket (RFC 7118
/// section 5.2).
pub(super) const fn uri_word(transport: Transport) -> &'static str {
    match transport {
        Transport::Wss => word(Transport::Ws),
        other => word(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for text in [
            "udp 192.0.2.1:5060 192.0.2.7:40123",
            "tls [2001:db8::1]:5061 [2001:db8::9]:51000 8",
            "ws 192.0.2.1:80 192.0.2.7:40123 2",
            "wss 192.0.2.1:443 192.0.2.7:40123 4",
        ] {
            let flow: Flow = text.parse().unwrap();
            assert_eq!(flow.to_string(), text);
            assert!(!flow.is_opened());
        }
        assert!("tls 192.0.2.1:5061 192.0.2.7:5061 9".parse::<Flow>().unwrap().is_opened());
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            "udp",
            "sctp 192.0.2.1:5060 192.0.2.7:40123",
            "udp 192.0.2.1:5060 192.0.2.7:40123 4",
            "tcp 192.0.2.1:5060 192.0.2.7:40123",
            "tcp 192.0.2.1:5060 192.0.2.7:40123 4 5",
            "udp 192.0.2.1 192.0.2.7:40123",
        ] {
            assert_eq!(text.parse::<Flow>(), Err(FlowError), "{text}");
        }
    }
}
