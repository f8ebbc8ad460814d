//! Via (RFC 3261 section 20.42, RFC 3581).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::message::Token;
use super::params::{LWS, Params, saturating_number, split_outside};
use super::typed::ValueError;
use super::uri::{DEFAULT_PORT, DEFAULT_TLS_PORT, Host, parse_host_port};
use crate::Transport;

/// What every branch of RFC 3261 section 8.1.1.7 starts with.
pub const MAGIC_COOKIE: &str = "z9hG4bK";

/// One hop's Via.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    /// `UDP`, `TCP`, `TLS`, or what else a hop wrote.
    pub transport: Token,
    /// Host of `sent-by`.
    pub host: Host,
    /// Port of `sent-by`, when it stands there.
    pub port: Option<u16>,
    /// `branch`, `received`, `rport`, `maddr`, `ttl` and all others.
    pub params: Params,
}

impl Via {
    /// Our own, with a branch and a request for `rport` (RFC 3581 section 3).
    pub fn new(transport: Transport, host: Host, port: Option<u16>, branch: &str) -> Self {
        let mut params = Params::default();
        params.set("branch", Some(branch));
        params.set("rport", None);
        Self { transport: Token::of(transport), host, port, params }
    }

    /// Parses one element. White space may stand around the slashes, the colon and the semicolons.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let (via, version) = Self::parse_any_version(text)?;
        if version == "2.0" { Ok(via) } else { Err(ValueError::Version) }
    }

    /// The same for a hop that speaks another version, which must be told so in ours.
    pub(super) fn parse_any_version(text: &str) -> Result<(Self, &str), ValueError> {
        let mut parts = text.trim_matches(LWS).splitn(3, '/').map(|part| part.trim_matches(LWS));
        let (name, version) = (parts.next(), parts.next());
        if !name.is_some_and(|n| n.eq_ignore_ascii_case("SIP")) {
            return Err(ValueError::Version);
        }
        let rest = parts.next().ok_or(ValueError::Token)?;
        let (transport, rest) = rest.split_once(LWS).ok_or(ValueError::Token)?;
        let (sent_by, params) = match rest.find(';').and_then(|at| rest.split_at_checked(at)) {
            Some((sent_by, params)) => (sent_by, Params::parse(params)?),
            None => (rest, Params::default()),
        };
        let (host, port) = parse_host_port(sent_by.trim_matches(LWS))?;
        let transport = Token::parse(transport).ok_or(ValueError::Token)?;
        Ok((Self { transport, host, port, params }, version.unwrap_or_default()))
    }

    /// Parses the elements of one header value, topmost first.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, ValueError> {
        split_outside(text, b',')?.into_iter().map(Self::parse).collect()
    }

    /// The transport, when it is one that we have.
    pub fn transport(&self) -> Option<Transport> {
        Transport::ALL
            .into_iter()
            .find(|t| self.transport.as_str().eq_ignore_ascii_case(Token::of(*t).as_str()))
    }

    /// The branch, when there is one.
    pub fn branch(&self) -> Option<&str> {
        self.params.get("branch")
    }

    /// Whether the branch is unique by itself; otherwise the hop speaks RFC 2543
    /// (RFC 3261 section 17.2.3).
    pub fn has_magic_branch(&self) -> bool {
        let cookie = self.branch().and_then(|branch| branch.get(..MAGIC_COOKIE.len()));
        cookie.is_some_and(|cookie| cookie.eq_ignore_ascii_case(MAGIC_COOKIE))
    }

    /// `received`, with or without brackets around version 6 (RFC 5118 section 4.5).
    pub fn received(&self) -> Option<IpAddr> {
        let value = self.params.get("received")?;
        let bare = value.strip_prefix('[').and_then(|v| v.strip_suffix(']')).unwrap_or(value);
        bare.parse().ok()
    }

    /// The port that `rport` was filled with.
    pub fn rport(&self) -> Option<u16> {
        self.params.get("rport")?.parse().ok().filter(|port| *port != 0)
    }

    /// Whether the hop asked for `rport`, or it was filled.
    pub fn has_rport(&self) -> bool {
        self.params.has("rport")
    }

    /// `maddr`, when it is a host.
    pub fn maddr(&self) -> Option<Host> {
        Host::parse(self.params.get("maddr")?).ok()
    }

    /// `ttl`, at most 255.
    pub fn ttl(&self) -> Option<u8> {
        u8::try_from(saturating_number(self.params.get("ttl")?)?).ok()
    }

    /// The port of `sent-by`, or the transport's default.
    pub fn sent_by_port(&self) -> u16 {
        let default = if self.transport() == Some(Transport::Tls) { DEFAULT_TLS_PORT } else { DEFAULT_PORT };
        self.port.unwrap_or(default)
    }

    /// Writes where the request really came from (RFC 3261 section 18.2.1, RFC 3581 section 4):
    /// `received` whenever `sent-by` is another address or a name, or `rport` was asked for.
    pub fn stamp(&mut self, from: SocketAddr) {
        let address = from.ip().to_canonical();
        if self.has_rport() {
            self.params.set("rport", Some(&from.port().to_string()));
        }
        if self.has_rport() || self.host.address().map(|a| a.to_canonical()) != Some(address) {
            self.params.set("received", Some(&address.to_string()));
        } else {
            // What a peer claims for itself must not steer the response.
            self.params.remove("received");
        }
    }

    /// Where a response goes over UDP (RFC 3261 section 18.2.2, RFC 3581 section 4), once stamped.
    /// `maddr` is not followed: it would let a request aim our responses at anybody.
    pub fn response_address(&self) -> Option<SocketAddr> {
        let address = self.received().or_else(|| self.host.address())?;
        Some(SocketAddr::new(address, self.rport().unwrap_or_else(|| self.sent_by_port())))
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SIP/2.0/{} {}", self.transport, self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        self.params.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_stands_anywhere() {
        let via = Via::parse("SIP  / 2.0  / TCP     spindle.example.com : 5070  ; branch  =   z9hG4bK9ikj8 ")
            .unwrap();
        assert_eq!(via.to_string(), "SIP/2.0/TCP spindle.example.com:5070;branch=z9hG4bK9ikj8");
        assert_eq!(via.transport(), Some(Transport::Tcp));
        assert!(via.has_magic_branch());
        let list = Via::parse_list("SIP/2.0/UDP a.b;branch=1, SIP/2.0/SCTP [2001:db8::1]:6050").unwrap();
        assert_eq!(list[1].transport(), None);
        assert_eq!(list[1].sent_by_port(), 6050);
        assert!(!list[0].has_magic_branch());
    }

    #[test]
    fn malformed_ones_are_refused() {
        for bad in [
            "",
            "SIP/2.0/UDP",
            "SIP/2.0/UDP ",
            "SIP/2.0 host",
            "HTTP/2.0/UDP host",
            "SIP/7.0/UDP c.example.com",
            "SIP/2.0/UDP 192.0.2.15;;,;,,",
            "SIP/2.0/UDP host:0",
            "SIP/2.0/UDP host:70000",
            "SIP/2.0/UDP 2001:db8::1",
            "SIP/2.0/U(P host",
        ] {
            assert!(Via::parse_list(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn received_takes_version_6_with_and_without_brackets() {
        let address: IpAddr = "2001:db8::9:255".parse().unwrap();
        for value in ["2001:db8::9:255", "[2001:db8::9:255]"] {
            let via = Via::parse(&format!("SIP/2.0/UDP [2001:db8::9:1];received={value};branch=z9hG4bKas3"))
                .unwrap();
            assert_eq!(via.received(), Some(address));
        }
    }

    #[test]
    fn a_stamp_says_where_it_came_from_and_responses_go_there() {
        let from: SocketAddr = "198.51.100.7:49152".parse().unwrap();
        let stamped = |text: &str| {
            let mut via = Via::parse(text).unwrap();
            via.stamp(from);
            via
        };
        let behind_nat = stamped("SIP/2.0/UDP 10.1.1.1:4540;rport;branch=z9hG4bKkjshdyff");
        assert_eq!(behind_nat.rport(), Some(49152));
        assert_eq!(behind_nat.response_address(), Some(from));
        let old = stamped("SIP/2.0/UDP 10.1.1.1:4540;branch=z9hG4bKkjshdyff");
        assert_eq!(old.response_address(), Some("198.51.100.7:4540".parse().unwrap()));
        let lying = stamped("SIP/2.0/UDP 198.51.100.7;received=203.0.113.9;maddr=203.0.113.9");
        assert_eq!(lying.response_address(), Some("198.51.100.7:5060".parse().unwrap()));
        let named = stamped("SIP/2.0/UDP host.example.com");
        assert_eq!(named.received(), Some(from.ip()));
    }
}
