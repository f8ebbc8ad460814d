//! What people dial and register as: `alice`, `meet.alice@example.com`, `+4930123456`,
//! `192.0.2.7` (S55, S85). One canonical form, so that equal aliases are equal strings.

use std::fmt;
use std::net::IpAddr;

use serde::{Serialize, Serializer};

/// Longest alias, in bytes. RFC 3261 has no limit; what people dial is far shorter.
pub const LONGEST: usize = 255;

/// An alias in its canonical form: lower case, no scheme, no parameters, percent escapes resolved,
/// and a domain only where it is not ours.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Alias(String);

/// Why something is no alias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AliasError {
    /// Nothing is left of it.
    #[error("an alias must not be empty")]
    Empty,
    /// Longer than [`LONGEST`].
    #[error("an alias has at most {LONGEST} bytes")]
    TooLong,
    /// A control character, a space at an end, or bytes that are not UTF-8 behind escapes.
    #[error("an alias must not contain control characters or broken escapes")]
    Unprintable,
}

/// The domains that are ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Domains(Vec<String>);

impl Domains {
    /// These domains; none means every domain is ours.
    pub fn new(domains: impl IntoIterator<Item = String>) -> Self {
        Self(domains.into_iter().map(|domain| domain.to_ascii_lowercase()).collect())
    }

    /// Whether `host` is one of the domains by name.
    pub fn list(&self, host: &str) -> bool {
        self.0.iter().any(|ours| ours.eq_ignore_ascii_case(host))
    }

    /// Whether calls to `host` are for us: one of the domains, or an address in place of a name.
    pub fn are_ours(&self, host: &str) -> bool {
        is_address(host) || self.0.is_empty() || self.list(host)
    }
}

impl Alias {
    /// The alias in a dialled string or URI. Escapes are resolved where there is a scheme: what has
    /// none is no URI, and may have been resolved before.
    pub fn parse(dialled: &str, ours: &Domains) -> Result<Self, AliasError> {
        let (user, host) = parts(dialled)?;
        let host = host.filter(|host| !ours.are_ours(host));
        Self::checked(host.map_or_else(|| user.clone(), |host| format!("{user}@{host}")))
    }

    /// The same with its host, whosever that is, as a rule may want to match it.
    pub fn with_host(dialled: &str) -> Result<Self, AliasError> {
        let (user, host) = parts(dialled)?;
        Self::checked(host.map_or_else(|| user.clone(), |host| format!("{user}@{host}")))
    }

    fn checked(text: String) -> Result<Self, AliasError> {
        let text = text.to_lowercase();
        if text.is_empty() {
            return Err(AliasError::Empty);
        }
        if text.len() > LONGEST {
            return Err(AliasError::TooLong);
        }
        if text.chars().any(char::is_control) || text.trim() != text {
            return Err(AliasError::Unprintable);
        }
        Ok(Self(text))
    }

    /// Takes back what [`Alias::as_str`] gave, from a store of our own.
    pub(crate) fn from_canonical(text: &str) -> Self {
        Self(text.into())
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The domain, when it has one that is not ours.
    pub fn domain(&self) -> Option<&str> {
        self.0.rsplit_once('@').map(|(_, domain)| domain)
    }

    /// A telephone number: a plus sign, or at least seven digits, and nothing but digits.
    pub fn is_number(&self) -> bool {
        let digits = self.0.strip_prefix('+');
        let enough = digits.map_or(7, |_| 1);
        let digits = digits.unwrap_or(&self.0);
        digits.len() >= enough && digits.bytes().all(|byte| byte.is_ascii_digit())
    }
}

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Alias {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

/// User and host of what was dialled; a host alone is the user. Nothing is checked but lengths.
fn parts(dialled: &str) -> Result<(String, Option<String>), AliasError> {
    if dialled.len() > 2 * LONGEST + 64 {
        return Err(AliasError::TooLong);
    }
    let (scheme, rest) = split_scheme(dialled.trim());
    match rest.rsplit_once('@') {
        Some((user, host)) if !user.is_empty() => {
            // `user:password@host` is deprecated and never part of an alias.
            let user = match scheme {
                Some(_) => unescape(user.split_once(':').map_or(user, |(user, _)| user))?,
                None => user.into(),
            };
            let host = host_of(host).to_ascii_lowercase();
            Ok((user, Some(host).filter(|host| !host.is_empty())))
        }
        Some((_, host)) => Ok((host_of(host).into(), None)),
        None if scheme == Some("tel") => {
            let number = unescape(rest.split(';').next().unwrap_or_default())?;
            Ok((number.chars().filter(|c| !matches!(c, '-' | '.' | '(' | ')' | ' ')).collect(), None))
        }
        // A host alone is an alias too; a bare dial string has no port to cut.
        None if scheme.is_some() => Ok((host_of(rest).into(), None)),
        None => Ok((rest.split([';', '?']).next().unwrap_or_default().into(), None)),
    }
}

/// Only schemes of protocols that we know: `alice:5060` is no scheme `alice`.
fn split_scheme(text: &str) -> (Option<&'static str>, &str) {
    for scheme in ["sip", "sips", "h323", "tel", "rtmp", "rtmps", "pexip"] {
        if let Some((head, rest)) = text.split_once(':')
            && head.eq_ignore_ascii_case(scheme)
        {
            return (Some(scheme), rest);
        }
    }
    (None, text)
}

/// The host of a `host:port;parameters?headers` part, without the brackets of IPv6.
fn host_of(text: &str) -> &str {
    let text = text.split([';', '?', '>']).next().unwrap_or_default();
    if let Some((address, _)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains(':') => host,
        _ => text,
    }
}

fn is_address(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost")
}

/// Resolves `%41`; RFC 3261 section 19.1.4 makes it equal to the character.
fn unescape(text: &str) -> Result<String, AliasError> {
    if !text.contains('%') {
        return Ok(text.into());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (hex, tail) = rest.split_at_checked(2).ok_or(AliasError::Unprintable)?;
        let hex = std::str::from_utf8(hex).map_err(|_| AliasError::Unprintable)?;
        bytes.push(u8::from_str_radix(hex, 16).map_err(|_| AliasError::Unprintable)?);
        rest = tail;
    }
    String::from_utf8(bytes).map_err(|_| AliasError::Unprintable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alias(text: &str) -> String {
        Alias::parse(text, &Domains::new(["example.com".into()])).unwrap().to_string()
    }

    #[test]
    fn s85_all_spellings_of_an_alias_are_equal() {
        for same in [
            "meet.alice",
            "Meet.Alice",
            "meet.alice@example.com",
            "sip:meet.alice@EXAMPLE.com;transport=tcp",
            "sips:meet.alice:secret@example.com:5061?subject=x",
            "sip:meet.%61lice@192.0.2.1",
            "sip:meet.alice@[2001:db8::1]:5060",
            " meet.alice ",
        ] {
            assert_eq!(alias(same), "meet.alice", "{same}");
        }
        assert_eq!(alias("sip:meet.alice@other.org"), "meet.alice@other.org");
        assert_eq!(alias("tel:+49-30-(123)456"), "+4930123456");
        assert_eq!(alias("+4930123456"), "+4930123456");
        assert_eq!(alias("192.0.2.7"), "192.0.2.7");
        assert_eq!(alias("sip:192.0.2.7:5060"), "192.0.2.7");
        assert_eq!(alias("sip:user;par=u%40example.net@example.com"), "user;par=u@example.net");
    }

    #[test]
    fn s55_without_domains_of_our_own_every_domain_is_ours() {
        let any = Domains::default();
        assert_eq!(Alias::parse("alice@anywhere.org", &any).unwrap().as_str(), "alice");
    }

    #[test]
    fn what_is_no_alias_is_refused() {
        let any = Domains::default();
        for (text, error) in [
            ("", AliasError::Empty),
            ("sip:", AliasError::Empty),
            ("sip:a%00b@example.com", AliasError::Unprintable),
            ("sip:a%4@x", AliasError::Unprintable),
            ("sip:a%ff@x", AliasError::Unprintable),
            ("a\r\nb", AliasError::Unprintable),
        ] {
            assert_eq!(Alias::parse(text, &any), Err(error), "{text:?}");
        }
        assert_eq!(Alias::parse(&"a".repeat(256), &any), Err(AliasError::TooLong));
        assert_eq!(Alias::parse(&"a".repeat(1 << 20), &any), Err(AliasError::TooLong));
    }

    #[test]
    fn escapes_are_resolved_once() {
        let any = Domains::default();
        let once = Alias::parse("sip:%2561lice@example.com", &any).unwrap();
        assert_eq!(once.as_str(), "%61lice");
        assert_eq!(Alias::parse(once.as_str(), &any).unwrap(), once);
    }

    #[test]
    fn the_host_is_kept_where_a_rule_wants_it() {
        for (dialled, full) in [
            ("sip:Joe@192.0.2.7:5070;transport=tcp", "joe@192.0.2.7"),
            ("joe@Example.com", "joe@example.com"),
            ("joe", "joe"),
        ] {
            assert_eq!(Alias::with_host(dialled).unwrap().as_str(), full);
        }
    }

    proptest::proptest! {
        /// What came out goes in again and stays the same, and nothing panics.
        #[test]
        fn a_canonical_alias_is_its_own_canonical_form(dialled in ".{0,40}", host in "[a-z.]{0,9}") {
            let ours = Domains::new(["example.com".into()]);
            for text in [dialled.clone(), format!("sip:{dialled}@{host}")] {
                if let Ok(alias) = Alias::parse(&text, &ours)
                    && !alias.as_str().contains([':', ';', '?', '@', '[', '>'])
                {
                    proptest::prop_assert_eq!(Alias::parse(alias.as_str(), &ours), Ok(alias));
                }
            }
        }
    }

    #[test]
    fn numbers_are_told_from_names() {
        let number = |text: &str| Alias::parse(text, &Domains::default()).unwrap().is_number();
        assert!(number("+4930123456") && number("004930123456") && number("+1"));
        assert!(
            !number("1001") && !number("alice") && !number("192.0.2.7") && !number("+") && !number("+49a")
        );
    }
}
