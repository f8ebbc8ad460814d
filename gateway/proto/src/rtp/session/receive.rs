//! What comes: from the source policy to a packet that can be relayed.

use std::net::SocketAddr;
use std::time::Duration;

use crosspoint_codecs::format::Codec;

use super::source::Verdict;
use super::{Carries, Channel, Event, MediaPacket, Numbering, Payload, Received, Session, SessionConfig};
use crate::Instant;
use crate::rtp::dtmf::DtmfReceiver;
use crate::rtp::packet::RtpPacket;
use crate::rtp::reception::{Index, MIN_SEQUENTIAL, Reception, Sequence};
use crate::rtp::rtcp::LastSenderReport;
use crate::rtp::timeline::{LegClock, ReceiveTimeline};

/// The receiving half of a session.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    pub(super) source: Option<Source>,
    /// A new SSRC of the same peer, until two packets in a row prove it.
    candidate: Option<Source>,
    /// Numberings so far.
    epoch: u32,
    /// Loss of the sources before this one.
    lost_before: u64,
    dtmf: DtmfReceiver,
    /// What the last packet carried, as most of the next ones do: what was agreed lies elsewhere, in
    /// memory that has gone cold where many streams take turns.
    kind: Option<Kind>,
    started: bool,
    timeout: Option<Duration>,
    /// Last valid packet, RTCP included, or when waiting began.
    heard: Option<Instant>,
    /// The silence was told.
    silent: bool,
}

/// What packets of a payload type carry.
#[derive(Clone, Copy, Debug)]
struct Kind {
    payload_type: u8,
    /// None for keys.
    carries: Option<Carries>,
    clock: u32,
}

impl Kind {
    fn of(config: &SessionConfig, payload_type: u8) -> Option<Self> {
        let entry = config.receive.iter().find(|entry| entry.payload_type == payload_type)?;
        let (carries, clock) = match &entry.payload {
            Payload::Media(format) => (Some(Carries::from(format)), format.codec().rtp_clock()),
            Payload::TelephoneEvent(clock) => (None, *clock),
        };
        Some(Self { payload_type, carries, clock })
    }
}

/// A source of packets: one SSRC.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) ssrc: u32,
    clock: u32,
    pub(super) reception: Reception,
    doubles: Doubles,
    pub(super) timeline: ReceiveTimeline,
    pub(super) last_report: Option<LastSenderReport>,
    /// It said goodbye: whoever comes next need not prove itself.
    pub(super) left: bool,
}

impl Source {
    const fn new(ssrc: u32, clock: u32, probation: u8) -> Self {
        Self {
            ssrc,
            clock,
            reception: Reception::new(clock, probation),
            doubles: Doubles::new(),
            timeline: ReceiveTimeline::new(clock),
            last_report: None,
            left: false,
        }
    }
}

/// Which of the last packets came, so that none is relayed twice.
#[derive(Debug)]
struct Doubles {
    highest: Index,
    /// Bit n: `highest - n` came.
    seen: u128,
}

impl Doubles {
    const fn new() -> Self {
        Self { highest: 0, seen: 0 }
    }

    /// Notes `index`; true when it came before, or is too old to tell.
    fn is_double(&mut self, index: Index) -> bool {
        if self.seen == 0 || index > self.highest {
            let steps = u32::try_from(index.saturating_sub(self.highest)).unwrap_or(u32::MAX);
            self.seen = self.seen.checked_shl(steps).unwrap_or(0) | 1;
            self.highest = index;
            return false;
        }
        let behind = u32::try_from(self.highest.saturating_sub(index)).unwrap_or(u32::MAX);
        let Some(bit) = 1_u128.checked_shl(behind) else { return true };
        let double = self.seen & bit != 0;
        self.seen |= bit;
        double
    }
}

impl Receiver {
    /// `moved`: the peer has another address, so its media starts anew.
    pub(super) fn configure(&mut self, now: Instant, config: &SessionConfig, moved: bool) {
        if moved {
            self.started = false;
            if let Some(source) = &mut self.source {
                source.left = true;
            }
        }
        self.kind = None;
        self.timeout =
            config.media_timeout.filter(|_| config.direction.receives() && config.remote.is_some());
        // A stream that was held gets its whole patience again.
        self.hear(now);
    }

    /// The peer gave a sign of life.
    pub(super) fn hear(&mut self, now: Instant) {
        self.heard = self.timeout.map(|_| now);
        self.silent = false;
    }

    pub(super) fn silence_deadline(&self) -> Option<Instant> {
        if self.silent {
            return None;
        }
        Some(self.heard? + self.timeout?)
    }

    /// Whether the peer fell silent; true once.
    pub(super) fn is_silent(&mut self, now: Instant) -> bool {
        let silent = self.silence_deadline().is_some_and(|deadline| deadline <= now);
        self.silent |= silent;
        silent
    }

    pub(super) fn lost(&self) -> u64 {
        let current = self.source.as_ref().map_or(0, |source| source.reception.lost());
        self.lost_before.saturating_add(current)
    }

    pub(super) fn jitter(&self) -> Duration {
        self.source.as_ref().map_or(Duration::ZERO, |source| source.reception.jitter())
    }

    /// Gives a packet its number; `None` drops it.
    fn number(&mut self, ssrc: u32, sequence: u16, clock: u32) -> Option<Numbering> {
        let known = self.source.as_ref().is_some_and(|source| source.ssrc == ssrc);
        let placed = if known {
            let lost = self.lost();
            let source = self.source.as_mut()?;
            let placed = source.reception.sequence(sequence);
            if let Sequence::Restarted(_) = placed {
                self.lost_before = lost;
                self.epoch = self.epoch.wrapping_add(1);
                source.doubles = Doubles::new();
            }
            placed
        } else {
            self.take_candidate(ssrc, sequence, clock)?
        };
        let (Sequence::Valid(index) | Sequence::Restarted(index)) = placed else { return None };
        if self.source.as_mut()?.doubles.is_double(index) {
            return None;
        }
        Some(Numbering { epoch: self.epoch, index })
    }

    /// A packet of another SSRC than the present: the first ever is believed at once, and who comes
    /// after a goodbye; any other after two in a row, so that one stray packet does not tear the
    /// stream.
    fn take_candidate(&mut self, ssrc: u32, sequence: u16, clock: u32) -> Option<Sequence> {
        let vacant = self.source.as_ref().is_none_or(|source| source.left);
        let probation = if vacant { 0 } else { MIN_SEQUENTIAL };
        let mut candidate = match self.candidate.take().filter(|candidate| candidate.ssrc == ssrc) {
            Some(candidate) => candidate,
            None => Source::new(ssrc, clock, probation),
        };
        let placed = candidate.reception.sequence(sequence);
        if !matches!(placed, Sequence::Valid(_)) {
            self.candidate = Some(candidate);
            return None;
        }
        self.lost_before = self.lost();
        self.epoch = self.epoch.wrapping_add(1);
        self.source = Some(candidate);
        Some(placed)
    }
}

impl Session {
    pub(super) fn receive_rtp<'d>(
        &mut self,
        now: Instant,
        leg: &mut LegClock,
        from: SocketAddr,
        data: &'d mut [u8],
    ) -> Received<'d> {
        // First of all who sends it: a stranger's packet costs one comparison.
        let verdict = self.gate.rtp_from(from);
        let locked = self.is_locked(Channel::Rtp);
        let len = match (verdict, &mut self.srtp) {
            _ if locked => None,
            (Verdict::Refuse, _) => None,
            (_, Some(srtp)) => srtp.receive.unprotect_rtp(data).ok(),
            (_, None) => Some(data.len()),
        };
        let data: &'d [u8] = data;
        let packet = len.and_then(|len| data.get(..len)).and_then(|data| RtpPacket::parse(data).ok());
        let Some(packet) = packet else {
            self.drop_one();
            return Received::Nothing;
        };
        let header = packet.header;
        let last = self.receiver.kind.filter(|kind| kind.payload_type == header.payload_type);
        let Some(kind) = last.or_else(|| Kind::of(&self.config, header.payload_type)) else {
            self.drop_one();
            return Received::Nothing;
        };
        self.receiver.kind = Some(kind);
        let Kind { carries, clock, .. } = kind;
        if verdict == Verdict::Accept {
            self.gate.accepted(from, header.ssrc, header.payload_type, header.sequence, now);
        } else if !self.gate.probe(from, header.ssrc, header.payload_type, header.sequence, now) {
            // Nothing of a candidate is heard before it has proven itself.
            self.drop_one();
            return Received::Nothing;
        }
        let Some(number) = self.receiver.number(header.ssrc, header.sequence, clock) else {
            self.drop_one();
            return Received::Nothing;
        };
        self.stats.packets_received = self.stats.packets_received.saturating_add(1);
        let bytes = u64::try_from(packet.payload.len()).unwrap_or(0);
        self.stats.bytes_received = self.stats.bytes_received.saturating_add(bytes);
        self.receiver.hear(now);
        let receives = self.config.direction.receives();
        let Some(carries) = carries else {
            let key = self.receiver.dtmf.receive(now, header.timestamp, header.marker, packet.payload);
            if let Some(key) = key.filter(|_| receives) {
                self.tell(Event::Dtmf(key));
            }
            self.track_ended(now, number);
            return Received::Ended(number);
        };
        if !self.receiver.started {
            self.receiver.started = true;
            self.tell(Event::MediaStarted);
        }
        let Some(source) = &mut self.receiver.source else { return Received::Nothing };
        if source.clock != clock {
            // Another codec with another clock under the same SSRC (RFC 7160): its stamps have
            // nothing to do with those before.
            source.clock = clock;
            source.timeline = ReceiveTimeline::new(clock);
        }
        source.reception.arrival(now, header.timestamp);
        let media_time = source.timeline.media_time(now, leg, header.timestamp);
        if !receives || packet.payload.is_empty() {
            // A peer that was told to be silent, or that only keeps a NAT binding open.
            self.track_ended(now, number);
            return Received::Ended(number);
        }
        if carries.codec == Codec::H264 && begins_keyframe(packet.payload) {
            self.wanted.arrived();
        }
        let item = self.config.levels.receive.zip(packet.extension);
        let level = item.and_then(|(id, extension)| extension.audio_level(id)).map(|it| it.level);
        let packet = MediaPacket {
            number,
            timestamp: header.timestamp,
            media_time,
            marker: header.marker,
            carries,
            level,
            payload: packet.payload,
        };
        self.track(now, &packet);
        Received::Media(packet)
    }
}

/// Whether a payload of H.264 holds the beginning of a keyframe: an IDR slice or a sequence parameter
/// set, alone, in an aggregate or as the first fragment (RFC 6184 section 5.4).
pub(super) fn begins_keyframe(payload: &[u8]) -> bool {
    const IDR: u8 = 5;
    const SPS: u8 = 7;
    let is_key = |byte: u8| matches!(byte & 0x1f, IDR | SPS);
    match payload {
        [first, rest @ ..] if first & 0x1f == 24 => {
            let mut rest = rest;
            while let [high, low, inner, ..] = rest {
                if is_key(*inner) {
                    return true;
                }
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                rest = rest.get(length.saturating_add(2)..).unwrap_or(&[]);
            }
            false
        }
        [first, header, ..] if first & 0x1f == 28 => header & 0x80 != 0 && is_key(*header),
        [first, ..] => is_key(*first),
        [] => false,
    }
}
