//! The threads with real sockets on loopback. Time bounds here only end a hang.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use crosspoint_codecs::format::{
    AudioFormat, Codec, H264Profile, MediaFormat, PacketizationMode, VideoFormat,
};
use crosspoint_codecs::frame::{Data, EncodedFrame, MediaTime, Pool};
use crosspoint_proto::dtls::{Agreed, Role};
use crosspoint_proto::rtp::packet::{RtpHeader, RtpPacket};
use crosspoint_proto::rtp::rtcp::{RtcpEvent, read};
use crosspoint_proto::rtp::session::{
    Channel, DtmfPayload, Event, Feedback, Payload, ReceivePayload, Received, RemoteAddress, SendPayload,
    Session, SessionConfig, SrtpKeys,
};
use crosspoint_proto::rtp::srtp::{MasterKey, SrtpSuite};
use crosspoint_proto::rtp::timeline::LegClock;

use super::*;
use crate::media::port::{Feed, PortError, StreamPort, Unfit};

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

/// A peer with a session of its own on the other end of the wire.
struct Far {
    session: Session,
    leg: LegClock,
    socket: UdpSocket,
    clock: Clock,
    config: SessionConfig,
    heard: Vec<Vec<u8>>,
    events: Vec<Event>,
}

impl Far {
    /// `keys`: what it sends with and takes, each as the byte that a master key repeats.
    fn new(n: u8, format: &MediaFormat, keys: Option<(u8, u8)>) -> Self {
        let kind = if format.codec().is_video() { MediaKind::Main } else { MediaKind::Audio };
        let socket = UdpSocket::bind((LO, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut config = SessionConfig::new(kind, u32::from(n), "far".into());
        config.rtcp_mux = true;
        config.receive = vec![
            ReceivePayload { payload_type: 96, payload: Payload::Media(format.clone()) },
            ReceivePayload { payload_type: 101, payload: Payload::TelephoneEvent(8000) },
        ];
        config.send = Some(SendPayload { payload_type: 96, format: format.clone() });
        config.dtmf = Some(DtmfPayload { payload_type: 101, clock: 8000 });
        config.feedback = Feedback { nack: true, pli: true, fir: false, ..Feedback::NONE };
        config.srtp = keys.map(|(send, receive)| srtp(send, receive));
        let clock = Clock::start();
        let mut session = Session::new(kind, clock.epoch(), [n; 32]);
        session.open_frames(Pool::new(32, 1 << 16));
        Self {
            session,
            leg: LegClock::default(),
            socket,
            clock,
            config,
            heard: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Connects it with a stream of ours.
    fn join(&mut self, opened: &Opened) {
        let mut ours = self.config.clone();
        ours.ssrc = self.config.ssrc + 100;
        ours.srtp = self.config.srtp.clone().map(|keys| SrtpKeys { send: keys.receive, receive: keys.send });
        ours.remote = Some(RemoteAddress::new(self.socket.local_addr().unwrap(), true));
        opened.port.configure(ours).unwrap();
        self.config.remote = Some(RemoteAddress::new(opened.port.local().rtp, true));
        self.session.configure(self.clock.now(), self.config.clone());
        self.session.open_frames(Pool::new(32, 1 << 16));
    }

    fn act<R>(
        &mut self,
        act: impl FnOnce(
            &mut Session,
            crosspoint_codecs::clock::Instant,
            &mut dyn FnMut(Channel, std::net::SocketAddr, &[u8]),
        ) -> R,
    ) -> R {
        let socket = &self.socket;
        let mut wire = |_: Channel, to: std::net::SocketAddr, data: &[u8]| {
            socket.send_to(data, to).unwrap();
        };
        act(&mut self.session, self.clock.now(), &mut wire)
    }

    fn send(&mut self, frame: &EncodedFrame) {
        self.act(|session, now, mut wire| session.send_frame(now, None, frame, &mut wire));
    }

    /// Reads what is there, and does what is due.
    fn pump(&mut self) {
        let mut buffer = [0; 2048];
        while let Ok((len, from)) = self.socket.recv_from(&mut buffer) {
            let mut leg = self.leg;
            self.act(|session, now, mut wire| {
                let data = &mut buffer[..len];
                let _: Received<'_> = session.receive(now, &mut leg, Channel::Rtp, from, data, &mut wire);
            });
            self.leg = leg;
            self.collect();
        }
        self.act(|session, now, mut wire| {
            if session.poll_timeout().is_some_and(|at| at <= now) {
                session.handle_timeout(now, &mut wire);
            }
        });
        self.collect();
    }

    fn collect(&mut self) {
        while let Some(event) = self.session.poll_event() {
            self.events.push(event);
        }
        while let Some((_, frame)) = self.session.poll_frame() {
            self.heard.push(frame.data.to_vec());
        }
    }
}

fn srtp(send: u8, receive: u8) -> SrtpKeys {
    let key = |byte| MasterKey::new(SrtpSuite::Aes128CmSha1_80, &[byte; 30]).unwrap();
    SrtpKeys { send: key(send), receive: key(receive) }
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

fn frame(kind: MediaKind, at: i64, data: &[u8]) -> EncodedFrame {
    EncodedFrame {
        kind,
        media_time: MediaTime(at),
        duration: Duration::from_millis(20),
        lost_before: 0,
        keyframe: true,
        level: None,
        data: Data::from_slice(data),
    }
}

/// An access unit with a slice of `size` bytes.
fn unit(size: usize) -> Vec<u8> {
    let mut unit = vec![0, 0, 0, 1, 0x67, 1, 2, 3, 0, 0, 0, 1, 0x68, 4, 5, 0, 0, 0, 1, 0x65, 0x88];
    unit.extend(std::iter::repeat_n(0x55, size));
    unit
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

#[test]
fn the_engine_hears_and_speaks_through_the_rings() {
    let net = net(41_600..=41_699);
    let opened = net.open(MediaKind::Audio, place(None)).unwrap();
    let mut far = Far::new(1, &pcmu(), Some((5, 6)));
    far.join(&opened);
    opened.port.feed(Feed::Engine).unwrap();
    let (mut inlet, mut outlet) = opened.port.engage().unwrap();
    for n in 0..10_u8 {
        far.send(&frame(MediaKind::Audio, i64::from(n) * 20_000_000, &[n; 160]));
    }
    let mut heard = Vec::new();
    wait("ten frames", || {
        heard.extend(inlet.frames.pop());
        heard.len() == 10
    });
    for (n, arrival) in (0..).zip(&heard) {
        assert_eq!(*arrival.frame.data, [n; 160]);
        assert_eq!(arrival.frame.duration, Duration::from_millis(20));
        let since = arrival.frame.media_time.nanos_since(heard[0].frame.media_time);
        assert_eq!(since, i64::from(n) * 20_000_000);
    }
    for n in 0..10_u8 {
        outlet.frames.push(frame(MediaKind::Audio, i64::from(n) * 20_000_000, &[n | 0x80; 160])).unwrap();
    }
    assert_eq!(outlet.wake.thread(), opened.port.thread());
    outlet.wake.wake();
    wait("ten answers", || {
        far.pump();
        far.heard.len() == 10
    });
    assert_eq!(far.heard[9], [0x89; 160]);
    // What the engine pushes when it does not feed the stream goes nowhere.
    opened.port.feed(Feed::Silence).unwrap();
    outlet.frames.push(frame(MediaKind::Audio, 0, &[1; 160])).unwrap();
    outlet.wake.wake();
    wait("the ring is empty", || outlet.frames.slots() == crate::media::port::RING);
    opened.port.disengage().unwrap();
    wait("the rings end", || inlet.frames.is_abandoned() && outlet.frames.is_abandoned());
    wait("the figures", || opened.port.stats().packets_sent == 10);
    let stats = opened.port.stats();
    assert!(stats.encrypted && stats.overflow == 0, "{stats:?}");
}

#[test]
fn pictures_cross_between_packetization_modes_until_one_does_not_fit_and_keyframes_are_asked_through() {
    let net = net(41_700..=41_799);
    let left = net.open(MediaKind::Main, place(None)).unwrap();
    let mut right = net.open(MediaKind::Main, place(Some(left.port.thread()))).unwrap();
    let mut many = Far::new(1, &h264(PacketizationMode::NonInterleaved), Some((5, 6)));
    let mut single = Far::new(2, &h264(PacketizationMode::SingleNal), None);
    many.join(&left);
    single.join(&right);
    right.port.feed(Feed::Relay(left.port.id())).unwrap();
    left.port.feed(Feed::Relay(right.port.id())).unwrap();
    // Somebody must have answered before more than 50 packets go.
    single.send(&frame(MediaKind::Main, 0, &unit(300)));
    wait("a picture from mode 0 to 1", || {
        many.pump();
        many.heard.len() == 1
    });
    for n in 0..5 {
        many.send(&frame(MediaKind::Main, n * 33_000_000, &unit(1000)));
    }
    wait("five pictures from mode 1 to 0", || {
        many.pump();
        single.pump();
        single.heard.len() == 5
    });
    assert_eq!(single.heard[4], unit(1000));
    // The viewer asks: the maker hears of it, and so does the leg.
    let asked = |far: &Far| far.events.iter().filter(|event| **event == Event::KeyframeAsked).count();
    let before = asked(&many);
    single.act(|session, now, mut wire| session.request_keyframe(now, &mut wire));
    wait("the request", || {
        many.pump();
        single.pump();
        asked(&many) > before
    });
    many.send(&frame(MediaKind::Main, 900_000_000, &unit(20_000)));
    let mut told = Vec::new();
    wait("the misfit", || {
        many.pump();
        told.extend(right.events.try_recv());
        told.contains(&StreamEvent::RelayUnfit(Unfit::NalTooLarge))
    });
    assert!(told.contains(&StreamEvent::KeyframeRequested), "{told:?}");
    assert_eq!(single.heard.len(), 5);
    // A request by signalling takes the same way.
    let before = asked(&many);
    right.port.keyframe_asked().unwrap();
    wait("the request by signalling", || {
        many.pump();
        asked(&many) > before
    });
}

/// A limit of one side of a relay reaches the encoder of the other, and is taken back when the relay ends.
#[test]
fn a_limit_goes_through_a_relay_to_its_source_and_no_longer_than_that() {
    let net = net(42_700..=42_799);
    let video = h264(PacketizationMode::NonInterleaved);
    let (mut sender, mut receiver) = (Far::new(1, &video, None), Far::new(2, &video, None));
    let left = net.open(MediaKind::Main, place(None)).unwrap();
    let right = net.open(MediaKind::Main, place(Some(left.port.thread()))).unwrap();
    for (far, opened) in [(&mut sender, &left), (&mut receiver, &right)] {
        far.config.feedback.tmmbr = true;
        far.join(opened);
    }
    right.port.feed(Feed::Relay(left.port.id())).unwrap();
    left.port.feed(Feed::Relay(right.port.id())).unwrap();
    let mut at = 0;
    let mut until = |what: &str, sender: &mut Far, receiver: &mut Far, done: &dyn Fn(&Far, &Far) -> bool| {
        wait(what, || {
            at += 1;
            // A few hundred pictures, however fast the machine is.
            if at % 64 == 1 {
                let frame = frame(MediaKind::Main, at * 1_000_000, &unit(300));
                sender.send(&frame);
                receiver.send(&frame);
            }
            sender.pump();
            receiver.pump();
            std::thread::sleep(Duration::from_micros(200));
            done(sender, receiver)
        });
    };
    until("pictures both ways", &mut sender, &mut receiver, &|one, other| {
        !one.heard.is_empty() && !other.heard.is_empty()
    });
    receiver.act(|session, now, mut wire| session.limit_peer(now, 300_000, &mut wire));
    until("the limit", &mut sender, &mut receiver, &|sender, _| sender.session.send_limit() == Some(300_000));
    receiver.act(|session, now, mut wire| session.limit_peer(now, 900_000, &mut wire));
    until("more", &mut sender, &mut receiver, &|sender, _| sender.session.send_limit() == Some(900_000));
    right.port.feed(Feed::Engine).unwrap();
    let free = |sender: &Far, _: &Far| sender.session.send_limit().is_some_and(|bits| bits > 4_000_000_000);
    until("no limit", &mut sender, &mut receiver, &free);
    // What is known of a sink already is asked for when the next relay to it begins.
    right.port.feed(Feed::Relay(left.port.id())).unwrap();
    until("it again", &mut sender, &mut receiver, &|sender, _| sender.session.send_limit() == Some(900_000));
    net.stop();
}

#[test]
fn keys_go_both_ways_and_goodbye_is_said() {
    let net = net(41_800..=41_899);
    let mut opened = net.open(MediaKind::Audio, place(None)).unwrap();
    let mut far = Far::new(1, &pcmu(), None);
    far.join(&opened);
    assert!(far.session.send_dtmf('7', Duration::from_millis(80)));
    let mut told = Vec::new();
    wait("the key", || {
        far.pump();
        told.extend(opened.events.try_recv());
        told.contains(&StreamEvent::Dtmf('7'))
    });
    opened.port.send_dtmf('#', Duration::from_millis(80)).unwrap();
    wait("our key", || {
        far.pump();
        far.events.contains(&Event::Dtmf('#'))
    });
    opened.port.close();
    let mut goodbye = false;
    wait("the goodbye", || {
        let mut buffer = [0; 2048];
        if let Ok(len) = far.socket.recv(&mut buffer) {
            let _ = read(&buffer[..len], &mut |event| goodbye |= matches!(event, RtcpEvent::Bye { .. }));
        }
        goodbye
    });
    wait("the ports", || net.pairs_in_use() == 0);
    wait("the end of events", || opened.events.try_recv() == Err(mpsc::error::TryRecvError::Disconnected));
    // What it counted stays, and is published before the port is free.
    assert!(opened.port.stats().packets_sent > 0);
}

#[test]
fn a_relay_opens_on_one_side_and_protects_on_the_other() {
    let net = net(41_900..=41_999);
    let left = net.open(MediaKind::Audio, place(None)).unwrap();
    let right = net.open(MediaKind::Audio, place(Some(left.port.thread()))).unwrap();
    let mut near = Far::new(1, &pcmu(), Some((1, 2)));
    let mut clear = Far::new(2, &pcmu(), None);
    near.join(&left);
    clear.join(&right);
    right.port.feed(Feed::Relay(left.port.id())).unwrap();
    left.port.feed(Feed::Relay(right.port.id())).unwrap();
    for n in 0..40_u8 {
        near.send(&frame(MediaKind::Audio, i64::from(n) * 20_000_000, &[n; 160]));
        clear.send(&frame(MediaKind::Audio, i64::from(n) * 20_000_000, &[n | 0x80; 160]));
    }
    wait("all of both", || {
        near.pump();
        clear.pump();
        near.heard.len() == 40 && clear.heard.len() == 40
    });
    assert_eq!((near.heard[39][0], clear.heard[39][0]), (39 | 0x80, 39));
}

#[test]
fn relayed_pictures_wait_for_sound_that_the_engine_holds_and_for_nothing_else() {
    const HELD: Duration = Duration::from_millis(60);
    let net = net(42_000..=42_099);
    let sound = net.open(MediaKind::Audio, place(None)).unwrap();
    let left = net.open(MediaKind::Main, Place { beside: Some(sound.port.id()), ..place(None) }).unwrap();
    let right = net.open(MediaKind::Main, place(Some(left.port.thread()))).unwrap();
    assert_eq!(left.port.thread(), sound.port.thread());
    let mut from = Far::new(1, &h264(PacketizationMode::NonInterleaved), None);
    let mut to = Far::new(2, &h264(PacketizationMode::NonInterleaved), None);
    from.join(&left);
    to.join(&right);
    right.port.feed(Feed::Relay(left.port.id())).unwrap();
    left.port.feed(Feed::Relay(right.port.id())).unwrap();
    to.send(&frame(MediaKind::Main, 0, &unit(10)));
    wait("the answer", || {
        from.pump();
        !from.heard.is_empty()
    });
    let mut cross = |n: i64| {
        let start = Instant::now();
        let before = to.heard.len();
        from.send(&frame(MediaKind::Main, n * 33_000_000, &unit(3000)));
        wait("the picture", || {
            to.pump();
            to.heard.len() > before
        });
        start.elapsed()
    };
    let direct = (0..20).map(&mut cross).min().unwrap();
    let (inlet, _outlet) = sound.port.engage().unwrap();
    inlet.wishes.set_playout_delay(HELD);
    let held = (20..25).map(&mut cross).min().unwrap();
    sound.port.disengage().unwrap();
    let after = (25..45).map(&mut cross).min().unwrap();
    assert!(direct < HELD / 2 && held >= HELD && after < HELD / 2, "{direct:?} {held:?} {after:?}");
}

/// A clear call, an encrypted one behind it, and a clear one behind that: what `a` says, `b` hears.
/// `expected`: whose certificate the near end of the encrypted call takes.
fn through_dtls(net: &MediaNet, a: &Peer, b: &Peer, expected: &Fingerprint) -> [Opened; 4] {
    let first = net.open(MediaKind::Audio, place(None)).unwrap();
    let thread = Some(first.port.thread());
    let open = || net.open(MediaKind::Audio, place(thread)).unwrap();
    let [second, third, fourth] = [open(), open(), open()];
    first.port.configure(a.config(0)).unwrap();
    fourth.port.configure(b.config(0)).unwrap();
    let ends =
        [(&second, &third, Role::Client, expected), (&third, &second, Role::Server, net.fingerprint())];
    for (own, other, role, certificate) in ends {
        let mut config = a.config(0);
        // Without rtcp-mux: a handshake on each port.
        config.rtcp_mux = false;
        config.remote = Some(RemoteAddress::new(other.port.local().rtp, false));
        config.dtls = Some(Agreed { role, fingerprints: vec![certificate.clone()] });
        own.port.configure(config).unwrap();
    }
    second.port.feed(Feed::Relay(first.port.id())).unwrap();
    fourth.port.feed(Feed::Relay(third.port.id())).unwrap();
    [first, second, third, fourth]
}

#[test]
fn media_flows_when_the_handshake_has_found_keys() {
    let net = net(42_600..=42_619);
    let (a, b) = (Peer::new(1), Peer::new(2));
    let streams = through_dtls(&net, &a, &b, net.fingerprint());
    wait("keys", || streams[1].port.stats().encrypted && streams[2].port.stats().encrypted);
    for sequence in 0..5 {
        a.send(&streams[0].port, 0, sequence, b"what is said");
    }
    assert_eq!(b.receive().1, b"what is said");
}

/// P-33: no keys, nothing in clear, and the leg is told.
#[test]
fn promise_33_a_foreign_certificate_ends_the_stream() {
    let net = net(42_620..=42_639);
    let (a, b) = (Peer::new(1), Peer::new(2));
    let mut streams = through_dtls(&net, &a, &b, &Fingerprint::of(b"somebody else's"));
    for number in 1..3 {
        let mut told = false;
        wait("the failure", || {
            a.send(&streams[0].port, 0, 1, b"what is said");
            told |= streams[number].events.try_recv() == Ok(StreamEvent::EncryptionFailed);
            told
        });
    }
    let stats = [&streams[1], &streams[2]].map(|stream| stream.port.stats());
    assert!(stats.iter().all(|it| it.packets_sent == 0 && !it.encrypted), "{stats:?}");
}
