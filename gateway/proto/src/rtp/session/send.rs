//! What goes: numbers, stamps and protection. One clock for everything that a stream ever sends,
//! whatever it is fed from; one numbering without holes where the feed changes.

use std::time::SystemTime;

use crosspoint_codecs::frame::MediaTime;
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

use super::{Channel, MediaPacket, Numbering, Session, SessionConfig, TRAILER, Wire};
use crate::Instant;
use crate::rtp::packet::{FIXED_HEADER, RtpHeader};

/// Ticks between the last packet of one feed and the first of the next at least: 20 ms of sound at
/// 8 kHz, 1.8 ms of picture; the clock has nearly always gone on further.
const MIN_STEP: u32 = 160;

/// The sending half of a session.
#[derive(Debug)]
pub(super) struct Sender {
    ssrc: u32,
    payload_type: u8,
    clock: u32,
    sends: bool,
    pub(super) epoch: SystemTime,
    /// Number of the next packet, without wrap.
    next: u64,
    /// Stamp of the clock's zero.
    stamp_base: u32,
    /// Stamp and moment of the newest packet.
    pub(super) last: Option<Sent>,
    route: Option<Route>,
    pub(super) packets: u64,
    pub(super) octets: u64,
}

/// The newest packet sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) timestamp: u32,
    pub(super) at: Instant,
    pub(super) media_time: MediaTime,
}

/// From a source's numbers and stamps to ours.
#[derive(Clone, Copy, Debug)]
struct Route {
    source: u64,
    epoch: u32,
    /// Packets before this one belong to another route, or would fall on numbers in use.
    first: u64,
    /// Our number minus theirs.
    shift: i64,
    /// Our stamp minus theirs, modulo 2^32.
    stamp_shift: u32,
    newest: u64,
}

impl Sender {
    pub(super) fn new(config: &SessionConfig, epoch: SystemTime, rng: &mut ChaCha8Rng) -> Self {
        // Below 2^15, so that loss of the first packets cannot put the receiver's roll-over counter
        // out of step (RFC 3711 section 3.3.1); a cycle up, so that no number is below zero.
        let sequence = u64::from(rng.next_u32() & 0x7fff);
        Self {
            ssrc: config.ssrc,
            payload_type: 0,
            clock: 8000,
            sends: false,
            epoch,
            next: sequence.saturating_add(0x1_0000),
            stamp_base: rng.next_u32(),
            last: None,
            route: None,
            packets: 0,
            octets: 0,
        }
    }

    pub(super) fn configure(&mut self, config: &SessionConfig) {
        self.ssrc = config.ssrc;
        self.sends = config.direction.sends();
        let Some(send) = &config.send else {
            self.sends = false;
            return;
        };
        self.payload_type = send.payload_type;
        let clock = send.format.codec().rtp_clock();
        if clock != self.clock {
            // Another codec with another clock: stamps of the old feed mean nothing in it.
            self.clock = clock;
            self.route = None;
        }
    }

    /// The stamp of `at` on our clock.
    fn stamp(&self, at: Instant) -> u32 {
        self.stamp_base.wrapping_add(ticks(u128::from(at.as_nanos()), self.clock))
    }

    /// The stamp for the first packet of a new feed.
    fn fresh_stamp(&self, now: Instant) -> u32 {
        let stamp = self.stamp(now);
        match self.last {
            // The old feed ran ahead of the clock, by jitter or by drift: never go back.
            Some(last) if stamp.wrapping_sub(last.timestamp).cast_signed() < MIN_STEP.cast_signed() => {
                last.timestamp.wrapping_add(MIN_STEP)
            }
            _ => stamp,
        }
    }

    /// Our number and stamp for a packet of `source`; `None` when it comes too late for this route.
    /// The third says that the route begins.
    fn map(&mut self, now: Instant, source: u64, packet: &MediaPacket<'_>) -> Option<(u64, u32, bool)> {
        let Numbering { epoch, index } = packet.number;
        let known = self.route.filter(|route| route.source == source && route.epoch == epoch);
        let mut route = match known {
            Some(route) => route,
            None => Route {
                source,
                epoch,
                first: index,
                shift: signed(self.next).saturating_sub(signed(index)),
                stamp_shift: self.fresh_stamp(now).wrapping_sub(packet.timestamp),
                newest: index,
            },
        };
        if index < route.first {
            return None;
        }
        route.newest = route.newest.max(index);
        self.route = Some(route);
        let number = u64::try_from(signed(index).saturating_add(route.shift)).ok()?;
        self.next = self.next.max(number.saturating_add(1));
        Some((number, packet.timestamp.wrapping_add(route.stamp_shift), known.is_none()))
    }

    /// A number of the source's that is no media: the packets behind it move up.
    fn skip(&mut self, source: u64, number: Numbering) {
        if let Some(route) = &mut self.route
            && route.source == source
            && route.epoch == number.epoch
            && number.index > route.newest
        {
            // What was lost in between stays a gap; what is late in between has no number left.
            route.shift = route.shift.saturating_sub(1);
            route.first = number.index.saturating_add(1);
        }
    }
}

impl Session {
    /// Sends a packet that another session received, with our SSRC, payload type, number and
    /// stamp. `source` tells the sessions apart that may feed this one.
    pub fn forward(&mut self, now: Instant, source: u64, packet: &MediaPacket<'_>, wire: &mut dyn Wire) {
        if !self.sender.sends || self.closed {
            return;
        }
        let Some((number, timestamp, first)) = self.sender.map(now, source, packet) else { return };
        // The receiver's playout starts anew with a new feed; pictures end where they end.
        let marker = packet.marker || (first && !self.config.kind.is_video());
        let header = self.sender.header(number, timestamp, marker);
        self.sender.note(timestamp, now, packet.media_time);
        self.send_rtp(now, header, packet.payload, wire);
    }

    /// Tells that a number of the source's packets is no media and was not forwarded.
    pub fn skip(&mut self, source: u64, number: Numbering) {
        self.sender.skip(source, number);
    }

    /// Writes, protects and sends one packet.
    pub(super) fn send_rtp(&mut self, now: Instant, header: RtpHeader, payload: &[u8], wire: &mut dyn Wire) {
        let Some(to) = self.gate.rtp() else { return };
        if !self.gate.may_send(now) {
            self.stats.packets_withheld = self.stats.packets_withheld.saturating_add(1);
            return;
        }
        let end = FIXED_HEADER.saturating_add(payload.len());
        let fits = end.saturating_add(TRAILER) <= self.scratch.len();
        let Some(room) = self.scratch.get_mut(FIXED_HEADER..end).filter(|_| fits) else {
            self.drop_one();
            return;
        };
        room.copy_from_slice(payload);
        if header.write(&mut *self.scratch).is_err() {
            return;
        }
        let len = match &mut self.srtp {
            Some(srtp) => srtp.send.protect_rtp(&mut *self.scratch, end).ok(),
            None => Some(end),
        };
        let Some(datagram) = len.and_then(|len| self.scratch.get(..len)) else {
            self.drop_one();
            return;
        };
        wire.send(Channel::Rtp, to, datagram);
        let bytes = u64::try_from(payload.len()).unwrap_or(0);
        self.sender.packets = self.sender.packets.saturating_add(1);
        self.sender.octets = self.sender.octets.saturating_add(bytes);
        self.stats.packets_sent = self.stats.packets_sent.saturating_add(1);
        self.stats.bytes_sent = self.stats.bytes_sent.saturating_add(bytes);
    }
}

impl Sender {
    fn header(&self, number: u64, timestamp: u32, marker: bool) -> RtpHeader {
        RtpHeader {
            payload_type: self.payload_type,
            marker,
            sequence: u16::try_from(number & 0xffff).unwrap_or(0),
            timestamp,
            ssrc: self.ssrc,
        }
    }

    fn note(&mut self, timestamp: u32, at: Instant, media_time: MediaTime) {
        let newer = self.last.is_none_or(|last| timestamp.wrapping_sub(last.timestamp).cast_signed() >= 0);
        if newer {
            self.last = Some(Sent { timestamp, at, media_time });
        }
    }
}

/// `nanos` in ticks of `clock`, modulo 2^32.
fn ticks(nanos: u128, clock: u32) -> u32 {
    let ticks = nanos.saturating_mul(u128::from(clock)).wrapping_div(1_000_000_000);
    u32::try_from(ticks & u128::from(u32::MAX)).unwrap_or(0)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
