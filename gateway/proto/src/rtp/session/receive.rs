//! What comes: from the source policy to a packet that can be relayed.

use std::net::SocketAddr;
use std::time::Duration;

use crosspoint_codecs::frame::MediaTime;

use super::source::Verdict;
use super::{
    Carries, Event, MediaPacket, Numbering, Payload, ReceivePayload, Received, Session, SessionConfig,
};
use crate::Instant;
use crate::rtp::packet::RtpPacket;
use crate::rtp::reception::{Index, MIN_SEQUENTIAL, Reception, Sequence};

/// The receiving half of a session.
#[derive(Debug)]
pub(super) struct Receiver {
    payloads: Vec<ReceivePayload>,
    source: Option<Source>,
    /// A new SSRC of the same peer, until two packets in a row prove it.
    candidate: Option<Source>,
    /// Numberings so far.
    epoch: u32,
    /// Loss of the numberings before this one.
    lost_before: u64,
    started: bool,
    timeout: Option<Duration>,
    /// Last valid packet, or when waiting began.
    heard: Option<Instant>,
    /// The silence was told.
    silent: bool,
}

/// A source of packets: one SSRC.
#[derive(Debug)]
struct Source {
    ssrc: u32,
    clock: u32,
    reception: Reception,
    doubles: Doubles,
}

impl Source {
    const fn new(ssrc: u32, clock: u32, probation: u8) -> Self {
        Self { ssrc, clock, reception: Reception::new(clock, probation), doubles: Doubles::new() }
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
    pub(super) const fn new() -> Self {
        Self {
            payloads: Vec::new(),
            source: None,
            candidate: None,
            epoch: 0,
            lost_before: 0,
            started: false,
            timeout: None,
            heard: None,
            silent: false,
        }
    }

    /// `moved`: the peer has another address, so its media starts anew.
    pub(super) fn configure(&mut self, now: Instant, config: &SessionConfig, moved: bool) {
        self.payloads.clone_from(&config.receive);
        if moved {
            self.started = false;
        }
        self.timeout =
            config.media_timeout.filter(|_| config.direction.receives() && config.remote.is_some());
        // A stream that was held gets its whole patience again.
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

    fn payload(&self, payload_type: u8) -> Option<&Payload> {
        let entry = self.payloads.iter().find(|entry| entry.payload_type == payload_type)?;
        Some(&entry.payload)
    }

    /// Gives a packet its number; `None` drops it.
    fn number(&mut self, ssrc: u32, sequence: u16, clock: u32) -> Option<Numbering> {
        let known = self.source.as_ref().is_some_and(|source| source.ssrc == ssrc);
        if !known {
            self.take_candidate(ssrc, sequence, clock)?;
        }
        let source = self.source.as_mut()?;
        let placed = if known {
            source.reception.sequence(sequence)
        } else {
            Sequence::Valid(source.reception.highest())
        };
        let index = match placed {
            Sequence::Valid(index) => index,
            Sequence::Restarted(index) => {
                self.epoch = self.epoch.wrapping_add(1);
                source.doubles = Doubles::new();
                index
            }
            Sequence::Probation | Sequence::Outlier => return None,
        };
        if source.doubles.is_double(index) {
            return None;
        }
        Some(Numbering { epoch: self.epoch, index })
    }

    /// A packet of another SSRC than the present: the first ever is believed at once, any other
    /// after two in a row, so that one stray packet does not tear the stream.
    fn take_candidate(&mut self, ssrc: u32, sequence: u16, clock: u32) -> Option<()> {
        let probation = if self.source.is_none() { 0 } else { MIN_SEQUENTIAL };
        let mut candidate = match self.candidate.take().filter(|candidate| candidate.ssrc == ssrc) {
            Some(candidate) => candidate,
            None => Source::new(ssrc, clock, probation),
        };
        let Sequence::Valid(_) = candidate.reception.sequence(sequence) else {
            self.candidate = Some(candidate);
            return None;
        };
        self.lost_before = self.lost();
        self.epoch = self.epoch.wrapping_add(1);
        self.source = Some(candidate);
        Some(())
    }
}

impl Session {
    pub(super) fn receive_rtp<'d>(
        &mut self,
        now: Instant,
        from: SocketAddr,
        data: &'d mut [u8],
    ) -> Received<'d> {
        // First of all who sends it: a stranger's packet costs one comparison.
        let verdict = self.gate.rtp_from(from);
        let len = match (verdict, &mut self.srtp) {
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
        let (carries, clock) = match self.receiver.payload(header.payload_type) {
            Some(Payload::Media(format)) => (Some(Carries::from(format)), format.codec().rtp_clock()),
            Some(Payload::TelephoneEvent(clock)) => (None, *clock),
            None => {
                self.drop_one();
                return Received::Nothing;
            }
        };
        match verdict {
            Verdict::Accept => {
                self.gate.accepted(from, header.ssrc, header.payload_type, header.sequence, now);
            }
            // Nothing of a candidate is heard before it has proven itself.
            _ if !self.gate.probe(from, header.ssrc, header.payload_type, header.sequence, now) => {
                self.drop_one();
                return Received::Nothing;
            }
            _ => {}
        }
        let Some(number) = self.receiver.number(header.ssrc, header.sequence, clock) else {
            self.drop_one();
            return Received::Nothing;
        };
        self.stats.packets_received = self.stats.packets_received.saturating_add(1);
        let payload_len = u64::try_from(packet.payload.len()).unwrap_or(0);
        self.stats.bytes_received = self.stats.bytes_received.saturating_add(payload_len);
        self.receiver.heard = self.receiver.timeout.map(|_| now);
        self.receiver.silent = false;
        let Some(carries) = carries else {
            return Received::Ended(number);
        };
        if !self.receiver.started {
            self.receiver.started = true;
            self.tell(Event::MediaStarted);
        }
        if let Some(source) = self.receiver.source.as_mut().filter(|source| source.clock == clock) {
            source.reception.arrival(now, header.timestamp);
        }
        if !self.config.direction.receives() || packet.payload.is_empty() {
            // A peer that was told to be silent, or that only keeps a NAT binding open.
            return Received::Ended(number);
        }
        let media_time = MediaTime(i64::try_from(now.as_nanos()).unwrap_or(i64::MAX));
        Received::Media(MediaPacket {
            number,
            timestamp: header.timestamp,
            media_time,
            marker: header.marker,
            carries,
            payload: packet.payload,
        })
    }
}
