//! The path of a packet through the RTP building blocks allocates nothing once it runs.
//!
//! Lives here because counting needs an allocator of its own, and so the word `unsafe`, which the
//! protocol crate forbids in all its targets.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use crosspoint_codecs::format::{
    AudioFormat, Codec, H264Profile, MediaFormat, MediaKind, PacketizationMode, VideoFormat,
};
use crosspoint_codecs::frame::{EncodedFrame, MediaTime, Pool};
use crosspoint_proto::Instant;
use crosspoint_proto::rtp::dtmf::{DtmfReceiver, DtmfSender};
use crosspoint_proto::rtp::history::History;
use crosspoint_proto::rtp::packet::{MAX_PAYLOAD, RtpHeader, RtpPacket};
use crosspoint_proto::rtp::payload::audio::{AudioDepacketizer, AudioPacketizer};
use crosspoint_proto::rtp::payload::h264::{H264Depacketizer, H264Packetizer};
use crosspoint_proto::rtp::payload::{Depacketizer, Packetizer, Payload};
use crosspoint_proto::rtp::reception::{Reception, Sequence};
use crosspoint_proto::rtp::reorder::{NackPolicy, Reorder, ReorderConfig};
use crosspoint_proto::rtp::session::{
    Channel, Feedback, Payload as Carried, ReceivePayload, Received, RemoteAddress, SendPayload, Session,
    SessionConfig, SrtpKeys,
};
use crosspoint_proto::rtp::srtp::{MAX_OVERHEAD, MasterKey, SrtpContext, SrtpSuite};
use crosspoint_proto::rtp::timeline::{LegClock, ReceiveTimeline, SendTimeline};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; the counter is a plain cell that
// needs neither an allocation nor a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is the same as ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the same as ours.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `step` with 0, 1, 2 ...; the first hundred may still allocate (pools, capacity).
fn allocations(steps: u64, mut step: impl FnMut(u64)) -> u64 {
    (0..100).for_each(&mut step);
    let before = ALLOCATIONS.get();
    (100..steps).for_each(&mut step);
    ALLOCATIONS.get() - before
}

fn low(number: u64) -> u16 {
    (number & 0xffff) as u16
}

fn stamp(number: u64) -> u32 {
    (number & 0xffff_ffff) as u32
}

#[test]
fn the_count_counts() {
    let boxes = allocations(110, |number| drop(std::hint::black_box(Box::new(number))));
    assert_eq!(boxes, 10);
}

#[test]
fn protection_and_headers() {
    let key = MasterKey::new(SrtpSuite::Aes128CmSha1_80, &[7; 30]).unwrap();
    let (mut sender, mut receiver) = (SrtpContext::new(&key).unwrap(), SrtpContext::new(&key).unwrap());
    let mut buffer = [0; 12 + MAX_PAYLOAD + MAX_OVERHEAD];
    let count = allocations(2000, |number| {
        let header = RtpHeader {
            payload_type: 96,
            marker: number % 9 == 0,
            sequence: low(number),
            timestamp: 1,
            ssrc: 7,
        };
        header.write(&mut buffer).unwrap();
        let len = sender.protect_rtp(&mut buffer, 12 + MAX_PAYLOAD).unwrap();
        let len = receiver.unprotect_rtp(&mut buffer[..len]).unwrap();
        assert_eq!(RtpPacket::parse(&buffer[..len]).unwrap().header, header);
        RtpHeader { ssrc: 8, ..header }.rewrite(&mut buffer).unwrap();
    });
    assert_eq!(count, 0);
}

#[test]
fn order_loss_and_retransmission() {
    let pool = Pool::new(1024, 1500);
    let mut history = History::new(256, 1 << 20);
    let mut reception = Reception::new(90_000, 0);
    let mut window = Reorder::new(&ReorderConfig {
        capacity: 512,
        max_wait: Duration::from_millis(100),
        nack: Some(NackPolicy::default()),
    });
    let mut wanted = [0; 64];
    let (mut released, mut repeated) = (0u64, 0u64);
    let count = allocations(20_000, |number| {
        let now = Instant::from_millis(number);
        let packet = pool.copy(&[7; 1200]).unwrap();
        history.push(now, low(number), packet.clone());
        if number % 20 == 7 {
            return;
        }
        let Sequence::Valid(index) = reception.sequence(low(number)) else { panic!("not valid") };
        reception.arrival(now, stamp(number * 90));
        window.push(now, index, packet, &mut |_| released += 1);
        let asked = window.requests(now, &mut wanted);
        for sequence in &wanted[..asked] {
            repeated += u64::from(history.repeat(now, *sequence, Duration::from_millis(30)).is_some());
        }
        reception.report();
    });
    assert_eq!(count, 0);
    assert!(released > 18_000 && repeated > 900, "{released} {repeated}");
}

#[test]
fn pictures_and_sound() {
    let mut picture =
        vec![0, 0, 0, 1, 0x67, 66, 0xc0, 31, 0x80, 1, 0, 0, 0, 1, 0x68, 0x80, 1, 0, 0, 0, 1, 0x65, 0x88];
    picture.resize(60_000, 7);
    let mut split = H264Packetizer::new(PacketizationMode::NonInterleaved);
    let mut join = H264Depacketizer::new();
    let mut packet = AudioPacketizer;
    let mut frame = AudioDepacketizer::new(Codec::Pcmu);
    let mut units = 0;
    let count = allocations(1000, |number| {
        let timestamp = stamp(number * 3000);
        split
            .packetize(&picture, MAX_PAYLOAD, &mut |data, marker| {
                let payload = Payload { data, timestamp, marker, lost_before: 0 };
                join.push(payload, &mut |unit| units += u64::from(unit.keyframe)).unwrap();
            })
            .unwrap();
        packet
            .packetize(&[0xff; 160], MAX_PAYLOAD, &mut |data, marker| {
                let payload = Payload { data, timestamp, marker, lost_before: 0 };
                frame.push(payload, &mut |_| units += 1).unwrap();
            })
            .unwrap();
    });
    assert_eq!((count, units), (0, 2000));
}

#[test]
fn time_and_keys() {
    let (mut receive, mut leg, mut send) =
        (ReceiveTimeline::new(8000), LegClock::default(), SendTimeline::new(8000, 99));
    let (mut keys, mut heard) = (DtmfSender::new(8000), DtmfReceiver::default());
    let mut told = 0;
    let count = allocations(20_000, |number| {
        let now = Instant::from_millis(number * 20);
        let media = receive.media_time(now, &mut leg, stamp(number * 160));
        send.relay(stamp(number * 160), media);
        if keys.deadline().is_none() {
            assert!(keys.push('5', Duration::from_millis(100)));
        }
        while let Some(packet) = keys.poll(now, stamp(number * 160)) {
            let key = heard.receive(now, packet.timestamp, packet.marker, &packet.payload);
            told += u64::from(key.is_some());
        }
    });
    assert_eq!(count, 0);
    assert!(told > 500, "{told}");
}

/// The last datagrams that a session sent, without an allocation.
struct Kept {
    bytes: Box<[[u8; 2048]; 128]>,
    lens: [usize; 128],
    count: usize,
}

impl Kept {
    fn new() -> Self {
        Self { bytes: Box::new([[0; 2048]; 128]), lens: [0; 128], count: 0 }
    }

    fn keep(&mut self, data: &[u8]) {
        self.bytes[self.count][..data.len()].copy_from_slice(data);
        self.lens[self.count] = data.len();
        self.count += 1;
    }
}

/// The session of stream `n` (at port 4000 + 2n) in a call with stream `peer`.
fn session(n: u8, peer: u8, format: &MediaFormat, protected: bool) -> Session {
    let kind = if format.codec().is_video() { MediaKind::Main } else { MediaKind::Audio };
    let mut config = SessionConfig::new(kind, u32::from(n), "leg".to_owned());
    config.receive = vec![ReceivePayload { payload_type: 96, payload: Carried::Media(format.clone()) }];
    config.send = Some(SendPayload { payload_type: 96, format: format.clone() });
    config.remote = Some(RemoteAddress::new(address(peer), true));
    config.rtcp_mux = true;
    config.feedback = Feedback { nack: true, pli: true, fir: false, ..Feedback::NONE };
    let key = |byte| MasterKey::new(SrtpSuite::Aes128CmSha1_80, &[byte; 30]).unwrap();
    config.srtp = protected.then(|| SrtpKeys { send: key(n), receive: key(peer) });
    let mut session = Session::new(kind, UNIX_EPOCH, [n; 32]);
    session.configure(Instant::from_millis(1), config);
    session
}

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 4000 + 2 * u16::from(n)))
}

/// A peer sends frames to a session; that one relays its packets, and its frames, to another.
fn relayed(format: &MediaFormat, size: usize) -> (u64, u64) {
    let (mut peer, mut ours) = (session(1, 2, format, true), session(2, 1, format, true));
    let mut sink = session(3, 4, format, false);
    ours.open_frames(Pool::new(64, 1 << 17));
    let source = Pool::new(4, 1 << 17);
    let (mut kept, mut answers) = (Kept::new(), Kept::new());
    let (mut leg, mut frames) = (LegClock::default(), 0);
    // Nobody is a stranger to the other.
    let mut packet = [0; 13];
    RtpHeader { payload_type: 96, ssrc: 4, ..RtpHeader::default() }.write(&mut packet).unwrap();
    let mut silent = |_: Channel, _: SocketAddr, _: &[u8]| ();
    let now = Instant::from_millis(2);
    let _ = sink.receive(now, &mut leg, Channel::Rtp, address(4), &mut packet, &mut silent);
    let count = allocations(2000, |number| {
        let now = Instant::from_millis(10 + number * 20);
        let mut unit = [7; 100_000];
        unit[..6].copy_from_slice(&[0, 0, 0, 1, 0x65, 0x88]);
        let frame = EncodedFrame {
            kind: MediaKind::Main,
            media_time: MediaTime(i64::try_from(number * 20_000_000).unwrap()),
            duration: Duration::from_millis(20),
            lost_before: 0,
            keyframe: true,
            level: None,
            data: source.copy(&unit[..size]).unwrap(),
        };
        kept.count = 0;
        peer.send_frame(now, None, &frame, &mut |_: Channel, _: SocketAddr, data: &[u8]| kept.keep(data));
        for nth in 0..kept.count {
            // One in 23 is lost, and now and then one comes twice in the place of another.
            let doubled = number % 5 == 0 && nth % 7 == 3 && nth + 1 < kept.count;
            let nth = if doubled { nth + 1 } else { nth };
            if (number * 7 + nth as u64) % 23 == 9 {
                continue;
            }
            let data = &mut kept.bytes[nth][..kept.lens[nth]];
            let received = ours.receive(now, &mut leg, Channel::Rtp, address(1), data, &mut silent);
            if let Received::Media(packet) = received {
                sink.forward(now, 9, &packet, &mut silent);
            }
        }
        while let Some((_, frame)) = ours.poll_frame() {
            sink.send_frame(now, None, &frame, &mut silent);
            frames += 1;
        }
        // The other way, so that all of them know each other.
        answers.count = 0;
        ours.send_frame(now, None, &frame, &mut |_: Channel, _: SocketAddr, data: &[u8]| answers.keep(data));
        let data = &mut answers.bytes[0][..answers.lens[0]];
        let _ = peer.receive(now, &mut leg, Channel::Rtp, address(2), data, &mut silent);
        while peer.poll_event().or_else(|| ours.poll_event()).or_else(|| sink.poll_event()).is_some() {}
    });
    (count, frames)
}

#[test]
fn whole_sessions() {
    let sound = MediaFormat::Audio(AudioFormat::new(Codec::Pcmu));
    let (count, frames) = relayed(&sound, 160);
    assert_eq!(count, 0);
    assert!(frames > 1500, "{frames}");
    let pictures = MediaFormat::Video(VideoFormat {
        codec: Codec::H264,
        profile: H264Profile::ConstrainedBaseline,
        level: 31,
        mode: PacketizationMode::NonInterleaved,
        max_bitrate: None,
        max_fs: None,
        max_mbps: None,
    });
    let (count, frames) = relayed(&pictures, 9000);
    assert_eq!(count, 0);
    assert!(frames > 500, "{frames}");
}
