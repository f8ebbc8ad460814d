//! Where a leg's stream meets the media graph. Both the RTP socket threads (SIP, H.323) and, later,
//! the WebRTC and RTMP legs stand behind [`StreamPort`]; the engine sees [`Inlet`] and [`Outlet`].

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crosspoint_codecs::format::MediaKind;
use crosspoint_codecs::frame::EncodedFrame;

pub use super::arrival::{Arrival, RING};
use super::capture::Capture;

/// One stream of one leg, both ways. Never used twice in one gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// What a stream sends to its peer: from whom it takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    /// Nothing is sent (RTCP goes on).
    Silence,
    /// What that stream receives, without the engine: packets where the forms agree, access units
    /// where they differ. Both must live on one thread ([`StreamPort::thread`]).
    Relay(StreamId),
    /// What the engine puts into the [`Outlet`].
    Engine,
}

/// Why a port could not do as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// The stream is closed.
    #[error("the stream is closed")]
    Closed,
    /// The command queue of its thread is full.
    #[error("the media thread does not keep up")]
    Overloaded,
    /// The two streams live on different threads.
    #[error("the streams live on different media threads")]
    Apart,
}

/// A stream as the conference sees it. Calls never block: they queue to the stream's thread.
pub trait StreamPort: Send + Sync + fmt::Debug {
    /// Its number.
    fn id(&self) -> StreamId;

    /// Its role.
    fn kind(&self) -> MediaKind;

    /// The thread that it lives on: only streams of one thread can relay to each other.
    fn thread(&self) -> usize;

    /// What is sent to the peer from now on.
    fn feed(&self, feed: Feed) -> Result<(), PortError>;

    /// Opens the rings to and from the engine; earlier ones of this stream end. Call it before
    /// the engine shall decode this stream or fill it.
    fn engage(&self) -> Result<(Inlet, Outlet), PortError>;

    /// Ends the rings, so that nothing is depacketised for an engine that does not listen.
    fn disengage(&self) -> Result<(), PortError>;

    /// Asks the peer for a keyframe (merged and rate limited).
    fn request_keyframe(&self) -> Result<(), PortError>;

    /// Sends one DTMF digit by the stream's negotiated method, if that is in the media.
    fn send_dtmf(&self, digit: char, duration: Duration) -> Result<(), PortError>;

    /// Shows every datagram that comes or goes from now on, as it is on the wire; `None`: to nobody any
    /// more. A port that has no datagrams of its own shows nothing.
    fn show(&self, capture: Option<Arc<Capture>>) -> Result<(), PortError> {
        drop(capture);
        Ok(())
    }

    /// Its figures so far.
    fn stats(&self) -> StreamStats;
}

/// What a stream tells the conference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamEvent {
    /// The peer wants a keyframe of what we send.
    KeyframeRequested,
    /// We want a keyframe of the peer, and its media has no way to ask: the leg asks by signalling.
    KeyframeNeeded,
    /// The peer pressed a key; told once, at its start.
    Dtmf(char),
    /// The relay to this stream met something that this stream's peer cannot take (a NAL unit
    /// larger than a packet in mode 0, a rate above the limit): it needs a transcode.
    RelayUnfit(Unfit),
    /// Nothing came for the configured time.
    MediaTimeout,
    /// The first valid media packet came.
    MediaStarted,
    /// A handshake has found the keys of this suite.
    KeysFound(&'static str),
    /// The handshake for its keys failed, and nothing goes out without: the leg ends.
    EncryptionFailed,
}

/// Why a relay does not fit its sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// A NAL unit larger than a packet, and the sink takes single NAL units only.
    NalTooLarge,
    /// The source's pictures have a profile, level or size that the sink does not take.
    Picture,
    /// The source sends more than the sink takes.
    Rate,
}

/// Wishes that cross between a stream's thread and the engine without a queue: the last one counts.
#[derive(Debug, Default)]
pub struct Wishes {
    keyframe_from_peer: AtomicBool,
    keyframe_of_us: AtomicBool,
    bitrate: AtomicU32,
    loss_percent: AtomicU8,
    playout_delay: AtomicU64,
}

impl Wishes {
    /// Engine: the decoder needs a keyframe from the peer.
    pub fn want_keyframe(&self) {
        self.keyframe_from_peer.store(true, Ordering::Release);
    }

    /// Thread: takes the engine's wish.
    pub fn take_keyframe_wanted(&self) -> bool {
        self.keyframe_from_peer.swap(false, Ordering::AcqRel)
    }

    /// Thread: the peer needs a keyframe of what the engine sends.
    pub fn ask_keyframe(&self) {
        self.keyframe_of_us.store(true, Ordering::Release);
    }

    /// Engine: takes the peer's wish.
    pub fn take_keyframe_asked(&self) -> bool {
        self.keyframe_of_us.swap(false, Ordering::AcqRel)
    }

    /// Thread: the peer can take so many bit/s of this stream.
    pub fn limit_bitrate(&self, bits: u32) {
        self.bitrate.store(bits, Ordering::Release);
    }

    /// Engine: the limit, if there is one.
    pub fn bitrate_limit(&self) -> Option<u32> {
        Some(self.bitrate.load(Ordering::Acquire)).filter(|bits| *bits != 0)
    }

    /// Thread: the loss that the peer reports of what we send, in percent.
    pub fn report_loss(&self, percent: u8) {
        self.loss_percent.store(percent, Ordering::Release);
    }

    /// Engine: the loss that the peer reports.
    pub fn reported_loss(&self) -> u8 {
        self.loss_percent.load(Ordering::Acquire)
    }

    /// Engine: how long this stream's frames are held before they are played. The relay of the
    /// same leg's other kind may be delayed to match.
    pub fn set_playout_delay(&self, delay: Duration) {
        self.playout_delay.store(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX), Ordering::Release);
    }

    /// Thread: how long the engine holds this stream's frames.
    pub fn playout_delay(&self) -> Duration {
        Duration::from_nanos(self.playout_delay.load(Ordering::Acquire))
    }
}

/// What a stream receives, for the engine to decode.
#[derive(Debug)]
pub struct Inlet {
    /// Frames in arrival order after reordering.
    pub frames: rtrb::Consumer<Arrival>,
    /// Wishes both ways.
    pub wishes: Arc<Wishes>,
}

/// What the engine sends to a stream's peer.
pub struct Outlet {
    /// Frames to packetise and send at once.
    pub frames: rtrb::Producer<EncodedFrame>,
    /// Wishes both ways: the same as the [`Inlet`]'s.
    pub wishes: Arc<Wishes>,
    /// The thread to wake once all frames of a tick are pushed.
    pub wake: Arc<dyn Wake>,
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").field("thread", &self.wake.thread()).finish_non_exhaustive()
    }
}

/// Wakes a media socket thread: the one system call that a tick may make for each such thread.
pub trait Wake: Send + Sync {
    /// The thread, as [`StreamPort::thread`] numbers it.
    fn thread(&self) -> usize;

    /// Makes its poll return.
    fn wake(&self);
}

/// Figures of one stream since it was opened. Counters only grow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamStats {
    /// The peer's media address, once known.
    pub remote: Option<SocketAddr>,
    /// Media is encrypted.
    pub encrypted: bool,
    /// Packets received and valid.
    pub packets_received: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Packets that never came.
    pub packets_lost: u64,
    /// Packets dropped: late, doubled, malformed, foreign, failed authentication.
    pub packets_dropped: u64,
    /// Packets sent.
    pub packets_sent: u64,
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// RFC 3550 interarrival jitter of what we receive.
    pub jitter: Duration,
    /// Loss that the peer reports of what we send, 0 to 1.
    pub remote_loss: f32,
    /// Round trip by RTCP, once known.
    pub round_trip: Option<Duration>,
    /// Bit/s received over the last second or so.
    pub bitrate_received: u32,
    /// Bit/s sent over the last second or so.
    pub bitrate_sent: u32,
    /// Keyframes that we asked the peer for.
    pub keyframes_requested: u64,
    /// Keyframes that the peer asked us for.
    pub keyframes_asked: u64,
    /// Frames that no ring or pool had room for.
    pub overflow: u64,
}
