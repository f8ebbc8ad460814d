//! The cryptographic context of one direction: packets in place, without allocating.

use std::fmt;

use super::keys::SessionKeys;
use super::replay::ReplayWindow;
use super::{MasterKey, SrtpError, SrtpSuite};
use crate::rtp::packet::{FIXED_HEADER, RtpHeader, RtpPacket};

/// Sources that one context follows, each way of packet: a peer that changes its SSRC at each hold
/// can do so that often under one key. Overflow: [`SrtpError::TooManySources`]; forgetting one
/// instead would open it to replay. Only authentic packets take a place.
pub const MAX_SOURCES: usize = 32;

/// Highest SRTP index: 32 bits of roll-over counter, 16 of sequence number.
const MAX_INDEX: u64 = (1 << 48) - 1;
/// Highest SRTCP index (31 bits); the bit above it says that the packet is encrypted.
pub(super) const MAX_RTCP_INDEX: u32 = 0x7fff_ffff;
pub(super) const RTCP_ENCRYPTED: u32 = 0x8000_0000;
/// Bytes of an RTCP packet that stay clear: header and the sender's SSRC (section 3.4).
pub(super) const RTCP_CLEAR: usize = 8;
pub(super) const RTCP_INDEX: usize = 4;

/// Protects what we send, or opens what a peer sends: one context for each direction and key.
///
/// A sender must begin with a sequence number below 2^15: when the first packets are lost and the
/// number wraps meanwhile, the receiver has no way to learn of it (section 3.3.1).
pub struct SrtpContext {
    suite: SrtpSuite,
    rtp: SessionKeys,
    rtcp: SessionKeys,
    rtp_sources: Sources,
    rtcp_sources: Sources,
}

impl SrtpContext {
    /// Derives the session keys.
    pub fn new(master: &MasterKey) -> Result<Self, SrtpError> {
        Ok(Self {
            suite: master.suite(),
            rtp: SessionKeys::derive(master, false)?,
            rtcp: SessionKeys::derive(master, true)?,
            rtp_sources: Sources::default(),
            rtcp_sources: Sources::default(),
        })
    }

    /// Its suite.
    pub const fn suite(&self) -> SrtpSuite {
        self.suite
    }

    /// Protects the RTP packet in the first `len` bytes of `buffer`, which needs
    /// [`super::MAX_OVERHEAD`] bytes of room behind it; returns its new length. The same packet may
    /// be protected again, to retransmit it, as long as its bytes are the same.
    pub fn protect_rtp(&mut self, buffer: &mut [u8], len: usize) -> Result<usize, SrtpError> {
        let end = len.saturating_add(self.suite.rtp_tag_len());
        let buffer = buffer.get_mut(..end).ok_or(SrtpError::Room)?;
        let (header, clear) = read_header(buffer.get(..len).ok_or(SrtpError::Room)?)?;
        let index = match self.rtp_sources.find(header.ssrc) {
            Some(window) => nearest_index(window.highest(), header.sequence),
            None => u64::from(header.sequence),
        };
        if index > MAX_INDEX {
            return Err(SrtpError::KeyExhausted);
        }
        self.rtp_sources.accept(header.ssrc, index)?;
        self.rtp.seal_rtp(header.ssrc, index, clear, buffer)?;
        Ok(end)
    }

    /// Opens the SRTP packet that is all of `packet`; returns the length of the RTP packet that now
    /// stands at its front. On an error nothing is changed in the context; of a forged packet under
    /// AES-GCM only the header is left.
    pub fn unprotect_rtp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let len = packet.len().checked_sub(self.suite.rtp_tag_len()).ok_or(SrtpError::Malformed)?;
        let (header, clear) = read_header(packet.get(..len).ok_or(SrtpError::Malformed)?)?;
        let index = match self.rtp_sources.find(header.ssrc) {
            Some(window) => {
                let index = nearest_index(window.highest(), header.sequence);
                window.check(index)?;
                index
            }
            None => u64::from(header.sequence),
        };
        if index > MAX_INDEX {
            return Err(SrtpError::KeyExhausted);
        }
        self.rtp.open_rtp(header.ssrc, index, clear, packet)?;
        self.rtp_sources.accept(header.ssrc, index)?;
        Ok(len)
    }

    /// Protects the compound RTCP packet in the first `len` bytes of `buffer`, which needs
    /// [`super::MAX_OVERHEAD`] bytes of room behind it; returns its new length.
    pub fn protect_rtcp(&mut self, buffer: &mut [u8], len: usize) -> Result<usize, SrtpError> {
        let end = len.saturating_add(RTCP_INDEX).saturating_add(self.suite.rtcp_tag_len());
        let buffer = buffer.get_mut(..end).ok_or(SrtpError::Room)?;
        let ssrc = rtcp_ssrc(buffer.get(..len).ok_or(SrtpError::Room)?)?;
        let index = match self.rtcp_sources.find(ssrc) {
            Some(window) => window.highest().saturating_add(1),
            None => 0,
        };
        let word = u32::try_from(index).ok().filter(|index| *index <= MAX_RTCP_INDEX);
        let word = word.ok_or(SrtpError::KeyExhausted)?;
        self.rtcp_sources.accept(ssrc, index)?;
        self.rtcp.seal_rtcp(ssrc, word | RTCP_ENCRYPTED, buffer)?;
        Ok(end)
    }

    /// Opens the SRTCP packet that is all of `packet`; returns the length of the RTCP packet that now
    /// stands at its front. On an error as [`Self::unprotect_rtp`].
    pub fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let overhead = RTCP_INDEX.saturating_add(self.suite.rtcp_tag_len());
        let len = packet.len().checked_sub(overhead).ok_or(SrtpError::Malformed)?;
        let word = self.rtcp.rtcp_word(packet).ok_or(SrtpError::Malformed)?;
        let ssrc = rtcp_ssrc(packet.get(..len).ok_or(SrtpError::Malformed)?)?;
        let index = u64::from(word & MAX_RTCP_INDEX);
        if let Some(window) = self.rtcp_sources.find(ssrc) {
            window.check(index)?;
        }
        self.rtcp.open_rtcp(ssrc, word, packet)?;
        self.rtcp_sources.accept(ssrc, index)?;
        Ok(len)
    }
}

impl fmt::Debug for SrtpContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SrtpContext({}, redacted)", self.suite)
    }
}

/// The last `len` bytes, and those before.
pub(super) fn split_end(buffer: &mut [u8], len: usize) -> Result<(&mut [u8], &mut [u8]), SrtpError> {
    let at = buffer.len().checked_sub(len).ok_or(SrtpError::Malformed)?;
    buffer.split_at_mut_checked(at).ok_or(SrtpError::Malformed)
}

/// SSRC, sequence number, and where the encrypted part begins. Padding is encrypted, so this cannot
/// judge it and must not: the packet's last byte is not yet what it will be.
fn read_header(packet: &[u8]) -> Result<(RtpHeader, usize), SrtpError> {
    let mut header = [0; FIXED_HEADER];
    header.copy_from_slice(packet.get(..FIXED_HEADER).ok_or(SrtpError::Malformed)?);
    let [first, ..] = header;
    let sources = usize::from(first & 0x0f).saturating_mul(4);
    let mut clear = FIXED_HEADER.saturating_add(sources);
    if first & 0x10 != 0 {
        let length =
            packet.get(clear.saturating_add(2)..clear.saturating_add(4)).ok_or(SrtpError::Malformed)?;
        let words = u16::from_be_bytes(length.try_into().map_err(|_| SrtpError::Malformed)?);
        clear = clear.saturating_add(4).saturating_add(usize::from(words).saturating_mul(4));
    }
    if first >> 6 != 2 || clear > packet.len() {
        return Err(SrtpError::Malformed);
    }
    // Only the fixed header, as a packet of its own.
    if let Some(first) = header.first_mut() {
        *first = 0x80;
    }
    let view = RtpPacket::parse(&header).map_err(|_| SrtpError::Malformed)?;
    Ok((view.header, clear))
}

fn rtcp_ssrc(packet: &[u8]) -> Result<u32, SrtpError> {
    let bytes = packet.get(4..RTCP_CLEAR).ok_or(SrtpError::Malformed)?;
    Ok(u32::from_be_bytes(bytes.try_into().map_err(|_| SrtpError::Malformed)?))
}

/// The index with this sequence number that is nearest to the highest so far (section 3.3.1).
fn nearest_index(highest: u64, sequence: u16) -> u64 {
    let candidate = highest & !0xffff | u64::from(sequence);
    let ahead = candidate.saturating_sub(highest);
    let behind = highest.saturating_sub(candidate);
    if behind > 0x8000 {
        candidate.saturating_add(0x1_0000)
    } else if ahead > 0x8000 {
        // Before the first roll-over there is no other cycle: section 3.3.1 guesses the same one.
        candidate.checked_sub(0x1_0000).unwrap_or(candidate)
    } else {
        candidate
    }
}

/// The sources of a context and what was seen of each.
struct Sources {
    /// A source keeps its place for the life of the context.
    places: [Option<(u32, ReplayWindow)>; MAX_SOURCES],
}

impl Default for Sources {
    fn default() -> Self {
        Self { places: [const { None }; MAX_SOURCES] }
    }
}

impl Sources {
    fn find(&self, ssrc: u32) -> Option<&ReplayWindow> {
        // Places are taken in order, so the first empty one ends the search.
        self.places
            .iter()
            .map_while(Option::as_ref)
            .find(|(known, _)| *known == ssrc)
            .map(|(_, window)| window)
    }

    fn accept(&mut self, ssrc: u32, index: u64) -> Result<(), SrtpError> {
        for place in &mut self.places {
            match place {
                Some((known, window)) if *known == ssrc => {
                    window.accept(index);
                    return Ok(());
                }
                Some(_) => {}
                None => {
                    *place = Some((ssrc, ReplayWindow::starting_with(index)));
                    return Ok(());
                }
            }
        }
        Err(SrtpError::TooManySources)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::MAX_OVERHEAD;
    use super::*;

    const SUITE: SrtpSuite = SrtpSuite::Aes128CmSha1_80;

    /// The master key of RFC 3711 B.3, which the published vectors of libsrtp use too.
    const MASTER: [u8; 30] = [
        0xe1, 0xf9, 0x7a, 0x0d, 0x3e, 0x01, 0x8b, 0xe0, 0xd6, 0x4f, 0xa3, 0x2c, 0x06, 0xde, 0x41, 0x39, 0x0e,
        0xc6, 0x75, 0xad, 0x49, 0x8a, 0xfe, 0xeb, 0xb6, 0x96, 0x0b, 0x3a, 0xab, 0xe6,
    ];

    fn context(suite: SrtpSuite) -> SrtpContext {
        SrtpContext::new(&MasterKey::new(suite, &MASTER).unwrap()).unwrap()
    }

    fn rtp(ssrc: u32, sequence: u16) -> Vec<u8> {
        let mut packet = vec![0; 12];
        RtpHeader { payload_type: 0, marker: false, sequence, timestamp: 160, ssrc }
            .write(&mut packet)
            .unwrap();
        packet.extend(*b"twenty bytes of tone");
        packet
    }

    fn protected(context: &mut SrtpContext, packet: &[u8]) -> Vec<u8> {
        let mut buffer = packet.to_vec();
        buffer.resize(packet.len() + MAX_OVERHEAD, 0);
        let end = context.protect_rtp(&mut buffer, packet.len()).unwrap();
        buffer.truncate(end);
        buffer
    }

    fn opened(context: &mut SrtpContext, packet: &[u8]) -> Result<Vec<u8>, SrtpError> {
        let mut buffer = packet.to_vec();
        context.unprotect_rtp(&mut buffer).map(|len| buffer[..len].to_vec())
    }

    #[test]
    fn an_rtp_packet_is_protected_as_libsrtp_does() {
        let mut plain = vec![0x80, 0x0f, 0x12, 0x34, 0xde, 0xca, 0xfb, 0xad, 0xca, 0xfe, 0xba, 0xbe];
        plain.extend([0xab; 16]);
        let cipher = [
            0x80, 0x0f, 0x12, 0x34, 0xde, 0xca, 0xfb, 0xad, 0xca, 0xfe, 0xba, 0xbe, 0x4e, 0x55, 0xdc, 0x4c,
            0xe7, 0x99, 0x78, 0xd8, 0x8c, 0xa4, 0xd2, 0x15, 0x94, 0x9d, 0x24, 0x02, 0xb7, 0x8d, 0x6a, 0xcc,
            0x99, 0xea, 0x17, 0x9b, 0x8d, 0xbb,
        ];
        assert_eq!(protected(&mut context(SUITE), &plain), cipher);
        assert_eq!(opened(&mut context(SUITE), &cipher).unwrap(), plain);
    }

    #[test]
    fn an_rtcp_packet_is_opened_as_libsrtp_wrote_it() {
        let mut plain = vec![0x81, 0xc8, 0x00, 0x0b, 0xca, 0xfe, 0xba, 0xbe];
        plain.extend([0xab; 16]);
        let cipher = [
            0x81, 0xc8, 0x00, 0x0b, 0xca, 0xfe, 0xba, 0xbe, 0x71, 0x28, 0x03, 0x5b, 0xe4, 0x87, 0xb9, 0xbd,
            0xbe, 0xf8, 0x90, 0x41, 0xf9, 0x77, 0xa5, 0xa8, 0x80, 0x00, 0x00, 0x01, 0x99, 0x3e, 0x08, 0xcd,
            0x54, 0xd6, 0xc1, 0x23, 0x07, 0x98,
        ];
        let mut buffer = cipher;
        let mut receiver = context(SUITE);
        assert_eq!(receiver.unprotect_rtcp(&mut buffer), Ok(24));
        assert_eq!(buffer[..24], plain);
        assert_eq!(receiver.unprotect_rtcp(&mut cipher.clone()), Err(SrtpError::Replayed));
        // Our second packet has the index of libsrtp's first.
        let mut sender = context(SUITE);
        for expected in [0u8, 1] {
            let mut buffer = plain.clone();
            buffer.resize(24 + MAX_OVERHEAD, 0);
            assert_eq!(sender.protect_rtcp(&mut buffer, 24), Ok(38));
            assert_eq!(buffer[24..28], [0x80, 0, 0, expected]);
            assert_eq!(buffer[..38] == cipher, expected == 1);
        }
    }

    /// The derivation too: the packets that the test program of libsrtp publishes.
    #[test]
    fn aes_gcm_packets_are_those_of_libsrtp() {
        let mut master = (0..16).collect::<Vec<u8>>();
        master.extend(0xa0..0xac);
        let context = || SrtpContext::new(&MasterKey::new(SrtpSuite::Aes128Gcm, &master).unwrap()).unwrap();
        let mut plain = vec![0x80, 0x0f, 0x12, 0x34, 0xde, 0xca, 0xfb, 0xad, 0xca, 0xfe, 0xba, 0xbe];
        plain.extend([0xab; 16]);
        let cipher = [
            0x80, 0x0f, 0x12, 0x34, 0xde, 0xca, 0xfb, 0xad, 0xca, 0xfe, 0xba, 0xbe, 0xc5, 0x00, 0x2e, 0xde,
            0x04, 0xcf, 0xdd, 0x2e, 0xb9, 0x11, 0x59, 0xe0, 0x88, 0x0a, 0xa0, 0x6e, 0xd2, 0x97, 0x68, 0x26,
            0xf7, 0x96, 0xb2, 0x01, 0xdf, 0x31, 0x31, 0xa1, 0x27, 0xe8, 0xa3, 0x92,
        ];
        assert_eq!(protected(&mut context(), &plain), cipher);
        assert_eq!(opened(&mut context(), &cipher).unwrap(), plain);
        let mut report = [
            0x81, 0xc8, 0x00, 0x0b, 0xca, 0xfe, 0xba, 0xbe, 0xc9, 0x8b, 0x8b, 0x5d, 0xf0, 0x39, 0x2a, 0x55,
            0x85, 0x2b, 0x6c, 0x21, 0xac, 0x8e, 0x70, 0x25, 0xc5, 0x2c, 0x6f, 0xbe, 0xa2, 0xb3, 0xb4, 0x46,
            0xea, 0x31, 0x12, 0x3b, 0xa8, 0x8c, 0xe6, 0x1e, 0x80, 0x00, 0x00, 0x01,
        ];
        assert_eq!(context().unprotect_rtcp(&mut report), Ok(24));
        assert_eq!(report[8..24], [0xab; 16]);
    }

    #[test]
    fn every_suite_opens_what_it_protects_and_nothing_forged() {
        for suite in SrtpSuite::ALL {
            let master = MasterKey::new(suite, &[7; 44][..suite.key_len() + suite.salt_len()]).unwrap();
            let (mut sender, mut receiver) =
                (SrtpContext::new(&master).unwrap(), SrtpContext::new(&master).unwrap());
            let plain = rtp(7, 5);
            let wire = protected(&mut sender, &plain);
            assert_eq!(wire.len(), plain.len() + suite.rtp_tag_len());
            let mut report = vec![0x80, 0xc9, 0, 2, 0, 0, 0, 7, 1, 2, 3, 4];
            report.resize(12 + MAX_OVERHEAD, 0);
            let end = sender.protect_rtcp(&mut report, 12).unwrap();
            report.truncate(end);
            assert_eq!(end, 12 + 4 + suite.rtcp_tag_len());
            for at in 0..wire.len() {
                let mut forged = wire.clone();
                forged[at] ^= 1;
                assert!(opened(&mut receiver, &forged).is_err(), "{suite}: byte {at}");
            }
            for at in 0..report.len() {
                let mut forged = report.clone();
                forged[at] ^= 1;
                assert!(receiver.unprotect_rtcp(&mut forged).is_err(), "{suite}: byte {at}");
            }
            assert_eq!(opened(&mut receiver, &wire), Ok(plain));
            assert_eq!(opened(&mut receiver, &wire), Err(SrtpError::Replayed));
            assert_eq!(receiver.unprotect_rtcp(&mut report), Ok(12));
            assert_eq!(report[8..12], [1, 2, 3, 4]);
        }
    }

    #[test]
    fn tags_have_the_suites_length() {
        let plain = rtp(7, 1);
        let mut sender = context(SrtpSuite::Aes128CmSha1_32);
        assert_eq!(protected(&mut sender, &plain).len(), plain.len() + 4);
        let mut buffer = [0x80, 0xc9, 0, 1, 0, 0, 0, 7].to_vec();
        buffer.resize(8 + MAX_OVERHEAD, 0);
        assert_eq!(sender.protect_rtcp(&mut buffer, 8), Ok(8 + 4 + 10));
    }

    #[test]
    fn sources_extension_and_padding_do_not_disturb() {
        let mut plain =
            vec![0xb1, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0xbe, 0xde, 0, 1, 0x10, 0x2a, 0, 0];
        plain.extend(*b"sound\0\0\x03");
        let wire = protected(&mut context(SUITE), &plain);
        assert_eq!(wire[..24], plain[..24]);
        assert_ne!(wire[24..32], plain[24..32]);
        assert_eq!(opened(&mut context(SUITE), &wire).unwrap(), plain);
    }

    #[test]
    fn the_counter_rolls_over_on_both_sides_in_spite_of_loss_and_disorder() {
        let (mut sender, mut receiver) = (context(SUITE), context(SUITE));
        // Three wraps, every 400th packet arrives, and its predecessor after it.
        let mut wire = Vec::new();
        for number in 0..200_000u32 {
            let packet = rtp(7, u16::try_from(number & 0xffff).unwrap());
            if number % 400 < 2 {
                wire.push((packet.clone(), protected(&mut sender, &packet)));
            }
        }
        for pair in wire.chunks(2) {
            for (plain, cipher) in pair.iter().rev() {
                assert_eq!(opened(&mut receiver, cipher).as_ref(), Ok(plain));
                assert_eq!(opened(&mut receiver, cipher), Err(SrtpError::Replayed));
            }
        }
        // A packet of the first cycle is taken for the one of this cycle.
        assert_eq!(opened(&mut receiver, &wire[0].1), Err(SrtpError::TooOld));
    }

    #[test]
    fn a_retransmission_is_the_same_packet() {
        let mut sender = context(SUITE);
        let first = protected(&mut sender, &rtp(7, 0xffff));
        protected(&mut sender, &rtp(7, 0));
        assert_eq!(protected(&mut sender, &rtp(7, 0xffff)), first);
    }

    #[test]
    fn a_forged_packet_changes_nothing() {
        let (mut sender, mut receiver) = (context(SUITE), context(SUITE));
        let good = protected(&mut sender, &rtp(7, 5));
        for at in 0..good.len() {
            let mut forged = good.clone();
            forged[at] ^= 1;
            assert!(opened(&mut receiver, &forged).is_err(), "byte {at}");
        }
        // Neither has a forger moved the window with a far number, nor taken a place.
        assert_eq!(receiver.rtp_sources.places.iter().flatten().count(), 0);
        assert_eq!(opened(&mut receiver, &good), Ok(rtp(7, 5)));
        let mut forged = good.clone();
        forged[2] = 0x7f;
        assert_eq!(opened(&mut receiver, &forged), Err(SrtpError::Authentication));
        assert_eq!(opened(&mut receiver, &good), Err(SrtpError::Replayed));
    }

    #[test]
    fn sources_are_bounded() {
        let (mut sender, mut receiver) = (context(SUITE), context(SUITE));
        for ssrc in 0..u32::try_from(MAX_SOURCES).unwrap() {
            assert!(opened(&mut receiver, &protected(&mut sender, &rtp(ssrc, 1))).is_ok());
        }
        let one_more = context(SUITE).protect_rtp(&mut [rtp(99, 1), vec![0; 10]].concat(), 32);
        assert_eq!(one_more, Ok(42));
        let mut other = context(SUITE);
        assert_eq!(
            opened(&mut receiver, &protected(&mut other, &rtp(99, 1))),
            Err(SrtpError::TooManySources)
        );
    }

    #[test]
    fn no_room_and_the_end_of_the_key_are_errors() {
        let plain = rtp(7, 1);
        let mut buffer = plain.clone();
        assert_eq!(context(SUITE).protect_rtp(&mut buffer, plain.len()), Err(SrtpError::Room));
        assert_eq!(buffer, plain);
        let mut sender = context(SUITE);
        sender.rtcp_sources.accept(7, u64::from(MAX_RTCP_INDEX)).unwrap();
        let mut report = vec![0x80, 0xc9, 0, 1, 0, 0, 0, 7];
        report.resize(64, 0);
        assert_eq!(sender.protect_rtcp(&mut report, 8), Err(SrtpError::KeyExhausted));
        sender.rtp_sources.accept(7, MAX_INDEX).unwrap();
        buffer.resize(64, 0);
        assert_eq!(sender.protect_rtp(&mut buffer, plain.len()), Err(SrtpError::KeyExhausted));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(which in 0usize..4, mut bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let suite = SrtpSuite::ALL[which];
            let master = [7; 44];
            let master = MasterKey::new(suite, &master[..suite.key_len() + suite.salt_len()]).unwrap();
            let mut receiver = SrtpContext::new(&master).unwrap();
            prop_assert!(receiver.unprotect_rtp(&mut bytes).is_err());
            prop_assert!(receiver.unprotect_rtcp(&mut bytes).is_err());
            let len = bytes.len();
            bytes.resize(len + MAX_OVERHEAD, 0);
            let _ = receiver.protect_rtp(&mut bytes, len);
            let _ = receiver.protect_rtcp(&mut bytes, len);
        }
    }
}
