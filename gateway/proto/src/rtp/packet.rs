//! RTP packets: a borrowed view, a header written without allocating, a header rewritten in place,
//! header extension items (RFC 8285), and what a datagram on a shared port is (RFC 5761, 7983).

use rtp_rs::{RtpReader, RtpReaderError};

/// Bytes of the fixed header (RFC 3550 section 5.1).
pub const FIXED_HEADER: usize = 12;

/// Most bytes that one of our packets carries behind its header. The smallest IPv6 MTU is 1280
/// (RFC 8200 section 5); IPv6 and UDP take 48 of it, the RTP header 12, a short header extension 8
/// and the largest SRTP tag 16, which leaves 1196; what remains to the round number is found in
/// IPv4, where nearly all calls are, and every link of today has 1400 or more.
pub const MAX_PAYLOAD: usize = 1200;

/// `profile` of the one-byte form of extension items (RFC 8285 section 4.2).
const ONE_BYTE_PROFILE: u16 = 0xbede;
/// `profile` of the two-byte form, whose low four bits are free (RFC 8285 section 4.3).
const TWO_BYTE_PROFILE: u16 = 0x1000;

/// What a datagram is, by its first two bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatagramKind {
    /// An RTP packet.
    Rtp,
    /// An RTCP packet, sent to the RTP port (rtcp-mux) or to its own.
    Rtcp,
    /// STUN, DTLS, TURN or noise.
    Other,
}

impl DatagramKind {
    /// Looks at `datagram`. Version 2 begins with 128 to 191 (RFC 7983 section 7); among those the
    /// packet types 192 to 223 are RTCP (RFC 5761 section 4), so that payload types 64 to 95
    /// with the marker cannot be used on a shared port.
    pub fn of(datagram: &[u8]) -> Self {
        match datagram {
            [128..=191, 192..=223, ..] => Self::Rtcp,
            [128..=191, _, ..] => Self::Rtp,
            _ => Self::Other,
        }
    }
}

/// Why bytes are not an RTP packet, or do not fit one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RtpError {
    /// Shorter than its own header says.
    #[error("the packet is cut short")]
    Truncated,
    /// Another version than 2.
    #[error("RTP version {0}")]
    Version(u8),
    /// More padding than there are bytes, or none where some was announced.
    #[error("the padding does not fit the packet")]
    Padding,
    /// The caller's buffer is too small.
    #[error("the buffer is too small")]
    Room,
}

impl From<RtpReaderError> for RtpError {
    fn from(error: RtpReaderError) -> Self {
        match error {
            RtpReaderError::BufferTooShort(_) | RtpReaderError::HeadersTruncated { .. } => Self::Truncated,
            RtpReaderError::UnsupportedVersion(version) => Self::Version(version),
            RtpReaderError::PaddingLengthInvalid(_) => Self::Padding,
        }
    }
}

/// A packet in somebody's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpPacket<'a> {
    /// The fields that a relay rewrites.
    pub header: RtpHeader,
    /// Contributing sources, four bytes each; see [`Self::csrcs`].
    csrcs: &'a [u8],
    /// The header extension, if there is one.
    pub extension: Option<Extension<'a>>,
    /// The payload without its padding.
    pub payload: &'a [u8],
    /// Bytes before the payload.
    pub payload_offset: usize,
}

impl<'a> RtpPacket<'a> {
    /// Reads `packet`. SRTP must be taken off before: the length of the padding is encrypted.
    pub fn parse(packet: &'a [u8]) -> Result<Self, RtpError> {
        let reader = RtpReader::new(packet)?;
        let csrcs_end = FIXED_HEADER.saturating_add(usize::from(reader.csrc_count()).saturating_mul(4));
        Ok(Self {
            header: RtpHeader {
                payload_type: reader.payload_type(),
                marker: reader.mark(),
                sequence: reader.sequence_number().into(),
                timestamp: reader.timestamp(),
                ssrc: reader.ssrc(),
            },
            csrcs: packet.get(FIXED_HEADER..csrcs_end).ok_or(RtpError::Truncated)?,
            extension: reader.extension().map(|(profile, data)| Extension { profile, data }),
            payload: reader.payload(),
            payload_offset: reader.payload_offset(),
        })
    }

    /// Contributing sources, at most 15.
    pub fn csrcs(&self) -> impl Iterator<Item = u32> + 'a {
        self.csrcs.chunks_exact(4).filter_map(|bytes| Some(u32::from_be_bytes(bytes.try_into().ok()?)))
    }
}

/// The fields of the fixed header that vary from packet to packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RtpHeader {
    /// Seven bits; the eighth is dropped when written.
    pub payload_type: u8,
    /// Last packet of a picture, first of a talk spurt.
    pub marker: bool,
    /// Counts packets.
    pub sequence: u16,
    /// Counts ticks of the payload type's clock.
    pub timestamp: u32,
    /// The source.
    pub ssrc: u32,
}

impl RtpHeader {
    /// Writes the header to the front of `out`, with no contributing sources, no extension and no
    /// padding; returns its length.
    pub fn write(&self, out: &mut [u8]) -> Result<usize, RtpError> {
        let (first, _) = out.split_first_mut().ok_or(RtpError::Room)?;
        *first = 0x80;
        self.rewrite(out)?;
        Ok(FIXED_HEADER)
    }

    /// Writes the header with one-byte extension items (RFC 8285 section 4.2): pairs of an id from 1
    /// to 14 and 1 to 16 bytes. Items that break these bounds are left out.
    pub fn write_extended(&self, items: &[(u8, &[u8])], out: &mut [u8]) -> Result<usize, RtpError> {
        let start = self.write(out)?;
        let mut end = start.saturating_add(4);
        for (id, data) in items {
            let Some(length @ 0..=15) = data.len().checked_sub(1) else { continue };
            let Some(length) = u8::try_from(length).ok().filter(|_| (1..=14).contains(id)) else { continue };
            end = put(out, end, &[(id << 4) | length])?;
            end = put(out, end, data)?;
        }
        while end % 4 != 0 {
            end = put(out, end, &[0])?;
        }
        let words = u16::try_from(end.saturating_sub(start) / 4).ok().and_then(|words| words.checked_sub(1));
        let words = words.ok_or(RtpError::Room)?;
        if words == 0 {
            return Ok(start);
        }
        put(out, start, &ONE_BYTE_PROFILE.to_be_bytes())?;
        put(out, start.saturating_add(2), &words.to_be_bytes())?;
        if let Some(first) = out.first_mut() {
            *first |= 0x10;
        }
        Ok(end)
    }

    /// Puts these fields in the place of those of `packet`; version, padding, contributing sources,
    /// extension and payload stay.
    pub fn rewrite(&self, packet: &mut [u8]) -> Result<(), RtpError> {
        put(packet, 1, &[(self.payload_type & 0x7f) | (u8::from(self.marker) << 7)])?;
        put(packet, 2, &self.sequence.to_be_bytes())?;
        put(packet, 4, &self.timestamp.to_be_bytes())?;
        put(packet, 8, &self.ssrc.to_be_bytes())?;
        Ok(())
    }
}

/// Copies `bytes` to `out` at `at`; returns where they end.
fn put(out: &mut [u8], at: usize, bytes: &[u8]) -> Result<usize, RtpError> {
    let end = at.saturating_add(bytes.len());
    out.get_mut(at..end).ok_or(RtpError::Room)?.copy_from_slice(bytes);
    Ok(end)
}

/// A header extension (RFC 3550 section 5.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    /// The form of its contents.
    pub profile: u16,
    /// Its contents.
    pub data: &'a [u8],
}

impl<'a> Extension<'a> {
    /// The items in it (RFC 8285): id and bytes. None when it is of another form; what follows a
    /// malformed item is not told.
    pub const fn items(&self) -> ExtensionItems<'a> {
        let two_byte = self.profile & 0xfff0 == TWO_BYTE_PROFILE;
        let known = two_byte || self.profile == ONE_BYTE_PROFILE;
        ExtensionItems { rest: if known { self.data } else { &[] }, two_byte }
    }

    /// The bytes of the item `id`.
    pub fn item(&self, id: u8) -> Option<&'a [u8]> {
        self.items().find_map(|(item, data)| (item == id).then_some(data))
    }

    /// The audio level in -dBov (0 loud, 127 silent) and the sender's word on whether it is voice
    /// (RFC 6464 section 3), when that item has been negotiated as `id`.
    pub fn audio_level(&self, id: u8) -> Option<AudioLevel> {
        let byte = *self.item(id)?.first()?;
        Some(AudioLevel { level: byte & 0x7f, voice: byte & 0x80 != 0 })
    }
}

/// What RFC 6464 says of a packet's sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioLevel {
    /// -dBov: 0 is the loudest, 127 silence.
    pub level: u8,
    /// The sender takes it for voice.
    pub voice: bool,
}

impl AudioLevel {
    /// The one byte of the item, for [`RtpHeader::write_extended`].
    pub const fn to_byte(self) -> u8 {
        (self.level & 0x7f) | ((self.voice as u8) << 7)
    }
}

/// Iterator over the items of a header extension.
#[derive(Clone, Debug)]
pub struct ExtensionItems<'a> {
    rest: &'a [u8],
    two_byte: bool,
}

impl<'a> Iterator for ExtensionItems<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (&first, rest) = self.rest.split_first()?;
            self.rest = rest;
            // Padding, in both forms.
            if first == 0 {
                continue;
            }
            let (id, length) = if self.two_byte {
                let (&length, rest) = self.rest.split_first()?;
                self.rest = rest;
                (first, usize::from(length))
            } else {
                // 15 ends the list (RFC 8285 section 4.2); id 0 with a length is to be skipped.
                if first >> 4 == 15 {
                    self.rest = &[];
                    return None;
                }
                (first >> 4, usize::from(first & 0x0f).saturating_add(1))
            };
            let Some((data, rest)) = self.rest.split_at_checked(length) else {
                self.rest = &[];
                return None;
            };
            self.rest = rest;
            if id != 0 {
                return Some((id, data));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: RtpHeader = RtpHeader {
        payload_type: 96,
        marker: true,
        sequence: 0x2738,
        timestamp: 0x64e4_05a7,
        ssrc: 0xa242_af01,
    };

    #[test]
    fn a_header_reads_as_it_was_written() {
        let mut packet = [0u8; 16];
        assert_eq!(HEADER.write(&mut packet), Ok(12));
        packet[12..].copy_from_slice(b"load");
        let read = RtpPacket::parse(&packet).unwrap();
        assert_eq!(read.header, HEADER);
        assert_eq!((read.payload, read.payload_offset, read.extension), (&b"load"[..], 12, None));
        assert_eq!(packet[..4], [0x80, 0xe0, 0x27, 0x38]);
    }

    #[test]
    fn sources_extension_and_padding_are_told_apart() {
        // RFC 3550 section 5.1: V=2, P, X, CC=2.
        let mut packet = vec![0xb2, 0x60, 0, 7, 0, 0, 0, 9, 0, 0, 0, 3];
        packet.extend([0, 0, 0, 1, 0, 0, 0, 2]);
        packet.extend([0xbe, 0xde, 0, 1, 0x10, 0xaa, 0, 0]);
        packet.extend(*b"data");
        packet.extend([0, 0, 3]);
        let read = RtpPacket::parse(&packet).unwrap();
        assert_eq!(read.csrcs().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(read.extension.unwrap().items().collect::<Vec<_>>(), [(1, &[0xaa][..])]);
        assert_eq!((read.payload, read.payload_offset), (&b"data"[..], 28));
    }

    #[test]
    fn a_rewritten_packet_keeps_what_the_relay_does_not_own() {
        let mut packet = vec![0xb1, 0x60, 0, 7, 0, 0, 0, 9, 0, 0, 0, 3, 0, 0, 0, 5];
        packet.extend([0xbe, 0xde, 0, 1, 0x10, 0xaa, 0, 0]);
        packet.extend(*b"data");
        packet.extend([0, 2]);
        HEADER.rewrite(&mut packet).unwrap();
        let read = RtpPacket::parse(&packet).unwrap();
        assert_eq!(read.header, HEADER);
        assert_eq!(read.csrcs().collect::<Vec<_>>(), [5]);
        assert_eq!((read.extension.unwrap().item(1), read.payload), (Some(&[0xaa][..]), &b"data"[..]));
        assert_eq!(HEADER.rewrite(&mut [0; 11]), Err(RtpError::Room));
    }

    #[test]
    fn malformed_packets_say_why() {
        assert_eq!(RtpPacket::parse(&[0x80; 11]), Err(RtpError::Truncated));
        assert_eq!(RtpPacket::parse(&[0x40; 12]), Err(RtpError::Version(1)));
        // 15 sources announced, none there; an extension longer than the packet; padding of zero
        // and of more than there is.
        let mut packet = [0u8; 20];
        packet[0] = 0x8f;
        assert_eq!(RtpPacket::parse(&packet), Err(RtpError::Truncated));
        packet[0] = 0x90;
        packet[15] = 0xff;
        assert_eq!(RtpPacket::parse(&packet), Err(RtpError::Truncated));
        packet[0] = 0xa0;
        assert_eq!(RtpPacket::parse(&packet), Err(RtpError::Padding));
        packet[19] = 9;
        assert_eq!(RtpPacket::parse(&packet), Err(RtpError::Padding));
    }

    #[test]
    fn items_of_both_forms_and_their_ends() {
        // RFC 8285 section 4.2: padding anywhere, 15 ends the list.
        let one = Extension { profile: 0xbede, data: &[0, 0x11, 1, 2, 0, 0x20, 3, 0xf0, 9] };
        assert_eq!(one.items().collect::<Vec<_>>(), [(1, &[1, 2][..]), (2, &[3][..])]);
        // Section 4.3: an item may be empty; the low bits of the profile are the application's.
        let two = Extension { profile: 0x1007, data: &[1, 0, 2, 1, 9, 0, 3, 200] };
        assert_eq!(two.items().collect::<Vec<_>>(), [(1, &[][..]), (2, &[9][..])]);
        let other = Extension { profile: 7, data: &[0x10, 1] };
        assert_eq!(other.items().count(), 0);
    }

    #[test]
    fn the_audio_level_crosses() {
        let level = AudioLevel { level: 42, voice: true };
        let mut packet = [0u8; 32];
        let end =
            HEADER.write_extended(&[(0, &[1]), (3, &[level.to_byte()]), (15, &[1])], &mut packet).unwrap();
        assert_eq!(end, 20);
        let read = RtpPacket::parse(&packet[..end]).unwrap();
        assert_eq!(read.header, HEADER);
        assert_eq!(read.extension.unwrap().audio_level(3), Some(level));
        assert_eq!(read.extension.unwrap().audio_level(4), None);
        assert_eq!(HEADER.write_extended(&[], &mut packet), Ok(12));
        assert_eq!(HEADER.write_extended(&[(1, &[0; 16])], &mut packet[..31]), Err(RtpError::Room));
    }

    #[test]
    fn datagrams_on_a_shared_port_are_told_apart() {
        // RFC 5761 section 4; 7983 section 7 for what is neither.
        assert_eq!(DatagramKind::of(&[0x80, 200, 0, 0]), DatagramKind::Rtcp);
        assert_eq!(DatagramKind::of(&[0x81, 206]), DatagramKind::Rtcp);
        assert_eq!(DatagramKind::of(&[0x80, 0x80 | 96]), DatagramKind::Rtp);
        assert_eq!(DatagramKind::of(&[0x80, 0]), DatagramKind::Rtp);
        assert_eq!(DatagramKind::of(&[0, 1, 0, 0]), DatagramKind::Other);
        assert_eq!(DatagramKind::of(&[22, 254]), DatagramKind::Other);
        assert_eq!(DatagramKind::of(&[0x80]), DatagramKind::Other);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..96), first in 0x80u8..0xc0) {
            let mut bytes = bytes;
            if let Some(byte) = bytes.first_mut() { *byte = first; }
            if let Ok(packet) = RtpPacket::parse(&bytes) {
                prop_assert!(packet.payload_offset + packet.payload.len() <= bytes.len());
                let _ = packet.csrcs().count();
                let _ = packet.extension.map(|extension| extension.items().count());
            }
        }
    }
}
