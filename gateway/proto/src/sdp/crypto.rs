//! SDES: keys of SRTP inside the description (RFC 4568), `a=crypto`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use zeroize::{Zeroize as _, Zeroizing};

use crate::rtp::srtp::{MasterKey, SrtpSuite};

/// Secret octets of one stream and direction: key and salt of each suite, one behind the other.
pub const SRTP_SECRET_LENGTH: usize = {
    let [a, b, c, d] = SrtpSuite::ALL;
    octets(a).saturating_add(octets(b)).saturating_add(octets(c)).saturating_add(octets(d))
};

/// Longest key with its salt.
const LONGEST: usize = octets(SrtpSuite::Aes256Gcm);

/// Octets of a suite's key and salt.
const fn octets(suite: SrtpSuite) -> usize {
    suite.key_len().saturating_add(suite.salt_len())
}

/// What the master keys that we offer for one stream are taken from, each suite's its own: a peer
/// learns them all. Nothing shows them but the description on the wire; overwritten when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SrtpSecret([u8; SRTP_SECRET_LENGTH]);

impl SrtpSecret {
    /// Fresh random octets for each stream and each direction.
    pub const fn new(secret: [u8; SRTP_SECRET_LENGTH]) -> Self {
        Self(secret)
    }

    /// Key and salt of `suite`.
    pub(super) fn key(&self, suite: SrtpSuite) -> Option<MasterKey> {
        let before = SrtpSuite::ALL.into_iter().take_while(|other| *other != suite).map(octets);
        let rest = self.0.get(before.sum::<usize>()..)?;
        MasterKey::new(suite, rest.get(..octets(suite))?)
    }
}

impl Drop for SrtpSecret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SrtpSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SrtpSecret(redacted)")
    }
}

/// A master key identifier: its value and its octets in each packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mki {
    /// The value.
    pub value: u64,
    /// Octets in each packet, 1 to 128.
    pub length: u8,
}

/// One `a=crypto` line whose suite we know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crypto {
    /// Names the line; the answer repeats it.
    pub tag: u32,
    /// Suite, key and salt of what the sender of this description sends.
    pub key: MasterKey,
    /// Packets that the key may protect, where said. Read, not enforced: the limit of the suite
    /// (2^48) is out of reach of a call.
    pub lifetime: Option<u64>,
    /// The identifier in each packet, where said.
    pub mki: Option<Mki>,
    /// Session parameters (`UNENCRYPTED_SRTP`, `WSH=64`, ..) as written.
    pub parameters: Vec<String>,
}

impl Crypto {
    /// One key, no options.
    pub const fn new(tag: u32, key: MasterKey) -> Self {
        Self { tag, key, lifetime: None, mki: None, parameters: Vec::new() }
    }

    /// The suite.
    pub const fn suite(&self) -> SrtpSuite {
        self.key.suite()
    }

    /// Reads the value of `a=crypto`. `None` for what is malformed, of an unknown suite, or has
    /// several keys: such a line counts as not offered (RFC 4568 section 6.6.2).
    pub fn parse(value: &str) -> Option<Self> {
        let mut words = value.split_ascii_whitespace();
        let tag = words.next().filter(|tag| tag.len() <= 9)?.parse().ok()?;
        let suite = SrtpSuite::from_name(words.next()?)?;
        let inline = words.next()?;
        let (method, info) = inline.split_once(':')?;
        // A second key would come after a semicolon, which no base64, lifetime or MKI contains.
        if !method.eq_ignore_ascii_case("inline") || info.contains(';') {
            return None;
        }
        let mut fields = info.split('|');
        let key = from_base64(suite, fields.next()?)?;
        let (mut lifetime, mut mki) = (None, None);
        for (position, field) in fields.enumerate() {
            match field.split_once(':') {
                Some(identifier) if mki.is_none() => mki = Some(parse_mki(identifier)?),
                None if position == 0 => lifetime = Some(parse_lifetime(field)?),
                _ => return None,
            }
        }
        let parameters = words.map(str::to_owned).collect();
        Some(Self { tag, key, lifetime, mki, parameters })
    }

    /// The value of `a=crypto`. It shows the key: for the wire only.
    pub(super) fn value(&self) -> String {
        let key = STANDARD.encode(self.key.key_and_salt());
        let mut text = format!("{} {} inline:{key}", self.tag, self.suite().name());
        if let Some(lifetime) = self.lifetime {
            text.push_str(&format!("|{lifetime}"));
        }
        if let Some(mki) = self.mki {
            text.push_str(&format!("|{}:{}", mki.value, mki.length));
        }
        for parameter in &self.parameters {
            text.push(' ');
            text.push_str(parameter);
        }
        text
    }

    /// Whether we can do all that the line asks for: no key identifiers in the packets, and no
    /// session parameter that changes what is protected (RFC 4568 section 6.3). The window size
    /// hint and the default key derivation rate change nothing; `-` marks what may be ignored.
    pub fn is_supported(&self) -> bool {
        let harmless = |parameter: &String| {
            let upper = parameter.to_ascii_uppercase();
            upper.starts_with('-') || upper.starts_with("WSH=") || upper == "KDR=0"
        };
        self.mki.is_none() && self.parameters.iter().all(harmless)
    }
}

/// Key and salt as `inline:` carries them. The padding that AES-GCM needs is often left out, and
/// some write one that AES-CM does not need.
fn from_base64(suite: SrtpSuite, text: &str) -> Option<MasterKey> {
    let mut octets = Zeroizing::new([0; LONGEST]);
    let written = STANDARD_NO_PAD.decode_slice(text.trim_end_matches('='), &mut *octets).ok()?;
    MasterKey::new(suite, octets.get(..written)?)
}

fn parse_lifetime(text: &str) -> Option<u64> {
    match text.strip_prefix("2^") {
        Some(exponent) => 1_u64.checked_shl(exponent.parse().ok()?),
        None => text.parse().ok(),
    }
}

fn parse_mki((value, length): (&str, &str)) -> Option<Mki> {
    let length = length.parse().ok().filter(|length| (1..=128).contains(length))?;
    Some(Mki { value: value.parse().ok()?, length })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";

    #[test]
    fn examples_of_rfc_4568() {
        let line = Crypto::parse(
            "1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20|1:4 FEC_ORDER=FEC_SRTP",
        )
        .unwrap();
        assert_eq!((line.tag, line.suite()), (1, SrtpSuite::Aes128CmSha1_80));
        assert_eq!(line.lifetime, Some(1 << 20));
        assert_eq!(line.mki, Some(Mki { value: 1, length: 4 }));
        assert_eq!(line.parameters, ["FEC_ORDER=FEC_SRTP"]);
        assert_eq!(&line.key.key_and_salt()[..7], b"YS___se");
        assert!(!line.is_supported());

        let short = Crypto::parse(
            "2 AES_CM_128_HMAC_SHA1_32 inline:NzB4d1BINUAvLEw6UzF3WSJ+PSdFcGdUJShpX1Zj|2^20 WSH=64",
        )
        .unwrap();
        assert_eq!(short.suite(), SrtpSuite::Aes128CmSha1_32);
        assert!(short.is_supported());
        assert_eq!(short, Crypto::parse(&short.value()).unwrap());
    }

    /// RFC 7714 section 14.2; lengths of section 12.
    #[test]
    fn keys_of_aes_gcm_are_28_and_44_octets() {
        for (suite, characters) in [(SrtpSuite::Aes128Gcm, 38), (SrtpSuite::Aes256Gcm, 59)] {
            let own = Crypto::new(1, SrtpSecret::new([0xab; SRTP_SECRET_LENGTH]).key(suite).unwrap());
            let text = own.value();
            assert_eq!(Crypto::parse(&text), Some(own.clone()));
            let bare = text.trim_end_matches('=');
            assert_eq!(bare.len(), "1  inline:".len() + suite.name().len() + characters);
            assert_eq!(Crypto::parse(bare), Some(own));
        }
    }

    #[test]
    fn what_is_not_understood_counts_as_not_offered() {
        for value in [
            String::new(),
            "1".into(),
            format!("1 F8_128_HMAC_SHA1_80 inline:{KEY}"),
            format!("1 AEAD_AES_128_GCM inline:{KEY}"),
            format!("1 AEAD_AES_256_GCM inline:{KEY}"),
            format!("1 AES_256_CM_HMAC_SHA1_80 inline:{KEY}"),
            "1 AES_CM_128_HMAC_SHA1_80 inline:".into(),
            "1 AES_CM_128_HMAC_SHA1_80 inline:AAAA".into(),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}AAAA"),
            format!("1 AES_CM_128_HMAC_SHA1_80 uri:{KEY}"),
            format!("x AES_CM_128_HMAC_SHA1_80 inline:{KEY}"),
            format!("9999999999 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^64"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|1:0"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|1:4|2^20"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|1:4;inline:{KEY}|2:4"),
        ] {
            assert_eq!(Crypto::parse(&value), None, "{value}");
        }
    }

    #[test]
    fn padding_and_case_are_tolerated() {
        assert!(Crypto::parse(&format!("1 AES_CM_128_HMAC_SHA1_80 INLINE:{KEY}==")).is_some());
        assert!(Crypto::parse(&format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|1:4")).unwrap().mki.is_some());
    }

    #[test]
    fn session_parameters_that_weaken_the_stream_are_refused() {
        let with = |parameter: &str| {
            Crypto::parse(&format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} {parameter}"))
                .unwrap()
                .is_supported()
        };
        for parameter in ["UNENCRYPTED_SRTP", "UNENCRYPTED_SRTCP", "UNAUTHENTICATED_SRTP", "KDR=4", "FUTURE"]
        {
            assert!(!with(parameter), "{parameter}");
        }
        for parameter in ["", "WSH=128", "KDR=0", "-FUTURE=1"] {
            assert!(with(parameter), "{parameter}");
        }
    }

    #[test]
    fn no_debug_text_shows_a_key() {
        let line = Crypto::parse(&format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}")).unwrap();
        let text = format!("{line:?} {:#?}", line.key);
        assert!(text.contains("redacted") && !text.contains(KEY) && !text.contains("89, 83"));
    }
}
