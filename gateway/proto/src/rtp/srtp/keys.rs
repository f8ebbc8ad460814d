//! Session keys from a master key (RFC 3711 section 4.3), and what they do to a packet: AES-CM
//! (section 4.1.1) with its HMAC-SHA1 tag (section 4.2.1), or AES-GCM (RFC 7714).

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::context::{MAX_RTCP_INDEX, RTCP_CLEAR, RTCP_ENCRYPTED, RTCP_INDEX, split_end};
use super::{MasterKey, SrtpError, SrtpSuite};

/// What a derived key is for (section 4.3.2); that of RTCP is three more.
#[derive(Clone, Copy)]
pub(super) enum Label {
    Cipher = 0,
    Authentication = 1,
    Salt = 2,
}

/// Bytes of the salts of AES-CM, and of what the key derivation takes.
const SALT: usize = 14;
/// Bytes of the key of the tag (section 5.2).
const AUTHENTICATION_KEY: usize = 20;
/// Bytes of the salt and of the tag of AES-GCM (RFC 7714 section 12).
const GCM_SALT: usize = 12;
const GCM_TAG: usize = 16;

/// The keys of one direction for RTP or for RTCP.
#[expect(clippy::large_enum_variant, reason = "four of them a stream, and on each packet's way")]
pub(super) enum SessionKeys {
    CounterMode(CounterMode),
    Gcm(Gcm),
}

impl SessionKeys {
    /// Derives the keys for RTP, or for RTCP.
    pub(super) fn derive(master: &MasterKey, rtcp: bool) -> Result<Self, SrtpError> {
        let suite = master.suite();
        let (key, salt) =
            master.key_and_salt().split_at_checked(suite.key_len()).ok_or(SrtpError::Malformed)?;
        // The shorter salt of AES-GCM stands at the front, zeroes behind it (RFC 7714 section 11).
        let mut master_salt = Zeroizing::new([0; SALT]);
        master_salt.get_mut(..salt.len()).ok_or(SrtpError::Malformed)?.copy_from_slice(salt);
        let generator = counter_mode_key(key)?;
        let derive = |label: Label, out: &mut [u8]| {
            let label = (label as u8).wrapping_add(if rtcp { 3 } else { 0 });
            derive_bytes(&generator, &master_salt, label, out)
        };
        let mut cipher = Zeroizing::new([0; 32]);
        let cipher = cipher.get_mut(..suite.key_len()).ok_or(SrtpError::Malformed)?;
        derive(Label::Cipher, cipher)?;
        let mut salt = Zeroizing::new([0; SALT]);
        match suite {
            SrtpSuite::Aes128Gcm | SrtpSuite::Aes256Gcm => {
                let salt = salt.first_chunk_mut::<GCM_SALT>().ok_or(SrtpError::Malformed)?;
                derive(Label::Salt, salt)?;
                Ok(Self::Gcm(Gcm { key: gcm_key(suite, cipher)?, salt: Zeroizing::new(*salt) }))
            }
            SrtpSuite::Aes128CmSha1_80 | SrtpSuite::Aes128CmSha1_32 => {
                let mut authentication = Zeroizing::new([0; AUTHENTICATION_KEY]);
                derive(Label::Authentication, &mut *authentication)?;
                derive(Label::Salt, &mut *salt)?;
                Ok(Self::CounterMode(CounterMode {
                    cipher: counter_mode_key(cipher)?,
                    authentication: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &*authentication),
                    salt,
                    rtp_tag: suite.rtp_tag_len(),
                    rtcp_tag: suite.rtcp_tag_len(),
                }))
            }
        }
    }

    /// Protects packet `index` of `ssrc`, which fills `buffer` but for the tag; its first `clear`
    /// bytes stay readable.
    pub(super) fn seal_rtp(
        &self,
        ssrc: u32,
        index: u64,
        clear: usize,
        buffer: &mut [u8],
    ) -> Result<(), SrtpError> {
        match self {
            Self::CounterMode(keys) => {
                let (packet, tag) = split_end(buffer, keys.rtp_tag)?;
                keys.apply(ssrc, index, packet.get_mut(clear..).ok_or(SrtpError::Malformed)?)?;
                keys.sign(packet, &roll_over(index), tag)
            }
            Self::Gcm(keys) => {
                let (packet, tag) = split_end(buffer, GCM_TAG)?;
                let (header, text) = packet.split_at_mut_checked(clear).ok_or(SrtpError::Malformed)?;
                keys.seal(keys.rtp_nonce(ssrc, index), header, text, tag)
            }
        }
    }

    /// Opens packet `index` of `ssrc`, which with its tag is all of `buffer`.
    pub(super) fn open_rtp(
        &self,
        ssrc: u32,
        index: u64,
        clear: usize,
        buffer: &mut [u8],
    ) -> Result<(), SrtpError> {
        match self {
            Self::CounterMode(keys) => {
                let (packet, tag) = split_end(buffer, keys.rtp_tag)?;
                keys.verify(packet, &roll_over(index), tag)?;
                keys.apply(ssrc, index, packet.get_mut(clear..).ok_or(SrtpError::Malformed)?)
            }
            Self::Gcm(keys) => {
                let (header, text) = buffer.split_at_mut_checked(clear).ok_or(SrtpError::Malformed)?;
                keys.open(keys.rtp_nonce(ssrc, index), header, text)
            }
        }
    }

    /// Protects the RTCP packet that fills `buffer` but for what is added: index word and tag
    /// (RFC 3711 section 3.4), or tag and index word (RFC 7714 section 9.2).
    pub(super) fn seal_rtcp(&self, ssrc: u32, word: u32, buffer: &mut [u8]) -> Result<(), SrtpError> {
        let word_bytes = word.to_be_bytes();
        match self {
            Self::CounterMode(keys) => {
                let (signed, tag) = split_end(buffer, keys.rtcp_tag)?;
                let (packet, place) = split_end(signed, RTCP_INDEX)?;
                place.copy_from_slice(&word_bytes);
                let index = u64::from(word & MAX_RTCP_INDEX);
                keys.apply(ssrc, index, packet.get_mut(RTCP_CLEAR..).ok_or(SrtpError::Malformed)?)?;
                keys.sign(packet, &word_bytes, tag)
            }
            Self::Gcm(keys) => {
                let (sealed, place) = split_end(buffer, RTCP_INDEX)?;
                place.copy_from_slice(&word_bytes);
                let (packet, tag) = split_end(sealed, GCM_TAG)?;
                let (header, text) = packet.split_at_mut_checked(RTCP_CLEAR).ok_or(SrtpError::Malformed)?;
                keys.seal(keys.rtcp_nonce(ssrc, word), &rtcp_header(header, word)?, text, tag)
            }
        }
    }

    /// The index word of an SRTCP packet.
    pub(super) fn rtcp_word(&self, buffer: &[u8]) -> Option<u32> {
        let behind = match self {
            Self::CounterMode(keys) => keys.rtcp_tag,
            Self::Gcm(_) => 0,
        };
        let (packet, _) = buffer.split_at_checked(buffer.len().checked_sub(behind)?)?;
        packet.last_chunk().map(|word| u32::from_be_bytes(*word))
    }

    /// Opens the SRTCP packet that is all of `buffer`.
    pub(super) fn open_rtcp(&self, ssrc: u32, word: u32, buffer: &mut [u8]) -> Result<(), SrtpError> {
        match self {
            Self::CounterMode(keys) => {
                let (signed, tag) = split_end(buffer, keys.rtcp_tag)?;
                let (packet, word_bytes) = split_end(signed, RTCP_INDEX)?;
                keys.verify(packet, word_bytes, tag)?;
                if word & RTCP_ENCRYPTED == 0 {
                    return Ok(());
                }
                let index = u64::from(word & MAX_RTCP_INDEX);
                keys.apply(ssrc, index, packet.get_mut(RTCP_CLEAR..).ok_or(SrtpError::Malformed)?)
            }
            // Clear RTCP would have to be agreed (UNENCRYPTED_SRTCP), which we never do.
            Self::Gcm(_) if word & RTCP_ENCRYPTED == 0 => Err(SrtpError::Authentication),
            Self::Gcm(keys) => {
                let (sealed, _) = split_end(buffer, RTCP_INDEX)?;
                let (header, text) = sealed.split_at_mut_checked(RTCP_CLEAR).ok_or(SrtpError::Malformed)?;
                keys.open(keys.rtcp_nonce(ssrc, word), &rtcp_header(header, word)?, text)
            }
        }
    }
}

/// AES-CM with HMAC-SHA1.
pub(super) struct CounterMode {
    cipher: EncryptingKey,
    authentication: hmac::Key,
    salt: Zeroizing<[u8; SALT]>,
    rtp_tag: usize,
    rtcp_tag: usize,
}

impl CounterMode {
    /// Encrypts or decrypts `bytes` of packet `index` of `ssrc`, in place (section 4.1.1).
    fn apply(&self, ssrc: u32, index: u64, bytes: &mut [u8]) -> Result<(), SrtpError> {
        // IV = (k_s * 2^16) XOR (SSRC * 2^64) XOR (i * 2^16), the index in 48 bits.
        let low = u128::from(ssrc) << 64 ^ u128::from(index & 0xffff_ffff_ffff) << 16;
        let mut iv = low.to_be_bytes();
        iv.iter_mut().zip(self.salt.iter()).for_each(|(byte, salt)| *byte ^= salt);
        run(&self.cipher, iv, bytes)
    }

    fn tag(&self, packet: &[u8], trailer: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.authentication);
        context.update(packet);
        context.update(trailer);
        context.sign()
    }

    /// Writes the tag over `packet` and `trailer` to `out`, cut to its length.
    fn sign(&self, packet: &[u8], trailer: &[u8], out: &mut [u8]) -> Result<(), SrtpError> {
        let tag = self.tag(packet, trailer);
        out.copy_from_slice(tag.as_ref().get(..out.len()).ok_or(SrtpError::Library)?);
        Ok(())
    }

    /// Whether `tag` is that over `packet` and `trailer`, in a time that does not tell where it
    /// differs.
    fn verify(&self, packet: &[u8], trailer: &[u8], tag: &[u8]) -> Result<(), SrtpError> {
        let expected = self.tag(packet, trailer);
        let expected = expected.as_ref().get(..tag.len()).ok_or(SrtpError::Library)?;
        if bool::from(expected.ct_eq(tag)) { Ok(()) } else { Err(SrtpError::Authentication) }
    }
}

/// AES-GCM.
pub(super) struct Gcm {
    key: LessSafeKey,
    salt: Zeroizing<[u8; GCM_SALT]>,
}

impl Gcm {
    /// Two zero octets, SSRC, roll-over counter and sequence number, XOR the salt (RFC 7714 section
    /// 8.1): counter and number are the 48 bits of the index.
    fn rtp_nonce(&self, ssrc: u32, index: u64) -> Nonce {
        self.nonce(u128::from(ssrc) << 48 | u128::from(index & 0xffff_ffff_ffff))
    }

    /// The same with two more zero octets and the 31 bits of the index (RFC 7714 section 9.1).
    fn rtcp_nonce(&self, ssrc: u32, word: u32) -> Nonce {
        self.nonce(u128::from(ssrc) << 48 | u128::from(word & MAX_RTCP_INDEX))
    }

    fn nonce(&self, low: u128) -> Nonce {
        let mut nonce = [0; GCM_SALT];
        let bytes = low.to_be_bytes();
        let places = nonce.iter_mut().zip(bytes.iter().skip(4)).zip(self.salt.iter());
        places.for_each(|((place, byte), salt)| *place = byte ^ salt);
        Nonce::assume_unique_for_key(nonce)
    }

    fn seal(&self, nonce: Nonce, clear: &[u8], text: &mut [u8], tag: &mut [u8]) -> Result<(), SrtpError> {
        let made = self.key.seal_in_place_separate_tag(nonce, Aad::from(clear), text);
        tag.copy_from_slice(made.map_err(|_| SrtpError::Library)?.as_ref());
        Ok(())
    }

    /// `text` ends with its tag.
    fn open(&self, nonce: Nonce, clear: &[u8], text: &mut [u8]) -> Result<(), SrtpError> {
        self.key.open_in_place(nonce, Aad::from(clear), text).map_err(|_| SrtpError::Authentication)?;
        Ok(())
    }
}

/// What AES-GCM authenticates of an RTCP packet beside its ciphertext (RFC 7714 section 9.2).
fn rtcp_header(header: &[u8], word: u32) -> Result<[u8; RTCP_CLEAR + RTCP_INDEX], SrtpError> {
    let mut clear = [0; RTCP_CLEAR + RTCP_INDEX];
    let (front, back) = clear.split_at_mut(RTCP_CLEAR);
    front.copy_from_slice(header.get(..RTCP_CLEAR).ok_or(SrtpError::Malformed)?);
    back.copy_from_slice(&word.to_be_bytes());
    Ok(clear)
}

/// The roll-over counter, as it follows the packet into the tag (section 4.2).
fn roll_over(index: u64) -> [u8; 4] {
    u32::try_from(index >> 16).unwrap_or(u32::MAX).to_be_bytes()
}

fn gcm_key(suite: SrtpSuite, key: &[u8]) -> Result<LessSafeKey, SrtpError> {
    let algorithm = if suite == SrtpSuite::Aes256Gcm { &aead::AES_256_GCM } else { &aead::AES_128_GCM };
    UnboundKey::new(algorithm, key).map(LessSafeKey::new).map_err(|_| SrtpError::Library)
}

/// The derivation with a rate of zero, the only one that SDP sessions use: PRF_n(key, x) is the key
/// stream of AES-CM with x * 2^16 as its IV (sections 4.3.1 and 4.3.3).
pub(super) fn derive_bytes(
    generator: &EncryptingKey,
    master_salt: &[u8; SALT],
    label: u8,
    out: &mut [u8],
) -> Result<(), SrtpError> {
    // x = label * 2^48 XOR salt, so the label meets the seventh byte from the end of the salt.
    let mut iv = (u128::from(label) << 64).to_be_bytes();
    iv.iter_mut().zip(master_salt).for_each(|(byte, salt)| *byte ^= salt);
    out.fill(0);
    run(generator, iv, out)
}

pub(super) fn counter_mode_key(key: &[u8]) -> Result<EncryptingKey, SrtpError> {
    let algorithm = if key.len() == 32 { &AES_256 } else { &AES_128 };
    let unbound = UnboundCipherKey::new(algorithm, key).map_err(|_| SrtpError::Library)?;
    EncryptingKey::ctr(unbound).map_err(|_| SrtpError::Library)
}

fn run(key: &EncryptingKey, iv: [u8; 16], bytes: &mut [u8]) -> Result<(), SrtpError> {
    let context = EncryptionContext::Iv128(FixedLength::from(iv));
    key.less_safe_encrypt(bytes, context).map_err(|_| SrtpError::Library)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// RFC 3711 B.2.
    #[test]
    fn the_key_stream_of_appendix_b_2() {
        let key = counter_mode_key(&hex("2B7E151628AED2A6ABF7158809CF4F3C")).unwrap();
        let salt: [u8; 14] = hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD").try_into().unwrap();
        // The appendix takes SSRC and index as zero, and checks the last blocks before 0xff02.
        let keys = CounterMode {
            cipher: key,
            authentication: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &[]),
            salt: Zeroizing::new(salt),
            rtp_tag: 10,
            rtcp_tag: 10,
        };
        let mut stream = vec![0; 0xff02 * 16];
        keys.apply(0, 0, &mut stream).unwrap();
        assert_eq!(stream[..16], hex("E03EAD0935C95E80E166B16DD92B4EB4"));
        assert_eq!(stream[16..32], hex("D23513162B02D0F72A43A2FE4A5F97AB"));
        assert_eq!(stream[32..48], hex("41E95B3BB0A2E8DD477901E4FCA894C0"));
        assert_eq!(stream[0xfeff * 16..0xff00 * 16], hex("EC8CDF7398607CB0F2D21675EA9EA1E4"));
        assert_eq!(stream[0xff00 * 16..0xff01 * 16], hex("362B7C3C6773516318A077D7FC5073AE"));
        assert_eq!(stream[0xff01 * 16..], hex("6A2CC3787889374FBEB4C81B17BA6C44"));
    }

    /// RFC 3711 B.3.
    #[test]
    fn the_session_keys_of_appendix_b_3() {
        let master = counter_mode_key(&hex("E1F97A0D3E018BE0D64FA32C06DE4139")).unwrap();
        let salt: [u8; 14] = hex("0EC675AD498AFEEBB6960B3AABE6").try_into().unwrap();
        let mut cipher = [0; 16];
        derive_bytes(&master, &salt, Label::Cipher as u8, &mut cipher).unwrap();
        assert_eq!(cipher[..], hex("C61E7A93744F39EE10734AFE3FF7A087"));
        let mut session_salt = [0; 14];
        derive_bytes(&master, &salt, Label::Salt as u8, &mut session_salt).unwrap();
        assert_eq!(session_salt[..], hex("30CBBC08863D8C85D49DB34A9AE1"));
        // The appendix shows 94 bytes of it, for longer tags.
        let mut authentication = [0; 94];
        derive_bytes(&master, &salt, Label::Authentication as u8, &mut authentication).unwrap();
        assert_eq!(
            authentication[..],
            hex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA48F0A0ACF3C34E2359E6CDBCE
                 E049646C43D9327AD175578EF72270986371C10C9A369AC2F94A8C5FBCDDDC25
                 6D6E919A48B610EF17C2041E474035766B68642C59BBFC2F34DB60DBDFB2DC68")[..94]
        );
    }

    fn gcm(key: &str) -> SessionKeys {
        let key = hex(key);
        let suite = if key.len() == 32 { SrtpSuite::Aes256Gcm } else { SrtpSuite::Aes128Gcm };
        let salt = hex("51756964 2070726f 2071756f").try_into().unwrap();
        SessionKeys::Gcm(Gcm { key: gcm_key(suite, &key).unwrap(), salt: Zeroizing::new(salt) })
    }

    const KEY_128: &str = "00010203 04050607 08090a0b 0c0d0e0f";
    const KEY_256: &str = "00010203 04050607 08090a0b 0c0d0e0f 10111213 14151617 18191a1b 1c1d1e1f";

    /// RFC 7714 section 16: the session key is given, the derivation is not.
    #[test]
    fn the_rtp_packets_of_rfc_7714() {
        let plain =
            [&hex("8040f17b 8041f8d3 5501a0b2")[..], b"Gallia est omnis divisa in partes tres"].concat();
        for (key, cipher) in [
            (
                KEY_128,
                "f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a 51c7d19b 36de3adf 8833
                 899d7f27 beb16a91 52cf765e e4390cce",
            ),
            (
                KEY_256,
                "32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3 b50b2a02 76ffae0f 1ba63799 b87b
                 7aa3db36 dfffd6b0 f9bb7878 d7a76c13",
            ),
        ] {
            let keys = gcm(key);
            let mut packet = [&plain[..], &[0; 16]].concat();
            keys.seal_rtp(0x5501_a0b2, 0xf17b, 12, &mut packet).unwrap();
            assert_eq!(packet, [&plain[..12], &hex(cipher)].concat());
            keys.open_rtp(0x5501_a0b2, 0xf17b, 12, &mut packet).unwrap();
            assert_eq!(packet[..plain.len()], plain);
        }
    }

    /// RFC 7714 section 17.
    #[test]
    fn the_rtcp_packets_of_rfc_7714() {
        let plain = hex("81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61
                         deadbeef deadbeef deadbeef deadbeef deadbeef");
        for (key, cipher) in [
            (
                KEY_128,
                "63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1 730d6fda 4ce09b46
                 86303ded 0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade 800005d4",
            ),
            (
                KEY_256,
                "d50ae4d1 f5ce5d30 4ba297e4 7d470c28 2c3ece5d bffe0a50 a2eaa5c1 110555be 8415f658
                 c61de047 6f1b6fad 1d1eb30c 4446839f 57ff6f6c b26ac3be 800005d4",
            ),
        ] {
            let keys = gcm(key);
            let mut packet = [&plain[..], &[0; 20]].concat();
            keys.seal_rtcp(0x4d61_7273, 0x8000_05d4, &mut packet).unwrap();
            assert_eq!(packet, [&plain[..8], &hex(cipher)].concat());
            assert_eq!(keys.rtcp_word(&packet), Some(0x8000_05d4));
            keys.open_rtcp(0x4d61_7273, 0x8000_05d4, &mut packet).unwrap();
            assert_eq!(packet[..plain.len()], plain);
            // Clear RTCP is never agreed.
            assert_eq!(keys.open_rtcp(0x4d61_7273, 0x05d4, &mut packet), Err(SrtpError::Authentication));
        }
    }
}
