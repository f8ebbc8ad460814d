//! Who tries: as far as he can be told from others.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::alias::Alias;
use crate::leg::Party;

/// Somebody who tries.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Who {
    /// Nobody knows him but by his address.
    Source(Source),
    /// A device that has proved who it is.
    Device(Alias),
    /// Who says to be a device where that device has been before: neither do others at that address keep
    /// it out, nor it them.
    At(Source, Alias),
}

/// An address; of IPv6 the first 64 bits, for one customer has all that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source(IpAddr);

impl Source {
    /// Of an address; an IPv4 address is the same however it is written.
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => prefix(address, 64).into(),
        })
    }

    /// Of a peer; all without an address are one.
    pub fn of_peer(address: Option<IpAddr>) -> Self {
        Self::of(address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)))
    }

    /// The network around it: the first 16 bits of IPv4, 32 of IPv6, which is what a provider has.
    pub(super) fn network(self) -> IpAddr {
        match self.0 {
            IpAddr::V4(address) => {
                let [a, b, ..] = address.octets();
                [a, b, 0, 0].into()
            }
            IpAddr::V6(address) => prefix(address, 32).into(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(address) => write!(f, "{address}/64"),
        }
    }
}

impl Who {
    /// Somebody of whom the address alone is known; `None`: not even that.
    pub fn source(address: Option<IpAddr>) -> Self {
        Self::Source(Source::of_peer(address))
    }

    /// What he is in the store.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Source(source) => source.0.to_string(),
            Self::Device(alias) => format!("{DEVICE}{}", alias.as_str()),
            Self::At(source, alias) => format!("{AT}{} {}", source.0, alias.as_str()),
        }
    }

    /// Whom [`Self::key`] tells of.
    pub(super) fn of_key(key: &str) -> Option<Self> {
        let source = |key: &str| key.parse().ok().map(Source::of);
        if let Some(alias) = key.strip_prefix(DEVICE) {
            return Some(Self::Device(Alias::from_canonical(alias)));
        }
        if let Some((address, alias)) = key.strip_prefix(AT).and_then(|key| key.split_once(' ')) {
            return Some(Self::At(source(address)?, Alias::from_canonical(alias)));
        }
        source(key).map(Self::Source)
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(source) => write!(f, "{source}"),
            Self::Device(alias) => write!(f, "device {alias}"),
            Self::At(source, alias) => write!(f, "device {alias} at {source}"),
        }
    }
}

/// Somebody at a door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// Who he is.
    pub who: Who,
    /// Where he is.
    pub source: Option<SocketAddr>,
    /// What he came by: "sip", "api".
    pub protocol: &'static str,
}

impl Visitor {
    /// Who has called.
    pub fn calling(party: &Party) -> Self {
        let source = party.signalling;
        let who = match &party.device {
            Some(alias) => Who::Device(Alias::from_canonical(alias)),
            None => Who::source(source.map(|it| it.ip())),
        };
        Self { who, source, protocol: party.protocol }
    }

    /// Who asks by the client API, and as which device he is registered.
    pub fn by_api(source: Option<SocketAddr>, device: Option<Alias>) -> Self {
        let who = device.map_or_else(|| Who::source(source.map(|it| it.ip())), Who::Device);
        Self { who, source, protocol: "api" }
    }
}

/// No address begins so.
const DEVICE: &str = "device ";
const AT: &str = "at ";

fn prefix(address: Ipv6Addr, bits: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits(address.to_bits() & !(u128::MAX >> bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(address: &str) -> Who {
        Who::source(Some(address.parse().unwrap()))
    }

    #[test]
    fn an_address_counts_in_any_spelling_and_of_ipv6_its_network() {
        assert_eq!(who("192.0.2.1"), who("::ffff:192.0.2.1"));
        assert_ne!(who("192.0.2.1"), who("192.0.2.2"));
        assert_eq!(who("2001:db8:1:2::1"), who("2001:db8:1:2:ffff::9"));
        assert_ne!(who("2001:db8:1:2::1"), who("2001:db8:1:3::1"));
        assert_eq!(who("2001:db8:1:2::1").to_string(), "2001:db8:1:2::/64");
        let device = Who::Device(Alias::from_canonical("alice"));
        let there = Who::At(Source::of("2001:db8:1:2::1".parse().unwrap()), Alias::from_canonical("alice"));
        for one in [who("192.0.2.1"), who("2001:db8:1:2::1"), Who::source(None), device, there] {
            assert_eq!(Who::of_key(&one.key()), Some(one));
        }
        assert_eq!(Who::of_key("nonsense"), None);
    }
}
