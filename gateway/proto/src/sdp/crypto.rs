//! SDES: keys of SRTP inside the description (RFC 4568), `a=crypto`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use zeroize::Zeroize as _;

use crate::rtp::srtp::{MasterKey, SrtpSuite};

/// Octets of an AES-128 master key and its 112-bit salt, as `inline:` carries them.
pub const SRTP_KEY_LENGTH: usize = 30;

/// A master key and salt, not yet bound to a suite: all suites that we offer take the same
/// lengths. Nothing but [`SrtpKey::as_bytes`] and the description on the wire shows it;
/// overwritten when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SrtpKey([u8; SRTP_KEY_LENGTH]);

impl SrtpKey {
    /// From 16 octets of key followed by 14 of salt; fresh random ones for each stream and each
    /// direction.
    pub const fn new(key_and_salt: [u8; SRTP_KEY_LENGTH]) -> Self {
        Self(key_and_salt)
    }

    /// 16 octets of key followed by 14 of salt.
    pub const fn as_bytes(&self) -> &[u8; SRTP_KEY_LENGTH] {
        &self.0
    }

    /// The key as SRTP of `suite` takes it.
    pub(super) fn bound_to(&self, suite: SrtpSuite) -> Option<MasterKey> {
        MasterKey::new(suite, &self.0)
    }

    fn from_base64(text: &str) -> Option<Self> {
        // Forty characters carry thirty octets exactly; some senders pad all the same.
        let text = text.trim_end_matches('=');
        let mut key = [0; SRTP_KEY_LENGTH];
        let written = STANDARD_NO_PAD.decode_slice(text, &mut key).ok()?;
        (written == SRTP_KEY_LENGTH).then_some(Self(key))
    }
}

impl Drop for SrtpKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SrtpKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SrtpKey(redacted)")
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
    /// The suite.
    pub suite: SrtpSuite,
    /// Key and salt of what the sender of this description sends.
    pub key: SrtpKey,
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
    pub const fn new(tag: u32, suite: SrtpSuite, key: SrtpKey) -> Self {
        Self { tag, suite, key, lifetime: None, mki: None, parameters: Vec::new() }
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
        let key = SrtpKey::from_base64(fields.next()?)?;
        let (mut lifetime, mut mki) = (None, None);
        for (position, field) in fields.enumerate() {
            match field.split_once(':') {
                Some(identifier) if mki.is_none() => mki = Some(parse_mki(identifier)?),
                None if position == 0 => lifetime = Some(parse_lifetime(field)?),
                _ => return None,
            }
        }
        let parameters = words.map(str::to_owned).collect();
        Some(Self { tag, suite, key, lifetime, mki, parameters })
    }

    /// The value of `a=crypto`. It shows the key: for the wire only.
    pub(super) fn value(&self) -> String {
        let mut text = format!("{} {} inline:{}", self.tag, self.suite.name(), STANDARD.encode(self.key.0));
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
        assert_eq!((line.tag, line.suite), (1, SrtpSuite::Aes128CmSha1_80));
        assert_eq!(line.lifetime, Some(1 << 20));
        assert_eq!(line.mki, Some(Mki { value: 1, length: 4 }));
        assert_eq!(line.parameters, ["FEC_ORDER=FEC_SRTP"]);
        assert_eq!(&line.key.as_bytes()[..7], b"YS___se");
        assert!(!line.is_supported());

        let short = Crypto::parse(
            "2 AES_CM_128_HMAC_SHA1_32 inline:NzB4d1BINUAvLEw6UzF3WSJ+PSdFcGdUJShpX1Zj|2^20 WSH=64",
        )
        .unwrap();
        assert_eq!(short.suite, SrtpSuite::Aes128CmSha1_32);
        assert!(short.is_supported());
        assert_eq!(short, Crypto::parse(&short.value()).unwrap());
    }

    #[test]
    fn what_is_not_understood_counts_as_not_offered() {
        for value in [
            String::new(),
            "1".into(),
            format!("1 F8_128_HMAC_SHA1_80 inline:{KEY}"),
            format!("1 AEAD_AES_256_GCM inline:{KEY}"),
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
