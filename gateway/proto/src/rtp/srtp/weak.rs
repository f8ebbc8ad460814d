//! Keys without strength, in place of [`SessionKeys`] of `keys.rs` where fuzz targets are built, which
//! link no C: everything around the cipher is as it is in the product, and what was changed under way
//! is still refused. Built with `--cfg fuzzing` alone.

use super::context::{RTCP_CLEAR, RTCP_ENCRYPTED, RTCP_INDEX, split_end};
use super::{MasterKey, SrtpError, SrtpSuite};

/// The keys of one direction for RTP or for RTCP.
pub(super) struct SessionKeys {
    key: u64,
    rtp_tag: usize,
    rtcp_tag: usize,
    /// AES-GCM has the index word of RTCP behind the tag (RFC 7714 section 9.2).
    word_last: bool,
}

impl SessionKeys {
    pub(super) fn derive(master: &MasterKey, rtcp: bool) -> Result<Self, SrtpError> {
        let suite = master.suite();
        Ok(Self {
            key: mix(u64::from(rtcp), master.key_and_salt()),
            rtp_tag: suite.rtp_tag_len(),
            rtcp_tag: suite.rtcp_tag_len(),
            word_last: matches!(suite, SrtpSuite::Aes128Gcm | SrtpSuite::Aes256Gcm),
        })
    }

    pub(super) fn seal_rtp(
        &self,
        ssrc: u32,
        index: u64,
        clear: usize,
        buffer: &mut [u8],
    ) -> Result<(), SrtpError> {
        let (packet, tag) = split_end(buffer, self.rtp_tag)?;
        self.apply(ssrc, index, packet.get_mut(clear..).ok_or(SrtpError::Malformed)?);
        self.sign(ssrc, index, packet, tag);
        Ok(())
    }

    pub(super) fn open_rtp(
        &self,
        ssrc: u32,
        index: u64,
        clear: usize,
        buffer: &mut [u8],
    ) -> Result<(), SrtpError> {
        let (packet, tag) = split_end(buffer, self.rtp_tag)?;
        self.verify(ssrc, index, packet, tag)?;
        self.apply(ssrc, index, packet.get_mut(clear..).ok_or(SrtpError::Malformed)?);
        Ok(())
    }

    pub(super) fn seal_rtcp(&self, ssrc: u32, word: u32, buffer: &mut [u8]) -> Result<(), SrtpError> {
        let (packet, place, tag) = self.rtcp_parts(buffer)?;
        place.copy_from_slice(&word.to_be_bytes());
        self.apply(ssrc, u64::from(word), packet.get_mut(RTCP_CLEAR..).ok_or(SrtpError::Malformed)?);
        self.sign(ssrc, u64::from(word), packet, tag);
        Ok(())
    }

    pub(super) fn rtcp_word(&self, buffer: &[u8]) -> Option<u32> {
        let behind = if self.word_last { 0 } else { self.rtcp_tag };
        let (packet, _) = buffer.split_at_checked(buffer.len().checked_sub(behind)?)?;
        packet.last_chunk().map(|word| u32::from_be_bytes(*word))
    }

    pub(super) fn open_rtcp(&self, ssrc: u32, word: u32, buffer: &mut [u8]) -> Result<(), SrtpError> {
        let (packet, _, tag) = self.rtcp_parts(buffer)?;
        self.verify(ssrc, u64::from(word), packet, tag)?;
        if word & RTCP_ENCRYPTED != 0 {
            self.apply(ssrc, u64::from(word), packet.get_mut(RTCP_CLEAR..).ok_or(SrtpError::Malformed)?);
        } else if self.word_last {
            return Err(SrtpError::Authentication);
        }
        Ok(())
    }

    /// Packet, index word and tag.
    fn rtcp_parts<'a>(
        &self,
        buffer: &'a mut [u8],
    ) -> Result<(&'a mut [u8], &'a mut [u8], &'a mut [u8]), SrtpError> {
        if self.word_last {
            let (sealed, word) = split_end(buffer, RTCP_INDEX)?;
            let (packet, tag) = split_end(sealed, self.rtcp_tag)?;
            return Ok((packet, word, tag));
        }
        let (signed, tag) = split_end(buffer, self.rtcp_tag)?;
        let (packet, word) = split_end(signed, RTCP_INDEX)?;
        Ok((packet, word, tag))
    }

    fn apply(&self, ssrc: u32, index: u64, bytes: &mut [u8]) {
        let mut state = self.key ^ u64::from(ssrc) << 32 ^ index;
        for byte in bytes {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            *byte ^= state.to_be_bytes()[0];
        }
    }

    fn sign(&self, ssrc: u32, index: u64, packet: &[u8], tag: &mut [u8]) {
        let mut state = mix(self.key ^ u64::from(ssrc) << 32 ^ index, packet);
        for byte in tag {
            state = mix(state, &[]);
            *byte = state.to_be_bytes()[0];
        }
    }

    fn verify(&self, ssrc: u32, index: u64, packet: &[u8], tag: &[u8]) -> Result<(), SrtpError> {
        let mut expected = [0; 16];
        let expected = expected.get_mut(..tag.len()).ok_or(SrtpError::Library)?;
        self.sign(ssrc, index, packet, expected);
        // A fuzzer learns from what is compared: octet by octet it would learn the tag.
        let differ = expected.iter().zip(tag).fold(0, |differ, (one, other)| differ | (one ^ other));
        if differ == 0 { Ok(()) } else { Err(SrtpError::Authentication) }
    }
}

/// A number that every octet has a part in.
fn mix(start: u64, octets: &[u8]) -> u64 {
    let step = |state: u64, octet: u64| {
        let state = (state ^ octet).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        state ^ state >> 29
    };
    octets.iter().fold(step(start, 0x100), |state, octet| step(state, u64::from(*octet)))
}
