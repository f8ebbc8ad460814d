//! Where the gateway meets the world: the clock, signalling sockets and the one driver of every
//! protocol machine; media sockets have threads of their own ([`media`]).
//!
//! ```text
//!  UDP readers ──┐                         ┌──> UDP sockets
//!  acceptors ────┼─ ingress ─> driver ─────┼──> a bounded write queue per connection
//!  connections ──┘   (bounded)   │  ^      └──> connects
//!                         events v  │ commands, timer
//!                              the machine's owner
//! ```

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

pub mod clock;
pub mod driver;
pub mod media;
mod peers;
pub(crate) mod spare;
pub(crate) mod tcp;
pub mod tls;
mod udp;

/// The address that packets to `peer` leave from: what stands in Via, Contact and SDP when we
/// listen on a wildcard address. Nothing is sent to find out.
pub fn local_address_towards(peer: IpAddr) -> io::Result<IpAddr> {
    let any = match peer {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    // The port is never used; 9 is "discard".
    socket.connect(SocketAddr::new(peer, 9))?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_leads_to_loopback() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(local_address_towards(loopback).unwrap(), loopback);
    }
}
