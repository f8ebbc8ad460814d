//! Where a peer may send us: no protocol lets a stranger point our packets at our own host, at
//! the local network's plumbing or at a victim (threats 13 and 14: SSRF by media, reflection).
//!
//! One judgement serves SDP, ICE, RTMP and HTTP fetches. It is a pure function of the address,
//! of where the signalling came from and of what the configuration lists.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Addresses at which clouds serve credentials to whoever asks from the host. Most are
/// link-local; these need a name of their own because an address class does not tell them.
const METADATA: [IpAddr; 6] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)),
];

/// What an address is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressClass {
    /// 0.0.0.0/8 and `::`: no destination, although some systems take it for the own host.
    Unspecified,
    /// 127.0.0.0/8 and `::1`.
    Loopback,
    /// 169.254.0.0/16 and fe80::/10.
    LinkLocal,
    /// 224.0.0.0/4 and ff00::/8.
    Multicast,
    /// Broadcast, 240.0.0.0/4, the discard prefix 100::/64.
    Reserved,
    /// A cloud's metadata service.
    Metadata,
    /// RFC 1918, RFC 6598, fc00::/7, fec0::/10: somebody's inside.
    Private,
    /// Everything else.
    Global,
}

impl AddressClass {
    /// The class of `ip` after [`canonical`].
    pub fn of(ip: IpAddr) -> Self {
        let ip = canonical(ip);
        if METADATA.contains(&ip) {
            return Self::Metadata;
        }
        match ip {
            IpAddr::V4(v4) => Self::of_v4(v4),
            IpAddr::V6(v6) => Self::of_v6(v6),
        }
    }

    fn of_v4(ip: Ipv4Addr) -> Self {
        match ip.octets() {
            [0, ..] => Self::Unspecified,
            [127, ..] => Self::Loopback,
            [169, 254, ..] => Self::LinkLocal,
            [224..=239, ..] => Self::Multicast,
            [240..=255, ..] => Self::Reserved,
            [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Self::Private,
            _ => Self::Global,
        }
    }

    fn of_v6(ip: Ipv6Addr) -> Self {
        match ip.segments() {
            [0, 0, 0, 0, 0, 0, 0, 0] => Self::Unspecified,
            [0, 0, 0, 0, 0, 0, 0, 1] => Self::Loopback,
            [0xfe80..=0xfebf, ..] => Self::LinkLocal,
            [0xff00..=0xffff, ..] => Self::Multicast,
            [0x0100, 0, 0, 0, ..] => Self::Reserved,
            [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Self::Private,
            _ => Self::Global,
        }
    }

    const fn is_forbidden(self) -> bool {
        !matches!(self, Self::Private | Self::Global)
    }
}

impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback",
            Self::LinkLocal => "link-local",
            Self::Multicast => "multicast",
            Self::Reserved => "reserved",
            Self::Metadata => "metadata service",
            Self::Private => "private",
            Self::Global => "global",
        })
    }
}

/// The address that packets to `ip` reach in the end, as far as its spelling tells: IPv4 inside
/// IPv6 by mapping (`::ffff:`), compatibility (`::a.b.c.d`), translation (`::ffff:0:`,
/// `64:ff9b::/96`, `64:ff9b:1::/48`), 6to4 (`2002::/16`) and Teredo (`2001::/32`).
pub fn canonical(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match v6.segments() {
        // `::` and `::1` are addresses of their own, not IPv4 0.0.0.0 and 0.0.0.1.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => ip,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x0064, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x0064, 0xff9b, 1, _, _, _, high, low]
        | [0x2002, high, low, ..] => v4(high, low),
        // The client's address stands there with all bits flipped (RFC 4380 section 4).
        [0x2001, 0, .., high, low] => v4(!high, !low),
        _ => ip,
    }
}

/// Whether a peer's wish to have something sent to `ip` is refused unless the configuration
/// lists it: loopback, link-local, multicast, broadcast, reserved, unspecified and metadata
/// addresses, in any spelling.
pub fn is_forbidden_peer(ip: IpAddr) -> bool {
    AddressClass::of(ip).is_forbidden()
}

/// How far a media address may be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PeerTrust {
    /// The host that the signalling came from.
    Signalling,
    /// Listed in the configuration.
    Listed,
    /// Some other host: a device behind NAT that wrote its inner address, or an attempt to have a
    /// third party flooded. Nothing is sent there before media came from the signalling host or
    /// the address proved consent.
    Foreign,
}

/// Why a media address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForbiddenPeer {
    /// Its class, which the signalling does not share.
    #[error("a {0} address")]
    Class(AddressClass),
    /// One of our own listeners.
    #[error("an address of our own")]
    Own,
    /// Neither the signalling host nor listed, and the policy takes no others.
    #[error("neither the host of the signalling nor listed")]
    Foreign,
}

/// What is allowed for one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerPolicy {
    /// Where its signalling comes from.
    pub signalling: IpAddr,
    /// Networks that the configuration lists (`media_allow`).
    pub allow: Vec<Prefix>,
    /// Our own listeners: signalling ports and the pool of media ports. An unspecified address
    /// stands for all loopback addresses.
    pub own: Vec<OwnPorts>,
    /// Take addresses of other hosts as [`PeerTrust::Foreign`] instead of refusing them. For peers
    /// whose media may be latched (registered devices behind NAT).
    pub accept_foreign: bool,
}

/// A listener of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPorts {
    /// Its address.
    pub ip: IpAddr,
    /// Its ports.
    pub ports: RangeInclusive<u16>,
}

impl PeerPolicy {
    /// Nothing but the host of the signalling.
    pub const fn strict(signalling: IpAddr) -> Self {
        Self { signalling, allow: Vec::new(), own: Vec::new(), accept_foreign: false }
    }

    /// Judges the address at which the peer wants media.
    ///
    /// A forbidden class is allowed when the signalling came from that very class (loopback to
    /// loopback), but never through a translated spelling: `2002:7f00:1::` leaves the host.
    pub fn judge(&self, media: SocketAddr) -> Result<PeerTrust, ForbiddenPeer> {
        let ip = canonical(media.ip());
        let class = AddressClass::of(ip);
        if class == AddressClass::Unspecified {
            return Err(ForbiddenPeer::Class(class));
        }
        if self.own.iter().any(|own| own.covers(ip, media.port())) {
            return Err(ForbiddenPeer::Own);
        }
        if self.allow.iter().any(|prefix| prefix.contains(ip)) {
            return Ok(PeerTrust::Listed);
        }
        let signalling = canonical(self.signalling);
        let same_host = ip == signalling && !is_translated(media.ip());
        if class.is_forbidden() {
            let same_class = match class {
                AddressClass::Loopback | AddressClass::LinkLocal => {
                    AddressClass::of(signalling) == class && !is_translated(media.ip())
                }
                _ => same_host,
            };
            if !same_class {
                return Err(ForbiddenPeer::Class(class));
            }
        }
        if same_host {
            Ok(PeerTrust::Signalling)
        } else if self.accept_foreign || class.is_forbidden() {
            Ok(PeerTrust::Foreign)
        } else {
            Err(ForbiddenPeer::Foreign)
        }
    }
}

impl OwnPorts {
    fn covers(&self, ip: IpAddr, port: u16) -> bool {
        let own = canonical(self.ip);
        let same = own == ip || own.is_unspecified() && AddressClass::of(ip) == AddressClass::Loopback;
        same && self.ports.contains(&port)
    }
}

/// Whether the address reaches another host than its spelling: all of [`canonical`] but mapping,
/// which the own stack undoes.
fn is_translated(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_none() && canonical(ip) != ip,
    }
}

/// A network: an address and how many of its leading bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    ip: IpAddr,
    length: u8,
}

impl Prefix {
    /// `None` when `length` exceeds the address.
    pub fn new(ip: IpAddr, length: u8) -> Option<Self> {
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        (length <= bits).then_some(Self { ip, length })
    }

    /// Whether `ip` lies in it. IPv4 mapped into IPv6 counts as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let (network, ip, width) = match (self.ip, ip.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(ip)) => (network.to_bits().into(), ip.to_bits().into(), 32),
            (IpAddr::V6(network), IpAddr::V6(ip)) => (network.to_bits(), ip.to_bits(), 128_u32),
            _ => return false,
        };
        let host_bits = width.saturating_sub(u32::from(self.length));
        let differing: u128 = network ^ ip;
        differing.checked_shr(host_bits).unwrap_or(0) == 0
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.length)
    }
}

/// Not a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a network: write an address, or an address and a prefix length such as 192.0.2.0/24")]
pub struct PrefixError;

impl FromStr for Prefix {
    type Err = PrefixError;

    /// `192.0.2.0/24`, `2001:db8::/32`; an address alone is a network of one.
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (ip, length) = text.split_once('/').map_or((text, None), |(ip, length)| (ip, Some(length)));
        let ip: IpAddr = ip.parse().map_err(|_| PrefixError)?;
        let length = match length {
            Some(length) => length.parse().map_err(|_| PrefixError)?,
            None if ip.is_ipv4() => 32,
            None => 128,
        };
        Self::new(ip, length).ok_or(PrefixError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn socket(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ipv4_in_every_spelling_is_the_same_address() {
        for text in [
            "10.1.2.3",
            "::ffff:10.1.2.3",
            "::10.1.2.3",
            "::ffff:0:10.1.2.3",
            "64:ff9b::10.1.2.3",
            "64:ff9b:1:abcd:0:7:10.1.2.3",
            "2002:a01:203::1",
            "2002:a01:203:ffff:1:2:3:4",
            "2001:0:5ef5:79fb:10:20:f5fe:fdfc",
        ] {
            assert_eq!(canonical(ip(text)), ip("10.1.2.3"), "{text}");
        }
        for text in ["2001:db8::1", "::1", "::", "fe80::1", "2001:4860::8888"] {
            assert_eq!(canonical(ip(text)), ip(text));
        }
    }

    #[test]
    fn forbidden_in_any_spelling() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "127.0.0.1",
            "127.255.255.254",
            "::1",
            "169.254.1.1",
            "fe80::1",
            "febf::1",
            "224.0.0.1",
            "239.255.255.250",
            "ff02::1",
            "255.255.255.255",
            "240.0.0.1",
            "169.254.169.254",
            "100.100.100.200",
            "fd00:ec2::254",
            "100::1",
            "::ffff:127.0.0.1",
            "::ffff:0:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::169.254.169.254",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "::ffff:0.0.0.0",
            "64:ff9b::",
            "::ffff:224.0.0.1",
            "2001:0:1:2:3:4:80ff:fffe",
            "168.63.129.16",
        ] {
            assert!(is_forbidden_peer(ip(text)), "{text}");
        }
        for text in [
            "192.0.2.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "8.8.8.8",
            "2001:db8::1",
            "fc00::1",
            "128.0.0.1",
            "126.255.255.255",
            "223.255.255.255",
            "170.254.0.1",
            "100.64.0.1",
            "1.0.0.1",
            "::ffff:192.0.2.1",
            "64:ff9b::192.0.2.1",
            "2002:c000:201::1",
        ] {
            assert!(!is_forbidden_peer(ip(text)), "{text}");
        }
    }

    #[test]
    fn media_at_the_signalling_host_is_trusted() {
        let policy = PeerPolicy::strict(ip("192.0.2.7"));
        assert_eq!(policy.judge(socket("192.0.2.7:4000")), Ok(PeerTrust::Signalling));
        assert_eq!(policy.judge(socket("[::ffff:192.0.2.7]:4000")), Ok(PeerTrust::Signalling));
        assert_eq!(policy.judge(socket("192.0.2.8:4000")), Err(ForbiddenPeer::Foreign));
        // The translator is another host, whatever it does with the packet.
        assert_eq!(policy.judge(socket("[64:ff9b::192.0.2.7]:4000")), Err(ForbiddenPeer::Foreign));
        let latching = PeerPolicy { accept_foreign: true, ..policy };
        assert_eq!(latching.judge(socket("10.0.0.8:4000")), Ok(PeerTrust::Foreign));
    }

    #[test]
    fn a_forbidden_class_needs_signalling_of_that_class() {
        let loopback = PeerPolicy::strict(ip("127.0.0.1"));
        assert_eq!(loopback.judge(socket("127.0.0.1:4000")), Ok(PeerTrust::Signalling));
        assert_eq!(loopback.judge(socket("127.0.0.2:4000")), Ok(PeerTrust::Foreign));
        assert_eq!(loopback.judge(socket("[::1]:4000")), Ok(PeerTrust::Foreign));
        for text in ["0.0.0.0:1", "[::]:1", "[2002:7f00:1::]:1", "169.254.169.254:80", "224.0.0.1:5004"] {
            assert!(matches!(loopback.judge(socket(text)), Err(ForbiddenPeer::Class(_))), "{text}");
        }
        let outside = PeerPolicy { accept_foreign: true, ..PeerPolicy::strict(ip("192.0.2.7")) };
        for text in ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "169.254.0.9:1", "[fe80::1]:1"] {
            assert!(matches!(outside.judge(socket(text)), Err(ForbiddenPeer::Class(_))), "{text}");
        }
        let link = PeerPolicy::strict(ip("169.254.3.4"));
        assert_eq!(link.judge(socket("169.254.3.4:4000")), Ok(PeerTrust::Signalling));
        assert!(link.judge(socket("169.254.169.254:80")).is_err());
    }

    #[test]
    fn listed_networks_are_allowed_but_never_our_own_ports() {
        let policy = PeerPolicy {
            allow: vec!["127.0.0.0/8".parse().unwrap(), "198.51.100.0/24".parse().unwrap()],
            own: vec![
                OwnPorts { ip: ip("0.0.0.0"), ports: 5060..=5061 },
                OwnPorts { ip: ip("198.51.100.9"), ports: 40_000..=49_999 },
            ],
            ..PeerPolicy::strict(ip("192.0.2.7"))
        };
        assert_eq!(policy.judge(socket("198.51.100.77:4000")), Ok(PeerTrust::Listed));
        assert_eq!(policy.judge(socket("127.0.0.5:4000")), Ok(PeerTrust::Listed));
        assert_eq!(policy.judge(socket("127.0.0.5:5060")), Err(ForbiddenPeer::Own));
        assert_eq!(policy.judge(socket("[::1]:5061")), Err(ForbiddenPeer::Own));
        assert_eq!(policy.judge(socket("198.51.100.9:40002")), Err(ForbiddenPeer::Own));
        assert_eq!(policy.judge(socket("198.51.100.9:39999")), Ok(PeerTrust::Listed));
        assert_eq!(
            policy.judge(socket("0.0.0.0:4000")),
            Err(ForbiddenPeer::Class(AddressClass::Unspecified))
        );
    }

    #[test]
    fn prefixes() {
        let contains = |prefix: &str, text: &str| prefix.parse::<Prefix>().unwrap().contains(ip(text));
        assert!(contains("10.0.0.0/8", "10.255.0.1") && !contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("10.0.0.0/8", "::ffff:10.0.0.1"));
        assert!(contains("0.0.0.0/0", "203.0.113.1") && !contains("0.0.0.0/0", "2001:db8::1"));
        assert!(contains("::/0", "2001:db8::1"));
        assert!(contains("192.0.2.1", "192.0.2.1") && !contains("192.0.2.1", "192.0.2.0"));
        assert!(
            contains("2001:db8::/33", "2001:db8:7fff::") && !contains("2001:db8::/33", "2001:db8:8000::")
        );
        for bad in ["", "x", "10.0.0.0/33", "10.0.0.0/", "::/129", "10.0.0.0/-1", "10.0.0/8"] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
        assert_eq!("10.0.0.0/8".parse::<Prefix>().unwrap().to_string(), "10.0.0.0/8");
    }
}
