//! The RTP building blocks together, over a bad road in virtual time: pictures are packetised,
//! protected, lost, doubled and disordered, asked for again by RTCP and put together.
#![cfg(feature = "srtp")]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at what it did not expect; the crate's lints are for bytes of peers"
)]

use std::time::{Duration, SystemTime};

use crosspoint_codecs::format::PacketizationMode;
use crosspoint_codecs::frame::{Data, Pool};
use crosspoint_proto::Instant;
use crosspoint_proto::netem::{Conditions, Link};
use crosspoint_proto::rtp::history::History;
use crosspoint_proto::rtp::packet::{MAX_PAYLOAD, RtpHeader, RtpPacket};
use crosspoint_proto::rtp::payload::h264::{H264Depacketizer, H264Packetizer};
use crosspoint_proto::rtp::payload::{Depacketizer, Packetizer, Payload};
use crosspoint_proto::rtp::reception::{Reception, Sequence};
use crosspoint_proto::rtp::reorder::{NackPolicy, Reorder, ReorderConfig, ReorderStats};
use crosspoint_proto::rtp::rtcp::{
    LastSenderReport, NtpTime, ReportBlock, RtcpEvent, RtcpWriter, SenderInfo, read, round_trip,
};
use crosspoint_proto::rtp::srtp::{MAX_OVERHEAD, MasterKey, SrtpContext, SrtpError, SrtpSuite};

const OURS: u32 = 0x5eed_0001;
const THEIRS: u32 = 0x5eed_0002;
/// 33 seconds of pictures.
const PICTURES: u64 = 1000;
const MAX_WAIT: Duration = Duration::from_millis(250);
const START: Instant = Instant::from_millis(10_000);

fn context(salt: u8) -> SrtpContext {
    SrtpContext::new(&MasterKey::new(SrtpSuite::Aes128CmSha1_80, &[salt; 30]).unwrap()).unwrap()
}

fn wall(now: Instant) -> NtpTime {
    NtpTime::from_wall(SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000) + (now - Instant::ZERO))
}

/// The picture of that number: a few slices of uneven size, no two alike.
fn picture(number: u64) -> Vec<u8> {
    let mut unit = Vec::new();
    for slice in 0..3u64 {
        unit.extend([0, 0, 0, 1, 0x41, if slice == 0 { 0x9a } else { 0x1a }]);
        let len = 700 + (number * 7919 + slice * 104_729) % 4000;
        unit.extend((0..len).map(|place| ((number + slice + place) % 255 + 1) as u8));
    }
    unit
}

struct Sender {
    srtp: SrtpContext,
    back: SrtpContext,
    split: H264Packetizer,
    history: History,
    pool: Pool,
    sequence: u16,
    packets: u32,
    round_trip: Option<Duration>,
    /// The highest of all reports, in 256ths.
    reported_loss: u8,
}

impl Sender {
    fn picture(&mut self, now: Instant, number: u64, road: &mut Link<Vec<u8>>) {
        let unit = picture(number);
        let (pool, mut plain) = (self.pool.clone(), Vec::new());
        self.split
            .packetize(&unit, MAX_PAYLOAD, &mut |payload, marker| {
                plain.push(
                    pool.take(|room| {
                        let header = RtpHeader {
                            payload_type: 96,
                            marker,
                            sequence: self.sequence,
                            timestamp: (number as u32).wrapping_mul(3000),
                            ssrc: OURS,
                        };
                        self.sequence = self.sequence.wrapping_add(1);
                        let start = header.write(room).unwrap();
                        room[start..start + payload.len()].copy_from_slice(payload);
                        Some(start + payload.len())
                    })
                    .unwrap(),
                );
            })
            .unwrap();
        for packet in plain {
            self.packets += 1;
            self.send(now, &packet, road);
            let sequence = RtpPacket::parse(&packet).unwrap().header.sequence;
            self.history.push(now, sequence, packet);
        }
    }

    fn send(&mut self, now: Instant, packet: &[u8], road: &mut Link<Vec<u8>>) {
        let mut wire = packet.to_vec();
        wire.resize(packet.len() + MAX_OVERHEAD, 0);
        let len = self.srtp.protect_rtp(&mut wire, packet.len()).unwrap();
        wire.truncate(len);
        road.send(now, wire);
    }

    fn report(&mut self, now: Instant, road: &mut Link<Vec<u8>>) {
        let info = SenderInfo { ntp: wall(now), rtp_timestamp: 0, packets: self.packets, octets: 0 };
        let mut buffer = vec![0; 200];
        let mut writer = RtcpWriter::new(&mut buffer);
        writer.sender_report(OURS, &info, &[]).unwrap();
        writer.cname(OURS, "a").unwrap();
        let len = writer.len();
        let len = self.srtp.protect_rtcp(&mut buffer, len).unwrap();
        buffer.truncate(len);
        road.send(now, buffer);
    }

    fn feedback(&mut self, now: Instant, mut wire: Vec<u8>, road: &mut Link<Vec<u8>>) {
        let Ok(len) = self.back.unprotect_rtcp(&mut wire) else { return };
        let mut wanted = Vec::new();
        read(&wire[..len], &mut |event| match event {
            RtcpEvent::Nack { media: OURS, sequence } => wanted.push(sequence),
            RtcpEvent::Report { block, .. } => {
                self.round_trip =
                    round_trip(wall(now), block.last_sender_report, block.delay).or(self.round_trip);
                self.reported_loss = self.reported_loss.max(block.fraction_lost);
            }
            _ => {}
        })
        .unwrap();
        for sequence in wanted {
            let trip = self.round_trip.unwrap_or_default();
            if let Some(packet) = self.history.repeat(now, sequence, trip).cloned() {
                self.send(now, &packet, road);
            }
        }
    }
}

struct Receiver {
    srtp: SrtpContext,
    back: SrtpContext,
    reception: Reception,
    window: Reorder<Data>,
    join: H264Depacketizer,
    nack: bool,
    last: Option<LastSenderReport>,
    replayed: u64,
    whole: u64,
    damaged: u64,
    longest: Duration,
}

impl Receiver {
    fn take(&mut self, now: Instant, mut wire: Vec<u8>) {
        if wire[1] == 200 {
            let len = match self.srtp.unprotect_rtcp(&mut wire) {
                Ok(len) => len,
                Err(error) => return assert_eq!(error, SrtpError::Replayed),
            };
            read(&wire[..len], &mut |event| {
                if let RtcpEvent::SenderReport { info, .. } = event {
                    self.last = Some(LastSenderReport { ntp: info.ntp, at: now });
                }
            })
            .unwrap();
            return;
        }
        let len = match self.srtp.unprotect_rtp(&mut wire) {
            Ok(len) => len,
            Err(error) => {
                assert_eq!(error, SrtpError::Replayed);
                self.replayed += 1;
                return;
            }
        };
        let packet = RtpPacket::parse(&wire[..len]).unwrap();
        match self.reception.sequence(packet.header.sequence) {
            Sequence::Valid(index) => {
                let (join, whole, damaged, longest) =
                    (&mut self.join, &mut self.whole, &mut self.damaged, &mut self.longest);
                let item = Data::from_slice(&wire[..len]);
                self.window.push(now, index, item, &mut |ready| {
                    joined(join, now, &ready.item, ready.lost_before, whole, damaged, longest);
                });
            }
            other => panic!("{other:?}"),
        }
    }

    fn poll(&mut self, now: Instant) {
        let (join, whole, damaged, longest) =
            (&mut self.join, &mut self.whole, &mut self.damaged, &mut self.longest);
        self.window.poll(now, &mut |ready| {
            joined(join, now, &ready.item, ready.lost_before, whole, damaged, longest);
        });
    }

    fn feedback(&mut self, now: Instant, road: &mut Link<Vec<u8>>, report: bool) {
        let mut wanted = [0; 64];
        let count = if self.nack { self.window.requests(now, &mut wanted) } else { 0 };
        if count == 0 && !report {
            return;
        }
        let mut buffer = vec![0; 700];
        let mut writer = RtcpWriter::new(&mut buffer);
        let block = self.reception.report().filter(|_| report).map(|report| {
            let (last_sender_report, delay) = LastSenderReport::echo(self.last, now);
            ReportBlock {
                ssrc: OURS,
                fraction_lost: report.fraction_lost,
                cumulative_lost: report.cumulative_lost,
                highest: report.highest,
                jitter: report.jitter,
                last_sender_report,
                delay,
            }
        });
        writer.receiver_report(THEIRS, block.as_slice()).unwrap();
        writer.cname(THEIRS, "b").unwrap();
        if count > 0 {
            writer.nack(THEIRS, OURS, &wanted[..count]).unwrap();
        }
        let len = writer.len();
        let len = self.back.protect_rtcp(&mut buffer, len).unwrap();
        buffer.truncate(len);
        road.send(now, buffer);
    }
}

/// A packet in order goes to the depacketizer; whole pictures must be those that were sent.
fn joined(
    join: &mut H264Depacketizer,
    now: Instant,
    packet: &[u8],
    lost_before: u16,
    whole: &mut u64,
    damaged: &mut u64,
    longest: &mut Duration,
) {
    let packet = RtpPacket::parse(packet).unwrap();
    let payload = Payload {
        data: packet.payload,
        timestamp: packet.header.timestamp,
        marker: packet.header.marker,
        lost_before,
    };
    join.push(payload, &mut |unit| {
        let number = u64::from(unit.timestamp / 3000);
        if unit.damaged {
            *damaged += 1;
        } else {
            assert_eq!(unit.data, picture(number));
            *whole += 1;
            *longest = (*longest).max(now - (START + Duration::from_millis(number * 33)));
        }
    })
    .unwrap();
}

struct Outcome {
    receiver: Receiver,
    sender: Sender,
    window: ReorderStats,
}

fn call(seed: u64, conditions: Conditions, nack: bool) -> Outcome {
    let (mut there, mut back) = (Link::new(seed, conditions), Link::new(seed + 1, conditions));
    let mut sender = Sender {
        srtp: context(1),
        back: context(2),
        split: H264Packetizer::new(PacketizationMode::NonInterleaved),
        history: History::new(1024, 2 << 20),
        pool: Pool::new(1100, 1500),
        // Both counters roll over within the call.
        sequence: 32_000,
        packets: 0,
        round_trip: None,
        reported_loss: 0,
    };
    let policy = NackPolicy { patience: Duration::from_millis(10), tries: 5 };
    let mut receiver = Receiver {
        srtp: context(1),
        back: context(2),
        reception: Reception::new(90_000, 0),
        window: Reorder::new(&ReorderConfig {
            capacity: 512,
            max_wait: MAX_WAIT,
            nack: nack.then_some(policy),
        }),
        join: H264Depacketizer::new(),
        nack,
        last: None,
        replayed: 0,
        whole: 0,
        damaged: 0,
        longest: Duration::ZERO,
    };
    receiver.window.set_round_trip(conditions.delay * 2 + conditions.jitter);
    // A millisecond at a time.
    for millis in 0..PICTURES * 33 + 2000 {
        let now = START + Duration::from_millis(millis);
        if millis % 33 == 0 && millis / 33 < PICTURES {
            sender.picture(now, millis / 33, &mut there);
        }
        if millis % 1000 == 0 {
            sender.report(now, &mut there);
        }
        while let Some(wire) = there.receive(now) {
            receiver.take(now, wire);
        }
        receiver.poll(now);
        receiver.feedback(now, &mut back, millis % 1000 == 500);
        while let Some(wire) = back.receive(now) {
            sender.feedback(now, wire, &mut there);
        }
    }
    let window = receiver.window.stats();
    Outcome { receiver, sender, window }
}

const ROAD: Conditions = Conditions {
    loss: 0.0,
    burst: 0.0,
    duplicate: 0.05,
    reorder: 0.05,
    delay: Duration::from_millis(20),
    jitter: Duration::from_millis(3),
    hold: Duration::from_millis(8),
};

#[test]
fn disorder_and_doubles_alone_cost_nothing() {
    let outcome = call(1, ROAD, false);
    assert_eq!((outcome.receiver.whole, outcome.receiver.damaged), (PICTURES, 0));
    assert!(outcome.receiver.replayed > 100 && outcome.window.reordered > 100);
    assert_eq!(outcome.window.lost, 0);
    // The road is 20 ms plus jitter each way.
    let trip = outcome.sender.round_trip.unwrap();
    assert!((40..=55).contains(&trip.as_millis()), "{trip:?}");
    assert!(outcome.receiver.longest <= Duration::from_millis(20 + 3 + 8), "{:?}", outcome.receiver.longest);
}

#[test]
fn what_is_lost_is_asked_for_and_comes() {
    let bare = call(3, Conditions { loss: 0.1, ..ROAD }, false);
    let mended = call(3, Conditions { loss: 0.1, ..ROAD }, true);
    // Some six packets a picture: half of them lose one.
    assert!(bare.receiver.whole < PICTURES * 7 / 10, "{}", bare.receiver.whole);
    assert!(mended.receiver.whole >= PICTURES * 99 / 100, "{}", mended.receiver.whole);
    assert!(mended.window.recovered > 400 && mended.window.lost <= 10, "{:?}", mended.window);
    // A request is lost as a packet is, and few are made twice without need.
    assert!(mended.window.requests < mended.window.recovered * 5 / 4, "{:?}", mended.window);
    // Nothing was held beyond its bound, and what was lost is reported as such or as recovered.
    let bound = MAX_WAIT + Duration::from_millis(20 + 3 + 8 + 1);
    assert!(mended.receiver.longest <= bound, "{:?}", mended.receiver.longest);
    assert!((10..45).contains(&bare.sender.reported_loss), "{}", bare.sender.reported_loss);
}

#[test]
fn twenty_percent_of_loss_still_leaves_pictures() {
    let outcome = call(5, Conditions { loss: 0.2, ..ROAD }, true);
    // Promise 10 of the reliability table asks for 70 % of the frames.
    assert!(outcome.receiver.whole >= PICTURES * 9 / 10, "{}", outcome.receiver.whole);
}
