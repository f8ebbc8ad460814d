//! Hosts that are named in the configuration. As all values of [`super::types`] they are made from text
//! and shown as the same text.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::types::Redacted;

/// A host name or address, and maybe a port: "proxy.example.com:5061".
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A name, an IPv4 address, or an IPv6 address without brackets.
    pub host: String,
    /// `None`: the protocol's own.
    pub port: Option<u16>,
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not a host: write \"proxy.example.com\" or \"192.0.2.1:5060\"");
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(wrong);
        if let Some(rest) = text.strip_prefix('[') {
            let (address, rest) = rest.split_once(']').ok_or_else(wrong)?;
            let address: std::net::Ipv6Addr = address.parse().map_err(|_| wrong())?;
            let port = match rest {
                "" => None,
                rest => Some(port(rest.strip_prefix(':').ok_or_else(wrong)?)?),
            };
            return Ok(Self { host: address.to_string(), port });
        }
        let (host, port) = match text.split_once(':') {
            Some((host, number)) => (host, Some(port(number)?)),
            None => (text, None),
        };
        if !is_host_name(host) {
            return Err(wrong());
        }
        Ok(Self { host: host.to_ascii_lowercase(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Where events are sent: "https://example.com/events".
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Whether it is spoken to by TLS; else it is on this machine.
    pub tls: bool,
    /// A name or an address, the latter without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Path and query.
    pub path: String,
}

impl Webhook {
    /// Host and port, as in a URL and in the header Host.
    pub fn authority(&self) -> String {
        HostPort { host: self.host.clone(), port: Some(self.port) }.to_string()
    }
}

impl FromStr for Webhook {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // It is not repeated: what is wrong with it may stand before a secret.
        let wrong = || "is not a webhook: write \"https://example.com/events\"".to_owned();
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let tls = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(wrong()),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        if path.strip_prefix('/') == Some(Redacted::SHOWN) {
            return Err("must have the real path, not a placeholder".into());
        }
        // What stands in a request's first line.
        if !path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err(wrong());
        }
        // An address in brackets may stand alone.
        let host: HostPort = authority.parse().map_err(|_| wrong())?;
        let local = host.host == "localhost"
            || host.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if !tls && !local {
            return Err("would be sent over the network in the clear: write https://".into());
        }
        let port = host.port.unwrap_or(if tls { 443 } else { 80 });
        Ok(Self { tls, host: host.host, port, path: path.into() })
    }
}

/// Many a path is a secret: whoever knows it may send. It is shown nowhere.
impl fmt::Display for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        let path = if self.path == "/" { "" } else { Redacted::SHOWN };
        write!(f, "{scheme}://{}/{path}", self.authority())
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Webhook({self})")
    }
}

/// Where a page is from (RFC 6454 section 6.1): "https://phones.example.com".
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PageOrigin(String);

impl PageOrigin {
    /// Whether a browser means that one. Browsers write it as it is here (RFC 6454 section 6.2).
    pub fn is(&self, header: &str) -> bool {
        self.0.eq_ignore_ascii_case(header)
    }
}

impl FromStr for PageOrigin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("\"{text}\" is not where a page is from: write \"https://phones.example.com\"");
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let usual = match scheme {
            "https" => 443,
            "http" => 80,
            _ => return Err(wrong()),
        };
        let mut host: HostPort = rest.parse().map_err(|_| wrong())?;
        host.port = host.port.filter(|port| *port != usual);
        Ok(Self(format!("{scheme}://{host}")))
    }
}

impl fmt::Display for PageOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for PageOrigin {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Letters, digits and hyphens in labels (RFC 1123), or an IPv4 address.
pub(crate) fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports() {
        for right in ["proxy.example.com", "proxy.example.com:5061", "192.0.2.1:5060", "[2001:db8::1]:5060"] {
            assert_eq!(right.parse::<HostPort>().unwrap().to_string(), right);
        }
        for wrong in
            ["", "a b", "host:", "host:0", "host:99999", "2001:db8::1", "[::1]5060", "-a.com", "a..b"]
        {
            assert!(wrong.parse::<HostPort>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn where_a_page_is_from_is_written_as_browsers_do() {
        for (text, origin) in [
            ("https://Phones.Example.com", "https://phones.example.com"),
            ("https://phones.example.com:443", "https://phones.example.com"),
            ("http://[2001:db8::1]:8080", "http://[2001:db8::1]:8080"),
        ] {
            let read: PageOrigin = text.parse().unwrap();
            assert!(read.to_string() == origin && read.is(origin), "{text}");
            assert!(!read.is("null") && !read.is("https://example.com"));
        }
        for wrong in ["*", "null", "phones.example.com", "wss://a.example", "https://a.example/", "https://"]
        {
            assert!(wrong.parse::<PageOrigin>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_path_of_a_webhook_is_shown_nowhere_and_a_placeholder_is_none() {
        let hook: Webhook = "https://example.com/hook?key=topsecret".parse().unwrap();
        let json = serde_json::to_string(&hook).unwrap();
        for shown in [hook.to_string(), format!("{hook:?}"), json] {
            assert!(shown.contains("https://example.com:443/[redacted]"), "{shown}");
            assert!(shown.parse::<Webhook>().is_err(), "{shown}");
        }
        let error = hook.to_string().parse::<Webhook>().unwrap_err();
        assert!(error.contains("placeholder"), "{error}");
        assert_eq!("https://example.com".parse::<Webhook>().unwrap().to_string(), "https://example.com:443/");
        for wrong in ["http://example.com/topsecret", "ftp://example.com/topsecret", "https://-/topsecret"] {
            assert!(!wrong.parse::<Webhook>().unwrap_err().contains("topsecret"), "{wrong}");
        }
    }
}
