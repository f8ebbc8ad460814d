//! Pairs of UDP ports for media: RTP on an even one, RTCP on the odd one above (RFC 3550 section
//! 11). Started at a random pair, so that a stranger cannot guess where the next call listens.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use socket2::{Domain, Protocol, Socket, Type};

/// Why there is no pair.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PortsError {
    /// The range holds no pair.
    #[error("media.ports {first}-{last} holds no pair of an even port and the odd one above it")]
    Range {
        /// First port.
        first: u16,
        /// Last port.
        last: u16,
    },
    /// All pairs are in use, by us or by other programs.
    #[error(
        "no free pair left in media.ports {first}-{last} on {ip}: {used} pairs are in use by calls; widen media.ports"
    )]
    Exhausted {
        /// The address.
        ip: IpAddr,
        /// First port.
        first: u16,
        /// Last port.
        last: u16,
        /// Pairs that our own streams hold.
        used: usize,
    },
    /// A socket could not be made for another reason than a port in use.
    #[error("cannot open a media socket on {ip}: {source}")]
    Socket {
        /// The address.
        ip: IpAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The pairs of one port range, each local address with its own set.
#[derive(Clone, Debug)]
pub(super) struct Ports(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    first: u16,
    last: u16,
    /// First even port and number of pairs.
    base: u16,
    pairs: usize,
    taken: Mutex<HashMap<IpAddr, Taken>>,
}

/// One bit a pair.
#[derive(Debug)]
struct Taken {
    bits: Vec<u64>,
    used: usize,
}

/// A pair in use; dropping it frees the pair. Hold it longer than the sockets.
#[derive(Debug)]
pub(super) struct Lease {
    ports: Ports,
    ip: IpAddr,
    index: usize,
}

/// An open pair of sockets, non-blocking. Fields are dropped in this order: sockets before ports.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) rtp: UdpSocket,
    pub(super) rtcp: UdpSocket,
    pub(super) lease: Lease,
}

impl Ports {
    pub(super) fn new(range: &RangeInclusive<u16>) -> Result<Self, PortsError> {
        let (first, last) = (*range.start(), *range.end());
        let base = first.checked_add(first % 2).filter(|base| *base != 0);
        let pairs = base.map_or(0, |base| (usize::from(last) + 1).saturating_sub(usize::from(base)) / 2);
        let Some(base) = base.filter(|_| pairs > 0) else {
            return Err(PortsError::Range { first, last });
        };
        Ok(Self(Arc::new(Inner { first, last, base, pairs, taken: Mutex::default() })))
    }

    /// Opens a pair on `ip`. `start` is any random number; `buffer` the bytes of each socket's
    /// kernel buffers for RTP (the system may give less).
    pub(super) fn open(&self, ip: IpAddr, start: u64, buffer: usize) -> Result<Pair, PortsError> {
        let inner = &self.0;
        let mut index = usize::try_from(start % inner.pairs as u64).unwrap_or(0);
        // Each pair is tried once: those of other programs are found out by the bind.
        for _ in 0..inner.pairs {
            if let Some(lease) = self.take(ip, index) {
                let port = lease.rtp_port();
                let rtcp = port.saturating_add(1);
                match bind(SocketAddr::new(ip, port), buffer)
                    .and_then(|rtp| Ok((rtp, bind(SocketAddr::new(ip, rtcp), RTCP_BUFFER)?)))
                {
                    Ok((rtp, rtcp)) => return Ok(Pair { rtp, rtcp, lease }),
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                    Err(source) => return Err(PortsError::Socket { ip, source }),
                }
            }
            index = (index + 1) % inner.pairs;
        }
        Err(PortsError::Exhausted { ip, first: inner.first, last: inner.last, used: self.used() })
    }

    /// Pairs in use on all addresses.
    pub(super) fn used(&self) -> usize {
        self.lock().values().map(|taken| taken.used).sum()
    }

    fn take(&self, ip: IpAddr, index: usize) -> Option<Lease> {
        let mut taken = self.lock();
        let words = self.0.pairs.div_ceil(64);
        let set = taken.entry(ip).or_insert_with(|| Taken { bits: vec![0; words], used: 0 });
        let word = set.bits.get_mut(index / 64)?;
        let bit = 1_u64 << (index % 64);
        if *word & bit != 0 {
            return None;
        }
        *word |= bit;
        set.used += 1;
        Some(Lease { ports: self.clone(), ip, index })
    }

    /// A panic elsewhere leaves the bits as they are: each is set or not.
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, Taken>> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// The even port; RTCP is the one above.
    fn rtp_port(&self) -> u16 {
        let offset = u16::try_from(self.index * 2).unwrap_or(0);
        self.ports.0.base.saturating_add(offset)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut taken = self.ports.lock();
        if let Some(set) = taken.get_mut(&self.ip)
            && let Some(word) = set.bits.get_mut(self.index / 64)
        {
            *word &= !(1 << (self.index % 64));
            set.used = set.used.saturating_sub(1);
        }
    }
}

/// RTCP comes once a second or so; a few compounds are plenty.
const RTCP_BUFFER: usize = 32 << 10;

fn bind(addr: SocketAddr, buffer: usize) -> io::Result<UdpSocket> {
    let kind = Type::DGRAM.nonblocking();
    let socket = Socket::new(Domain::for_address(addr), kind, Some(Protocol::UDP))?;
    // Both are wishes: the system caps them (net.core.rmem_max) and works with less.
    let _ = socket.set_recv_buffer_size(buffer);
    let _ = socket.set_send_buffer_size(buffer);
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LO: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn ports_of(pair: &Pair) -> (u16, u16) {
        (pair.rtp.local_addr().unwrap().port(), pair.rtcp.local_addr().unwrap().port())
    }

    #[test]
    fn a_pair_is_even_and_the_odd_one_above() {
        let ports = Ports::new(&(39_001..=39_020)).unwrap();
        for start in [0, 3, u64::MAX] {
            let pair = ports.open(LO, start, 1 << 16).unwrap();
            let (rtp, rtcp) = ports_of(&pair);
            assert_eq!((rtp % 2, rtcp), (0, rtp + 1));
            assert!((39_002..39_020).contains(&rtp));
        }
        assert_eq!(ports.used(), 0);
    }

    #[test]
    fn exhaustion_names_the_option_and_frees_come_back() {
        let ports = Ports::new(&(39_100..=39_105)).unwrap();
        let mut held: Vec<Pair> = (0..3).map(|n| ports.open(LO, n, 1 << 16).unwrap()).collect();
        let error = ports.open(LO, 7, 1 << 16).unwrap_err().to_string();
        assert!(error.contains("media.ports 39100-39105") && error.contains("3 pairs"), "{error}");
        let (port, _) = ports_of(&held.remove(1));
        assert_eq!(ports_of(&ports.open(LO, 0, 1 << 16).unwrap()).0, port);
        drop(held);
        assert_eq!(ports.used(), 0);
    }

    #[test]
    fn a_pair_half_of_which_another_program_holds_is_passed_over() {
        let foreign = UdpSocket::bind((LO, 39_203)).unwrap();
        let ports = Ports::new(&(39_202..=39_205)).unwrap();
        let pair = ports.open(LO, 0, 1 << 16).unwrap();
        assert_eq!(ports_of(&pair).0, 39_204);
        assert!(matches!(ports.open(LO, 0, 1 << 16), Err(PortsError::Exhausted { used: 1, .. })));
        drop(foreign);
        assert_eq!(ports_of(&ports.open(LO, 0, 1 << 16).unwrap()).0, 39_202);
    }

    #[test]
    fn an_address_that_is_not_ours_is_told_as_such_and_leaks_nothing() {
        let ports = Ports::new(&(39_300..=39_399)).unwrap();
        let error = ports.open("192.0.2.1".parse().unwrap(), 0, 1 << 16).unwrap_err();
        assert!(matches!(error, PortsError::Socket { .. }), "{error}");
        assert_eq!(ports.used(), 0);
    }

    #[test]
    fn ranges_without_a_pair_are_refused() {
        #[expect(clippy::reversed_empty_ranges, reason = "what a wrong configuration holds")]
        for range in [5..=5, 5..=6, 0..=1, 65_535..=65_535, 9..=3] {
            assert!(matches!(Ports::new(&range), Err(PortsError::Range { .. })), "{range:?}");
        }
        assert!(Ports::new(&(65_534..=65_535)).is_ok());
    }
}
