//! Between frames and packets: RTP payloads of Opus and H.264 written and put together again, and
//! SRTP on and off. A figure is of one packet of sound, of one access unit, or of one protected
//! packet.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crosspoint_codecs::format::{Codec, PacketizationMode};
use crosspoint_proto::rtp::packet::{MAX_PAYLOAD, RtpHeader, RtpPacket};
use crosspoint_proto::rtp::payload::audio::{AudioDepacketizer, AudioPacketizer};
use crosspoint_proto::rtp::payload::h264::{H264Depacketizer, H264Packetizer};
use crosspoint_proto::rtp::payload::{Depacketizer, Packetizer, Payload};
use crosspoint_proto::rtp::srtp::{MAX_OVERHEAD, MasterKey, SrtpContext, SrtpSuite};

/// Room for a packet.
const PACKET: usize = 1_500;
const HEADER: usize = 12;
/// An ordinary picture and a keyframe of 720p at 1.5 Mbit/s.
const UNITS: [(&str, usize); 2] = [("picture of 6 kB", 6_000), ("keyframe of 40 kB", 40_000)];

/// 24 kbit/s.
fn sound() -> Vec<u8> {
    // A fullband CELT frame of 20 ms (RFC 6716 section 3.1).
    let mut packet = bytes(60);
    packet[0] = 31 << 3;
    packet
}

/// An access unit in Annex B form: one slice, before a keyframe's the parameter sets.
fn picture(size: usize) -> Vec<u8> {
    let keyframe = size > 10_000;
    let mut unit = Vec::new();
    let nals = [(0x67, 20), (0x68, 4)].into_iter().filter(|_| keyframe);
    for (header, len) in nals.chain([(if keyframe { 0x65 } else { 0x41 }, size)]) {
        unit.extend_from_slice(&[0, 0, 0, 1, header]);
        unit.extend(bytes(len));
    }
    unit
}

/// Never zero, so that no start code is among them.
fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|n| u8::try_from(n * 7_919 % 251).unwrap_or(0) | 1).collect()
}

/// Writes `frame` as RTP packets, one behind the other; returns where each ends.
fn write(
    packetizer: &mut dyn Packetizer,
    header: &mut RtpHeader,
    frame: &[u8],
    out: &mut [u8],
) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut end = 0;
    let done = packetizer.packetize(frame, MAX_PAYLOAD, &mut |payload, marker| {
        header.sequence = header.sequence.wrapping_add(1);
        header.marker = marker;
        end += header.write(&mut out[end..]).expect("room");
        out[end..end + payload.len()].copy_from_slice(payload);
        end += payload.len();
        ends.push(end);
    });
    done.expect("a frame that fits");
    ends
}

fn payloads(criterion: &mut Criterion) {
    let frames = [("Opus, 60 bytes", sound(), true)]
        .into_iter()
        .chain(UNITS.map(|(name, size)| (name, picture(size), false)));
    for (name, frame, is_sound) in frames {
        let mut packetizer: Box<dyn Packetizer> = if is_sound {
            Box::new(AudioPacketizer)
        } else {
            Box::new(H264Packetizer::new(PacketizationMode::NonInterleaved))
        };
        let mut depacketizer: Box<dyn Depacketizer> = if is_sound {
            Box::new(AudioDepacketizer::new(Codec::Opus))
        } else {
            Box::new(H264Depacketizer::new())
        };
        let mut header = RtpHeader { payload_type: 96, ssrc: 1, ..RtpHeader::default() };
        let mut out = vec![0; 2 * frame.len() + PACKET];
        let mut group = criterion.benchmark_group("packets");
        group.throughput(Throughput::Bytes(u64::try_from(frame.len()).unwrap_or(0)));
        let mut room = [0; PACKET];
        group.bench_function(format!("packetise/{name}"), |bencher| {
            bencher.iter(|| {
                let emit = &mut |payload: &[u8], marker| {
                    header.sequence = header.sequence.wrapping_add(1);
                    header.marker = marker;
                    header.write(&mut room).expect("room");
                    black_box(&mut room[HEADER..HEADER + payload.len()]).copy_from_slice(payload);
                };
                packetizer.packetize(black_box(&frame), MAX_PAYLOAD, emit)
            });
        });
        let ends = write(&mut *packetizer, &mut header, &frame, &mut out);
        let mut timestamp = 0;
        let mut units = 0u64;
        group.bench_function(format!("depacketise/{name}"), |bencher| {
            bencher.iter(|| {
                timestamp += 1;
                let mut start = 0;
                for end in &ends {
                    let packet = RtpPacket::parse(black_box(&out[start..*end])).expect("a packet");
                    start = *end;
                    let payload = Payload {
                        data: packet.payload,
                        timestamp,
                        marker: packet.header.marker,
                        lost_before: 0,
                    };
                    depacketizer
                        .push(payload, &mut |unit| units += u64::from(!unit.damaged))
                        .expect("a unit");
                }
            });
        });
        // A picture that is the first of its source may lack its beginning, as far as anybody knows.
        assert!(units + 1 >= u64::from(timestamp), "{name}: {units} units of {timestamp}");
        group.finish();
    }
}

/// Packets that are protected at once, of which then each is opened.
const BATCH: usize = 64;

fn srtp(criterion: &mut Criterion) {
    let key: [u8; 30] = std::array::from_fn(|n| u8::try_from(n * 7).unwrap_or(0));
    let master = MasterKey::new(SrtpSuite::Aes128CmSha1_80, &key).expect("a key");
    for payload in [60, 160, 1_160] {
        let mut sender = SrtpContext::new(&master).expect("keys");
        let mut receiver = SrtpContext::new(&master).expect("keys");
        let mut header = RtpHeader { payload_type: 96, ssrc: 1, ..RtpHeader::default() };
        let len = HEADER + payload;
        let mut group = criterion.benchmark_group("srtp");
        group.throughput(Throughput::Bytes(u64::try_from(len).unwrap_or(0)));
        let mut packets = vec![vec![0x55; len + MAX_OVERHEAD]; BATCH];
        let mut protect = |packets: &mut [Vec<u8>], sender: &mut SrtpContext| {
            for packet in &mut *packets {
                header.sequence = header.sequence.wrapping_add(1);
                packet.resize(len + MAX_OVERHEAD, 0);
                header.write(packet).expect("room");
            }
            let mut end = 0;
            let begun = Instant::now();
            for packet in &mut *packets {
                end = sender.protect_rtp(black_box(packet), len).expect("a protected packet");
            }
            let spent = begun.elapsed();
            packets.iter_mut().for_each(|packet| packet.truncate(end));
            spent
        };
        group.bench_function(format!("protect/{payload} bytes"), |bencher| {
            bencher.iter_custom(|count| batches(count, |n| protect(&mut packets[..n], &mut sender)));
        });
        let mut other = SrtpContext::new(&master).expect("keys");
        group.bench_function(format!("unprotect/{payload} bytes"), |bencher| {
            bencher.iter_custom(|count| {
                batches(count, |n| {
                    protect(&mut packets[..n], &mut other);
                    let begun = Instant::now();
                    for packet in &mut packets[..n] {
                        receiver.unprotect_rtp(black_box(packet)).expect("an authentic packet");
                    }
                    begun.elapsed()
                })
            });
        });
        group.finish();
    }
}

/// So many packets, [`BATCH`] at a time.
fn batches(count: u64, mut work: impl FnMut(usize) -> Duration) -> Duration {
    let mut left = usize::try_from(count).unwrap_or(usize::MAX);
    let mut spent = Duration::ZERO;
    while left > 0 {
        let now = left.min(BATCH);
        spent += work(now);
        left -= now;
    }
    spent
}

criterion_group!(benches, payloads, srtp);
criterion_main!(benches);
