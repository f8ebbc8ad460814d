//! Session descriptions and media packets.

use crosspoint_codecs::format::PacketizationMode;
use crosspoint_proto::rtp::packet::{DatagramKind, RtpPacket};
use crosspoint_proto::rtp::payload::h264::{H264Depacketizer, H264Packetizer, MAX_UNIT, nal_units};
use crosspoint_proto::rtp::payload::{Depacketizer, Packetizer, Payload};
use crosspoint_proto::rtp::rtcp::{self, RtcpEvent};
use crosspoint_proto::sdp::{MAX_MEDIA, Sdp};

/// A description: what we print of one that parsed, parses, and prints the same again.
pub fn sdp(data: &[u8]) {
    let Ok(sdp) = Sdp::parse(data) else { return };
    assert!(sdp.media.len() <= MAX_MEDIA);
    for line in &sdp.media {
        let _ = (sdp.direction_of(line), sdp.rtp_of(line), sdp.rtcp_of(line), line.role(), line.profile());
    }
    let printed = sdp.to_bytes();
    let again = Sdp::parse(&printed).expect("what we print parses");
    assert_eq!(again.to_bytes(), printed);
}

/// An RTP packet: its parts lie within it, and a rewritten header reads back.
pub fn rtp(data: &[u8]) {
    let _ = DatagramKind::of(data);
    let Ok(packet) = RtpPacket::parse(data) else { return };
    assert!(packet.payload_offset + packet.payload.len() <= data.len());
    assert_eq!(&data[packet.payload_offset..][..packet.payload.len()], packet.payload);
    assert!(packet.csrcs().count() <= 15);
    if let Some(extension) = &packet.extension {
        for id in 0..=15 {
            let _ = (extension.item(id), extension.audio_level(id));
        }
    }
    let mut header = packet.header;
    header.ssrc = !header.ssrc;
    header.sequence = header.sequence.wrapping_add(1);
    let mut copy = data.to_vec();
    header.rewrite(&mut copy).expect("a packet has room for its header");
    let rewritten = RtpPacket::parse(&copy).expect("a rewritten packet parses");
    assert_eq!((rewritten.header, rewritten.payload), (header, packet.payload));
}

/// A compound RTCP packet: what it asks for is bounded.
pub fn rtcp(data: &[u8]) {
    let mut missing = 0;
    let mut events = 0_usize;
    let _ = rtcp::read(data, &mut |event| {
        events += 1;
        if let RtcpEvent::Nack { .. } = event {
            missing += 1;
        }
    });
    assert!(missing <= rtcp::MAX_NACKED);
    // No event without octets of its own, but for the list of a NACK, which is bounded above.
    assert!(events <= data.len() + rtcp::MAX_NACKED);
}

/// A run of payloads, each as: flags, time step, length in two octets, octets. Units are bounded, and
/// one that is whole survives being packed and put together once more.
pub fn h264_depack(data: &[u8]) {
    let mut depacketizer = H264Depacketizer::new();
    let (mut rest, mut timestamp) = (data, 0_u32);
    while let [flags, step, high, low, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
        let (payload, tail) = tail.split_at(length);
        rest = tail;
        timestamp = timestamp.wrapping_add(u32::from(*step));
        let payload =
            Payload { data: payload, timestamp, marker: flags & 1 != 0, lost_before: u16::from(flags >> 6) };
        let _ = depacketizer.push(payload, &mut |unit| {
            assert!(unit.data.len() <= MAX_UNIT);
            if !unit.damaged {
                repack(unit.data);
            }
        });
        if flags & 0x20 != 0 {
            depacketizer.reset();
        }
    }
}

fn repack(unit: &[u8]) {
    let sent: Vec<_> = nal_units(unit).collect();
    let mut packets = Vec::new();
    let packed =
        H264Packetizer::new(PacketizationMode::NonInterleaved).packetize(unit, 100, &mut |data, marker| {
            assert!(data.len() <= 100);
            packets.push((data.to_vec(), marker));
        });
    if packed.is_err() || packets.is_empty() {
        return;
    }
    let mut depacketizer = H264Depacketizer::new();
    let mut received = Vec::new();
    for (data, marker) in &packets {
        let payload = Payload { data, timestamp: 1, marker: *marker, lost_before: 0 };
        let _ =
            depacketizer.push(payload, &mut |unit| received.extend(nal_units(unit.data).map(<[u8]>::to_vec)));
    }
    // Parameter sets may be added before a keyframe, never anything lost.
    assert!(sent.iter().all(|nal| received.iter().any(|r| r == nal)) || received.is_empty());
}
