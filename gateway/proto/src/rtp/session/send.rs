//! What goes: numbers, stamps and protection. One clock for everything that a stream ever sends,
//! whatever it is fed from; one numbering without holes where the feed changes.

use std::fmt;
use std::time::Duration;

use crosspoint_codecs::frame::{EncodedFrame, MediaTime, Pool};
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

use super::receive::begins_keyframe;
use super::{
    Carries, Channel, Event, MediaPacket, Numbering, SCRATCH, Session, SessionConfig, TRAILER, Wire,
};
use crate::Instant;
use crate::rtp::dtmf::DtmfSender;
use crate::rtp::history::History;
use crate::rtp::packet::{AudioLevel, FIXED_HEADER, MAX_PAYLOAD, RtpHeader};
use crate::rtp::timeline::SendTimeline;

/// Least time between the last stamp of one feed and the first of the next.
const MIN_STEP: Duration = Duration::from_millis(5);

/// Sound that begins so much after the last frame ended is a new talk spurt.
const SPURT_GAP: i64 = 30_000_000;

/// Packets kept for retransmission: half a second of video at 6 Mbit/s. The largest that we make.
const HISTORY: usize = 256;
const HISTORY_PACKET: usize = FIXED_HEADER + MAX_PAYLOAD + 100;

/// An extension with the level: its head, the item and padding (RFC 8285 section 4.2).
const LEVEL_EXTENSION: usize = 8;

/// Rates are measured over this long, and so often in a row a relay may be over its limit: the
/// three seconds that a source has to obey.
const RATE_WINDOW: Duration = Duration::from_secs(1);
const RATE_PATIENCE: u8 = 3;

/// The sending half of a session.
pub(super) struct Sender {
    ssrc: u32,
    payload_type: u8,
    dtmf_payload_type: u8,
    clock: u32,
    /// What was agreed to be sent, beside what else a packet touches.
    pub(super) carries: Option<Carries>,
    sends: bool,
    /// Number of the next packet, without wrap.
    next: u64,
    timeline: SendTimeline,
    /// Stamp of the newest packet.
    last: Option<u32>,
    route: Option<Route>,
    pub(super) packets: u64,
    pub(super) octets: u64,
    pub(super) dtmf: Option<DtmfSender>,
    history: Option<(History, Pool)>,
    meter: Meter,
}

/// Where packets or frames come from at present.
#[derive(Clone, Copy, Debug)]
struct Route {
    source: Option<u64>,
    epoch: u32,
    numbers: Option<Numbers>,
    /// Frames: how far ahead of the clock their stamps are put, in nanoseconds.
    lead: i64,
    /// Frames: when the last one ends.
    end: MediaTime,
    misfit_told: bool,
}

/// From a source's numbers to ours.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    /// Packets before this one have no number of ours.
    first: u64,
    /// Our number minus theirs.
    shift: i64,
    newest: u64,
}

/// Rate of what is relayed.
#[derive(Clone, Copy, Debug, Default)]
struct Meter {
    since: Option<Instant>,
    bytes: u64,
    over: u8,
}

impl Route {
    const fn new(source: Option<u64>, epoch: u32) -> Self {
        Self { source, epoch, numbers: None, lead: 0, end: MediaTime(0), misfit_told: false }
    }
}

impl Sender {
    pub(super) fn new(config: &SessionConfig, rng: &mut ChaCha8Rng) -> Self {
        // Below 2^15, so that loss of the first packets cannot put the receiver's roll-over counter
        // out of step (RFC 3711 section 3.3.1); a cycle up, so that no number is below zero.
        let sequence = u64::from(rng.next_u32() & 0x7fff);
        Self {
            ssrc: config.ssrc,
            payload_type: 0,
            dtmf_payload_type: 0,
            clock: 0,
            carries: None,
            sends: false,
            next: sequence.saturating_add(0x1_0000),
            timeline: SendTimeline::new(8000, 0),
            last: None,
            route: None,
            packets: 0,
            octets: 0,
            dtmf: None,
            history: None,
            meter: Meter::default(),
        }
    }

    pub(super) fn configure(&mut self, config: &SessionConfig, rng: &mut ChaCha8Rng) {
        if self.ssrc != config.ssrc {
            self.ssrc = config.ssrc;
            self.packets = 0;
            self.octets = 0;
            if let Some((history, _)) = &mut self.history {
                history.clear();
            }
        }
        self.sends = config.direction.sends() && config.send.is_some();
        self.carries = config.send.as_ref().map(|send| Carries::from(&send.format));
        if let Some(send) = &config.send {
            self.payload_type = send.payload_type;
            let clock = send.format.codec().rtp_clock();
            if clock != self.clock {
                // Stamps of another clock have nothing to do with those before (RFC 7160).
                self.clock = clock;
                self.timeline = SendTimeline::new(clock, rng.next_u32());
                self.last = None;
                self.route = None;
            }
        }
        match &config.dtmf {
            Some(dtmf) => {
                self.dtmf_payload_type = dtmf.payload_type;
                let _ = self.dtmf.get_or_insert_with(|| DtmfSender::new(dtmf.clock));
            }
            None => self.dtmf = None,
        }
        if !config.feedback.nack {
            self.history = None;
        } else if self.history.is_none() {
            let history = History::new(HISTORY, HISTORY.saturating_mul(HISTORY_PACKET));
            // One more than the ring holds: a packet is copied before the oldest is forgotten.
            self.history = Some((history, Pool::new(HISTORY.saturating_add(1), HISTORY_PACKET)));
        }
    }

    /// The route that `source` feeds; true when it begins.
    fn route(&mut self, source: Option<u64>, epoch: u32) -> (Route, bool) {
        match self.route {
            Some(route) if route.source == source && route.epoch == epoch => (route, false),
            _ => {
                self.timeline.new_route();
                self.meter = Meter::default();
                (Route::new(source, epoch), true)
            }
        }
    }

    /// Our number and stamp for a packet of `source`, and whether it is the first; `None` when it
    /// comes too late to have a number.
    fn map(&mut self, source: u64, packet: &MediaPacket<'_>) -> Option<(u64, u32, bool)> {
        let Numbering { epoch, index } = packet.number;
        let (mut route, first) = self.route(Some(source), epoch);
        let shift = signed(self.next).saturating_sub(signed(index));
        let numbers = route.numbers.get_or_insert(Numbers { first: index, shift, newest: index });
        if index < numbers.first {
            return None;
        }
        numbers.newest = numbers.newest.max(index);
        let number = u64::try_from(signed(index).saturating_add(numbers.shift)).ok()?;
        self.next = self.next.max(number.saturating_add(1));
        let mut stamp = self.timeline.relay(packet.timestamp, packet.media_time);
        if let Some(behind) = self.behind(stamp).filter(|_| first) {
            // The feed before ran ahead of the clock: never go back.
            self.timeline.new_route();
            let media = packet.media_time.plus_nanos(behind);
            stamp = self.timeline.relay(packet.timestamp, media);
        }
        self.route = Some(route);
        self.note(stamp);
        Some((number, stamp, first))
    }

    /// The stamp of a frame, and whether it begins a route or a talk spurt.
    pub(super) fn stamp_frame(&mut self, source: Option<u64>, frame: &EncodedFrame) -> (u32, bool) {
        let (mut route, first) = self.route(source, 0);
        if first && let Some(behind) = self.behind(self.timeline.report(frame.media_time)) {
            route.lead = behind;
        }
        let stamp = self.timeline.stamp(frame.media_time.plus_nanos(route.lead));
        let gap = frame.media_time.nanos_since(route.end);
        let length = i64::try_from(frame.duration.as_nanos()).unwrap_or(0);
        route.end = frame.media_time.plus_nanos(length);
        self.route = Some(route);
        self.note(stamp);
        (stamp, first || gap > SPURT_GAP)
    }

    /// How far `stamp` lies behind where the next one may be, in nanoseconds.
    fn behind(&self, stamp: u32) -> Option<i64> {
        let ahead = i64::from(stamp.wrapping_sub(self.last?).cast_signed());
        let nanos = ahead.saturating_mul(1_000_000_000).checked_div(i64::from(self.clock))?;
        let least = i64::try_from(MIN_STEP.as_nanos()).unwrap_or(0);
        (nanos < least).then(|| least.saturating_sub(nanos))
    }

    fn note(&mut self, stamp: u32) {
        let newer = self.last.is_none_or(|last| stamp.wrapping_sub(last).cast_signed() > 0);
        if newer {
            self.last = Some(stamp);
        }
    }

    /// The stamp of now, for reports and keys.
    pub(super) fn stamp_now(&self, now: Instant) -> u32 {
        let lead = self.route.map_or(0, |route| route.lead);
        let now = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        self.timeline.report(MediaTime(now.saturating_add(lead)))
    }

    /// A number of the source's that is no media: the packets behind it move up.
    fn skip(&mut self, source: u64, number: Numbering) {
        if let Some(route) = &mut self.route
            && (route.source, route.epoch) == (Some(source), number.epoch)
            && let Some(numbers) = &mut route.numbers
            && number.index > numbers.newest
        {
            // What was lost in between stays a gap; what is late in between has no number left.
            numbers.shift = numbers.shift.saturating_sub(1);
            numbers.first = number.index.saturating_add(1);
        }
    }

    /// True once for each route.
    pub(super) const fn is_new_misfit(&mut self) -> bool {
        let Some(route) = &mut self.route else { return false };
        !std::mem::replace(&mut route.misfit_told, true)
    }

    fn header(&self, number: u64, timestamp: u32, marker: bool) -> RtpHeader {
        RtpHeader {
            payload_type: self.payload_type,
            marker,
            sequence: u16::try_from(number & 0xffff).unwrap_or(0),
            timestamp,
            ssrc: self.ssrc,
        }
    }

    const fn take_number(&mut self) -> u64 {
        let number = self.next;
        self.next = number.saturating_add(1);
        number
    }
}

impl Session {
    /// Sends a packet that another session received, with our SSRC, payload type, number and
    /// stamp. `source` tells apart who may feed this session; the packet's media time is that of
    /// our own clock.
    pub fn forward(&mut self, now: Instant, source: u64, packet: &MediaPacket<'_>, wire: &mut dyn Wire) {
        if !self.may_send_media() {
            return;
        }
        let Some((number, timestamp, first)) = self.sender.map(source, packet) else { return };
        let video = self.config.kind.is_video();
        if video && begins_keyframe(packet.payload) {
            self.asked.arrived();
            self.check_payload(packet.payload);
        }
        // The receiver's playout starts anew with a new feed; pictures end where they end.
        let marker = packet.marker || (first && !video);
        self.send_media(now, Some(number), timestamp, marker, packet.level, packet.payload, wire);
        self.meter(now);
    }

    /// Tells that a number of the source's packets is no media and was not forwarded.
    pub fn skip(&mut self, source: u64, number: Numbering) {
        self.sender.skip(source, number);
    }

    /// Sends a key when those before it are sent; false when the media has no way to, or too many
    /// wait. Sound pauses meanwhile.
    pub fn send_dtmf(&mut self, key: char, duration: Duration) -> bool {
        self.sender.sends && self.sender.dtmf.as_mut().is_some_and(|dtmf| dtmf.push(key, duration))
    }

    pub(super) fn poll_dtmf(&mut self, now: Instant, wire: &mut dyn Wire) {
        let soonest = self.sender.last.map(|last| last.wrapping_add(1));
        let stamp = self.sender.stamp_now(now);
        let stamp = soonest.filter(|soonest| stamp.wrapping_sub(*soonest).cast_signed() < 0).unwrap_or(stamp);
        // A key that ends makes three packets at once, one after the other.
        while let Some(packet) = self.sender.dtmf.as_mut().and_then(|dtmf| dtmf.poll(now, stamp)) {
            let number = self.sender.take_number();
            // Our numbers went on without the source's.
            if let Some(route) = &mut self.sender.route {
                route.numbers = None;
            }
            self.sender.note(packet.timestamp);
            let header = RtpHeader {
                payload_type: self.sender.dtmf_payload_type,
                ..self.sender.header(number, packet.timestamp, packet.marker)
            };
            self.send_rtp(now, header, None, &packet.payload, wire);
        }
    }

    pub(super) fn may_send_media(&self) -> bool {
        !self.closed && self.sender.sends && !self.sender.dtmf.as_ref().is_some_and(DtmfSender::is_active)
    }

    /// Sends one packet of media; without a number it gets the next. `level` is said where that is agreed.
    #[allow(clippy::too_many_arguments, reason = "the pieces of one packet, each used once")]
    pub(super) fn send_media(
        &mut self,
        now: Instant,
        number: Option<u64>,
        timestamp: u32,
        marker: bool,
        level: Option<u8>,
        payload: &[u8],
        wire: &mut dyn Wire,
    ) {
        let number = number.unwrap_or_else(|| self.sender.take_number());
        let header = self.sender.header(number, timestamp, marker);
        let level = self.config.levels.send.zip(level);
        self.send_rtp(now, header, level, payload, wire);
    }

    /// Writes, protects and sends one packet.
    fn send_rtp(
        &mut self,
        now: Instant,
        header: RtpHeader,
        level: Option<(u8, u8)>,
        payload: &[u8],
        wire: &mut dyn Wire,
    ) {
        let written = match level {
            // Whether it is voice we do not say.
            Some((id, level)) => {
                let item = [AudioLevel { level, voice: false }.to_byte()];
                header.write_extended(&[(id, &item)], &mut *self.scratch)
            }
            None => header.write(&mut *self.scratch),
        };
        let Ok(start) = written else { return };
        let end = start.saturating_add(payload.len());
        let fits = end.saturating_add(TRAILER) <= self.scratch.len();
        let Some(room) = self.scratch.get_mut(start..end).filter(|_| fits) else {
            self.drop_one();
            return;
        };
        room.copy_from_slice(payload);
        if let Some((history, pool)) = &mut self.sender.history
            && let Some(data) = self.scratch.get(..end).and_then(|packet| pool.copy(packet))
        {
            history.push(now, header.sequence, data);
        }
        self.send_scratch(now, end, wire);
    }

    /// Answers a NACK.
    pub(super) fn repeat(&mut self, now: Instant, sequence: u16, wire: &mut dyn Wire) {
        let round_trip = self.stats.round_trip.unwrap_or_default();
        let Some((history, _)) = &mut self.sender.history else { return };
        let Some(data) = history.repeat(now, sequence, round_trip) else { return };
        let end = data.len();
        let Some(room) = self.scratch.get_mut(..end) else { return };
        room.copy_from_slice(data);
        self.send_scratch(now, end, wire);
    }

    /// Protects and sends the packet at the front of the scratch buffer.
    fn send_scratch(&mut self, now: Instant, end: usize, wire: &mut dyn Wire) {
        let Some(to) = self.gate.rtp() else { return };
        if !self.gate.may_send(now) {
            self.stats.packets_withheld = self.stats.packets_withheld.saturating_add(1);
            return;
        }
        let locked = self.is_locked(Channel::Rtp);
        let header = header_length(&self.scratch);
        let len = match &mut self.srtp {
            _ if locked => None,
            Some(srtp) => srtp.send.protect_rtp(&mut *self.scratch, end).ok(),
            None => Some(end),
        };
        let Some(datagram) = len.and_then(|len| self.scratch.get(..len)) else {
            self.drop_one();
            return;
        };
        wire.send(Channel::Rtp, to, datagram);
        let bytes = u64::try_from(end.saturating_sub(header)).unwrap_or(0);
        self.sender.packets = self.sender.packets.saturating_add(1);
        self.sender.octets = self.sender.octets.saturating_add(bytes);
        self.sender.meter.bytes = self.sender.meter.bytes.saturating_add(bytes);
        self.stats.packets_sent = self.stats.packets_sent.saturating_add(1);
        self.stats.bytes_sent = self.stats.bytes_sent.saturating_add(bytes);
    }

    /// Watches the rate of a relay.
    pub(super) fn meter(&mut self, now: Instant) {
        let meter = &mut self.sender.meter;
        let since = *meter.since.get_or_insert(now);
        let passed = now.saturating_since(since);
        if passed < RATE_WINDOW {
            return;
        }
        let bits = u128::from(meter.bytes).saturating_mul(8_000_000_000);
        let rate = bits.checked_div(passed.as_nanos()).unwrap_or(0);
        meter.since = Some(now);
        meter.bytes = 0;
        // An eighth of grace: a second is short, and encoders aim at their rate from both sides.
        let limit = self.send_limit();
        let Some(limit) = limit.filter(|limit| rate > u128::from(limit.saturating_add(limit / 8))) else {
            self.sender.meter.over = 0;
            return;
        };
        let over = self.sender.meter.over.saturating_add(1);
        self.sender.meter.over = over;
        self.tell(Event::RateExceeded(limit));
        if over == RATE_PATIENCE {
            self.tell(Event::RateUnfit);
        }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("ssrc", &self.ssrc)
            .field("next", &self.next)
            .field("route", &self.route)
            .finish_non_exhaustive()
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Of a packet that we have made: its extension holds one item of one byte.
const fn header_length(packet: &[u8; SCRATCH]) -> usize {
    let [first, ..] = *packet;
    if first & 0x10 == 0 { FIXED_HEADER } else { FIXED_HEADER.saturating_add(LEVEL_EXTENSION) }
}
