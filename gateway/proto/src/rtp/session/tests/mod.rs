//! Sessions against each other in virtual time, over seeded links.

mod feedback;
mod levels;
mod limits;
mod relay;
mod security;

use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use crosspoint_codecs::format::{AudioFormat, H264Profile, VideoFormat};
use crosspoint_codecs::frame::{Data, EncodedFrame, Pool};

use super::*;
use crate::netem::{Conditions, Link};
use crate::rtp::packet::{FIXED_HEADER, RtpHeader, RtpPacket};
use crate::rtp::timeline::RouteClock;

/// A day, as the gateway's clock starts: "before" exists.
const START: Instant = Instant::from_millis(86_400_000);

/// A datagram on the road.
#[derive(Clone, Debug)]
struct Sent {
    channel: Channel,
    from: SocketAddr,
    to: SocketAddr,
    data: Vec<u8>,
}

/// One end of a call: a session, its addresses, and what came of it.
struct End {
    session: Session,
    leg: LegClock,
    rtp: SocketAddr,
    sent: Vec<Sent>,
    packets: Vec<(Numbering, u32, Vec<u8>)>,
    frames: Vec<EncodedFrame>,
    events: Vec<Event>,
}

impl End {
    /// Number `n` is at 10.0.0.n, with SSRC n.
    fn new(n: u8, kind: MediaKind) -> Self {
        let rtp: SocketAddr = format!("10.0.0.{n}:4000").parse().unwrap();
        Self {
            session: Session::new(kind, UNIX_EPOCH + Duration::from_secs(1_700_000_000), [n; 32]),
            leg: LegClock::default(),
            rtp,
            sent: Vec::new(),
            packets: Vec::new(),
            frames: Vec::new(),
            events: Vec::new(),
        }
    }

    fn configure(&mut self, now: Instant, config: SessionConfig) {
        self.session.configure(now, config);
    }

    /// Runs `act` with a wire that keeps what is sent.
    fn with<R>(&mut self, act: impl FnOnce(&mut Session, &mut dyn Wire) -> R) -> R {
        let (sent, rtp) = (&mut self.sent, self.rtp);
        let mut wire = |channel: Channel, to: SocketAddr, data: &[u8]| {
            let mut from = rtp;
            from.set_port(rtp.port() + u16::from(channel == Channel::Rtcp));
            sent.push(Sent { channel, from, to, data: data.to_vec() });
        };
        let result = act(&mut self.session, &mut wire);
        while let Some(event) = self.session.poll_event() {
            self.events.push(event);
        }
        while let Some((_, frame)) = self.session.poll_frame() {
            // The pool gets its buffer back.
            self.frames.push(EncodedFrame { data: Data::from_slice(&frame.data), ..frame });
        }
        result
    }

    /// A datagram comes; what it holds is kept.
    fn take(&mut self, now: Instant, channel: Channel, from: SocketAddr, data: &[u8]) {
        let mut data = data.to_vec();
        let mut leg = self.leg;
        let packet =
            self.with(|session, wire| match session.receive(now, &mut leg, channel, from, &mut data, wire) {
                Received::Media(packet) => Some((packet.number, packet.timestamp, packet.payload.to_vec())),
                _ => None,
            });
        self.leg = leg;
        self.packets.extend(packet);
    }

    /// A plain RTP packet from a sender that is no session of ours.
    fn take_rtp(&mut self, now: Instant, from: SocketAddr, header: RtpHeader, payload: &[u8]) {
        self.take(now, Channel::Rtp, from, &rtp(header, payload));
    }

    fn timeout(&mut self, now: Instant) {
        self.with(|session, wire| session.handle_timeout(now, wire));
    }

    fn rtp_sent(&self) -> Vec<(RtpHeader, Vec<u8>)> {
        let packets = self.sent.iter().filter(|sent| DatagramKind::of(&sent.data) == DatagramKind::Rtp);
        packets
            .map(|sent| {
                let packet = RtpPacket::parse(&sent.data).unwrap();
                (packet.header, packet.payload.to_vec())
            })
            .collect()
    }

    fn count(&self, event: Event) -> usize {
        self.events.iter().filter(|told| **told == event).count()
    }
}

fn rtp(header: RtpHeader, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; FIXED_HEADER + payload.len()];
    header.write(&mut packet).unwrap();
    packet[FIXED_HEADER..].copy_from_slice(payload);
    packet
}

/// Two ends and the roads between them.
struct Call {
    now: Instant,
    ends: [End; 2],
    /// Road n leads away from end n.
    roads: [Link<Sent>; 2],
}

impl Call {
    fn new(ends: [End; 2], conditions: Conditions) -> Self {
        let roads = [Link::new(1, conditions), Link::new(2, conditions)];
        Self { now: START, ends, roads }
    }

    /// Lets time pass; sessions are called at their deadlines, as their contract says.
    fn run(&mut self, span: Duration) {
        let until = self.now + span;
        for step in 0..1_000_000 {
            assert!(step < 999_999, "time stands still at {:?}", self.now);
            for (end, road) in self.ends.iter_mut().zip(&mut self.roads) {
                for sent in end.sent.drain(..) {
                    road.send(self.now, sent);
                }
            }
            let arrivals = self.roads.iter().filter_map(Link::next_arrival);
            let deadlines = self.ends.iter().filter_map(|end| end.session.poll_timeout());
            let next = arrivals.chain(deadlines).min().unwrap_or(until);
            if next > until {
                break;
            }
            self.now = self.now.max(next);
            for n in 0..2 {
                while let Some(sent) = self.roads[n].receive(self.now) {
                    self.ends[1 - n].take(self.now, sent.channel, sent.from, &sent.data);
                }
            }
            for end in &mut self.ends {
                if end.session.poll_timeout().is_some_and(|at| at <= self.now) {
                    end.timeout(self.now);
                }
            }
        }
        self.now = until;
    }
}

fn pcmu() -> MediaFormat {
    MediaFormat::Audio(AudioFormat::new(Codec::Pcmu))
}

fn h264(mode: PacketizationMode) -> MediaFormat {
    MediaFormat::Video(VideoFormat {
        codec: Codec::H264,
        profile: H264Profile::ConstrainedBaseline,
        level: 31,
        mode,
        max_bitrate: None,
        max_fs: None,
        max_mbps: None,
    })
}

/// End `n` in a call with end `peer`, both ways `format` as `payload_type`.
fn config(n: u8, peer: u8, format: &MediaFormat, payload_type: u8) -> SessionConfig {
    let kind = if format.codec().is_video() { MediaKind::Main } else { MediaKind::Audio };
    let mut config = SessionConfig::new(kind, u32::from(n), format!("leg-{n}"));
    config.receive = vec![
        ReceivePayload { payload_type, payload: Payload::Media(format.clone()) },
        ReceivePayload { payload_type: 101, payload: Payload::TelephoneEvent(8000) },
    ];
    config.send = Some(SendPayload { payload_type, format: format.clone() });
    config.dtmf = Some(DtmfPayload { payload_type: 101, clock: 8000 });
    config.remote = Some(RemoteAddress::new(format!("10.0.0.{peer}:4000").parse().unwrap(), false));
    config
}

/// Two ends in a call with each other, each changed by `with`.
fn pair(format: &MediaFormat, conditions: Conditions, mut with: impl FnMut(u8, &mut SessionConfig)) -> Call {
    let kind = if format.codec().is_video() { MediaKind::Main } else { MediaKind::Audio };
    let mut ends = [End::new(1, kind), End::new(2, kind)];
    for (n, end) in (1..).zip(&mut ends) {
        let mut config = config(n, 3 - n, format, 96);
        with(n, &mut config);
        end.configure(START, config);
    }
    Call::new(ends, conditions)
}

/// A frame of `size` bytes of sound, `n` packets of 20 ms after the start.
fn sound(n: u64, size: usize) -> EncodedFrame {
    let data = Pool::new(1, 1500).copy(&vec![n.to_be_bytes()[7]; size]).unwrap();
    EncodedFrame {
        kind: MediaKind::Audio,
        media_time: MediaTime(i64::try_from(START.as_nanos() + n * 20_000_000).unwrap()),
        duration: Duration::from_millis(20),
        lost_before: 0,
        keyframe: true,
        level: None,
        data,
    }
}

/// A picture: parameter sets and an IDR slice, or one plain slice, of about `size` bytes.
fn picture(n: u64, keyframe: bool, size: usize) -> EncodedFrame {
    let mut unit = Vec::new();
    let mut nal = |kind: u8, size: usize| {
        unit.extend([0, 0, 0, 1, 0x60 | kind, 0x80 | n.to_be_bytes()[7]]);
        unit.extend((0..size).map(|at| u8::try_from(at % 250).unwrap() | 1));
    };
    if keyframe {
        nal(7, 12);
        nal(8, 4);
    }
    nal(if keyframe { 5 } else { 1 }, size);
    EncodedFrame {
        kind: MediaKind::Main,
        media_time: MediaTime(i64::try_from(START.as_nanos() + n * 33_333_333).unwrap()),
        duration: Duration::ZERO,
        lost_before: 0,
        keyframe,
        level: None,
        data: Pool::new(1, 1 << 20).copy(&unit).unwrap(),
    }
}
