//! `[[trunks]]`: other systems by name, as a carrier or a company's exchange, that calls come from and
//! go to.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crosspoint_proto::Transport;
use serde::{Serialize, Serializer};

use super::hosts::{HostPort, is_host_name};
use super::read::Section;
use super::types::{CodecChoice, Credentials, Encryption, Network, show_duration, show_transport};

/// How often a trunk is asked whether it is there: one small message each way, and an hour's outage is
/// noticed within the first minute.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// More often than this is a load, and a slow answer would be taken for none.
const KEEP_ALIVE_LEAST: Duration = Duration::from_secs(2);

/// What a registration asks for: what RFC 3261 section 10.2.1.1 has for who says nothing.
const EXPIRES: Duration = Duration::from_secs(3600);

/// A named peer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trunk {
    /// What rules, records and the status call it.
    pub name: String,
    /// Where it is.
    pub host: HostPort,
    /// How it is reached; calls from it come at least as well protected against forged addresses.
    #[serde(serialize_with = "show_transport")]
    pub transport: Transport,
    /// Where its calls come from. Empty: the addresses of `host`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Network>,
    /// The only codecs that are offered to it and taken from it. Empty: all that we have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub codecs: Vec<CodecChoice>,
    /// Whether its media must, may or must not be encrypted. `None`: as `media.encryption` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    /// How often it is asked whether it is there. Zero: never, and it counts as up.
    #[serde(serialize_with = "show_duration")]
    pub keep_alive: Duration,
    /// The only certificate that is taken from it, instead of those that some authority vouches for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    /// PEM certificates that are trusted to vouch for it. `None`: as for other outgoing TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trusted_certificates: Option<PathBuf>,
    /// What we answer its digest challenges with; they are never sent to anybody else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
    /// We register there. `None`: we do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration: Option<Registration>,
}

impl Trunk {
    /// The host of what is called there, and its port.
    pub fn domain(&self) -> HostPort {
        match &self.registration {
            Some(registration) => HostPort { host: registration.domain.clone(), port: None },
            None => self.host.clone(),
        }
    }
}

/// What we are at a trunk's registrar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Registration {
    /// The user part of our address there, and of the contact that calls come to.
    pub user: String,
    /// The domain of our address there.
    pub domain: String,
    /// How long a registration shall last; it is refreshed well before.
    #[serde(serialize_with = "show_duration")]
    pub expires: Duration,
}

/// SHA-256 of a certificate in DER.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl FromStr for Fingerprint {
    type Err = String;

    /// Hexadecimal, with or without colons: what `openssl x509 -fingerprint -sha256` prints.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "\"{text}\" is not SHA-256 of a certificate: write what openssl x509 -fingerprint -sha256 prints"
            )
        };
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        let mut octets = [0; 32];
        if digits.len() != 2 * octets.len() {
            return Err(wrong());
        }
        for (octet, pair) in octets.iter_mut().zip(digits.chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            *octet = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self(octets))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, octet) in self.0.iter().enumerate() {
            write!(f, "{}{octet:02X}", if at > 0 { ":" } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Whose calls a rule is for, when it is not for devices: "trunk carrier".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callers {
    /// The trunk that they come from.
    pub trunk: String,
}

impl FromStr for Callers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(' ') {
            Some(("trunk", name)) if !name.trim().is_empty() => Ok(Self { trunk: name.trim().into() }),
            _ => Err(format!("\"{text}\" are no callers: write \"trunk NAME\", or leave the line out")),
        }
    }
}

impl fmt::Display for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "trunk {}", self.trunk)
    }
}

impl Serialize for Callers {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Reads one `[[trunks]]`.
pub(super) fn trunk(mut from: Section<'_, '_>, earlier: &[Trunk]) -> Option<Trunk> {
    let name = from.label("name");
    let host = from.text("host");
    let transport = from.choice("transport").unwrap_or(Transport::Udp);
    let addresses = from.texts("addresses").unwrap_or_default();
    let codecs = from.choices("codecs").unwrap_or_default();
    let encryption = from.choice("encryption");
    let keep_alive = from.duration("keep_alive").unwrap_or(KEEP_ALIVE);
    let fingerprint = from.text("fingerprint");
    let trusted_certificates = from.path("trusted_certificates");
    let credentials = from.maybe_section("credentials").and_then(super::parse::credentials);
    let registration = from.maybe_section("registration");
    let wants_registration = registration.is_some();
    let registration = registration.and_then(self::registration);
    let name = from.require("name", name, "\"carrier\"");
    let host: Option<HostPort> = from.require("host", host, "\"sip.carrier.example\"");
    if let Some(name) = &name
        && earlier.iter().any(|other| other.name == *name)
    {
        from.fault("name", format!("\"{name}\" is there twice: give each trunk its own"));
    }
    if !keep_alive.is_zero() && keep_alive < KEEP_ALIVE_LEAST {
        from.fault("keep_alive", "is too short: at least \"2s\", or \"0s\" to ask it never");
    }
    if transport != Transport::Tls {
        for key in ["fingerprint", "trusted_certificates"] {
            if from.has(key) {
                from.fault(key, "is for TLS: write transport = \"tls\" beside it, or leave the line out");
            }
        }
    } else if fingerprint.is_some() && trusted_certificates.is_some() {
        from.fault("fingerprint", "and trusted_certificates say two things: leave one of them out");
    }
    let registration = if wants_registration { Some(registration?) } else { None };
    Some(Trunk {
        name: name?,
        host: host?,
        transport,
        addresses,
        codecs,
        encryption,
        keep_alive,
        fingerprint,
        trusted_certificates,
        credentials,
        registration,
    })
}

fn registration(mut from: Section<'_, '_>) -> Option<Registration> {
    let (user, domain) = (from.label("user"), from.label("domain"));
    let expires = from.duration("expires").unwrap_or(EXPIRES);
    let user = from.require("user", user, "\"4930123456\"");
    let domain = from.require("domain", domain, "\"carrier.example\"");
    if user.as_ref().is_some_and(|user| user.contains(['@', ':', '"', '<', '>', ' '])) {
        from.fault("user", "must be the part before the @ alone");
    }
    if let Some(domain) = domain.as_ref().filter(|domain| !is_host_name(domain)) {
        from.fault("domain", format!("\"{domain}\" is not a domain: write \"carrier.example\""));
    }
    if !(60..=86_400).contains(&expires.as_secs()) {
        from.fault("expires", "is out of range: \"1m\" to \"24h\"");
    }
    Some(Registration { user: user?, domain: domain?, expires })
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    const TRUNKS: &str = r#"
        [[trunks]]
        name = "carrier"
        host = "sip.carrier.example:5061"
        transport = "tls"
        addresses = ["192.0.2.0/28", "2001:db8::7"]
        codecs = ["pcma", "opus"]
        encryption = "required"
        keep_alive = "10s"
        fingerprint = "00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00112233445566778899aabbccddeeff"
        credentials = { realm = "carrier.example", username = "me", password = "s3cret" }
        registration = { user = "4930123456", domain = "carrier.example", expires = "10m" }
        [[trunks]]
        name = "exchange"
        host = "192.0.2.40"
        [[rules]]
        name = "world"
        priority = 10
        match = '\+\d+'
        trunk = "carrier"
        [[rules]]
        name = "through"
        priority = 20
        match = '7\d\d'
        callers = "trunk carrier"
        trunk = "exchange"
    "#;

    fn faults(text: &str) -> String {
        Config::from_toml(text, "x.toml").unwrap_err().to_string()
    }

    #[test]
    fn trunks_are_read_and_read_back_without_their_passwords() {
        let config = Config::from_toml(TRUNKS, "x.toml").unwrap();
        let carrier = &config.trunks[0];
        assert_eq!(
            (carrier.host.to_string().as_str(), carrier.transport),
            ("sip.carrier.example:5061", Transport::Tls)
        );
        assert_eq!(carrier.domain().to_string(), "carrier.example");
        assert_eq!(carrier.registration.as_ref().unwrap().expires, Duration::from_secs(600));
        assert_eq!(config.trunks[1].domain().to_string(), "192.0.2.40");
        assert_eq!(config.trunks[1].keep_alive, KEEP_ALIVE, "asked by default");
        assert_eq!(config.rules[1].callers, Some(Callers { trunk: "carrier".into() }));
        assert!(!config.rules[1].only_if_registered, "trunks do not register");
        let shown = config.to_toml();
        assert!(!shown.contains("s3cret") && !format!("{config:?}").contains("s3cret"), "{shown}");
        let again = Config::from_toml(&shown.replace("[redacted]", "a"), "x.toml").unwrap();
        assert_eq!(again.to_toml(), shown);
    }

    #[test]
    fn every_fault_of_a_trunk_names_its_field_and_the_remedy() {
        let trunk = |more: &str| format!("[[trunks]]\nname = \"t\"\nhost = \"192.0.2.1\"\n{more}\n");
        let rule = |more: &str| format!("[[rules]]\nname = \"r\"\npriority = 1\nmatch = \"a\"\n{more}\n");
        for (text, expected) in [
            ("[[trunks]]\nname = \"t\"".to_owned(), "trunks[1].host: is missing"),
            ("[[trunks]]\nhost = \"a\"".to_owned(), "trunks[1].name: is missing"),
            (trunk("") + &trunk(""), "trunks[2].name: \"t\" is there twice"),
            (trunk("keep_alive = \"1s\""), "keep_alive: is too short"),
            (trunk("fingerprint = \"00\""), "is not SHA-256 of a certificate"),
            (trunk("trusted_certificates = \"a.pem\""), "trusted_certificates: is for TLS"),
            (trunk("addresses = [\"x\"]"), "is not a network"),
            (trunk("registration = { user = \"a\" }"), "registration.domain: is missing"),
            (trunk("registration = { user = \"a@b\", domain = \"c\" }"), "registration.user: must be"),
            (
                trunk("registration = { user = \"a\", domain = \"c\", expires = \"1s\" }"),
                "registration.expires:",
            ),
            (trunk("credentials = { realm = \"a\", username = \"b\" }"), "credentials.password: is missing"),
            (trunk("hots = 1"), "hots: is not known: did you mean host?"),
            (rule("trunk = \"t\""), "rules[1].trunk: there is no trunk \"t\": add it under [[trunks]]"),
            (trunk("") + &rule("trunk = \"t\"\nproxy = \"a\""), "trunk: and proxy say two things"),
            (rule("callers = \"trunk t\""), "rules[1].callers: there is no trunk \"t\""),
            (rule("callers = \"all\""), "are no callers: write \"trunk NAME\""),
            (
                trunk("") + &rule("callers = \"trunk t\"\nonly_if_registered = true"),
                "only_if_registered: is for devices, and callers for a trunk",
            ),
        ] {
            let told = faults(&text);
            assert!(told.contains(expected), "{text}: {told}");
        }
    }
}
