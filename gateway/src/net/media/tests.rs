//! The threads with real sockets on loopback. Time bounds here only end a hang.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use crosspoint_codecs::format::{AudioFormat, Codec, MediaFormat};
use crosspoint_proto::rtp::packet::{RtpHeader, RtpPacket};
use crosspoint_proto::rtp::session::{Payload, ReceivePayload, RemoteAddress, SendPayload, SessionConfig};

use super::*;
use crate::media::port::{Feed, PortError, StreamPort};

const LO: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Longer than anything here takes on a machine under load.
const HANG: Duration = Duration::from_secs(10);

fn net(ports: RangeInclusive<u16>) -> MediaNet {
    MediaNet::start(&MediaConfig { threads: 2, ports }, Clock::start()).unwrap()
}

fn place(thread: Option<usize>) -> Place {
    Place { ip: LO, thread, beside: None }
}

/// A peer: a socket that the far end of a stream would have.
struct Peer {
    rtp: UdpSocket,
    ssrc: u32,
}

impl Peer {
    fn new(ssrc: u32) -> Self {
        let rtp = UdpSocket::bind((LO, 0)).unwrap();
        rtp.set_read_timeout(Some(HANG)).unwrap();
        Self { rtp, ssrc }
    }

    fn config(&self, payload_type: u8) -> SessionConfig {
        let mut config =
            SessionConfig::new(MediaKind::Audio, 0x1234_0000 | u32::from(payload_type), "leg".into());
        let format = MediaFormat::Audio(AudioFormat::new(Codec::Pcmu));
        config.receive = vec![ReceivePayload { payload_type, payload: Payload::Media(format.clone()) }];
        config.send = Some(SendPayload { payload_type, format });
        config.remote = Some(RemoteAddress::new(self.rtp.local_addr().unwrap(), true));
        config.rtcp_mux = true;
        config
    }

    fn send(&self, to: &MediaPort, payload_type: u8, sequence: u16, payload: &[u8]) {
        let header = RtpHeader {
            payload_type,
            marker: false,
            sequence,
            timestamp: u32::from(sequence).wrapping_mul(160),
            ssrc: self.ssrc,
        };
        let mut packet = [0; 1500];
        let start = header.write(&mut packet).unwrap();
        packet[start..start + payload.len()].copy_from_slice(payload);
        self.rtp.send_to(&packet[..start + payload.len()], to.local().rtp).unwrap();
    }

    /// The next RTP packet; RTCP is passed over.
    fn receive(&self) -> (RtpHeader, Vec<u8>) {
        let mut buffer = [0; 2048];
        loop {
            let len = self.rtp.recv(&mut buffer).expect("nothing came");
            if let Ok(packet) = RtpPacket::parse(&buffer[..len])
                && packet.header.payload_type < 64
            {
                return (packet.header, packet.payload.to_vec());
            }
        }
    }
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < HANG, "{what} did not come about");
        std::thread::yield_now();
    }
}

/// Two streams on one thread that relay to each other.
fn call(net: &MediaNet, a: &Peer, b: &Peer) -> (Opened, Opened) {
    let left = net.open(MediaKind::Audio, place(None)).unwrap();
    let right = net.open(MediaKind::Audio, place(Some(left.port.thread()))).unwrap();
    left.port.configure(a.config(0)).unwrap();
    right.port.configure(b.config(8)).unwrap();
    left.port.feed(Feed::Relay(right.port.id())).unwrap();
    right.port.feed(Feed::Relay(left.port.id())).unwrap();
    (left, right)
}

#[test]
fn a_relay_rewrites_numbers_and_types_and_keeps_gaps_and_payloads() {
    let net = net(41_000..=41_099);
    let (a, b) = (Peer::new(1), Peer::new(2));
    let (mut left, right) = call(&net, &a, &b);
    for sequence in [65_534, 65_535, 1] {
        a.send(&left.port, 0, sequence, &[sequence.to_be_bytes()[1]; 160]);
    }
    let got: Vec<_> = (0..3).map(|_| b.receive()).collect();
    let first = got[0].0;
    assert_eq!((first.payload_type, first.ssrc, first.marker), (8, 0x1234_0008, true));
    assert_eq!(got[1].0.sequence, first.sequence.wrapping_add(1));
    assert_eq!(got[2].0.sequence, first.sequence.wrapping_add(3));
    // Time stamps are a multiple of 160 in the source: 65534 to 65535 is one step.
    assert_eq!(got[1].0.timestamp, first.timestamp.wrapping_add(160));
    assert_eq!(got[2].1, vec![1; 160]);
    b.send(&right.port, 8, 7, b"back");
    assert_eq!(a.receive().1, b"back");
    wait("the event", || left.events.try_recv().is_ok_and(|event| event == StreamEvent::MediaStarted));
    wait("the figures", || {
        let stats = left.port.stats();
        (stats.packets_received, stats.bytes_received, stats.packets_sent, stats.packets_lost)
            == (3, 480, 1, 1)
    });
    net.stop();
    assert_eq!(left.port.configure(a.config(0)), Err(PortError::Closed));
}

#[test]
fn strangers_are_not_heard_and_hear_nothing() {
    let net = net(41_100..=41_199);
    let (a, b, thief) = (Peer::new(1), Peer::new(2), Peer::new(1));
    let (left, _right) = call(&net, &a, &b);
    for sequence in 0..20 {
        thief.send(&left.port, 0, sequence, b"theft");
    }
    a.send(&left.port, 0, 500, b"honest");
    assert_eq!(b.receive().1, b"honest");
    wait("the count", || left.port.stats().packets_dropped == 20);
    thief.rtp.set_nonblocking(true).unwrap();
    assert!(thief.rtp.recv(&mut [0; 2048]).is_err());
}

#[test]
fn relays_across_threads_and_to_closed_streams_are_refused() {
    let net = net(41_200..=41_299);
    let left = net.open(MediaKind::Audio, place(Some(0))).unwrap();
    let right = net.open(MediaKind::Audio, place(Some(1))).unwrap();
    assert_eq!(left.port.feed(Feed::Relay(right.port.id())), Err(PortError::Apart));
    right.port.close();
    assert_eq!(left.port.feed(Feed::Relay(right.port.id())), Err(PortError::Closed));
    assert_eq!(right.port.feed(Feed::Silence), Err(PortError::Closed));
}

/// Descriptors of this process.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_thousand_streams_come_and_go_and_leave_no_port_and_exhaustion_is_an_error() {
    let net = net(41_300..=41_319);
    let mut opened: Vec<_> = (0..10).map(|_| net.open(MediaKind::Audio, place(None)).unwrap()).collect();
    let error = net.open(MediaKind::Audio, place(None)).unwrap_err().to_string();
    assert!(error.contains("media.ports"), "{error}");
    for _ in 0..1000 {
        // Closing is done by the thread: the port is free a moment later.
        opened.remove(0);
        wait("a free port", || net.pairs_in_use() == 9);
        opened.push(net.open(MediaKind::Audio, place(None)).unwrap());
    }
    drop(opened);
    wait("all ports", || net.pairs_in_use() == 0);
    net.stop();
}

#[test]
fn two_hundred_starts_and_stops_leave_no_thread_and_no_descriptor() {
    let mut base = None;
    for round in 0..200 {
        let net = net(41_400..=41_499);
        let opened = net.open(MediaKind::Audio, place(None)).unwrap();
        net.stop();
        drop(opened);
        if round == 20 {
            base = Some(descriptors());
        }
    }
    // Other tests of this process open some at the same time: what leaks 180 times shows.
    assert!(descriptors() < base.unwrap() + 100, "{base:?} became {}", descriptors());
    let threads = std::fs::read_dir("/proc/self/task").unwrap().count();
    assert!(threads < 100, "{threads} threads");
}

#[test]
fn the_delay_of_a_relay_is_measured() {
    let net = net(41_500..=41_599);
    let (a, b) = (Peer::new(1), Peer::new(2));
    let (left, right) = call(&net, &a, &b);
    // Whoever never answers gets fifty packets and no more.
    b.send(&right.port, 8, 1, b"here");
    let _ = a.receive();
    let mut delays = Vec::new();
    for sequence in 0..500 {
        let start = Instant::now();
        a.send(&left.port, 0, sequence, &[0; 160]);
        let _ = b.receive();
        delays.push(start.elapsed());
    }
    delays.sort_unstable();
    println!("relay with both loopback hops: p50 {:?}, p99 {:?}", delays[250], delays[495]);
    assert!(delays[250] < Duration::from_millis(200), "{:?}", delays[250]);
}
