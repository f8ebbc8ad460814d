//! Digest authentication (RFC 7616, RFC 8760, RFC 2617), both sides.
//!
//! Here are the words on the wire and the arithmetic. [`Verifier`] is the server's side: it signs
//! nonces instead of storing them, and remembers only those that somebody used with the right
//! password. [`Client`] is ours towards a proxy or registrar.
//!
//! The algorithms are SHA-512-256, SHA-256 and MD5 with `qop=auth`. Session variants (`-sess`), `auth-int`
//! and unknown algorithms count as if the challenge or the credentials were not there.

mod client;
mod verifier;

use std::borrow::Cow;
use std::fmt;

use md5::Md5;
use sha2::{Digest, Sha256, Sha512_256};
use subtle::ConstantTimeEq;

pub use client::{Account, Client, ClientRefusal};
pub use verifier::{NONCE_LIFETIME, Verdict, Verifier};

use super::hex::hex;
use super::limits;
use super::message::Method;
use super::params::{LWS, is_token, meaning, quote, split_outside};

/// How a digest is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// RFC 2617 section 3.2.1; old devices know nothing else.
    Md5,
    /// RFC 8760 section 2.1.
    Sha256,
    /// RFC 8760 section 2.1.
    Sha512_256,
}

impl Algorithm {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
            Self::Sha512_256 => "SHA-512-256",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Sha512_256, Self::Sha256, Self::Md5]
            .into_iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(text))
    }

    /// The hexadecimal hash of the parts with colons between them.
    fn hash(self, parts: &[&str]) -> String {
        #[cfg(test)]
        HASHES.with(|hashes| hashes.set(hashes.get() + 1));
        match self {
            Self::Md5 => hex(&hash::<Md5>(parts)),
            Self::Sha256 => hex(&hash::<Sha256>(parts)),
            Self::Sha512_256 => hex(&hash::<Sha512_256>(parts)),
        }
    }
}

/// What proves a user: his password, or what may be stored in its place.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The password itself.
    Password(String),
    /// Its hashes.
    Ha1(Ha1),
}

impl Secret {
    /// Nothing when it has no hash of that kind.
    fn ha1(&self, algorithm: Algorithm, username: &str, realm: &str) -> Option<String> {
        match (self, algorithm) {
            (Self::Password(password), _) => Some(algorithm.hash(&[username, realm, password])),
            (Self::Ha1(ha1), Algorithm::Md5) => Some(hex(&ha1.md5)),
            (Self::Ha1(ha1), Algorithm::Sha256) => Some(hex(&ha1.sha256)),
            (Self::Ha1(ha1), Algorithm::Sha512_256) => ha1.sha512_256.as_ref().map(|it| hex(it)),
        }
    }

    const fn has(&self, algorithm: Algorithm) -> bool {
        match (self, algorithm) {
            (Self::Ha1(ha1), Algorithm::Sha512_256) => ha1.sha512_256.is_some(),
            _ => true,
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// `H(username:realm:password)` for each algorithm (A1 of RFC 7616 section 3.4.2). It is as good as the
/// password for this realm, and useless for others (section 5.2).
#[derive(Clone, PartialEq, Eq)]
pub struct Ha1 {
    /// By MD5.
    pub md5: [u8; 16],
    /// By SHA-256.
    pub sha256: [u8; 32],
    /// By SHA-512-256, where the password was stored since that is kept.
    pub sha512_256: Option<[u8; 32]>,
}

impl Ha1 {
    /// What to store for a user.
    pub fn new(username: &str, realm: &str, password: &str) -> Self {
        let parts = [username, realm, password];
        Self {
            md5: hash::<Md5>(&parts).into(),
            sha256: hash::<Sha256>(&parts).into(),
            sha512_256: Some(hash::<Sha512_256>(&parts).into()),
        }
    }
}

impl fmt::Debug for Ha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ha1(..)")
    }
}

/// A WWW-Authenticate or Proxy-Authenticate value that we can answer (RFC 7616 section 3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Whose passwords are meant.
    pub realm: String,
    /// To be given back.
    pub nonce: String,
    /// To be given back, when there is one.
    pub opaque: Option<String>,
    /// How.
    pub algorithm: Algorithm,
    /// Whether `qop` offers `auth`. Without any `qop` the digest is that of RFC 2069
    /// (RFC 2617 section 3.2.2.1).
    pub qop_auth: bool,
    /// The digest was right, its nonce too old (RFC 7616 section 3.3).
    pub stale: bool,
}

impl Challenge {
    /// Nothing when it is not Digest, or asks for what we do not have.
    pub fn parse(value: &str) -> Option<Self> {
        let params = DigestParams::parse(value)?;
        let qop = params.get("qop");
        let qop_auth =
            qop.is_some_and(|list| list.split(',').any(|q| q.trim_matches(LWS).eq_ignore_ascii_case("auth")));
        if qop.is_some() && !qop_auth {
            return None;
        }
        Some(Self {
            realm: params.get("realm")?.to_owned(),
            nonce: params.get("nonce")?.to_owned(),
            opaque: params.get("opaque").map(str::to_owned),
            algorithm: params.algorithm()?,
            qop_auth,
            stale: params.get("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
        })
    }
}

impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest realm={}, nonce={}", quote(&self.realm), quote(&self.nonce))?;
        if let Some(opaque) = &self.opaque {
            write!(f, ", opaque={}", quote(opaque))?;
        }
        if self.stale {
            f.write_str(", stale=true")?;
        }
        write!(f, ", algorithm={}", self.algorithm.as_str())?;
        if self.qop_auth { f.write_str(", qop=\"auth\"") } else { Ok(()) }
    }
}

/// An Authorization or Proxy-Authorization value (RFC 7616 section 3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Who.
    pub username: String,
    /// The challenge's.
    pub realm: String,
    /// The challenge's.
    pub nonce: String,
    /// The Request-URI as the client wrote it.
    pub uri: String,
    /// The digest, hexadecimal.
    pub response: String,
    /// How it was made.
    pub algorithm: Algorithm,
    /// The challenge's.
    pub opaque: Option<String>,
    /// With `qop=auth`: how often this nonce was used, and the client's own nonce.
    pub qop: Option<Qop>,
}

/// What `qop=auth` adds to credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qop {
    /// The nonce count, from 1.
    pub nc: u32,
    /// The client's nonce.
    pub cnonce: String,
}

impl Credentials {
    /// Nothing when it is not Digest, is malformed, or uses what we do not offer.
    pub fn parse(value: &str) -> Option<Self> {
        let params = DigestParams::parse(value)?;
        let qop = match params.get("qop") {
            None => None,
            Some(qop) if qop.eq_ignore_ascii_case("auth") => {
                let nc = params
                    .get("nc")
                    .filter(|nc| nc.len() == 8 && nc.bytes().all(|b| b.is_ascii_hexdigit()))?;
                let nc = u32::from_str_radix(nc, 16).ok().filter(|nc| *nc > 0)?;
                Some(Qop { nc, cnonce: params.get("cnonce")?.to_owned() })
            }
            Some(_) => return None,
        };
        Some(Self {
            username: params.get("username").filter(|name| !name.is_empty())?.to_owned(),
            realm: params.get("realm")?.to_owned(),
            nonce: params.get("nonce")?.to_owned(),
            uri: params.get("uri")?.to_owned(),
            response: params.get("response")?.to_owned(),
            algorithm: params.algorithm()?,
            opaque: params.get("opaque").map(str::to_owned),
            qop,
        })
    }

    /// Whether the digest is that of this secret, in a time that depends on lengths only.
    pub fn prove(&self, method: &Method, secret: &Secret) -> bool {
        let Some(ha1) = secret.ha1(self.algorithm, &self.username, &self.realm) else { return false };
        let right = self.digest(method, &ha1);
        right.as_bytes().ct_eq(self.response.to_ascii_lowercase().as_bytes()).into()
    }

    fn digest(&self, method: &Method, ha1: &str) -> String {
        let ha2 = self.algorithm.hash(&[method.as_str(), &self.uri]);
        match &self.qop {
            Some(Qop { nc, cnonce }) => {
                self.algorithm.hash(&[ha1, &self.nonce, &format!("{nc:08x}"), cnonce, "auth", &ha2])
            }
            None => self.algorithm.hash(&[ha1, &self.nonce, &ha2]),
        }
    }
}

impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest username={}, realm={}", quote(&self.username), quote(&self.realm))?;
        write!(f, ", nonce={}, uri={}", quote(&self.nonce), quote(&self.uri))?;
        write!(f, ", response={}, algorithm={}", quote(&self.response), self.algorithm.as_str())?;
        if let Some(opaque) = &self.opaque {
            write!(f, ", opaque={}", quote(opaque))?;
        }
        match &self.qop {
            Some(Qop { nc, cnonce }) => write!(f, ", qop=auth, nc={nc:08x}, cnonce={}", quote(cnonce)),
            None => Ok(()),
        }
    }
}

/// `Digest name=value, name="value"`: any order, unknown names welcome, none twice.
struct DigestParams<'a>(Vec<(&'a str, Cow<'a, str>)>);

impl<'a> DigestParams<'a> {
    fn parse(value: &'a str) -> Option<Self> {
        let (scheme, rest) = value.trim_matches(LWS).split_once(LWS)?;
        if !scheme.eq_ignore_ascii_case("Digest") {
            return None;
        }
        let mut params = Self(Vec::new());
        for piece in split_outside(rest, b',').ok()? {
            let (name, value) = piece.split_once('=')?;
            let (name, value) = (name.trim_matches(LWS), value.trim_matches(LWS));
            let sound = !name.is_empty() && is_token(name);
            // Two of a name: whoever checks one and uses the other is fooled.
            if !sound || params.get(name).is_some() || params.0.len() >= limits::PARAMS {
                return None;
            }
            params.0.push((name, meaning(value)?));
        }
        Some(params)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    fn algorithm(&self) -> Option<Algorithm> {
        match self.get("algorithm") {
            None => Some(Algorithm::Md5),
            Some(text) => Algorithm::parse(text),
        }
    }
}

fn hash<D: Digest>(parts: &[&str]) -> sha2::digest::Output<D> {
    let mut hash = D::new();
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            hash.update(b":");
        }
        hash.update(part.as_bytes());
    }
    hash.finalize()
}

// What a check costs, for the test that unknown users cost the same.
#[cfg(test)]
thread_local!(static HASHES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });

#[cfg(test)]
mod tests {
    use super::*;

    const RFC_7616: &str = "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", uri=\"/dir/index.html\", \
        nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001, \
        cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth, \
        opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"";

    fn get() -> Method {
        Method::parse("GET").unwrap()
    }

    fn proves(credentials: &str, password: &str) -> bool {
        let credentials = Credentials::parse(credentials).unwrap();
        let secret = Secret::Password(password.to_owned());
        let ha1 = Secret::Ha1(Ha1::new(&credentials.username, &credentials.realm, password));
        let proved = credentials.prove(&get(), &secret);
        assert_eq!(proved, credentials.prove(&get(), &ha1));
        proved
    }

    #[test]
    fn rfc_7616_section_3_9_1() {
        for (algorithm, response) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
            // Not in the RFC, whose own example of it is in error; this is OpenSSL's SHA-512/256.
            ("SHA-512-256", "430d05014cecc49cab6fbe03176d41a1da86cbfe24a16580e22aaad928d960d0"),
        ] {
            let value = format!("{RFC_7616}, algorithm={algorithm}, response=\"{response}\"");
            assert!(proves(&value, "Circle of Life"), "{algorithm}");
            assert!(proves(&value.replace(response, &response.to_uppercase()), "Circle of Life"));
            assert!(!proves(&value, "circle of life"));
            assert!(!proves(&value.replace("nc=00000001", "nc=00000002"), "Circle of Life"));
            assert!(!proves(&value.replace(response, ""), "Circle of Life"));
        }
    }

    #[test]
    fn rfc_2617_section_3_5() {
        let value = "Digest username=\"Mufasa\",\r\n realm=\"testrealm@host.com\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", \
            uri=\"/dir/index.html\", qop=auth, nc=00000001, cnonce=\"0a4f113b\", \
            response=\"6629fae49393a05397450978507c4ef1\", opaque=\"5ccc069c403ebaf9f0171e9517f40e41\""
            .replace("\r\n", "");
        assert!(proves(&value, "Circle Of Life"));
    }

    #[test]
    fn rfc_8760_section_2_4_offers_are_read() {
        let of = |algorithm: &str| {
            Challenge::parse(&format!(
                "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm={algorithm}, \
                 nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", opaque=\"FQhe\""
            ))
        };
        assert_eq!(of("SHA-256").unwrap().algorithm, Algorithm::Sha256);
        assert_eq!(of("SHA-512-256").unwrap().algorithm, Algorithm::Sha512_256);
        assert_eq!(of("md5").unwrap().algorithm, Algorithm::Md5);
        assert!(of("MD5").unwrap().qop_auth);
        for unknown in ["SHA-512-256-sess", "SHA-512", "SHA-256-sess", "MD5-sess", "SHA256", ""] {
            assert_eq!(of(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn values_print_and_parse_back() {
        let challenge = Challenge {
            realm: "a \"realm\" \\ x".into(),
            nonce: "n,o=n".into(),
            opaque: Some(String::new()),
            algorithm: Algorithm::Sha256,
            qop_auth: true,
            stale: true,
        };
        assert_eq!(Challenge::parse(&challenge.to_string()), Some(challenge));
        let credentials =
            Credentials::parse(&format!("{RFC_7616}, response=abc, x-unknown=\"1, 2\", userhash=false"))
                .unwrap();
        assert_eq!(Credentials::parse(&credentials.to_string()), Some(credentials));
    }

    #[test]
    fn what_is_malformed_or_unknown_is_no_credentials() {
        let good = format!("{RFC_7616}, response=\"abc\"");
        assert!(Credentials::parse(&good).is_some());
        for bad in [
            // RFC 4475 section 3.3.7.
            "NoOneKnowsThisScheme opaque-data=here".to_owned(),
            String::new(),
            "Digest".to_owned(),
            "Digest ".to_owned(),
            good.replace("Digest", "Basic"),
            good.replace("nc=00000001", "nc=00000000"),
            good.replace("nc=00000001", "nc=1"),
            good.replace("nc=00000001", "nc=+0000001"),
            good.replace("qop=auth", "qop=auth-int"),
            good.replace("username=\"Mufasa\"", "username=\"\""),
            good.replace("username=\"Mufasa\"", "username=\"Mufasa"),
            good.replace("opaque=", "username="),
            format!("{good}, algorithm=MD5-sess"),
            format!("{good},"),
            format!("{good}{}", (0..limits::PARAMS).map(|n| format!(", p{n}=1")).collect::<String>()),
        ] {
            assert_eq!(Credentials::parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let secret = Secret::Password("hunter2".into());
        assert!(!format!("{secret:?} {:?}", Ha1::new("a", "b", "c")).contains("hunter2"));
        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }
}
