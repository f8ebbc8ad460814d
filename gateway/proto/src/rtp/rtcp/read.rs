//! Compound packets into events.

use rtcp_types::prelude::{FciParser, RtcpPacketParser};
use rtcp_types::{Bye, Fir, Nack, ReceiverReport, Sdes, SdesItem, SenderReport};

use super::{NtpTime, RateLimit, ReportBlock, RtcpError, RtcpEvent, SenderInfo};

/// Packets that are read of one datagram. A report, its SDES and all feedback of this file are six.
pub const MAX_PACKETS: usize = 32;
/// Missing packets and rate limits that are taken from one datagram. A retransmission is fifty times
/// the size of the bits that ask for it, so that a larger number were an amplifier.
pub const MAX_NACKED: usize = 256;

/// Longest RTCP packet whose padding is taken off: an Ethernet frame.
const MAX_PADDED: usize = 1500;
const HEADER: usize = 4;
/// Bytes before the control information of feedback (RFC 4585 section 6.1).
const FEEDBACK_HEADER: usize = 12;

/// Reads a datagram and tells what it says. A packet that is malformed, or of a kind that we do not
/// know, does not hide those beside it; the first fault is returned at the end. That the compound
/// begins with a report (RFC 3550 A.2) is not asked for, since RFC 5506 lets feedback come alone.
pub fn read(datagram: &[u8], tell: &mut dyn FnMut(RtcpEvent<'_>)) -> Result<(), RtcpError> {
    let mut rest = datagram;
    let mut budget = MAX_NACKED;
    let mut result = Ok(());
    for _ in 0..MAX_PACKETS {
        let Some((packet, behind)) = split_packet(rest) else { return Err(RtcpError::Malformed) };
        rest = behind;
        let this = read_packet(packet, &mut budget, tell);
        result = result.and(this);
        if rest.is_empty() {
            return result;
        }
    }
    Err(RtcpError::TooMany)
}

/// The first packet of a compound by its own length, and what follows.
fn split_packet(compound: &[u8]) -> Option<(&[u8], &[u8])> {
    let [first, _, high, low, ..] = compound else { return None };
    if first >> 6 != 2 {
        return None;
    }
    let words = usize::from(u16::from_be_bytes([*high, *low]));
    compound.split_at_checked(words.saturating_add(1).saturating_mul(4))
}

fn read_packet(
    packet: &[u8],
    budget: &mut usize,
    tell: &mut dyn FnMut(RtcpEvent<'_>),
) -> Result<(), RtcpError> {
    let Some(&first) = packet.first() else { return Err(RtcpError::Malformed) };
    if first & 0x20 == 0 {
        return read_unpadded(packet, budget, tell);
    }
    // The readers below take padding for content, so they get a copy without it.
    let mut copy = [0; MAX_PADDED];
    let padding = usize::from(packet.last().copied().unwrap_or(0));
    let length = packet
        .len()
        .checked_sub(padding)
        .filter(|length| padding % 4 == 0 && padding > 0 && *length >= HEADER);
    let length = length.ok_or(RtcpError::Malformed)?;
    let copy = copy.get_mut(..length).ok_or(RtcpError::Malformed)?;
    copy.copy_from_slice(packet.get(..length).ok_or(RtcpError::Malformed)?);
    let words =
        u16::try_from((length / 4).saturating_sub(1)).map_err(|_| RtcpError::Malformed)?.to_be_bytes();
    copy.get_mut(2..4).ok_or(RtcpError::Malformed)?.copy_from_slice(&words);
    *copy.first_mut().ok_or(RtcpError::Malformed)? &= !0x20;
    read_unpadded(copy, budget, tell)
}

fn read_unpadded(
    packet: &[u8],
    budget: &mut usize,
    tell: &mut dyn FnMut(RtcpEvent<'_>),
) -> Result<(), RtcpError> {
    let [first, kind, ..] = packet else { return Err(RtcpError::Malformed) };
    let format = first & 0x1f;
    match (*kind, format) {
        (200, _) => read_sender_report(packet, tell),
        (201, _) => {
            let report = ReceiverReport::parse(packet).map_err(|_| RtcpError::Malformed)?;
            tell(RtcpEvent::ReceiverReport { ssrc: report.ssrc() });
            report.report_blocks().for_each(|block| tell_block(report.ssrc(), &block, tell));
            Ok(())
        }
        (202, _) => read_sdes(packet, tell),
        (203, _) => {
            let bye = Bye::parse(packet).map_err(|_| RtcpError::Malformed)?;
            bye.ssrcs().for_each(|ssrc| tell(RtcpEvent::Bye { ssrc }));
            Ok(())
        }
        // FIR of RFC 2032 section 5.2.1, which old video endpoints still send: one SSRC, ours.
        (192, _) => {
            let media = word(packet, HEADER).ok_or(RtcpError::Malformed)?;
            tell(RtcpEvent::Pli { media });
            Ok(())
        }
        (205, 1) => {
            let (_, media, information) = feedback(packet)?;
            let nack = Nack::parse(information).map_err(|_| RtcpError::Malformed)?;
            for sequence in nack.entries() {
                spend(budget)?;
                tell(RtcpEvent::Nack { media, sequence });
            }
            Ok(())
        }
        (205, 3 | 4) => {
            let (from, _, information) = feedback(packet)?;
            for entry in information.chunks_exact(8) {
                spend(budget)?;
                let limit = rate_limit(entry).ok_or(RtcpError::Malformed)?;
                tell(if format == 3 {
                    RtcpEvent::Tmmbr { from, limit }
                } else {
                    RtcpEvent::Tmmbn { from, limit }
                });
            }
            Ok(())
        }
        (206, 1) => {
            let (_, media, _) = feedback(packet)?;
            tell(RtcpEvent::Pli { media });
            Ok(())
        }
        (206, 4) => {
            let (from, _, information) = feedback(packet)?;
            let fir = Fir::parse(information).map_err(|_| RtcpError::Malformed)?;
            for entry in fir.entries() {
                spend(budget)?;
                tell(RtcpEvent::Fir { from, media: entry.ssrc(), number: entry.sequence() });
            }
            Ok(())
        }
        (206, 15) => read_application_feedback(packet, budget, tell),
        _ => Ok(()),
    }
}

fn read_sender_report(packet: &[u8], tell: &mut dyn FnMut(RtcpEvent<'_>)) -> Result<(), RtcpError> {
    let report = SenderReport::parse(packet).map_err(|_| RtcpError::Malformed)?;
    let info = SenderInfo {
        ntp: NtpTime(report.ntp_timestamp()),
        rtp_timestamp: report.rtp_timestamp(),
        packets: report.packet_count(),
        octets: report.octet_count(),
    };
    tell(RtcpEvent::SenderReport { ssrc: report.ssrc(), info });
    report.report_blocks().for_each(|block| tell_block(report.ssrc(), &block, tell));
    Ok(())
}

fn tell_block(from: u32, block: &rtcp_types::ReportBlock<'_>, tell: &mut dyn FnMut(RtcpEvent<'_>)) {
    // 24 bits with sign: moved up to the sign of 32 and back.
    let cumulative_lost = (block.cumulative_lost() << 8).cast_signed() >> 8;
    let block = ReportBlock {
        ssrc: block.ssrc(),
        fraction_lost: block.fraction_lost(),
        cumulative_lost,
        highest: block.extended_sequence_number(),
        jitter: block.interarrival_jitter(),
        last_sender_report: block.last_sender_report_timestamp(),
        delay: block.delay_since_last_sender_report_timestamp(),
    };
    tell(RtcpEvent::Report { from, block });
}

fn read_sdes(packet: &[u8], tell: &mut dyn FnMut(RtcpEvent<'_>)) -> Result<(), RtcpError> {
    let sdes = Sdes::parse(packet).map_err(|_| RtcpError::Malformed)?;
    for chunk in sdes.chunks() {
        if let Some(item) = chunk.items().find(|item| item.type_() == SdesItem::CNAME) {
            tell(RtcpEvent::Cname { ssrc: chunk.ssrc(), name: item.value() });
        }
    }
    Ok(())
}

/// REMB in application layer feedback (RFC 4585 section 6.4): its name, a count, a rate as mantissa
/// and exponent, and so many sources.
fn read_application_feedback(
    packet: &[u8],
    budget: &mut usize,
    tell: &mut dyn FnMut(RtcpEvent<'_>),
) -> Result<(), RtcpError> {
    let (_, _, information) = feedback(packet)?;
    let Some(information) = information.strip_prefix(b"REMB") else { return Ok(()) };
    let (head, sources) = information.split_first_chunk::<4>().ok_or(RtcpError::Malformed)?;
    let packed = u32::from_be_bytes(*head);
    let bitrate = scaled(packed & 0x3_ffff, packed >> 18 & 0x3f);
    for source in sources.chunks_exact(4).take(usize::from(u8::try_from(packed >> 24).unwrap_or(0))) {
        spend(budget)?;
        let media = word(source, 0).ok_or(RtcpError::Malformed)?;
        tell(RtcpEvent::Remb { media, bitrate });
    }
    Ok(())
}

/// Who sends feedback, of which source, and its control information.
fn feedback(packet: &[u8]) -> Result<(u32, u32, &[u8]), RtcpError> {
    let from = word(packet, HEADER).ok_or(RtcpError::Malformed)?;
    let media = word(packet, HEADER.saturating_add(4)).ok_or(RtcpError::Malformed)?;
    Ok((from, media, packet.get(FEEDBACK_HEADER..).ok_or(RtcpError::Malformed)?))
}

/// RFC 5104 section 4.2.1.2: exponent of 6 bits, mantissa of 17, overhead of 9.
fn rate_limit(entry: &[u8]) -> Option<RateLimit> {
    let packed = word(entry, 4)?;
    Some(RateLimit {
        media: word(entry, 0)?,
        bitrate: scaled(packed >> 9 & 0x1_ffff, packed >> 26),
        overhead: u16::try_from(packed & 0x1ff).ok()?,
    })
}

fn scaled(mantissa: u32, exponent: u32) -> u64 {
    let scaled = u128::from(mantissa).checked_shl(exponent).unwrap_or(u128::MAX);
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn spend(budget: &mut usize) -> Result<(), RtcpError> {
    *budget = budget.checked_sub(1).ok_or(RtcpError::TooMany)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(datagram: &[u8]) -> (Vec<String>, Result<(), RtcpError>) {
        let mut events = Vec::new();
        let result = read(datagram, &mut |event| events.push(format!("{event:?}")));
        (events, result)
    }

    #[test]
    fn a_report_with_its_name_is_read() {
        let mut datagram = vec![0x81, 201, 0, 7, 0, 0, 0, 1];
        datagram.extend([0, 0, 0, 2, 64, 0xff, 0xff, 0xfe, 0, 1, 0, 9, 0, 0, 0, 33, 0, 0, 0, 4, 0, 0, 0, 5]);
        datagram.extend([0x81, 202, 0, 3, 0, 0, 0, 1, 1, 5, b'a', b'@', b'b', b'.', b'c', 0]);
        let mut events = Vec::new();
        read(&datagram, &mut |event| match event {
            RtcpEvent::Cname { ssrc, name } => events.push(format!("{ssrc} {}", name.escape_ascii())),
            RtcpEvent::Report { from, block } => {
                assert_eq!((from, block.ssrc, block.fraction_lost, block.cumulative_lost), (1, 2, 64, -2));
                assert_eq!(
                    (block.highest, block.jitter, block.last_sender_report, block.delay),
                    (0x1_0009, 33, 4, 5)
                );
            }
            event => events.push(format!("{event:?}")),
        })
        .unwrap();
        assert_eq!(events, ["ReceiverReport { ssrc: 1 }", "1 a@b.c"]);
    }

    #[test]
    fn a_malformed_packet_does_not_hide_its_neighbours() {
        let mut datagram = vec![0x9f, 201, 0, 1, 0, 0, 0, 1];
        datagram.extend([0x81, 203, 0, 1, 0, 0, 0, 7]);
        assert_eq!(told(&datagram), (vec!["Bye { ssrc: 7 }".into()], Err(RtcpError::Malformed)));
        // A length that leads out of the datagram ends it.
        assert_eq!(told(&[0x80, 201, 0, 9, 0, 0, 0, 1]), (vec![], Err(RtcpError::Malformed)));
        assert_eq!(told(&[]).1, Err(RtcpError::Malformed));
    }

    #[test]
    fn padding_is_not_content() {
        // A NACK of packet 5 and four bytes of padding that would read as a NACK of packet 0 and 3.
        let datagram = [0xa1, 205, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 5, 0, 0, 0, 0, 0, 4];
        assert_eq!(told(&datagram), (vec!["Nack { media: 2, sequence: 5 }".into()], Ok(())));
        for wrong in [0, 3, 20, 24] {
            let mut datagram = datagram;
            datagram[19] = wrong;
            assert_eq!(told(&datagram).1, Err(RtcpError::Malformed), "{wrong}");
        }
    }

    #[test]
    fn a_nack_names_its_packet_and_those_of_its_mask() {
        let datagram = [0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0xff, 0xff, 0x80, 0x01];
        let expected: Vec<String> = [65_535, 0, 15]
            .iter()
            .map(|sequence| format!("Nack {{ media: 2, sequence: {sequence} }}"))
            .collect();
        assert_eq!(told(&datagram), (expected, Ok(())));
    }

    #[test]
    fn nacks_are_bounded() {
        let mut datagram = vec![0x81, 205, 1, 2, 0, 0, 0, 1, 0, 0, 0, 2];
        datagram.extend([0, 0, 0xff, 0xff].repeat(256));
        let (events, result) = told(&datagram);
        assert_eq!((events.len(), result), (MAX_NACKED, Err(RtcpError::TooMany)));
    }

    #[test]
    fn packets_are_bounded() {
        let (events, result) = told(&[0x81, 203, 0, 1, 0, 0, 0, 7].repeat(MAX_PACKETS + 1));
        assert_eq!((events.len(), result), (MAX_PACKETS, Err(RtcpError::TooMany)));
    }

    #[test]
    fn rates_are_read() {
        // 17-bit mantissa 1000, exponent 9, overhead 40: 512 kbit/s.
        let packed: u32 = 9 << 26 | 1000 << 9 | 40;
        let mut datagram = vec![0x83, 205, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2];
        datagram.extend(packed.to_be_bytes());
        let expected = "Tmmbr { from: 1, limit: RateLimit { media: 2, bitrate: 512000, overhead: 40 } }";
        assert_eq!(told(&datagram), (vec![expected.into()], Ok(())));
        datagram[0] = 0x84;
        assert!(told(&datagram).0[0].starts_with("Tmmbn"));

        let packed: u32 = 2 << 24 | 3 << 18 | 64_000;
        let mut datagram = vec![0x8f, 206, 0, 6, 0, 0, 0, 1, 0, 0, 0, 0, b'R', b'E', b'M', b'B'];
        datagram.extend(packed.to_be_bytes());
        datagram.extend([0, 0, 0, 7, 0, 0, 0, 8]);
        let expected = [7, 8].map(|media| format!("Remb {{ media: {media}, bitrate: 512000 }}"));
        assert_eq!(told(&datagram), (expected.to_vec(), Ok(())));
        // An exponent that leads out of 64 bits saturates.
        datagram[17] = 0xff;
        assert!(told(&datagram).0[0].contains(&u64::MAX.to_string()), "{:?}", told(&datagram));
    }

    #[test]
    fn keyframe_requests_of_three_generations() {
        assert_eq!(told(&[0x80, 192, 0, 1, 0, 0, 0, 9]).0, ["Pli { media: 9 }"]);
        assert_eq!(told(&[0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 9]).0, ["Pli { media: 9 }"]);
        let fir = [0x84, 206, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 5, 0, 0, 0];
        assert_eq!(told(&fir).0, ["Fir { from: 1, media: 9, number: 5 }"]);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            parts in proptest::collection::vec(
                (0x80u8..0xc0, 190u8..210, proptest::collection::vec(any::<u8>(), 0..60)), 1..5),
            cut in 0usize..8,
        ) {
            let mut datagram = Vec::new();
            for (first, kind, mut body) in parts {
                body.resize(body.len().div_ceil(4) * 4, 0);
                datagram.extend([first, kind, 0, u8::try_from(body.len() / 4).unwrap()]);
                datagram.extend(body);
            }
            datagram.truncate(datagram.len() - cut.min(datagram.len()));
            let mut events = 0;
            let _ = read(&datagram, &mut |_| events += 1);
            prop_assert!(events <= datagram.len() * 4 + MAX_NACKED);
        }
    }
}
