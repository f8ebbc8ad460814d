//! Which of this machine's addresses leads where, asked of the system once in a while and not for each
//! message.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crosspoint_proto::Instant;

use super::clock::Clock;

/// So long an answer is good: an interface that comes or goes is noticed within one repetition of a request.
const GOOD_FOR: Duration = Duration::from_secs(5);

/// Answers that are kept. Overflow: all are forgotten and asked for again, three system calls each.
const KEPT: usize = 4_096;

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

/// Answers of [`local_address_towards`], each for [`GOOD_FOR`].
#[derive(Debug)]
pub struct Ways {
    clock: Clock,
    known: Mutex<HashMap<IpAddr, (IpAddr, Instant)>>,
}

impl Ways {
    /// None is known yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, known: Mutex::default() }
    }

    /// As [`local_address_towards`]. What could not be found is asked for again.
    pub fn towards(&self, peer: IpAddr) -> io::Result<IpAddr> {
        self.towards_at(self.clock.now(), peer, local_address_towards)
    }

    fn towards_at(
        &self,
        now: Instant,
        peer: IpAddr,
        ask: impl FnOnce(IpAddr) -> io::Result<IpAddr>,
    ) -> io::Result<IpAddr> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((address, asked)) = known.get(&peer)
            && now.saturating_since(*asked) < GOOD_FOR
        {
            return Ok(*address);
        }
        let address = ask(peer)?;
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(peer, (address, now));
        Ok(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_leads_to_loopback() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(local_address_towards(loopback).unwrap(), loopback);
    }

    #[test]
    fn an_answer_is_good_for_a_while_and_a_failure_for_no_time() {
        let ways = Ways::new(Clock::start());
        let [peer, first, other] = [1, 2, 3].map(|n| IpAddr::from([192, 0, 2, n]));
        let at = Instant::from_millis;
        assert!(ways.towards_at(at(0), peer, |_| Err(io::ErrorKind::NetworkUnreachable.into())).is_err());
        assert_eq!(ways.towards_at(at(1), peer, |_| Ok(first)).unwrap(), first);
        let asked_again = |_: IpAddr| -> io::Result<IpAddr> { Ok(other) };
        assert_eq!(ways.towards_at(at(5_000), peer, asked_again).unwrap(), first);
        assert_eq!(ways.towards_at(at(5_001), peer, asked_again).unwrap(), other, "it has moved");
        for n in 0..u32::try_from(KEPT).unwrap() {
            ways.towards_at(at(5_002), Ipv4Addr::from(n).into(), Ok).unwrap();
        }
        assert!(ways.known.lock().unwrap().len() <= KEPT);
    }
}
