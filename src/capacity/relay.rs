//! The path of a relayed packet through our own code, from the bytes that a socket gave to those
//! that it takes. No socket: what the kernel does for a packet comes on top.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant as Wall, UNIX_EPOCH};

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::format::{AudioFormat, Codec, MediaFormat, MediaKind};
use crosspoint_codecs::frame::{Data, EncodedFrame, MediaTime};
use crosspoint_proto::rtp::session::{
    Channel, Payload, ReceivePayload, Received, RemoteAddress, SendPayload, Session, SessionConfig, SrtpKeys,
};
use crosspoint_proto::rtp::srtp::{MasterKey, SrtpSuite};
use crosspoint_proto::rtp::timeline::LegClock;

use super::CapacityError;
use super::probe::Probe;

/// Packets that are made at once, beside the clock.
const BATCH: u32 = 256;
/// Bytes of a datagram with 20 ms of PCMU, its header and a tag, and some room.
const DATAGRAM: usize = 256;

pub(super) fn probes() -> Result<Vec<Probe>, CapacityError> {
    let probe = |key, what: &str, protected| {
        let mut road = Road::new(protected);
        if road.run(BATCH) == 0 {
            return Err(CapacityError::Idle("the relay"));
        }
        Ok(Probe::new(key, what, "packet", 1.0, move |packets| {
            let (mut left, mut took) = (packets, Duration::ZERO);
            while left > 0 {
                let batch = left.min(BATCH);
                road.run(batch);
                took += road.took;
                left -= batch;
            }
            took
        }))
    };
    Ok(vec![
        probe("relay-rtp", "relay of a PCMU packet, plain RTP", false)?,
        probe("relay-srtp", "the same, SRTP opened and sealed anew", true)?,
    ])
}

/// A peer, our two legs, and the packets on their way.
struct Road {
    peer: Session,
    inward: Session,
    outward: Session,
    clock: LegClock,
    sent: u64,
    datagrams: Vec<([u8; DATAGRAM], usize)>,
    took: Duration,
}

impl Road {
    fn new(protected: bool) -> Self {
        let mut outward = session(3, 4, protected);
        let mut clock = LegClock::default();
        // The other peer has sent something, so it is there.
        let mut there = session(4, 3, protected);
        let mut greeting = ([0; DATAGRAM], 0);
        there.send_frame(moment(0), None, &frame(0), &mut |_: Channel, _: SocketAddr, data: &[u8]| {
            keep(&mut greeting, data);
        });
        let mut nowhere = |_: Channel, _: SocketAddr, _: &[u8]| ();
        let data = &mut greeting.0[..greeting.1];
        outward.receive(moment(0), &mut clock, Channel::Rtp, address(4), data, &mut nowhere);
        Self {
            peer: session(1, 2, protected),
            inward: session(2, 1, protected),
            outward,
            clock,
            sent: 1,
            datagrams: Vec::new(),
            took: Duration::ZERO,
        }
    }

    /// Sends `packets` through; how many came out.
    fn run(&mut self, packets: u32) -> u32 {
        self.datagrams.clear();
        let first = self.sent;
        for _ in 0..packets {
            let datagrams = &mut self.datagrams;
            let mut wire = |_: Channel, _: SocketAddr, data: &[u8]| {
                let mut datagram = ([0; DATAGRAM], 0);
                keep(&mut datagram, data);
                datagrams.push(datagram);
            };
            self.peer.send_frame(moment(self.sent), None, &frame(self.sent), &mut wire);
            self.sent += 1;
        }
        let mut out = 0;
        let mut wire = |_: Channel, _: SocketAddr, data: &[u8]| {
            black_box(data);
            out += 1;
        };
        let begun = Wall::now();
        for (number, (datagram, len)) in (first..).zip(&mut self.datagrams) {
            let now = moment(number);
            let data = &mut datagram[..*len];
            let mut silent = |_: Channel, _: SocketAddr, _: &[u8]| ();
            let received =
                self.inward.receive(now, &mut self.clock, Channel::Rtp, address(1), data, &mut silent);
            if let Received::Media(packet) = received {
                self.outward.forward(now, 9, &packet, &mut wire);
            }
        }
        self.took = begun.elapsed();
        while self.inward.poll_event().or_else(|| self.outward.poll_event()).is_some() {}
        while self.peer.poll_event().is_some() {}
        out
    }
}

fn keep(place: &mut ([u8; DATAGRAM], usize), data: &[u8]) {
    if let Some(room) = place.0.get_mut(..data.len()) {
        room.copy_from_slice(data);
        place.1 = data.len();
    }
}

/// The session at place `n` of a call with the one at place `peer`.
fn session(n: u8, peer: u8, protected: bool) -> Session {
    let format = MediaFormat::Audio(AudioFormat::new(Codec::Pcmu));
    let mut config = SessionConfig::new(MediaKind::Audio, n.into(), "leg".into());
    config.receive = vec![ReceivePayload { payload_type: 0, payload: Payload::Media(format.clone()) }];
    config.send = Some(SendPayload { payload_type: 0, format });
    config.remote = Some(RemoteAddress::new(address(peer), true));
    config.rtcp_mux = true;
    config.proven = Some(address(peer).ip());
    let key = |of: u8| MasterKey::new(SrtpSuite::Aes128CmSha1_80, &[of; 30]);
    config.srtp =
        key(n).zip(key(peer)).filter(|_| protected).map(|(send, receive)| SrtpKeys { send, receive });
    let mut session = Session::new(MediaKind::Audio, UNIX_EPOCH, [n; 32]);
    session.configure(moment(0), config);
    session
}

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 4_000 + 2 * u16::from(n)))
}

fn frame(number: u64) -> EncodedFrame {
    EncodedFrame {
        kind: MediaKind::Audio,
        media_time: MediaTime(i64::try_from(number * 20_000_000).unwrap_or(i64::MAX)),
        duration: Duration::from_millis(20),
        lost_before: 0,
        keyframe: true,
        level: None,
        data: Data::from_slice(&[0x55; 160]),
    }
}

fn moment(packet: u64) -> Instant {
    Instant::from_millis(1_000 + 20 * packet)
}
