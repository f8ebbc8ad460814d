//! One m-line's RTP: a session without sockets. Datagrams and time go in; datagrams leave through a
//! [`Wire`] within the same call; nothing is allocated for a packet.
//!
//! ```text
//!             +------------------- Session -------------------+
//! datagram -> | source policy -> SRTP -> RTP -> count ---------> MediaPacket -> forward() of
//!             |                    \-> RTCP       \-> reorder -> frame (poll_frame)  another
//!             | forward, send_frame -> number, stamp -> SRTP ---> Wire
//!             +-----------------------------------------------+
//! ```
//!
//! The owner calls [`Session::poll_event`] until it is empty after each call, and
//! [`Session::handle_timeout`] at [`Session::poll_timeout`].

mod config;
mod control;
mod fit;
mod frames;
mod keyframe;
mod receive;
mod send;
mod source;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use crosspoint_codecs::format::{Codec, MediaFormat, MediaKind, PacketizationMode, RelayForm};
use crosspoint_codecs::frame::MediaTime;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::Instant;
use crate::rtp::dtmf::DtmfSender;
use crate::rtp::packet::DatagramKind;
use crate::rtp::srtp::{MAX_OVERHEAD, SrtpContext, SrtpError};
use crate::rtp::timeline::LegClock;

pub use config::{
    DtmfPayload, Feedback, LevelItem, MEDIA_TIMEOUT, Payload, ReceivePayload, RemoteAddress, SendPayload,
    SessionConfig, SourcePolicy, SrtpKeys,
};
use control::Control;
use frames::Frames;
pub use keyframe::KEYFRAME_INTERVAL;
use keyframe::KeyframeWish;
use receive::Receiver;
use send::Sender;
use source::SourceGate;
pub use source::{UNPROVEN_PACKETS, UNPROVEN_TIME};

/// Events that wait to be polled. The owner drains after each call, and one call makes few: more
/// than this is a fault of ours, and the newest are dropped and counted as overflow.
const EVENTS: usize = 16;

/// Largest datagram that is relayed: an Ethernet frame's worth, and the tag that SRTP adds.
const SCRATCH: usize = 2048;

/// Which of the two sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// The even port; with rtcp-mux, RTCP too.
    Rtp,
    /// The odd port.
    Rtcp,
}

/// Where datagrams leave. A send that fails is the network's loss: nobody is told.
pub trait Wire {
    /// Sends `datagram` from the socket of `channel`.
    fn send(&mut self, channel: Channel, to: SocketAddr, datagram: &[u8]);
}

impl<F: FnMut(Channel, SocketAddr, &[u8])> Wire for F {
    fn send(&mut self, channel: Channel, to: SocketAddr, datagram: &[u8]) {
        self(channel, to, datagram);
    }
}

/// What happened, for the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first valid media packet since the session was made or a re-offer changed its peer.
    MediaStarted,
    /// Nothing valid came for the configured time, neither media nor reports. Told once, until
    /// something comes again.
    MediaTimeout,
    /// The peer pressed a key; told once, at its start.
    Dtmf(char),
    /// The peer wants a keyframe of what we send.
    KeyframeAsked,
    /// We want a keyframe and the media has no way to ask for it: ask by signalling.
    KeyframeNeeded,
    /// The peer takes so many bit/s at most from now on.
    PeerLimit(u32),
    /// A frame to be relayed held a NAL unit larger than a packet, and the peer takes single NAL
    /// units only. Told once for each source.
    NalTooLarge,
    /// The pictures of a relay have a profile, level or size that the peer does not take. Told once
    /// for each source.
    PictureUnfit,
    /// What is relayed exceeds the peer's limit of so many bit/s: ask the source for less.
    RateExceeded(u32),
    /// It still does after three seconds. Told once for each source.
    RateUnfit,
}

/// What a packet or frame carries, as far as a relay cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carries {
    /// The codec.
    pub codec: Codec,
    /// How NAL units travel (video).
    pub mode: Option<PacketizationMode>,
}

impl From<&MediaFormat> for Carries {
    fn from(format: &MediaFormat) -> Self {
        match format {
            MediaFormat::Audio(audio) => Self { codec: audio.codec, mode: None },
            MediaFormat::Video(video) => Self { codec: video.codec, mode: Some(video.mode) },
        }
    }
}

/// What came of a datagram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Received<'a> {
    /// Nothing to relay.
    Nothing,
    /// A packet of media, in the order of arrival.
    Media(MediaPacket<'a>),
    /// A packet that ends here although it has a number among the media: sinks close the gap
    /// ([`Session::skip`]).
    Ended(Numbering),
}

/// Where a packet stands in its source's numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbering {
    /// Changes when the source changed or began anew.
    pub epoch: u32,
    /// Sequence number without wrap; only comparable within an epoch.
    pub index: u64,
}

/// A valid media packet, opened and read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MediaPacket<'a> {
    /// Its place.
    pub number: Numbering,
    /// RTP time stamp of the source.
    pub timestamp: u32,
    /// Its moment on the source leg's timeline.
    pub media_time: MediaTime,
    /// Last packet of a picture, first of a talk spurt.
    pub marker: bool,
    /// What it carries.
    pub carries: Carries,
    /// How loud its sender says that it is, in -dBov (0 loud, 127 silent). Nothing of it is proven.
    pub level: Option<u8>,
    /// The payload, without padding.
    pub payload: &'a [u8],
}

/// Figures of one session. Counters only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SessionStats {
    /// Where media goes to.
    pub remote: Option<SocketAddr>,
    /// SRTP is in use.
    pub encrypted: bool,
    /// Valid RTP packets received.
    pub packets_received: u64,
    /// Their payload bytes.
    pub bytes_received: u64,
    /// Packets that never came.
    pub packets_lost: u64,
    /// Datagrams dropped: foreign, malformed, not authentic, doubled, of unknown payload type.
    pub packets_dropped: u64,
    /// RTP packets sent, retransmissions included.
    pub packets_sent: u64,
    /// Their payload bytes.
    pub bytes_sent: u64,
    /// Datagrams that were not sent because the peer never answered.
    pub packets_withheld: u64,
    /// RFC 3550 interarrival jitter.
    pub jitter: Duration,
    /// Loss that the peer reports of what we send, 0 to 1.
    pub remote_loss: f32,
    /// Round trip by RTCP.
    pub round_trip: Option<Duration>,
    /// Keyframes that we asked for.
    pub keyframes_requested: u64,
    /// Keyframes that the peer asked for.
    pub keyframes_asked: u64,
    /// Frames without a buffer, events without room.
    pub overflow: u64,
}

/// The session of one m-line.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    gate: SourceGate,
    sender: Sender,
    receiver: Receiver,
    frames: Frames,
    control: Control,
    /// We want a keyframe of the peer.
    wanted: KeyframeWish,
    /// The peer wants one of us.
    asked: KeyframeWish,
    srtp: Option<Box<Srtp>>,
    /// That of the RTCP port, where it had a handshake of its own.
    srtcp: Option<Box<Srtp>>,
    events: VecDeque<Event>,
    stats: SessionStats,
    /// Packets are made here.
    scratch: Box<[u8; SCRATCH]>,
    epoch: SystemTime,
    rng: ChaCha8Rng,
    closed: bool,
}

/// Both ways of SRTP, and the keys that they were made from. Boxed where it is kept: sixteen kilobytes that most
/// sessions do not need, and that would be moved with each of them.
#[derive(Debug)]
struct Srtp {
    keys: SrtpKeys,
    send: SrtpContext,
    receive: SrtpContext,
}

impl Srtp {
    fn new(keys: &SrtpKeys) -> Result<Self, SrtpError> {
        let (send, receive) = (SrtpContext::new(&keys.send)?, SrtpContext::new(&keys.receive)?);
        Ok(Self { keys: keys.clone(), send, receive })
    }
}

impl Session {
    /// A session that knows no peer yet. `epoch` is what the world called the zero of the clock
    /// whose [`Instant`]s it will be told: the same for all sessions of a gateway, so that their
    /// streams are in step. `seed` makes its numbers unguessable.
    pub fn new(kind: MediaKind, epoch: SystemTime, seed: [u8; 32]) -> Self {
        let mut rng = ChaCha8Rng::from_seed(seed);
        let config = SessionConfig::new(kind, rng.next_u32(), String::new());
        Self {
            gate: SourceGate::new(config.source, None, false),
            sender: Sender::new(&config, &mut rng),
            receiver: Receiver::default(),
            frames: Frames::new(&config),
            control: Control::default(),
            wanted: KeyframeWish::default(),
            asked: KeyframeWish::default(),
            srtp: None,
            srtcp: None,
            events: VecDeque::with_capacity(EVENTS),
            stats: SessionStats::default(),
            scratch: Box::new([0; SCRATCH]),
            epoch,
            rng,
            closed: false,
            config,
        }
    }

    /// Takes what was agreed, or agreed anew. Numbering and stamps of what we send go on; so do
    /// SRTP contexts whose keys stayed.
    pub fn configure(&mut self, now: Instant, mut config: SessionConfig) {
        let cut = config.cname.floor_char_boundary(MAX_CNAME);
        config.cname.truncate(cut);
        self.gate.configure(config.source, config.remote, config.rtcp_mux);
        self.gate.set_proven_ip(config.proven);
        match (&config.srtp, &config.dtls) {
            // Those of the last handshake hold until there was another.
            (None, Some(_)) if self.config.dtls.is_some() => {
                // RTCP that comes to the port of RTP from now on has the keys of that (RFC 5764 section 4.1).
                if config.rtcp_mux {
                    self.srtcp = None;
                }
            }
            (keys, _) => {
                self.rekey(keys.as_ref());
                self.srtcp = None;
            }
        }
        self.sender.configure(&config, &mut self.rng);
        self.receiver.configure(now, &config, self.config.remote != config.remote);
        if self.config.remote != config.remote || !config.feedback.rates() {
            // Whoever is there now has asked for nothing yet.
            self.control.peer_limit = None;
        }
        if !config.feedback.rates() {
            self.control.forget_limit();
        } else if config.feedback.tmmbr != self.config.feedback.tmmbr {
            self.control.ask_limit_anew();
        }
        if config.feedback.nack != self.config.feedback.nack || config.kind != self.config.kind {
            self.frames.configure(&config);
        }
        if config.remote.is_some() {
            let random = self.rng.next_u32();
            self.control.start(now, config.kind, random);
        }
        self.config = config;
        self.stats.encrypted = self.srtp.is_some();
    }

    /// The keys that a handshake on the port of `channel` found. Those of the port of RTP
    /// hold for RTCP where that comes to it.
    pub fn secure(&mut self, channel: Channel, keys: &SrtpKeys) {
        if self.config.dtls.is_none() {
            return;
        }
        match channel {
            Channel::Rtp => self.rekey(Some(keys)),
            Channel::Rtcp => match Srtp::new(keys) {
                Ok(srtp) => self.srtcp = Some(Box::new(srtp)),
                Err(_) => self.closed = true,
            },
        }
        self.stats.encrypted = self.srtp.is_some();
    }

    /// Whether a packet may neither leave nor be taken: its keys are still to come.
    fn is_locked(&self, channel: Channel) -> bool {
        let own = channel == Channel::Rtcp && !self.config.rtcp_mux;
        let keys = if own { &self.srtcp } else { &self.srtp };
        self.config.dtls.is_some() && keys.is_none()
    }

    fn rekey(&mut self, keys: Option<&SrtpKeys>) {
        let Some(keys) = keys else {
            self.srtp = None;
            return;
        };
        // A context goes on under the same key: to start it anew would accept replays, and on our
        // side use a key stream twice.
        let (send, receive) = match self.srtp.take().map(|old| *old) {
            Some(old) => (
                Some(old.send).filter(|_| old.keys.send == keys.send),
                Some(old.receive).filter(|_| old.keys.receive == keys.receive),
            ),
            None => (None, None),
        };
        let send = send.map_or_else(|| SrtpContext::new(&keys.send), Ok);
        let receive = receive.map_or_else(|| SrtpContext::new(&keys.receive), Ok);
        if let (Ok(send), Ok(receive)) = (send, receive) {
            self.srtp = Some(Box::new(Srtp { keys: keys.clone(), send, receive }));
        } else {
            // The library is out of memory or forbidden: silence, never clear text.
            self.closed = true;
        }
    }

    /// Takes a datagram that came to the socket of `channel`; `data` is decrypted in place. `leg` is
    /// what all sessions of the leg share. What is due at once (answers to NACK, feedback) leaves
    /// through `wire`.
    pub fn receive<'d>(
        &mut self,
        now: Instant,
        leg: &mut LegClock,
        channel: Channel,
        from: SocketAddr,
        data: &'d mut [u8],
        wire: &mut dyn Wire,
    ) -> Received<'d> {
        if self.closed {
            return Received::Nothing;
        }
        let rtcp = if self.config.rtcp_mux { Channel::Rtp } else { Channel::Rtcp };
        match DatagramKind::of(data) {
            DatagramKind::Rtp if channel == Channel::Rtp => {
                return self.receive_rtp(now, leg, from, data);
            }
            DatagramKind::Rtcp if channel == rtcp => self.receive_rtcp(now, leg, from, data, wire),
            _ => self.drop_one(),
        }
        Received::Nothing
    }

    /// How what a source carries gets to our peer without decoding; `None` when it cannot.
    pub fn relay_form(&self, carries: &Carries) -> Option<RelayForm> {
        let ours = self.sender.carries?;
        if ours.codec != carries.codec {
            return None;
        }
        Some(if ours.mode == carries.mode { RelayForm::Packet } else { RelayForm::AccessUnit })
    }

    /// What the peer may send, most wanted first.
    pub fn receives(&self) -> impl Iterator<Item = Carries> + '_ {
        self.config.receive.iter().filter_map(|entry| match &entry.payload {
            Payload::Media(format) => Some(Carries::from(format)),
            Payload::TelephoneEvent(_) => None,
        })
    }

    /// Highest rate in bit/s that the peer takes: what was agreed, and what it asked for since.
    pub fn send_limit(&self) -> Option<u32> {
        [self.config.max_send_bitrate, self.control.peer_limit].into_iter().flatten().min()
    }

    /// Does what is due at [`Self::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant, wire: &mut dyn Wire) {
        if self.closed {
            return;
        }
        self.poll_dtmf(now, wire);
        self.poll_reorder(now, wire);
        self.ask_keyframe(now, wire);
        self.answer_keyframe_asked(now);
        self.ask_limit(now, wire);
        self.report(now, wire);
        if self.receiver.is_silent(now) {
            self.tell(Event::MediaTimeout);
        }
    }

    /// When [`Self::handle_timeout`] wants to be called next; may change with every call.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.closed {
            return None;
        }
        let deadlines = [
            self.receiver.silence_deadline(),
            self.keyframe_due(),
            self.asked.due(),
            self.frames.deadline(),
            self.control.due(),
            self.limit_due(),
            self.sender.dtmf.as_ref().and_then(DtmfSender::deadline),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// What happened, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Says goodbye; nothing is sent or taken afterwards.
    pub fn close(&mut self, now: Instant, wire: &mut dyn Wire) {
        if !self.closed {
            self.say_goodbye(now, wire);
            self.closed = true;
        }
    }

    /// Its figures.
    pub fn stats(&self) -> SessionStats {
        SessionStats {
            remote: self.gate.rtp(),
            packets_lost: self.receiver.lost(),
            jitter: self.receiver.jitter(),
            overflow: self.stats.overflow.saturating_add(self.frames.overflow),
            ..self.stats
        }
    }

    fn tell(&mut self, event: Event) {
        if self.events.len() < EVENTS {
            self.events.push_back(event);
        } else {
            self.stats.overflow = self.stats.overflow.saturating_add(1);
        }
    }

    const fn drop_one(&mut self) {
        self.stats.packets_dropped = self.stats.packets_dropped.saturating_add(1);
    }
}

/// Room that a packet needs behind its payload for SRTP.
const TRAILER: usize = MAX_OVERHEAD;

/// Longest canonical name: the length of an SDES item is one byte (RFC 3550 section 6.5).
const MAX_CNAME: usize = 255;

#[cfg(test)]
mod tests;
