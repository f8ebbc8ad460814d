//! SRTP (RFC 3711, AES-GCM by RFC 7714): the names of its suites and the keys that signalling carries, and (feature
//! `srtp`) the transform itself.
//!
//! The types here need no cryptography, so that SDP can be read and fuzzed without linking C.

use std::fmt;

use zeroize::Zeroize;

#[cfg(any(feature = "srtp", fuzzing))]
mod context;
#[cfg(feature = "srtp")]
mod keys;
#[cfg(all(fuzzing, not(feature = "srtp")))]
#[path = "weak.rs"]
mod keys;
#[cfg(any(feature = "srtp", fuzzing))]
mod replay;

#[cfg(any(feature = "srtp", fuzzing))]
pub use context::{MAX_SOURCES, SrtpContext};

/// Most bytes that protection adds to a packet: the tag of AES-GCM, and for RTCP the word with the
/// index. The caller's buffer must have that much room behind the packet.
pub const MAX_OVERHEAD: usize = 16 + 4;

/// A crypto suite of SDP security descriptions (RFC 4568 section 6.2, RFC 7714 section 14.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SrtpSuite {
    /// AES-GCM with a key of 128 bits and a tag of 128.
    Aes128Gcm,
    /// AES-GCM with a key of 256 bits and a tag of 128.
    Aes256Gcm,
    /// AES-CM 128 with a tag of 80 bits.
    Aes128CmSha1_80,
    /// AES-CM 128 with a tag of 32 bits for RTP; that of RTCP has 80 (RFC 4568 section 6.2.2).
    Aes128CmSha1_32,
}

impl SrtpSuite {
    /// The suites that we have, the one that we prefer first: AES-GCM costs a quarter of AES-CM with
    /// its HMAC, and a key of 128 bits less than one of 256.
    pub const ALL: [Self; 4] =
        [Self::Aes128Gcm, Self::Aes256Gcm, Self::Aes128CmSha1_80, Self::Aes128CmSha1_32];

    /// Its name in `a=crypto`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "AEAD_AES_128_GCM",
            Self::Aes256Gcm => "AEAD_AES_256_GCM",
            Self::Aes128CmSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Self::Aes128CmSha1_32 => "AES_CM_128_HMAC_SHA1_32",
        }
    }

    /// The suite of that name, in any case: names are literals of the grammar (RFC 4568 section 9.1).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.name().eq_ignore_ascii_case(name))
    }

    /// Bytes of the master key.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::Aes128CmSha1_80 | Self::Aes128CmSha1_32 => 16,
            Self::Aes256Gcm => 32,
        }
    }

    /// Bytes of the master salt.
    pub const fn salt_len(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm => 12,
            Self::Aes128CmSha1_80 | Self::Aes128CmSha1_32 => 14,
        }
    }

    /// Bytes of the authentication tag of RTP packets.
    pub const fn rtp_tag_len(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm => 16,
            Self::Aes128CmSha1_80 => 10,
            Self::Aes128CmSha1_32 => 4,
        }
    }

    /// Bytes of the authentication tag of RTCP packets.
    pub const fn rtcp_tag_len(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm => 16,
            Self::Aes128CmSha1_80 | Self::Aes128CmSha1_32 => 10,
        }
    }
}

impl fmt::Display for SrtpSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Longest master key with its salt, of all suites of RFC 3711, 6188 and 7714.
const MAX_MASTER: usize = 46;

/// A master key with its salt. Overwritten when dropped, never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey {
    suite: SrtpSuite,
    bytes: [u8; MAX_MASTER],
}

impl MasterKey {
    /// The key of `suite` with its salt behind it, as `inline:` carries them (RFC 4568 section 6.1).
    /// `None` when the length is not the suite's.
    pub fn new(suite: SrtpSuite, key_and_salt: &[u8]) -> Option<Self> {
        if key_and_salt.len() != suite.key_len().checked_add(suite.salt_len())? {
            return None;
        }
        let mut bytes = [0; MAX_MASTER];
        bytes.get_mut(..key_and_salt.len())?.copy_from_slice(key_and_salt);
        Some(Self { suite, bytes })
    }

    /// Its suite.
    pub const fn suite(&self) -> SrtpSuite {
        self.suite
    }

    /// Key and salt, for our own `inline:`.
    pub fn key_and_salt(&self) -> &[u8] {
        let end = self.suite.key_len().saturating_add(self.suite.salt_len());
        self.bytes.get(..end).unwrap_or(&[])
    }
}

impl Drop for MasterKey {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({}, redacted)", self.suite)
    }
}

/// Why a packet could not be protected or was refused. Never a reason to end a call: the caller
/// counts it and drops the packet (a forger must not be able to do more).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SrtpError {
    /// Too short, or its header does not hold together.
    #[error("the packet is malformed")]
    Malformed,
    /// The tag is wrong: forged, damaged, or of another key.
    #[error("the packet is not authentic")]
    Authentication,
    /// Seen before.
    #[error("the packet was replayed")]
    Replayed,
    /// Too old to tell whether it was seen before.
    #[error("the packet is older than the replay window")]
    TooOld,
    /// More sources than a context follows.
    #[error("too many sources under one key")]
    TooManySources,
    /// The caller's buffer has no room for the tag.
    #[error("the buffer is too small")]
    Room,
    /// The packet counter has come to its end; the key must not be used any longer.
    #[error("the key is used up")]
    KeyExhausted,
    /// The cryptographic library failed.
    #[error("the cryptographic library failed")]
    Library,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_lengths_are_those_of_rfc_4568_and_rfc_7714() {
        for (suite, length) in SrtpSuite::ALL.into_iter().zip([28, 44, 30, 30]) {
            assert_eq!(SrtpSuite::from_name(suite.name()), Some(suite));
            assert_eq!(suite.key_len() + suite.salt_len(), length);
            assert!(MasterKey::new(suite, &[0; MAX_MASTER][..length]).is_some());
            assert!(MasterKey::new(suite, &[0; MAX_MASTER][..length - 1]).is_none());
        }
        assert_eq!(SrtpSuite::from_name("aes_cm_128_hmac_sha1_80"), Some(SrtpSuite::Aes128CmSha1_80));
        assert_eq!(SrtpSuite::from_name("F8_128_HMAC_SHA1_80"), None);
    }

    #[test]
    fn a_key_is_not_shown() {
        let key = MasterKey::new(SrtpSuite::Aes128CmSha1_80, &[0xab; 30]).unwrap();
        assert_eq!(key.key_and_salt(), [0xab; 30]);
        assert_eq!(format!("{key:?}"), "MasterKey(AES_CM_128_HMAC_SHA1_80, redacted)");
    }
}
