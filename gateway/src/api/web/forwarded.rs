//! Whom a request is from when proxies stand between. Pure.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName};

use crate::config::Network;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The proxies that are believed.
#[derive(Clone, Debug, Default)]
pub(super) struct Proxies {
    trusted: Vec<Network>,
    announce: bool,
}

impl Proxies {
    pub(super) const fn new(trusted: Vec<Network>, announce: bool) -> Self {
        Self { trusted, announce }
    }

    /// Whether `address` is one of them.
    pub(super) fn trust(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// Whether connections from `address` begin with a header of the PROXY protocol.
    pub(super) fn announces(&self, address: IpAddr) -> bool {
        self.announce && self.trust(address)
    }

    /// The client of a request over a connection from `peer`: the last address of
    /// `X-Forwarded-For` that is no trusted proxy. Each proxy adds whom it saw at the end, so
    /// everything before that address is the client's own word, which nobody has to believe.
    pub(super) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        let mut client = peer;
        let said = headers.get_all(FORWARDED_FOR).iter().rev();
        let mut said = said.flat_map(|value| value.to_str().unwrap_or("?").rsplit(','));
        while self.trust(client.ip()) {
            match said.next().map(str::trim).and_then(address) {
                Some(before) => client = before,
                // It says nothing, or "unknown": then the proxy itself is all that we know.
                None => break,
            }
        }
        client
    }
}

/// "192.0.2.1", "2001:db8::1", or either with a port.
fn address(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(text);
    let alone = bare.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip.to_canonical(), 0));
    alone.or_else(|| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &[&str], peer: &str, said: &[&str]) -> String {
        let proxies = Proxies::new(trusted.iter().map(|it| it.parse().unwrap()).collect(), false);
        let mut headers = HeaderMap::new();
        for value in said {
            headers.append(FORWARDED_FOR, value.parse().unwrap());
        }
        proxies.client(SocketAddr::new(peer.parse().unwrap(), 5), &headers).to_string()
    }

    #[test]
    fn a_proxy_is_believed_and_nobody_else() {
        let proxy = ["192.0.2.1"];
        assert_eq!(client(&proxy, "192.0.2.1", &["198.51.100.7"]), "198.51.100.7:0");
        assert_eq!(client(&proxy, "192.0.2.1", &["2001:db8::1"]), "[2001:db8::1]:0");
        assert_eq!(client(&proxy, "192.0.2.1", &["[2001:db8::1]:77"]), "[2001:db8::1]:77");
        assert_eq!(client(&proxy, "192.0.2.1", &["198.51.100.7:81"]), "198.51.100.7:81");
        assert_eq!(client(&proxy, "::ffff:192.0.2.1", &["198.51.100.7"]), "198.51.100.7:0");
        assert_eq!(client(&proxy, "192.0.2.9", &["198.51.100.7"]), "192.0.2.9:5", "not trusted");
        assert_eq!(client(&[], "127.0.0.1", &["198.51.100.7"]), "127.0.0.1:5", "not even loopback");
    }

    #[test]
    fn what_a_client_wrote_itself_is_not_believed() {
        let proxies = ["192.0.2.0/24"];
        // It claims to be somebody else, then the proxies tell who it is.
        assert_eq!(client(&proxies, "192.0.2.1", &["10.0.0.1, 203.0.113.5, 192.0.2.2"]), "203.0.113.5:0");
        assert_eq!(client(&proxies, "192.0.2.1", &["10.0.0.1", "203.0.113.5,192.0.2.2"]), "203.0.113.5:0");
        // Even that it is a trusted proxy.
        assert_eq!(client(&proxies, "192.0.2.1", &["192.0.2.77, 203.0.113.5"]), "203.0.113.5:0");
    }

    #[test]
    fn without_a_word_of_use_the_proxy_itself_is_the_client() {
        let proxies = ["192.0.2.0/24"];
        for said in [vec![], vec![""], vec!["unknown"], vec!["10.0.0.1, unknown"], vec!["300.1.1.1"]] {
            assert_eq!(client(&proxies, "192.0.2.1", &said), "192.0.2.1:5", "{said:?}");
        }
        assert_eq!(
            client(&proxies, "192.0.2.1", &["192.0.2.8"]),
            "192.0.2.8:0",
            "somebody among the proxies"
        );
    }
}
