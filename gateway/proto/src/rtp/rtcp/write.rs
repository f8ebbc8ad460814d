//! Compound packets into the caller's buffer.

use rtcp_types::prelude::RtcpPacketWriterExt;
use rtcp_types::{
    Bye, Fir, Nack, PayloadFeedback, Pli, ReceiverReport, Sdes, SdesChunk, SdesItem, SenderReport,
    TransportFeedback, Unknown,
};

use super::{RateLimit, ReportBlock, RtcpError, SenderInfo};

/// Report blocks that one SR or RR holds (5 bits).
const MAX_BLOCKS: usize = 31;
/// Sequence numbers that one NACK names: more are asked for with the next one.
const MAX_NACKED: usize = 128;

/// Writes one packet behind the other. A compound begins with SR or RR and has a CNAME (RFC 3550
/// section 6.1), unless reduced size was negotiated (RFC 5506). What fails adds nothing.
#[derive(Debug)]
pub struct RtcpWriter<'a> {
    buffer: &'a mut [u8],
    len: usize,
}

impl<'a> RtcpWriter<'a> {
    /// Begins at the front of `buffer`.
    pub const fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, len: 0 }
    }

    /// Bytes so far.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// SR with at most 31 blocks; those beyond are left out.
    pub fn sender_report(
        &mut self,
        ssrc: u32,
        info: &SenderInfo,
        blocks: &[ReportBlock],
    ) -> Result<(), RtcpError> {
        let mut report = SenderReport::builder(ssrc)
            .ntp_timestamp(info.ntp.0)
            .rtp_timestamp(info.rtp_timestamp)
            .packet_count(info.packets)
            .octet_count(info.octets);
        for block in blocks.iter().take(MAX_BLOCKS) {
            report = report.add_report_block(block_builder(block));
        }
        self.add(&report)
    }

    /// RR with at most 31 blocks; those beyond are left out.
    pub fn receiver_report(&mut self, ssrc: u32, blocks: &[ReportBlock]) -> Result<(), RtcpError> {
        let mut report = ReceiverReport::builder(ssrc);
        for block in blocks.iter().take(MAX_BLOCKS) {
            report = report.add_report_block(block_builder(block));
        }
        self.add(&report)
    }

    /// SDES with nothing but the CNAME. It should be random for each call (RFC 7022): a name of the
    /// host would tell more than it must.
    pub fn cname(&mut self, ssrc: u32, name: &str) -> Result<(), RtcpError> {
        let item = SdesItem::builder(SdesItem::CNAME, name);
        self.add(&Sdes::builder().add_chunk(SdesChunk::builder(ssrc).add_item(item)))
    }

    /// BYE of one source.
    pub fn bye(&mut self, ssrc: u32) -> Result<(), RtcpError> {
        self.add(&Bye::builder().add_source(ssrc))
    }

    /// Generic NACK; at most 128 numbers, those beyond are left out.
    pub fn nack(&mut self, from: u32, media: u32, sequences: &[u16]) -> Result<(), RtcpError> {
        let mut nack = Nack::builder();
        for sequence in sequences.iter().take(MAX_NACKED) {
            nack = nack.add_rtp_sequence(*sequence);
        }
        self.add(&TransportFeedback::builder(&nack).sender_ssrc(from).media_ssrc(media))
    }

    /// PLI.
    pub fn pli(&mut self, from: u32, media: u32) -> Result<(), RtcpError> {
        self.add(&PayloadFeedback::builder(&Pli::builder()).sender_ssrc(from).media_ssrc(media))
    }

    /// FIR; `number` changes with each new request and stays for repetitions.
    pub fn fir(&mut self, from: u32, media: u32, number: u8) -> Result<(), RtcpError> {
        // The media SSRC of the header is not used (RFC 5104 section 4.3.1.2).
        let fir = Fir::builder().add_ssrc(media, number);
        self.add(&PayloadFeedback::builder(&fir).sender_ssrc(from).media_ssrc(0))
    }

    /// TMMBR: the rate is rounded down to what the field holds.
    pub fn tmmbr(&mut self, from: u32, limit: &RateLimit) -> Result<(), RtcpError> {
        self.rate(3, from, limit)
    }

    /// TMMBN: what we obey.
    pub fn tmmbn(&mut self, from: u32, limit: &RateLimit) -> Result<(), RtcpError> {
        self.rate(4, from, limit)
    }

    /// REMB for one source: the rate is rounded down to what the field holds.
    pub fn remb(&mut self, from: u32, media: u32, bitrate: u64) -> Result<(), RtcpError> {
        let exponent = exponent(bitrate, REMB_DIGITS);
        let mantissa = u32::try_from(bitrate >> exponent).map_err(|_| RtcpError::Value)?;
        let packed = 1 << 24 | exponent << 18 | mantissa;
        let mut body = [0; 20];
        // The header names no source: they stand behind the rate.
        let words = [from, 0, u32::from_be_bytes(*b"REMB"), packed, media];
        for (room, value) in body.chunks_exact_mut(4).zip(words) {
            room.copy_from_slice(&value.to_be_bytes());
        }
        self.add(&Unknown::builder(206, &body).count(15))
    }

    fn rate(&mut self, format: u8, from: u32, limit: &RateLimit) -> Result<(), RtcpError> {
        let exponent = exponent(limit.bitrate, TMMBR_DIGITS);
        let mantissa = u32::try_from(limit.bitrate >> exponent).map_err(|_| RtcpError::Value)?;
        let packed = exponent << 26 | mantissa << 9 | u32::from(limit.overhead.min(0x1ff));
        let mut body = [0; 16];
        for (room, value) in body.chunks_exact_mut(4).zip([from, 0, limit.media, packed]) {
            room.copy_from_slice(&value.to_be_bytes());
        }
        self.add(&Unknown::builder(205, &body).count(format))
    }

    fn add(&mut self, packet: &impl RtcpPacketWriterExt) -> Result<(), RtcpError> {
        let room = self.buffer.get_mut(self.len..).ok_or(RtcpError::Room)?;
        let written = packet.write_into(room).map_err(|error| match error {
            rtcp_types::RtcpWriteError::OutputTooSmall(_) => RtcpError::Room,
            _ => RtcpError::Value,
        })?;
        self.len = self.len.saturating_add(written);
        Ok(())
    }
}

impl RateLimit {
    /// What is read where `bitrate` was written: it is rounded down to what the field holds.
    pub const fn rounded(bitrate: u64) -> u64 {
        let exponent = exponent(bitrate, TMMBR_DIGITS);
        bitrate >> exponent << exponent
    }
}

/// RFC 5104 section 4.2.1.2: a mantissa of 17 bits, an exponent of 6, an overhead of 9.
const TMMBR_DIGITS: u32 = 17;

/// draft-alvestrand-rmcat-remb-03 section 2.2: an exponent of 6 bits, a mantissa of 18.
const REMB_DIGITS: u32 = 18;

/// By how many bits a rate is shifted to have that many digits.
const fn exponent(bitrate: u64, digits: u32) -> u32 {
    u64::BITS.saturating_sub(digits).saturating_sub(bitrate.leading_zeros())
}

fn block_builder(block: &ReportBlock) -> rtcp_types::ReportBlockBuilder {
    let [_, lost @ ..] = block.cumulative_lost.clamp(-0x80_0000, 0x7f_ffff).to_be_bytes();
    let [a, b, c] = lost;
    rtcp_types::ReportBlock::builder(block.ssrc)
        .fraction_lost(block.fraction_lost)
        .cumulative_lost(u32::from_be_bytes([0, a, b, c]))
        .extended_sequence_number(block.highest)
        .interarrival_jitter(block.jitter)
        .last_sender_report_timestamp(block.last_sender_report)
        .delay_since_last_sender_report_timestamp(block.delay)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{NtpTime, RtcpEvent, read};
    use super::*;

    const BLOCK: ReportBlock = ReportBlock {
        ssrc: 2,
        fraction_lost: 17,
        cumulative_lost: -5,
        highest: 0x1_2345,
        jitter: 99,
        last_sender_report: 0xb705_2000,
        delay: 0x0005_4000,
    };

    #[test]
    fn everything_we_write_we_read() {
        let info =
            SenderInfo { ntp: NtpTime(0xb44d_b705_2000_0000), rtp_timestamp: 7, packets: 8, octets: 9 };
        let limit = RateLimit { media: 2, bitrate: 1_000_000, overhead: 40 };
        let mut buffer = [0; 512];
        let mut writer = RtcpWriter::new(&mut buffer);
        writer.sender_report(1, &info, &[BLOCK]).unwrap();
        writer.receiver_report(1, &[]).unwrap();
        writer.cname(1, "a name").unwrap();
        writer.nack(1, 2, &[5, 6, 22, 23]).unwrap();
        writer.pli(1, 2).unwrap();
        writer.fir(1, 2, 3).unwrap();
        writer.tmmbr(1, &limit).unwrap();
        writer.tmmbn(1, &limit).unwrap();
        writer.remb(1, 2, 1_000_000).unwrap();
        writer.bye(1).unwrap();
        let len = writer.len();
        let mut events = Vec::new();
        read(&buffer[..len], &mut |event| {
            events.push(match event {
                RtcpEvent::Cname { ssrc, name } => {
                    assert_eq!((ssrc, name), (1, &b"a name"[..]));
                    RtcpEvent::Cname { ssrc, name: b"" }
                }
                RtcpEvent::SenderReport { ssrc, info } => RtcpEvent::SenderReport { ssrc, info },
                RtcpEvent::ReceiverReport { ssrc } => RtcpEvent::ReceiverReport { ssrc },
                RtcpEvent::Report { from, block } => RtcpEvent::Report { from, block },
                RtcpEvent::Bye { ssrc } => RtcpEvent::Bye { ssrc },
                RtcpEvent::Nack { media, sequence } => RtcpEvent::Nack { media, sequence },
                RtcpEvent::Pli { media } => RtcpEvent::Pli { media },
                RtcpEvent::Fir { from, media, number } => RtcpEvent::Fir { from, media, number },
                RtcpEvent::Tmmbr { from, limit } => RtcpEvent::Tmmbr { from, limit },
                RtcpEvent::Tmmbn { from, limit } => RtcpEvent::Tmmbn { from, limit },
                RtcpEvent::Remb { media, bitrate } => RtcpEvent::Remb { media, bitrate },
            });
        })
        .unwrap();
        let nacked = [5, 6, 22, 23].map(|sequence| RtcpEvent::Nack { media: 2, sequence });
        let mut expected = vec![
            RtcpEvent::SenderReport { ssrc: 1, info },
            RtcpEvent::Report { from: 1, block: BLOCK },
            RtcpEvent::ReceiverReport { ssrc: 1 },
            RtcpEvent::Cname { ssrc: 1, name: b"" },
        ];
        expected.extend(nacked);
        expected.extend([
            RtcpEvent::Pli { media: 2 },
            RtcpEvent::Fir { from: 1, media: 2, number: 3 },
            RtcpEvent::Tmmbr { from: 1, limit },
            RtcpEvent::Tmmbn { from: 1, limit },
            RtcpEvent::Remb { media: 2, bitrate: 1_000_000 },
            RtcpEvent::Bye { ssrc: 1 },
        ]);
        assert_eq!(events, expected);
    }

    #[test]
    fn what_does_not_fit_adds_nothing() {
        let mut buffer = [0; 20];
        let mut writer = RtcpWriter::new(&mut buffer);
        writer.receiver_report(1, &[]).unwrap();
        assert_eq!(writer.receiver_report(1, &[BLOCK]), Err(RtcpError::Room));
        assert_eq!(writer.cname(1, &"n".repeat(256)), Err(RtcpError::Value));
        assert_eq!(writer.len(), 8);
        writer.bye(1).unwrap();
        assert_eq!((writer.len(), &buffer[8..16]), (16, &[0x81, 203, 0, 1, 0, 0, 0, 1][..]));
    }

    #[test]
    fn a_nack_over_the_wrap_names_the_same_packets() {
        let mut buffer = [0; 64];
        let mut writer = RtcpWriter::new(&mut buffer);
        writer.nack(1, 2, &[65_534, 65_535, 0, 1]).unwrap();
        let len = writer.len();
        let mut named = Vec::new();
        read(&buffer[..len], &mut |event| {
            if let RtcpEvent::Nack { sequence, .. } = event {
                named.push(sequence);
            }
        })
        .unwrap();
        named.sort_unstable();
        assert_eq!(named, [0, 1, 65_534, 65_535]);
    }

    #[test]
    fn a_remb_is_what_the_draft_draws() {
        let mut buffer = [0; 64];
        let mut writer = RtcpWriter::new(&mut buffer);
        writer.remb(1, 2, 1_000_000).unwrap();
        let len = writer.len();
        // 250 000 by two bits: version 2 and format 15, type 206, five words more, "REMB", one source.
        let expected = [
            0x8f, 206, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, b'R', b'E', b'M', b'B', 1, 0x0b, 0xd0, 0x90, 0, 0, 0, 2,
        ];
        assert_eq!(buffer[..len], expected);
    }

    proptest! {
        #[test]
        fn a_rate_is_rounded_down_by_less_than_a_65536th(bitrate in any::<u64>()) {
            let mut buffer = [0; 64];
            let mut writer = RtcpWriter::new(&mut buffer);
            writer.tmmbr(1, &RateLimit { media: 2, bitrate, overhead: 600 }).unwrap();
            let len = writer.len();
            let mut seen = None;
            read(&buffer[..len], &mut |event| {
                if let RtcpEvent::Tmmbr { limit, .. } = event { seen = Some(limit); }
            }).unwrap();
            let seen = seen.unwrap();
            prop_assert!(seen.bitrate <= bitrate && bitrate - seen.bitrate <= bitrate >> 16);
            prop_assert_eq!(seen.bitrate, RateLimit::rounded(bitrate));
            prop_assert_eq!((seen.media, seen.overhead), (2, 0x1ff));
        }
    }
}
