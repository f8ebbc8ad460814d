//! A stream on its thread: session, sockets, rings, and what it publishes.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::format::MediaKind;
use crosspoint_codecs::frame::{EncodedFrame, Pool};
use crosspoint_proto::rtp::session::{
    Channel, Event, MediaPacket, Numbering, Received, Session, SessionConfig, Wire,
};
use crosspoint_proto::rtp::timeline::LegClock;
use mio::net::UdpSocket;
use tokio::sync::mpsc;

use super::dtls::{DtlsFault, Identity, Outcome};
use super::handshakes::Handshakes;
use super::hold::{Hold, Item};
use super::port::LocalAddress;
use super::ports::{Lease, Pair};
use crate::media::capture::Capture;
use crate::media::port::{
    Arrival, Feed, Inlet, Outlet, RING, StreamEvent, StreamId, StreamStats, Wake, Wishes,
};
use crate::net::clock::Clock;

/// How often figures are published while packets flow.
const PUBLISH: Duration = Duration::from_secs(1);

/// Bytes of an audio frame buffer: the largest payload that a datagram on Ethernet carries.
const AUDIO_FRAME: usize = 1500;

/// Audio frames that exist at once: a full ring, as many being played, and one being made.
const AUDIO_FRAMES: usize = 2 * RING + 1;

/// Bytes of an access unit buffer: an IDR of 1080p at 6 Mbit/s stays well below; pages that no
/// picture touches are never resident.
const VIDEO_FRAME: usize = 512 << 10;

/// Access units that exist at once. Video is latest-wins: nobody wants to keep a second of it.
const VIDEO_FRAMES: usize = 24;

/// Kernel buffer for RTP. Audio: 100 ms of stall of a whole thread at 50 packets/s are few
/// kilobytes, but small packets count as whole pages there. Video: an IDR of 300 kB comes in one
/// burst.
pub(super) const fn buffer(kind: MediaKind) -> usize {
    if kind.is_video() { 1 << 20 } else { 128 << 10 }
}

/// Buffers for the frames of one stream.
pub(super) fn pool(kind: MediaKind) -> Pool {
    if kind.is_video() { Pool::new(VIDEO_FRAMES, VIDEO_FRAME) } else { Pool::new(AUDIO_FRAMES, AUDIO_FRAME) }
}

/// What a port asks of its stream.
#[derive(Debug)]
pub(super) enum Order {
    Configure(Box<SessionConfig>),
    Feed(Feed),
    Engage(Box<Inside>),
    Disengage,
    RequestKeyframe,
    KeyframeAsked,
    SendDtmf(char, Duration),
    Show(Option<Arc<Capture>>),
    Publish,
}

/// The thread's ends of the rings.
#[derive(Debug)]
pub(super) struct Inside {
    inlet: rtrb::Producer<Arrival>,
    outlet: rtrb::Consumer<EncodedFrame>,
    wishes: Arc<Wishes>,
    pool: Pool,
}

/// Both ends of the rings of a stream.
pub(super) fn rings(kind: MediaKind, wake: Arc<dyn Wake>) -> (Inside, Inlet, Outlet) {
    let (inlet, inlet_out) = rtrb::RingBuffer::new(RING);
    let (outlet_in, outlet) = rtrb::RingBuffer::new(RING);
    let wishes = Arc::new(Wishes::default());
    let inside = Inside { inlet, outlet, wishes: wishes.clone(), pool: pool(kind) };
    let inlet = Inlet { frames: inlet_out, wishes: wishes.clone() };
    (inside, inlet, Outlet { frames: outlet_in, wishes, wake })
}

/// What a port knows of its stream.
#[derive(Debug)]
pub(super) struct Outside {
    pub(super) id: StreamId,
    pub(super) kind: MediaKind,
    pub(super) local: LocalAddress,
    pub(super) figures: Arc<Figures>,
}

/// What a stream publishes.
#[derive(Debug, Default)]
pub(super) struct Figures {
    closed: AtomicBool,
    stats: Mutex<StreamStats>,
}

impl Figures {
    /// True the first time.
    pub(super) fn close(&self) -> bool {
        !self.closed.swap(true, Ordering::AcqRel)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn read(&self) -> StreamStats {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn write(&self, stats: StreamStats) {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = stats;
    }
}

/// A stream on its thread.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: StreamId,
    pub(super) kind: MediaKind,
    pub(super) session: Session,
    pub(super) rtp: UdpSocket,
    pub(super) rtcp: UdpSocket,
    pub(super) figures: Arc<Figures>,
    /// Changed by [`Self::set_feed`].
    pub(super) feed: Feed,
    /// Slots of the streams that relay what this one receives.
    pub(super) sinks: Vec<usize>,
    /// Its leg on this thread.
    pub(super) leg: usize,
    /// Another stream of its leg, as it was told when it was opened.
    pub(super) beside: Option<StreamId>,
    /// The deadline that the thread's timer knows.
    pub(super) armed: Option<Instant>,
    rings: Option<Box<Inside>>,
    hold: Hold,
    identity: Arc<Identity>,
    clock: Clock,
    handshakes: Option<Handshakes>,
    withheld_told: bool,
    events: mpsc::Sender<StreamEvent>,
    counts: Counts,
    /// Who is shown what comes and goes.
    capture: Option<Arc<Capture>>,
    local: LocalAddress,
    /// Something happened since the figures were published.
    publish_at: Option<Instant>,
    published: Published,
    // Last: the ports are free when the sockets are closed.
    _lease: Lease,
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.figures.close();
    }
}

/// What the stream counts beside its session.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// Frames that the engine's ring had no room for.
    ring_overflow: u64,
    /// Events that the leg's queue had no room for.
    events_lost: u64,
    /// Datagrams that the kernel did not take.
    unsent: u64,
}

/// What the last publication knew, for rates.
#[derive(Clone, Copy, Debug, Default)]
struct Published {
    at: Instant,
    received: u64,
    sent: u64,
    rates: (u32, u32),
}

/// How a capture calls what goes through these sockets.
const MEDIA: &str = "media";

/// The sockets as the session sees them.
struct Sockets<'a> {
    rtp: &'a UdpSocket,
    rtcp: &'a UdpSocket,
    counts: &'a mut Counts,
    capture: Option<(&'a Capture, LocalAddress)>,
}

impl Wire for Sockets<'_> {
    fn send(&mut self, channel: Channel, to: SocketAddr, datagram: &[u8]) {
        let socket = match channel {
            Channel::Rtp => self.rtp,
            Channel::Rtcp => self.rtcp,
        };
        // A full socket buffer or an unreachable peer: the network drops packets, too.
        if socket.send_to(datagram, to).is_err() {
            self.counts.unsent += 1;
        } else if let Some((capture, local)) = self.capture {
            capture.put(local.of(channel), to, MEDIA, datagram);
        }
    }
}

impl Stream {
    #[expect(clippy::too_many_arguments, reason = "one caller, and each of them is another thing")]
    pub(super) fn new(
        id: StreamId,
        kind: MediaKind,
        pair: Pair,
        seed: [u8; 32],
        clock: Clock,
        identity: Arc<Identity>,
        beside: Option<StreamId>,
        events: mpsc::Sender<StreamEvent>,
    ) -> io::Result<(Self, Outside)> {
        let local = LocalAddress { rtp: pair.rtp.local_addr()?, rtcp: pair.rtcp.local_addr()? };
        let figures = Arc::new(Figures::default());
        let outside = Outside { id, kind, local, figures: figures.clone() };
        let stream = Self {
            id,
            kind,
            session: Session::new(kind, clock.epoch(), seed),
            rtp: UdpSocket::from_std(pair.rtp),
            rtcp: UdpSocket::from_std(pair.rtcp),
            figures,
            feed: Feed::Silence,
            sinks: Vec::new(),
            leg: 0,
            beside,
            armed: None,
            rings: None,
            hold: Hold::default(),
            identity,
            clock,
            handshakes: None,
            withheld_told: false,
            events,
            counts: Counts::default(),
            capture: None,
            local,
            publish_at: None,
            published: Published::default(),
            _lease: pair.lease,
        };
        Ok((stream, outside))
    }

    /// The session and the wire that it sends on.
    fn split(&mut self) -> (&mut Session, Sockets<'_>) {
        let capture = self.capture.as_deref().map(|it| (it, self.local));
        (&mut self.session, Sockets { rtp: &self.rtp, rtcp: &self.rtcp, counts: &mut self.counts, capture })
    }

    pub(super) fn show(&mut self, capture: Option<Arc<Capture>>) {
        self.capture = capture;
    }

    /// A datagram has come, whatever becomes of it.
    pub(super) fn came(&self, channel: Channel, from: SocketAddr, data: &[u8]) {
        if let Some(capture) = &self.capture {
            capture.put(from, self.local.of(channel), MEDIA, data);
        }
    }

    pub(super) fn receive<'d>(
        &mut self,
        now: Instant,
        leg: &mut LegClock,
        channel: Channel,
        from: SocketAddr,
        data: &'d mut [u8],
    ) -> Received<'d> {
        self.touch(now);
        let (session, mut wire) = self.split();
        session.receive(now, leg, channel, from, data, &mut wire)
    }

    /// Takes a datagram of a handshake.
    pub(super) fn shake(&mut self, now: Instant, channel: Channel, from: SocketAddr, data: &[u8]) {
        let outcome = self.handshakes.as_mut().and_then(|it| it.receive(now, channel, from, data));
        if let Some(outcome) = outcome {
            self.secure(now, channel, outcome);
        }
        self.flush_handshakes();
    }

    fn secure(&mut self, now: Instant, channel: Channel, outcome: Outcome) {
        match outcome {
            Ok(keys) => {
                tracing::debug!(stream = self.id.0, ?channel, suite = %keys.send.suite(), "a handshake found keys");
                self.session.secure(channel, &keys);
                if channel == Channel::Rtp {
                    self.tell(StreamEvent::KeysFound(keys.send.suite().name()));
                }
                if self.kind.is_video() && channel == Channel::Rtp {
                    // The pictures so far went nowhere.
                    self.session.note_keyframe_asked(now);
                }
            }
            Err(fault) => self.insecure(&fault),
        }
    }

    /// There will be no keys, and nothing goes out without.
    fn insecure(&mut self, fault: &DtlsFault) {
        tracing::info!(stream = self.id.0, %fault, "media cannot be encrypted");
        self.tell(StreamEvent::EncryptionFailed);
    }

    fn flush_handshakes(&mut self) {
        let capture = self.capture.as_deref().map(|it| (it, self.local));
        let mut wire = Sockets { rtp: &self.rtp, rtcp: &self.rtcp, counts: &mut self.counts, capture };
        if let Some(handshakes) = &mut self.handshakes {
            handshakes.flush(|channel, to, datagram| wire.send(channel, to, datagram));
        }
    }

    /// Relays a packet, after `wait`.
    pub(super) fn relay(&mut self, now: Instant, wait: Duration, source: StreamId, packet: &MediaPacket<'_>) {
        // What came before goes before, even when the wait has ended meanwhile.
        let waits = !wait.is_zero() || !self.hold.is_empty();
        if waits && self.hold.packet(now + wait, source, packet) {
            return;
        }
        if waits {
            self.release(now, Instant::FAR);
        }
        self.forward(now, source, packet);
    }

    /// A number of the source's that is no media.
    pub(super) fn relay_skip(&mut self, now: Instant, source: StreamId, number: Numbering) {
        if self.hold.is_empty() || self.hold.item(now, Item::Skip { source, number }).is_err() {
            self.session.skip(source.0, number);
        }
    }

    /// Relays a frame, after `wait`.
    pub(super) fn relay_frame(
        &mut self,
        now: Instant,
        wait: Duration,
        source: StreamId,
        frame: EncodedFrame,
    ) {
        if wait.is_zero() && self.hold.is_empty() {
            self.send_frame(now, Some(source), &frame);
        } else if let Err(Item::Frame { frame, .. }) =
            self.hold.item(now + wait, Item::Frame { source, frame })
        {
            self.release(now, Instant::FAR);
            self.send_frame(now, Some(source), &frame);
        }
    }

    /// Sends what has waited until `until`.
    fn release(&mut self, now: Instant, until: Instant) {
        while let Some(item) = self.hold.release(until) {
            match item {
                Item::Packet { source, packet } => self.forward(now, source, &packet.view()),
                Item::Skip { source, number } => self.session.skip(source.0, number),
                Item::Frame { source, frame } => self.send_frame(now, Some(source), &frame),
            }
        }
    }

    /// Changes what is sent; returns what was.
    pub(super) fn set_feed(&mut self, feed: Feed) -> Feed {
        let before = std::mem::replace(&mut self.feed, feed);
        if before != feed {
            self.hold.clear();
        }
        before
    }

    fn forward(&mut self, now: Instant, source: StreamId, packet: &MediaPacket<'_>) {
        self.touch(now);
        let (session, mut wire) = self.split();
        session.forward(now, source.0, packet, &mut wire);
    }

    /// `source`: who it is relayed from; `None` for a frame of the engine.
    fn send_frame(&mut self, now: Instant, source: Option<StreamId>, frame: &EncodedFrame) {
        self.touch(now);
        let (session, mut wire) = self.split();
        session.send_frame(now, source.map(|source| source.0), frame, &mut wire);
    }

    pub(super) fn timeout(&mut self, now: Instant) {
        self.release(now, now);
        while let Some((channel, outcome)) = self.handshakes.as_mut().and_then(|it| it.timeout(now)) {
            self.secure(now, channel, outcome);
        }
        self.flush_handshakes();
        let (session, mut wire) = self.split();
        session.handle_timeout(now, &mut wire);
        if self.publish_at.is_some_and(|at| at <= now) {
            self.publish(now);
        }
    }

    pub(super) fn request_keyframe(&mut self, now: Instant) {
        let (session, mut wire) = self.split();
        session.request_keyframe(now, &mut wire);
    }

    pub(super) fn limit_peer(&mut self, now: Instant, bits: u32) {
        let (session, mut wire) = self.split();
        session.limit_peer(now, bits, &mut wire);
    }

    pub(super) fn free_peer(&mut self, now: Instant) {
        let (session, mut wire) = self.split();
        session.free_peer(now, &mut wire);
    }

    pub(super) fn configure(&mut self, now: Instant, config: SessionConfig) {
        let zero = self.clock.zero();
        let handshakes = Handshakes::agreed(self.handshakes.take(), &config, &self.identity, now, zero);
        self.session.configure(now, config);
        match handshakes {
            Ok(handshakes) => self.handshakes = handshakes,
            Err(fault) => self.insecure(&fault),
        }
        self.flush_handshakes();
        if let Some(rings) = &self.rings {
            rings.wishes.limit_bitrate(self.session.send_limit().unwrap_or(0));
        }
    }

    /// Says goodbye and publishes the last figures.
    pub(super) fn close(&mut self, now: Instant) {
        let (session, mut wire) = self.split();
        session.close(now, &mut wire);
        self.publish(now);
        let _ = self.figures.close();
    }

    pub(super) fn engage(&mut self, rings: Box<Inside>) {
        rings.wishes.limit_bitrate(self.session.send_limit().unwrap_or(0));
        self.session.open_frames(rings.pool.clone());
        self.rings = Some(rings);
    }

    /// Ends the rings. Frames that a relay wants are opened anew by the thread.
    pub(super) fn disengage(&mut self) {
        self.rings = None;
        self.session.close_frames();
    }

    pub(super) const fn is_engaged(&self) -> bool {
        self.rings.is_some()
    }

    /// A frame of this stream for the engine.
    pub(super) fn deliver(&mut self, at: Instant, frame: EncodedFrame) {
        if let Some(rings) = &mut self.rings
            && rings.inlet.push(Arrival { at, frame }).is_err()
        {
            self.counts.ring_overflow += 1;
        }
    }

    /// Sends what the engine pushed. Frames for a feed that is no more the engine are dropped.
    pub(super) fn drain_outlet(&mut self, now: Instant) {
        // A ring holds RING frames; the engine may push more meanwhile, for the next wake.
        for _ in 0..RING {
            let Some(frame) = self.rings.as_mut().and_then(|rings| rings.outlet.pop().ok()) else { return };
            if self.feed == Feed::Engine {
                self.send_frame(now, None, &frame);
            }
        }
    }

    /// What this stream and the engine tell each other, while it is engaged.
    pub(super) fn wishes(&self) -> Option<Arc<Wishes>> {
        self.rings.as_ref().map(|rings| rings.wishes.clone())
    }

    /// The engine's wish for a keyframe of the peer.
    pub(super) fn take_wish(&self) -> bool {
        self.rings.as_ref().is_some_and(|rings| rings.wishes.take_keyframe_wanted())
    }

    pub(super) fn ask_engine_for_keyframe(&self) {
        if let Some(rings) = &self.rings {
            rings.wishes.ask_keyframe();
        }
    }

    pub(super) fn limit_engine(&self, bits: u32) {
        if let Some(rings) = &self.rings {
            rings.wishes.limit_bitrate(bits);
        }
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.session.poll_event()
    }

    pub(super) fn tell(&mut self, event: StreamEvent) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.events.try_send(event) {
            self.counts.events_lost += 1;
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let handshakes = self.handshakes.as_ref().and_then(Handshakes::deadline);
        let deadlines = [self.session.poll_timeout(), self.publish_at, self.hold.deadline(), handshakes];
        deadlines.into_iter().flatten().min()
    }

    fn touch(&mut self, now: Instant) {
        if self.publish_at.is_none() {
            self.publish_at = Some(now + PUBLISH);
        }
    }

    pub(super) fn publish(&mut self, now: Instant) {
        self.publish_at = None;
        let session = self.session.stats();
        if session.packets_withheld > 0 && !self.withheld_told {
            self.withheld_told = true;
            tracing::info!(stream = self.id.0, remote = ?session.remote, "the peer sent nothing valid, so that no more is sent to it");
        }
        let (received, sent) = (session.bytes_received, session.bytes_sent);
        let over = now - self.published.at;
        // A reader who asks more often gets the rates of the last whole interval.
        if over >= PUBLISH / 2 {
            let rates =
                (rate(received - self.published.received, over), rate(sent - self.published.sent, over));
            self.published = Published { at: now, received, sent, rates };
            // An idle stream falls back to zero with one more publication.
            self.publish_at = (rates != (0, 0)).then(|| now + PUBLISH);
        } else {
            self.publish_at = Some(self.published.at + PUBLISH);
        }
        if let Some(rings) = &self.rings {
            rings.wishes.report_loss(percent(session.remote_loss));
        }
        let Published { rates: (bitrate_received, bitrate_sent), .. } = self.published;
        self.figures.write(StreamStats {
            remote: session.remote,
            encrypted: session.encrypted,
            packets_received: session.packets_received,
            bytes_received: received,
            packets_lost: session.packets_lost,
            packets_dropped: session.packets_dropped,
            packets_sent: session.packets_sent,
            bytes_sent: sent,
            jitter: session.jitter,
            remote_loss: session.remote_loss,
            round_trip: session.round_trip,
            bitrate_received,
            bitrate_sent,
            keyframes_requested: session.keyframes_requested,
            keyframes_asked: session.keyframes_asked,
            overflow: session.overflow
                + self.counts.ring_overflow
                + self.counts.events_lost
                + self.counts.unsent,
        });
    }
}

fn rate(bytes: u64, over: Duration) -> u32 {
    let bits = u128::from(bytes).saturating_mul(8_000_000_000) / over.as_nanos().max(1);
    u32::try_from(bits).unwrap_or(u32::MAX)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=100 before")]
fn percent(fraction: f32) -> u8 {
    (fraction * 100.0).clamp(0.0, 100.0).round() as u8
}
