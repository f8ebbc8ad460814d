//! Session keys from a master key (RFC 3711 section 4.3) and the AES-CM transform (section 4.1.1)
//! with its HMAC-SHA1 tag (section 4.2.1).

use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{MasterKey, SrtpError};

/// What a derived key is for (section 4.3.2); that of RTCP is three more.
#[derive(Clone, Copy)]
pub(super) enum Label {
    Cipher = 0,
    Authentication = 1,
    Salt = 2,
}

/// Bytes of the session salt.
const SALT: usize = 14;
/// Bytes of the key of the tag (section 5.2).
const AUTHENTICATION_KEY: usize = 20;

/// The keys of one direction for RTP or for RTCP. The one place that an AEAD suite (RFC 7714) has to
/// extend: a second variant of what a nonce, a payload and a tag are.
pub(super) struct SessionKeys {
    cipher: EncryptingKey,
    authentication: hmac::Key,
    salt: Zeroizing<[u8; SALT]>,
}

impl SessionKeys {
    /// Derives the keys for RTP, or for RTCP.
    pub(super) fn derive(master: &MasterKey, rtcp: bool) -> Result<Self, SrtpError> {
        let (key, salt) =
            master.key_and_salt().split_at_checked(master.suite().key_len()).ok_or(SrtpError::Malformed)?;
        let master_salt: [u8; SALT] = salt.try_into().map_err(|_| SrtpError::Malformed)?;
        let generator = counter_mode_key(key)?;
        let derive = |label: Label, out: &mut [u8]| {
            let label = (label as u8).wrapping_add(if rtcp { 3 } else { 0 });
            derive_bytes(&generator, &master_salt, label, out)
        };
        let mut cipher = Zeroizing::new([0; 16]);
        derive(Label::Cipher, &mut *cipher)?;
        let mut authentication = Zeroizing::new([0; AUTHENTICATION_KEY]);
        derive(Label::Authentication, &mut *authentication)?;
        let mut salt = Zeroizing::new([0; SALT]);
        derive(Label::Salt, &mut *salt)?;
        Ok(Self {
            cipher: counter_mode_key(&*cipher)?,
            authentication: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &*authentication),
            salt,
        })
    }

    /// Encrypts or decrypts `bytes` of packet `index` of `ssrc`, in place (section 4.1.1).
    pub(super) fn apply(&self, ssrc: u32, index: u64, bytes: &mut [u8]) -> Result<(), SrtpError> {
        // IV = (k_s * 2^16) XOR (SSRC * 2^64) XOR (i * 2^16), the index in 48 bits.
        let low = u128::from(ssrc) << 64 ^ u128::from(index & 0xffff_ffff_ffff) << 16;
        let mut iv = low.to_be_bytes();
        iv.iter_mut().zip(self.salt.iter()).for_each(|(byte, salt)| *byte ^= salt);
        run(&self.cipher, iv, bytes)
    }

    /// The first `N` bytes of the tag over `packet` and `trailer`.
    fn tag(&self, packet: &[u8], trailer: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.authentication);
        context.update(packet);
        context.update(trailer);
        context.sign()
    }

    /// Writes the tag over `packet` and `trailer` to `out`, cut to its length.
    pub(super) fn sign(&self, packet: &[u8], trailer: &[u8], out: &mut [u8]) -> Result<(), SrtpError> {
        let tag = self.tag(packet, trailer);
        out.copy_from_slice(tag.as_ref().get(..out.len()).ok_or(SrtpError::Library)?);
        Ok(())
    }

    /// Whether `tag` is that over `packet` and `trailer`, in a time that does not tell where it
    /// differs.
    pub(super) fn verify(&self, packet: &[u8], trailer: &[u8], tag: &[u8]) -> Result<(), SrtpError> {
        let expected = self.tag(packet, trailer);
        let expected = expected.as_ref().get(..tag.len()).ok_or(SrtpError::Library)?;
        if bool::from(expected.ct_eq(tag)) { Ok(()) } else { Err(SrtpError::Authentication) }
    }
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
    let unbound = UnboundCipherKey::new(&AES_128, key).map_err(|_| SrtpError::Library)?;
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
        let keys = SessionKeys {
            cipher: key,
            authentication: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &[]),
            salt: Zeroizing::new(salt),
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
}
