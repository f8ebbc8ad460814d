//! `a=fingerprint` (RFC 8122 section 5): the digest of a certificate.

use std::fmt::{self, Write as _};

use sha2::{Digest as _, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq as _;

/// The digest algorithms that count. SHA-1 and MD5 do not: a certificate that has somebody else's
/// digest can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hash {
    /// `sha-256`, what everybody uses.
    Sha256,
    /// `sha-384`.
    Sha384,
    /// `sha-512`.
    Sha512,
}

impl Hash {
    const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }

    fn digest(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha384 => Sha384::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }

    const fn length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// The digest that a certificate must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    hash: Hash,
    digest: Vec<u8>,
}

impl Fingerprint {
    /// That of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Self {
        let hash = Hash::Sha256;
        Self { hash, digest: hash.digest(certificate) }
    }

    /// Reads the value of `a=fingerprint`. `None` for what is malformed or of an algorithm that does
    /// not count: such a line counts as not there.
    pub fn parse(value: &str) -> Option<Self> {
        let (name, text) = value.trim().split_once(' ')?;
        let hash = Hash::ALL.into_iter().find(|hash| hash.name().eq_ignore_ascii_case(name))?;
        let pairs = text.trim().split(':').take(hash.length().saturating_add(1));
        let digits = |pair: &str| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
        let octets = pairs.map(|pair| u8::from_str_radix(pair, 16).ok().filter(|_| digits(pair)));
        let digest = octets.collect::<Option<Vec<u8>>>()?;
        (digest.len() == hash.length()).then_some(Self { hash, digest })
    }

    /// Whether `certificate`, in DER, is the one that was named.
    pub fn matches(&self, certificate: &[u8]) -> bool {
        self.hash.digest(certificate).ct_eq(&self.digest).into()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.hash.name())?;
        let mut separator = ' ';
        for octet in &self.digest {
            f.write_char(separator)?;
            write!(f, "{octet:02X}")?;
            separator = ':';
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_reads_back_and_knows_its_certificate() {
        let own = Fingerprint::of(b"a certificate");
        let text = own.to_string();
        assert!(text.starts_with("sha-256 ") && text.len() == 8 + 32 * 3 - 1, "{text}");
        assert_eq!(Fingerprint::parse(&text), Some(own.clone()));
        assert_eq!(Fingerprint::parse(&text.to_ascii_lowercase().replace("sha", "SHA")), Some(own.clone()));
        assert!(own.matches(b"a certificate") && !own.matches(b"another"));
    }

    #[test]
    fn longer_digests_are_taken_and_sha_1_is_not() {
        for (name, length) in [("sha-384", 48), ("sha-512", 64)] {
            let zeroes = vec!["00"; length].join(":");
            let named = Fingerprint::parse(&format!("{name} {zeroes}")).unwrap();
            assert!(!named.matches(b"a certificate"));
        }
        for value in [
            format!("sha-1 {}", vec!["AB"; 20].join(":")),
            format!("sha-256 {}", vec!["AB"; 31].join(":")),
            format!("sha-256 {}", vec!["AB"; 33].join(":")),
            format!("sha-256 {}", vec!["+B"; 32].join(":")),
            format!("sha-256 {}", vec!["ABC"; 32].join(":")),
            "sha-256".to_owned(),
            String::new(),
        ] {
            assert_eq!(Fingerprint::parse(&value), None, "{value}");
        }
    }
}
