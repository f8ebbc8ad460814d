//! SIP, SIPS and other URIs (RFC 3261 section 19.1).

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::limits;
use super::params::{Params, is_token_char};
use super::typed::ValueError;

/// Port of SIP over UDP and TCP.
pub const DEFAULT_PORT: u16 = 5060;
/// Port of SIP over TLS.
pub const DEFAULT_TLS_PORT: u16 = 5061;

/// A URI as it stands in a request line, From, Contact and so on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uri {
    /// `sip:` or `sips:`.
    Sip(SipUri),
    /// Any other scheme, its text kept as it came.
    Opaque(OpaqueUri),
}

impl Uri {
    /// Parses a whole URI.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        let (scheme, rest) = text.split_once(':').ok_or(UriError::Scheme)?;
        let mut letters = scheme.chars();
        let sound = letters.next().is_some_and(|c| c.is_ascii_alphabetic())
            && letters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
        if !sound {
            return Err(UriError::Scheme);
        }
        if scheme.eq_ignore_ascii_case("sip") {
            SipUri::parse_rest(false, rest).map(Self::Sip)
        } else if scheme.eq_ignore_ascii_case("sips") {
            SipUri::parse_rest(true, rest).map(Self::Sip)
        } else if rest.is_empty() || rest.chars().any(|c| c.is_control() || " <>\"".contains(c)) {
            Err(UriError::Character)
        } else {
            Ok(Self::Opaque(OpaqueUri { scheme: scheme.to_owned(), rest: rest.to_owned() }))
        }
    }

    /// The SIP or SIPS URI, if it is one.
    pub const fn as_sip(&self) -> Option<&SipUri> {
        match self {
            Self::Sip(uri) => Some(uri),
            Self::Opaque(_) => None,
        }
    }

    /// The scheme without its colon.
    pub fn scheme(&self) -> &str {
        match self {
            Self::Sip(SipUri { secure: false, .. }) => "sip",
            Self::Sip(_) => "sips",
            Self::Opaque(uri) => uri.scheme(),
        }
    }

    /// Whether two URIs name the same thing: RFC 3261 section 19.1.4 for SIP, RFC 3966 section 4
    /// (visual separators and case do not count) for `tel`, the same text for all others.
    pub fn matches(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Sip(a), Self::Sip(b)) => a.matches(b),
            (Self::Opaque(a), Self::Opaque(b)) if a.is_tel() && b.is_tel() => a.alias() == b.alias(),
            (Self::Opaque(a), Self::Opaque(b)) => {
                a.scheme.eq_ignore_ascii_case(&b.scheme) && a.rest == b.rest
            }
            _ => false,
        }
    }

    /// Whether requests to both end at the same place: as [`Uri::matches`], but a default port
    /// equals no port, and parameters that name no other target do not count. A digest is bound to
    /// its target this way, since devices differ in what they copy into `uri`.
    pub fn same_target(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Sip(a), Self::Sip(b)) => a.same_target(b),
            _ => self.matches(other),
        }
    }

    /// The canonical alias that this URI names (S55, S85): `user@host`, lower case, escapes
    /// decoded, without scheme, password, port and parameters; the host alone when there is no
    /// user; the number without visual separators for `tel`.
    pub fn alias(&self) -> String {
        match self {
            Self::Sip(uri) => uri.alias(),
            Self::Opaque(uri) => uri.alias(),
        }
    }
}

impl From<SipUri> for Uri {
    fn from(uri: SipUri) -> Self {
        Self::Sip(uri)
    }
}

impl std::str::FromStr for Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        Self::parse(text)
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sip(uri) => uri.fmt(f),
            Self::Opaque(uri) => uri.fmt(f),
        }
    }
}

/// A SIP or SIPS URI in its parts.
///
/// User, password, parameters and headers are in wire form: escapes stay. Printing escapes
/// whatever may not stand there, so no value can add a part of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SipUri {
    /// `sips:`.
    pub secure: bool,
    /// Before the `@`, escaped.
    pub user: Option<String>,
    /// After the user's colon, escaped. Deprecated, kept to be compared.
    pub password: Option<String>,
    /// Whose it is.
    pub host: Host,
    /// Its port, when one stands there.
    pub port: Option<u16>,
    /// `;name=value`, escaped.
    pub params: Params,
    /// `?name=value&..`, escaped. They are never applied to a request that we make.
    pub headers: Vec<(String, String)>,
}

impl SipUri {
    /// `sip:user@host`, where `user` is plain text and gets escaped.
    pub fn new(user: Option<&str>, host: Host, port: Option<u16>) -> Self {
        let user = user.filter(|u| !u.is_empty()).map(escape_user);
        Self {
            secure: false,
            user,
            password: None,
            host,
            port,
            params: Params::default(),
            headers: Vec::new(),
        }
    }

    /// The user with its escapes decoded.
    pub fn user_text(&self) -> Option<String> {
        self.user.as_deref().map(unescape)
    }

    /// The `transport` parameter, as it stands.
    pub fn transport(&self) -> Option<&str> {
        self.params.get("transport")
    }

    /// Whether it is a loose router (`lr`).
    pub fn is_loose(&self) -> bool {
        self.params.has("lr")
    }

    /// Whether its owner is to be reached by the flow that it came by (`ob`, RFC 5626 section 11.3).
    pub fn is_outbound(&self) -> bool {
        self.params.has("ob")
    }

    /// Sets a parameter; `value` is plain text and gets escaped.
    pub fn set_param(&mut self, name: &str, value: Option<&str>) {
        self.params.set_raw(name, value.map(escape_param));
    }

    /// See [`Uri::alias`].
    pub fn alias(&self) -> String {
        let host = self.host.to_string().to_lowercase();
        match self.user_text() {
            Some(user) => format!("{}@{host}", user.to_lowercase()),
            None => host,
        }
    }

    fn matches(&self, other: &Self) -> bool {
        // A parameter of this list that stands in one URI only is a difference.
        const TELLING: [&str; 5] = ["user", "ttl", "method", "maddr", "transport"];
        self.secure == other.secure
            && self.same_user(other)
            && self.password.as_deref().map(unescape) == other.password.as_deref().map(unescape)
            && self.host.matches(&other.host)
            && self.port == other.port
            && TELLING.iter().all(|name| self.params.has(name) == other.params.has(name))
            && self
                .params
                .iter()
                .all(|(name, value)| !other.params.has(name) || same_escaped(value, other.params.get(name)))
            && same_headers(&self.headers, &other.headers)
    }

    fn same_target(&self, other: &Self) -> bool {
        const TARGET: [&str; 2] = ["maddr", "method"];
        let port = |uri: &Self| uri.port.unwrap_or(if uri.secure { DEFAULT_TLS_PORT } else { DEFAULT_PORT });
        self.secure == other.secure
            && self.same_user(other)
            && self.host.matches(&other.host)
            && port(self) == port(other)
            && TARGET.iter().all(|name| {
                self.params.has(name) == other.params.has(name)
                    && same_escaped(self.params.get(name), other.params.get(name))
            })
    }

    fn same_user(&self, other: &Self) -> bool {
        self.user_text() == other.user_text()
    }

    fn parse_rest(secure: bool, rest: &str) -> Result<Self, UriError> {
        // A user part may hold `;`, `?` and `/`, a host, parameter or header no `@`: the first `@` decides.
        let (user, password, rest) = match rest.split_once('@') {
            Some((info, rest)) => {
                let (user, password) = match info.split_once(':') {
                    Some((user, password)) => (user, Some(check_user(password)?)),
                    None => (info, None),
                };
                if user.is_empty() {
                    return Err(UriError::User);
                }
                (Some(check_user(user)?), password, rest)
            }
            None => (None, None, rest),
        };
        let (rest, headers) = match rest.split_once('?') {
            Some((rest, headers)) => (rest, parse_headers(headers)?),
            None => (rest, Vec::new()),
        };
        let (host_port, params) = match rest.split_once(';') {
            Some((host_port, params)) => (host_port, parse_params(params)?),
            None => (rest, Params::default()),
        };
        let (host, port) = parse_host_port(host_port)?;
        Ok(Self { secure, user, password, host, port, params, headers })
    }
}

impl fmt::Display for SipUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.secure { "sips:" } else { "sip:" })?;
        if let Some(user) = &self.user {
            f.write_str(&escape(user, is_user_char))?;
            if let Some(password) = &self.password {
                write!(f, ":{}", escape(password, is_user_char))?;
            }
            f.write_str("@")?;
        }
        self.host.fmt(f)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        for (name, value) in self.params.iter() {
            write!(f, ";{}", escape(name, is_param_char))?;
            if let Some(value) = value {
                write!(f, "={}", escape(value, is_param_char))?;
            }
        }
        for (at, (name, value)) in self.headers.iter().enumerate() {
            let mark = if at == 0 { '?' } else { '&' };
            write!(f, "{mark}{}={}", escape(name, is_header_char), escape(value, is_header_char))?;
        }
        Ok(())
    }
}

/// A URI of another scheme: `tel:`, `http:`, `urn:` and so on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpaqueUri {
    scheme: String,
    rest: String,
}

impl OpaqueUri {
    /// The scheme without its colon, as it came.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// What follows the colon, as it came.
    pub fn rest(&self) -> &str {
        &self.rest
    }

    /// Whether it is a telephone number (RFC 3966 section 3).
    pub fn is_tel(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("tel")
    }

    /// See [`Uri::alias`].
    pub fn alias(&self) -> String {
        if !self.is_tel() {
            return self.to_string();
        }
        let number = self.rest.split(';').next().unwrap_or_default();
        unescape(number).to_lowercase().chars().filter(|c| !matches!(c, '-' | '.' | '(' | ')')).collect()
    }
}

impl fmt::Display for OpaqueUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scheme, self.rest)
    }
}

/// A host: name or address. Addresses print as URIs want them, version 6 in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name.
    Name(String),
    /// An address of version 4.
    V4(Ipv4Addr),
    /// An address of version 6.
    V6(Ipv6Addr),
}

impl Host {
    /// Parses a host without a port; version 6 must stand in brackets.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        if let Some(rest) = text.strip_prefix('[') {
            let address = rest.strip_suffix(']').ok_or(UriError::Host)?;
            return address.parse().map(Self::V6).map_err(|_| UriError::Host);
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::V4(address));
        }
        // The last label of a name starts with a letter; otherwise it is an address that went wrong.
        let last = text.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
        let sound = last.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && text.chars().all(is_name_char)
            && !text.starts_with('.')
            && !text.contains("..");
        if sound { Ok(Self::Name(text.to_owned())) } else { Err(UriError::Host) }
    }

    /// The address, if it is one.
    pub const fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::V4(address) => Some(IpAddr::V4(*address)),
            Self::V6(address) => Some(IpAddr::V6(*address)),
        }
    }

    /// Names compare without case, addresses by value.
    pub fn matches(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(a), Self::Name(b)) => a.eq_ignore_ascii_case(b),
            _ => self == other,
        }
    }
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6(address),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) if name.chars().all(is_name_char) => f.write_str(name),
            // A name that no parser checked loses what a name may not have.
            Self::Name(name) => name.chars().filter(|c| is_name_char(*c)).try_for_each(|c| f.write_char(c)),
            Self::V4(address) => Address(IpAddr::V4(*address)).fmt(f),
            Self::V6(address) => write!(f, "[{address}]"),
        }
    }
}

/// An address as text, without brackets. What the standard library writes, in a tenth of its time: each
/// message has some, and there it is padded as if for a table.
pub(super) struct Address(pub(super) IpAddr);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let IpAddr::V4(address) = self.0 else { return self.0.fmt(f) };
        for (at, octet) in address.octets().into_iter().enumerate() {
            if at > 0 {
                f.write_char('.')?;
            }
            let [hundreds, tens, ones] = [octet / 100, octet / 10 % 10, octet % 10];
            if hundreds > 0 {
                f.write_char(digit(hundreds))?;
            }
            if octet >= 10 {
                f.write_char(digit(tens))?;
            }
            f.write_char(digit(ones))?;
        }
        Ok(())
    }
}

fn digit(value: u8) -> char {
    char::from(b'0'.saturating_add(value))
}

/// Why text is not a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UriError {
    /// It has no scheme.
    #[error("no scheme")]
    Scheme,
    /// The user part is empty.
    #[error("empty user part")]
    User,
    /// The host is neither a name nor an address, or its brackets are missing.
    #[error("malformed host")]
    Host,
    /// The port is not a number from 1 to 65535.
    #[error("malformed port")]
    Port,
    /// A percent sign without two hexadecimal digits.
    #[error("malformed escape")]
    Escape,
    /// A character that may not stand there unescaped.
    #[error("character that a URI cannot have")]
    Character,
    /// A parameter or header without a name, or a parameter that stands twice.
    #[error("malformed parameter")]
    Param,
    /// More parameters than allowed.
    #[error("too many parameters")]
    TooMany,
}

/// `host` or `host:port`, as in URIs and in `sent-by`.
pub(super) fn parse_host_port(text: &str) -> Result<(Host, Option<u16>), UriError> {
    let after_address = text.rfind(']').unwrap_or(0);
    let colon = text.get(after_address..).and_then(|text| text.find(':'));
    let split = match colon.map(|at| at.saturating_add(after_address)) {
        Some(at) => text.split_at_checked(at).ok_or(UriError::Host)?,
        None => (text, ""),
    };
    match split {
        (host, "") => Ok((Host::parse(host)?, None)),
        (host, port) => Ok((Host::parse(host.trim_end())?, Some(parse_port(port)?))),
    }
}

fn parse_port(text: &str) -> Result<u16, UriError> {
    let digits = text.strip_prefix(':').unwrap_or(text).trim_start();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(UriError::Port);
    }
    digits.parse().ok().filter(|port| *port != 0).ok_or(UriError::Port)
}

fn parse_params(text: &str) -> Result<Params, UriError> {
    let mut params = Params::default();
    for piece in text.split(';') {
        let (name, value) = match piece.split_once('=') {
            Some((name, value)) => (name, Some(check(value, is_param_char)?)),
            None => (piece, None),
        };
        if name.is_empty() {
            return Err(UriError::Param);
        }
        params.push_raw(check(name, is_param_char)?, value).map_err(|error| match error {
            ValueError::TooMany => UriError::TooMany,
            _ => UriError::Param,
        })?;
    }
    Ok(params)
}

fn parse_headers(text: &str) -> Result<Vec<(String, String)>, UriError> {
    let mut headers = Vec::new();
    for piece in text.split('&') {
        let (name, value) = piece.split_once('=').ok_or(UriError::Param)?;
        if name.is_empty() {
            return Err(UriError::Param);
        }
        if headers.len() >= limits::PARAMS {
            return Err(UriError::TooMany);
        }
        headers.push((check(name, is_header_char)?, check(value, is_header_char)?));
    }
    Ok(headers)
}

fn check_user(text: &str) -> Result<String, UriError> {
    check(text, is_user_char)
}

/// Refuses broken escapes and characters that no URI can have; escapes those that should have
/// been escaped but do no harm (octets over 0x7f, `#` in service codes and the like).
fn check(text: &str, allowed: fn(char) -> bool) -> Result<String, UriError> {
    if text.bytes().all(|octet| octet.is_ascii_alphanumeric()) {
        return Ok(text.to_owned());
    }
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '%' => {
                let mut hex = || rest.next().is_some_and(|c| c.is_ascii_hexdigit());
                if !(hex() && hex()) {
                    return Err(UriError::Escape);
                }
            }
            c if c.is_control() || matches!(c, ' ' | '<' | '>' | '"' | '@' | '\\') => {
                return Err(UriError::Character);
            }
            _ => {}
        }
    }
    Ok(escape(text, allowed).into_owned())
}

/// Escapes all that is not allowed; percent signs are taken for escapes and stay.
fn escape(text: &str, allowed: fn(char) -> bool) -> Cow<'_, str> {
    if text.chars().all(|c| c == '%' || allowed(c)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '%' || allowed(c) {
            out.push(c);
        } else {
            let mut octets = [0; 4];
            for octet in c.encode_utf8(&mut octets).bytes() {
                out.push_str(&format!("%{octet:02X}"));
            }
        }
    }
    Cow::Owned(out)
}

fn escape_user(text: &str) -> String {
    escape(&text.replace('%', "%25"), is_user_char).into_owned()
}

fn escape_param(text: &str) -> String {
    escape(&text.replace('%', "%25"), is_param_char).into_owned()
}

/// Decodes escapes. A run of octets that is not UTF-8 is taken as Latin-1, as in headers.
pub(super) fn unescape(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escaped = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => hex_octet(*high, *low).map(|octet| (octet, tail)),
            _ => None,
        };
        let (octet, tail) = escaped.unwrap_or((*first, tail));
        octets.push(octet);
        rest = tail;
    }
    super::parse::decode_text(&octets)
}

fn hex_octet(high: u8, low: u8) -> Option<u8> {
    let high = char::from(high).to_digit(16)?;
    let low = char::from(low).to_digit(16)?;
    u8::try_from(high.checked_mul(16)?.checked_add(low)?).ok()
}

/// Parameter values compare without case once their escapes are decoded.
fn same_escaped(a: Option<&str>, b: Option<&str>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => unescape(a).eq_ignore_ascii_case(&unescape(b)),
        (None, None) => true,
        _ => false,
    }
}

fn same_headers(a: &[(String, String)], b: &[(String, String)]) -> bool {
    let canonical = |list: &[(String, String)]| {
        let mut list: Vec<_> =
            list.iter().map(|(n, v)| (unescape(n).to_ascii_lowercase(), unescape(v))).collect();
        list.sort();
        list
    };
    canonical(a) == canonical(b)
}

const fn is_unreserved(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '!' | '~' | '*' | '\'' | '(' | ')')
}

const fn is_user_char(c: char) -> bool {
    is_unreserved(c) || matches!(c, '&' | '=' | '+' | '$' | ',' | ';' | '?' | '/')
}

const fn is_param_char(c: char) -> bool {
    // The back quote is a token character, so `Params::set` may leave one in a name.
    is_unreserved(c) || matches!(c, '[' | ']' | '/' | ':' | '&' | '+' | '$') || is_token_char(c)
}

const fn is_header_char(c: char) -> bool {
    is_unreserved(c) || matches!(c, '[' | ']' | '/' | '?' | ':' | '+' | '$')
}

const fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        Uri::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn parts_are_read_and_printed_as_they_came() {
        // RFC 3261 section 19.1.3, and RFC 5118.
        for text in [
            "sip:alice@atlanta.com",
            "sip:alice:secretword@atlanta.com;transport=tcp",
            "sips:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:+1-212-555-1212:1234@gateway.com;user=phone",
            "sips:1212@gateway.com",
            "sip:alice@192.0.2.4",
            "sip:atlanta.com;method=REGISTER?to=alice%40atlanta.com",
            "sip:alice;day=tuesday@atlanta.com",
            "sip:user@[2001:db8::1]:5070;maddr=[2001:db8::2];lr",
            "tel:+1-201-555-0123;phone-context=example.com",
            "urn:service:sos",
        ] {
            assert_eq!(uri(text).to_string(), text);
        }
        let full = uri("sips:alice;day=tuesday:secret%3A@atlanta.com:5071;transport=tcp?subject=x");
        let full = full.as_sip().unwrap();
        assert!(full.secure);
        assert_eq!(full.user.as_deref(), Some("alice;day=tuesday"));
        assert_eq!(full.password.as_deref(), Some("secret%3A"));
        assert_eq!((full.port, full.transport()), (Some(5071), Some("tcp")));
        assert_eq!(full.headers, [("subject".to_owned(), "x".to_owned())]);
    }

    #[test]
    fn malformed_ones_are_refused() {
        for (text, error) in [
            ("alice@atlanta.com", UriError::Scheme),
            (":a", UriError::Scheme),
            ("1sip:a", UriError::Scheme),
            ("<sip:a@b>", UriError::Scheme),
            ("sip:", UriError::Host),
            ("sip:@b", UriError::User),
            ("sip::p@b", UriError::User),
            ("sip:a@", UriError::Host),
            ("sip:a@b@c", UriError::Host),
            ("sip:a@b c", UriError::Host),
            ("sip:a@1.2.3.999", UriError::Host),
            ("sip:a@b..c", UriError::Host),
            ("sip:a@2001:db8::10", UriError::Host),
            ("sip:a@[2001:db8:::1]", UriError::Host),
            ("sip:a@[2001:db8::1", UriError::Host),
            ("sip:a@[2001:db8::1]x", UriError::Host),
            ("sip:a@b:", UriError::Port),
            ("sip:a@b:0", UriError::Port),
            ("sip:a@b:65536", UriError::Port),
            ("sip:a@b:+5", UriError::Port),
            ("sip:a%4@b", UriError::Escape),
            ("sip:a%zz@b", UriError::Escape),
            ("sip:a b@c", UriError::Character),
            ("sip:a\0@c", UriError::Character),
            ("sip:a@b;", UriError::Param),
            ("sip:a@b;;lr", UriError::Param),
            ("sip:a@b;lr;x;LR=1", UriError::Param),
            ("sip:a@b;x=<", UriError::Character),
            ("sip:a@b?", UriError::Param),
            ("sip:a@b?x", UriError::Param),
            ("tel:", UriError::Character),
            ("http://a b", UriError::Character),
        ] {
            assert_eq!(Uri::parse(text), Err(error), "{text}");
        }
        let many = |count| format!("sip:a@b{}", (0..count).map(|n| format!(";x{n}")).collect::<String>());
        assert!(Uri::parse(&many(limits::PARAMS)).is_ok());
        assert_eq!(Uri::parse(&many(limits::PARAMS + 1)), Err(UriError::TooMany));
    }

    #[test]
    fn what_should_have_been_escaped_gets_escaped() {
        assert_eq!(uri("sip:#31#12@b").to_string(), "sip:%2331%2312@b");
        assert_eq!(uri("sip:Zoë@b").to_string(), "sip:Zo%C3%AB@b");
        assert_eq!(uri("sip:Zoë@b").alias(), "zoë@b");
        let made = SipUri::new(Some("100% a@b:c"), Host::Name("h".into()), None);
        assert_eq!(made.to_string(), "sip:100%25%20a%40b%3Ac@h");
        assert_eq!(made.user_text().as_deref(), Some("100% a@b:c"));
        assert_eq!(Uri::from(made.clone()), uri(&made.to_string()));
    }

    #[test]
    fn rfc_3261_19_1_4_says_what_is_equivalent() {
        for (a, b) in [
            ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtlanTa.CoM;Transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"),
            ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
            (
                "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
                "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
            ),
            (
                "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
                "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
            ),
            ("tel:+1-201-555-0123", "TEL:+1(201)5550123"),
        ] {
            assert!(uri(a).matches(&uri(b)) && uri(b).matches(&uri(a)), "{a} {b}");
        }
        for (a, b) in [
            ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
            ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
            ("sip:a@b", "sips:a@b"),
            ("sip:a@b", "sip:a:@b"),
            ("sip:a@b", "sip:b"),
        ] {
            assert!(!uri(a).matches(&uri(b)) && !uri(b).matches(&uri(a)), "{a} {b}");
        }
    }

    #[test]
    fn a_digest_target_is_user_host_and_port() {
        for (a, b) in [
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060;transport=udp"),
            ("sip:b%6Fb@biloxi.com", "sip:bob@BILOXI.com;user=phone"),
            ("sips:b.com", "sips:b.com:5061"),
        ] {
            assert!(uri(a).same_target(&uri(b)), "{a} {b}");
        }
        for (a, b) in [
            ("sip:bob@biloxi.com", "sip:carol@biloxi.com"),
            ("sip:bob@biloxi.com", "sip:bob@other.com"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;maddr=192.0.2.1"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5070"),
            ("sip:bob@biloxi.com", "sips:bob@biloxi.com"),
            ("sip:+44900@gw", "tel:+44900"),
        ] {
            assert!(!uri(a).same_target(&uri(b)), "{a} {b}");
        }
    }

    #[test]
    fn aliases_are_canonical() {
        // S55, S85.
        for (text, alias) in [
            ("sip:Meet.Alice@Example.COM;transport=tcp", "meet.alice@example.com"),
            ("sips:meet%2Ealice:pw@example.com:5061?x=y", "meet.alice@example.com"),
            ("sip:meet.alice", "meet.alice"),
            ("sip:%2B4420@[2001:DB8::1]", "+4420@[2001:db8::1]"),
            ("tel:+1-201-555-0123;ext=1", "+12015550123"),
            ("sip:a%FFb@h", "aÿb@h"),
        ] {
            assert_eq!(uri(text).alias(), alias);
        }
    }

    #[test]
    fn the_rsip_model_takes_sip_uris() {
        let ours = uri("sip:alice:pw@[2001:db8::1]:5070;transport=tcp;lr");
        let model = rsip::Uri::try_from(&ours).unwrap();
        assert_eq!(model.user(), Some("alice"));
        assert_eq!(model.port().map(|port| *port.value()), Some(5070));
        assert_eq!(model.params.len(), 2);
        assert!(rsip::Uri::try_from(&uri("tel:+1")).is_err());
    }
}
