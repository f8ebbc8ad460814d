//! Session descriptions and media packets.

use std::time::Duration;

use crosspoint_codecs::format::PacketizationMode;
use crosspoint_proto::Instant;
use crosspoint_proto::rtp::dtmf::{DtmfReceiver, event_of};
use crosspoint_proto::rtp::packet::{DatagramKind, RtpPacket};
use crosspoint_proto::rtp::payload::h264::{H264Depacketizer, H264Packetizer, MAX_UNIT, nal_units};
use crosspoint_proto::rtp::payload::{Depacketizer, Packetizer, Payload};
use crosspoint_proto::rtp::reception::{Reception, Sequence};
use crosspoint_proto::rtp::reorder::{NackPolicy, Ready, Reorder, ReorderConfig};
use crosspoint_proto::rtp::rtcp::{self, NtpTime, RtcpEvent, RtcpWriter};
use crosspoint_proto::rtp::timeline::{LegClock, ReceiveTimeline};
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

/// A compound RTCP packet: what it asks for is bounded, and what it says, we write and read again.
pub fn rtcp(data: &[u8]) {
    let mut missing = 0;
    let mut events = 0_usize;
    let _ = rtcp::read(data, &mut |event| {
        events += 1;
        if let RtcpEvent::Nack { .. } = event {
            missing += 1;
        }
        rewrite(&event);
    });
    assert!(missing <= rtcp::MAX_NACKED);
    // No event without octets of its own, but for the list of a NACK, which is bounded above.
    assert!(events <= data.len() + rtcp::MAX_NACKED);
}

/// Writes what an event says and reads it: the same, and nothing else but the head of a report.
fn rewrite(event: &RtcpEvent<'_>) {
    let mut buffer = [0; 400];
    let mut writer = RtcpWriter::new(&mut buffer);
    let written = match event {
        RtcpEvent::SenderReport { ssrc, info } => writer.sender_report(*ssrc, info, &[]),
        RtcpEvent::ReceiverReport { ssrc } => writer.receiver_report(*ssrc, &[]),
        RtcpEvent::Report { from, block } => writer.receiver_report(*from, &[*block]),
        RtcpEvent::Cname { ssrc, name } => match std::str::from_utf8(name) {
            Ok(name) => writer.cname(*ssrc, name),
            Err(_) => return,
        },
        RtcpEvent::Bye { ssrc } => writer.bye(*ssrc),
        RtcpEvent::Nack { media, sequence } => writer.nack(1, *media, &[*sequence]),
        RtcpEvent::Pli { media } => writer.pli(1, *media),
        RtcpEvent::Fir { from, media, number } => writer.fir(*from, *media, *number),
        // A rate beyond 64 bits reads as their end, which has more digits than the field.
        RtcpEvent::Tmmbr { limit, .. } | RtcpEvent::Tmmbn { limit, .. } if limit.bitrate == u64::MAX => {
            return;
        }
        RtcpEvent::Tmmbr { from, limit } => writer.tmmbr(*from, limit),
        RtcpEvent::Tmmbn { from, limit } => writer.tmmbn(*from, limit),
        RtcpEvent::Remb { bitrate: u64::MAX, .. } => return,
        RtcpEvent::Remb { media, bitrate } => writer.remb(1, *media, *bitrate),
        _ => return,
    };
    written.expect("what was read fits");
    let len = writer.len();
    let mut same = 0;
    rtcp::read(&buffer[..len], &mut |again| match again {
        RtcpEvent::ReceiverReport { .. } if matches!(event, RtcpEvent::Report { .. }) => {}
        again => {
            assert_eq!(again, *event);
            same += 1;
        }
    })
    .expect("what we write reads");
    assert_eq!(same, 1);
}

/// Packets as they come in, each as: what it is, step of its number, step of its stamp (two octets),
/// step of time. They come out in order, each once, within the bound, with every gap told; their
/// media time goes with their stamps, without jumps that were not counted; keys are told as keys.
pub fn rtp_order(data: &[u8]) {
    const WAIT: Duration = Duration::from_millis(60);
    let [setup, capacity, steps @ ..] = data else { return };
    let mut window = Reorder::new(&ReorderConfig {
        capacity: usize::from(*capacity),
        max_wait: WAIT,
        nack: (setup & 1 != 0).then(NackPolicy::default),
    });
    let mut reception = Reception::new(8000, setup >> 1 & 3);
    let (mut timeline, mut leg) = (ReceiveTimeline::new(8000), LegClock::default());
    let mut keys = DtmfReceiver::default();
    let (mut now, mut sequence, mut timestamp) = (Instant::from_millis(1000), 0_u16, 0_u32);
    let mut newest: Option<u64> = None;
    let mut told = None;
    for step in steps.chunks_exact(5) {
        let [kind, number, high, low, time] = *step else { return };
        now += Duration::from_millis(u64::from(time) / 4);
        sequence = sequence.wrapping_add_signed(i16::from(number.cast_signed()));
        if kind & 0x40 != 0 {
            sequence = sequence.wrapping_add(u16::from_be_bytes([number, high]));
        }
        timestamp = timestamp.wrapping_add_signed(i32::from(i16::from_be_bytes([high, low])));
        let mut check = |ready: Ready<Instant>| {
            assert!(newest.is_none_or(|newest| newest < ready.index), "order");
            // Without a beginning nothing is known to be lost.
            if let Some(newest) = newest {
                let gap = u16::try_from(ready.index - newest - 1).unwrap_or(u16::MAX);
                assert_eq!(ready.lost_before, gap, "every gap is told");
            }
            newest = Some(ready.index);
        };
        // As a driver does: what was due before this packet comes first.
        while let Some(deadline) = window.deadline().filter(|deadline| *deadline <= now) {
            window.poll(deadline, &mut |ready| {
                assert!(deadline <= ready.item + WAIT, "held too long");
                check(ready);
            });
            window.requests(deadline, &mut [0; 512]);
        }
        match reception.sequence(sequence) {
            Sequence::Valid(index) => {
                window.push(now, index, now, &mut check);
            }
            Sequence::Restarted(index) => {
                window.flush(&mut check);
                newest = None;
                window.push(now, index, now, &mut |ready| newest = Some(ready.index));
            }
            Sequence::Probation | Sequence::Outlier => continue,
        }
        assert!(window.held() <= usize::from(*capacity).max(2));
        if kind & 0x80 != 0 {
            let payload = [kind & 0x1f, high, number, low];
            let key = keys.receive(now, timestamp, kind & 0x20 != 0, &payload);
            assert!(key.is_none_or(|key| event_of(key) == Some(payload[0])));
            continue;
        }
        reception.arrival(now, timestamp);
        if kind & 0x20 != 0 {
            let ntp = NtpTime(u64::from(number) << 33 | u64::from(low) << 26);
            timeline.sender_report(now, &mut leg, ntp, timestamp);
        }
        let jumps = timeline.stats().jumps;
        let media = timeline.media_time(now, &mut leg, timestamp);
        assert_eq!(timeline.media_time(now, &mut leg, timestamp), media, "a stamp has one time");
        if let Some((stamp, last)) = told.replace((timestamp, media))
            && timeline.stats().jumps == jumps
        {
            // A tick is 125 us; reports move the line by a twentieth at most.
            let step = i64::from(timestamp.wrapping_sub(stamp).cast_signed()) * 125_000;
            let moved = media.nanos_since(last) - step;
            assert!(moved.abs() <= step.abs() / 20 + 1, "{step} {moved}");
        }
        if let Some(report) = reception.report() {
            assert!(report.cumulative_lost.unsigned_abs() <= 0x80_0000);
        }
    }
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
