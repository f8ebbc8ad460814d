//! Whole frames instead of packets: the road to and from the engine, and of relays whose sides
//! packetise differently. Also what notices loss: each gap is asked for again where the peer
//! allows it, and one that stays a gap costs the peer one keyframe request.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use crosspoint_codecs::format::{Codec, MediaFormat, MediaKind};
use crosspoint_codecs::frame::{Data, EncodedFrame, MediaTime, Pool};

use super::keyframe::Loss;
use super::{Carries, Event, MediaPacket, Numbering, Session, SessionConfig, Wire};
use crate::Instant;
use crate::rtp::packet::MAX_PAYLOAD;
use crate::rtp::payload::audio::{AudioDepacketizer, AudioPacketizer, duration};
use crate::rtp::payload::h264::{H264Depacketizer, H264Packetizer};
use crate::rtp::payload::{Depacketizer, Packetizer, Payload, PayloadError, Unit};
use crate::rtp::reorder::{NackPolicy, Reorder, ReorderConfig};

/// Sound is held this long for a packet that another one overtook. Playout orders by media time
/// itself and gets later ones as well; this only keeps the count of losses honest.
const AUDIO_WAIT: Duration = Duration::from_millis(10);

/// Pictures are held this long for a packet that is only late, and a keyframe asked for afterwards,
const VIDEO_WAIT: Duration = Duration::from_millis(30);

/// or this long where packets came later than that: each of them would cost a second of pictures.
const VIDEO_PATIENCE: Duration = Duration::from_millis(120);

/// and this long for one that is asked for again: a round trip across a continent. Longer, and a
/// keyframe is there sooner.
const NACK_WAIT: Duration = Duration::from_millis(150);

/// Packets in the reorder window: half a second of video at 8 Mbit/s, a second of sound.
const VIDEO_WINDOW: usize = 512;
const AUDIO_WINDOW: usize = 64;

/// Packets that are held for one before them; bytes of each. Overflow: the packet is dropped, which
/// is a loss like any other.
const HELD_PACKETS: usize = 256;
const HELD_BYTES: usize = 1500;

/// Complete frames that wait to be polled. One packet completes two at most; a gap that is given up
/// may release a window of sound. Overflow: the oldest are dropped and counted.
const READY: usize = AUDIO_WINDOW;

/// Lost packets asked for at once.
const REQUESTS: usize = 64;

/// Packets of pictures over which loss is judged: some three seconds, so that at a tenth it is not taken for a sixth.
const JUDGED: u64 = 256;
/// One lost of so many makes a lossy road,
const LOSSY: u64 = 6;
/// and of so many one on which requests are lost as well: of those that there may be in half a minute, one.
const LOSING: u64 = 32;

/// The frame side of a session.
pub(super) struct Frames {
    /// Follows the numbering whether or not frames are wanted: it is what notices loss.
    reorder: Reorder<Held>,
    epoch: u32,
    /// The number that would be released at once.
    next: Option<u64>,
    road: Option<Road>,
    packetizer: Option<(Carries, Box<dyn Packetizer>)>,
    pub(super) overflow: u64,
    pub(super) lost: bool,
    /// Packets released and given up when the road was last judged; and how much it loses.
    judged: (u64, u64),
    loss: Loss,
}

/// From packets in order to frames.
struct Road {
    carries: Carries,
    depacketizer: Box<dyn Depacketizer>,
    pool: Pool,
    held: Pool,
    /// Moments of the newest two time stamps: a unit may be complete only when the next one begins.
    moments: [Moment; 2],
    ready: VecDeque<(Instant, EncodedFrame)>,
}

/// A packet whose turn may have to wait.
#[derive(Debug)]
struct Held {
    /// `None`: no media, or its bytes are the ones at hand.
    data: Option<Data>,
    media: bool,
    moment: Moment,
    marker: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Moment {
    timestamp: u32,
    media_time: MediaTime,
    arrival: Instant,
    level: Option<u8>,
}

impl Frames {
    pub(super) fn new(config: &SessionConfig) -> Self {
        let video = config.kind.is_video();
        let max_wait = match (config.feedback.nack, video) {
            (true, _) => NACK_WAIT,
            (false, true) => VIDEO_WAIT,
            (false, false) => AUDIO_WAIT,
        };
        let reorder = Reorder::new(&ReorderConfig {
            capacity: if video { VIDEO_WINDOW } else { AUDIO_WINDOW },
            max_wait,
            nack: config.feedback.nack.then(NackPolicy::default),
        });
        let reorder = if video { reorder.patient(VIDEO_PATIENCE) } else { reorder };
        Self {
            reorder,
            epoch: 0,
            next: None,
            road: None,
            packetizer: None,
            overflow: 0,
            lost: false,
            judged: (0, 0),
            loss: Loss::default(),
        }
    }

    /// Takes other bounds; what is held goes on at once.
    pub(super) fn configure(&mut self, config: &SessionConfig) {
        self.reorder = Self::new(config).reorder;
        self.next = None;
        self.judged = (0, 0);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.reorder.deadline()
    }

    pub(super) fn set_round_trip(&mut self, round_trip: Duration) {
        self.reorder.set_round_trip(round_trip);
    }

    /// Takes the next packet of the source; `payload` is that of a media packet.
    fn push(&mut self, kind: MediaKind, now: Instant, number: Numbering, mut held: Held, payload: &[u8]) {
        let Self { reorder, epoch, next, road, overflow, lost, .. } = self;
        if *epoch != number.epoch {
            *epoch = number.epoch;
            *next = None;
            reorder.flush(&mut |_| ());
            if let Some(road) = road {
                road.depacketizer.reset();
            }
        }
        if !kind.is_video() && held.media && reorder.claim_given_up(number.index) {
            if let Some(road) = road {
                road.take(kind, &held, payload, 0, overflow);
            }
            return;
        }
        let turn = next.is_none_or(|next| next == number.index) && reorder.held() == 0;
        if !turn && held.media {
            // Without a road its turn comes when nobody has its bytes any more.
            held.data = road.as_ref().and_then(|road| road.held.copy(payload));
            held.media = held.data.is_some();
            if road.is_some() && !held.media {
                *overflow = overflow.saturating_add(1);
                return;
            }
        }
        reorder.push(now, number.index, held, &mut |ready| {
            *next = Some(ready.index.saturating_add(1));
            *lost |= ready.lost_before > 0;
            if let Some(road) = road {
                let data = ready.item.data.as_deref().unwrap_or(payload);
                road.take(kind, &ready.item, data, ready.lost_before, overflow);
            }
        });
    }

    /// How much the road loses, as far as it was judged.
    fn loss(&mut self) -> Loss {
        let stats = self.reorder.stats();
        let released = stats.released.saturating_sub(self.judged.0);
        let lost = stats.lost.saturating_sub(self.judged.1);
        let all = released.saturating_add(lost);
        if all >= JUDGED {
            let is = |one_of: u64| lost.saturating_mul(one_of) >= all;
            self.loss = match (is(LOSSY), is(LOSING)) {
                (true, _) => Loss::Much,
                (false, true) => Loss::Some,
                (false, false) => Loss::Little,
            };
            self.judged = (stats.released, stats.lost);
        }
        self.loss
    }

    /// Gives up what has waited long enough.
    fn poll(&mut self, kind: MediaKind, now: Instant) {
        let Self { reorder, next, road, overflow, lost, .. } = self;
        reorder.poll(now, &mut |ready| {
            *next = Some(ready.index.saturating_add(1));
            *lost |= ready.lost_before > 0;
            if let Some(road) = road {
                let data = ready.item.data.as_deref().unwrap_or(&[]);
                road.take(kind, &ready.item, data, ready.lost_before, overflow);
            }
        });
    }
}

impl Road {
    fn take(&mut self, kind: MediaKind, held: &Held, data: &[u8], lost_before: u16, overflow: &mut u64) {
        if !held.media || data.is_empty() {
            return;
        }
        let Self { carries, depacketizer, pool, moments, ready, .. } = self;
        if moments[0].timestamp != held.moment.timestamp {
            moments.swap(0, 1);
        }
        moments[0] = held.moment;
        let payload = Payload { data, timestamp: held.moment.timestamp, marker: held.marker, lost_before };
        // What is malformed shows as loss in the next unit.
        let _ = depacketizer.push(payload, &mut |unit: Unit<'_>| {
            let moment = moments.iter().find(|moment| moment.timestamp == unit.timestamp);
            let (Some(moment), Some(data)) = (moment, pool.copy(unit.data)) else {
                *overflow = overflow.saturating_add(1);
                return;
            };
            if ready.len() >= READY {
                ready.pop_front();
                *overflow = overflow.saturating_add(1);
            }
            let frame = EncodedFrame {
                kind,
                media_time: moment.media_time,
                duration: duration(carries.codec, unit.data).unwrap_or_default(),
                // A unit with a hole is one loss at least.
                lost_before: unit.lost.max(u16::from(unit.damaged)),
                keyframe: unit.keyframe,
                level: moment.level,
                data,
            };
            ready.push_back((moment.arrival, frame));
        });
    }
}

impl Session {
    /// From now on, what comes is put together to frames from `pool`, for [`Self::poll_frame`].
    /// Frames are made of the first media format that the peer may send; packets of others are only
    /// relayed.
    pub fn open_frames(&mut self, pool: Pool) {
        self.frames.road = None;
        let Some(carries) = self.receives().next() else { return };
        let depacketizer: Box<dyn Depacketizer> = match carries.codec {
            // Of no harm to a relay: a mode without fragments tears none.
            Codec::H264 => Box::new(H264Depacketizer::new().with_torn_slices()),
            codec => Box::new(AudioDepacketizer::new(codec)),
        };
        self.frames.road = Some(Road {
            carries,
            depacketizer,
            pool,
            held: Pool::new(HELD_PACKETS.min(window(self.config.kind)), HELD_BYTES),
            moments: [Moment::default(); 2],
            ready: VecDeque::with_capacity(READY),
        });
    }

    /// Ends that.
    pub fn close_frames(&mut self) {
        self.frames.road = None;
    }

    /// What the frames carry; `None` when none are put together.
    pub fn frames_carry(&self) -> Option<Carries> {
        self.frames.road.as_ref().map(|road| road.carries)
    }

    /// The next complete frame, and when its last packet came.
    pub fn poll_frame(&mut self) -> Option<(Instant, EncodedFrame)> {
        self.frames.road.as_mut()?.ready.pop_front()
    }

    /// A media packet came.
    pub(super) fn track(&mut self, now: Instant, packet: &MediaPacket<'_>) {
        let wanted = match &self.frames.road {
            Some(road) => road.carries == packet.carries,
            // Without a road only video and NACK care for gaps.
            None if !self.follows_gaps() => return,
            None => true,
        };
        let MediaPacket { timestamp, media_time, level, .. } = *packet;
        let moment = Moment { timestamp, media_time, arrival: now, level };
        let held = Held { data: None, media: wanted, moment, marker: packet.marker };
        self.frames.push(self.config.kind, now, packet.number, held, packet.payload);
        self.count_gaps();
    }

    /// A packet came whose number is one of the row but which is no media.
    pub(super) fn track_ended(&mut self, now: Instant, number: Numbering) {
        if self.frames.road.is_some() || self.follows_gaps() {
            let held = Held { data: None, media: false, moment: Moment::default(), marker: false };
            self.frames.push(self.config.kind, now, number, held, &[]);
            self.count_gaps();
        }
    }

    const fn follows_gaps(&self) -> bool {
        self.config.kind.is_video() || self.config.feedback.nack
    }

    /// What the reorder buffer wants done at its deadline.
    pub(super) fn poll_reorder(&mut self, now: Instant, wire: &mut dyn Wire) {
        self.frames.poll(self.config.kind, now);
        self.count_gaps();
        let mut lost = [0; REQUESTS];
        let count = self.frames.reorder.requests(now, &mut lost);
        if let Some(lost) = lost.get(..count).filter(|lost| !lost.is_empty()) {
            self.send_nack(now, lost, wire);
        }
    }

    /// An unrepairable gap in pictures is one wish for a keyframe.
    fn count_gaps(&mut self) {
        if std::mem::take(&mut self.frames.lost) && self.config.kind.is_video() {
            self.wanted.set_loss(self.frames.loss());
            self.wanted.want();
        }
    }

    /// Packetises and sends a frame at once. `source` is who it is relayed from, `None` for one that
    /// was made here; its media time is that of our own clock.
    pub fn send_frame(
        &mut self,
        now: Instant,
        source: Option<u64>,
        frame: &EncodedFrame,
        wire: &mut dyn Wire,
    ) {
        if !self.may_send_media() {
            return;
        }
        let Some(ours) = self.config.send.as_ref().map(|send| Carries::from(&send.format)) else { return };
        let known = self.frames.packetizer.take().filter(|(carries, _)| *carries == ours);
        let Some((carries, mut packetizer)) = known.or_else(|| self.make_packetizer()) else { return };
        let (timestamp, first) = self.sender.stamp_frame(source, frame);
        let video = self.config.kind.is_video();
        let result = packetizer.packetize(&frame.data, MAX_PAYLOAD, &mut |payload, marker| {
            self.send_media(
                now,
                None,
                timestamp,
                if video { marker } else { first },
                frame.level,
                payload,
                wire,
            );
        });
        self.frames.packetizer = Some((carries, packetizer));
        match result {
            Ok(()) => {
                if frame.keyframe && video {
                    self.asked.arrived();
                    if source.is_some() {
                        self.check_unit(&frame.data);
                    }
                }
                if source.is_some() {
                    self.meter(now);
                }
            }
            Err(PayloadError::NalTooLarge { .. }) if self.sender.is_new_misfit() => {
                self.tell(Event::NalTooLarge);
            }
            Err(_) => self.stats.overflow = self.stats.overflow.saturating_add(1),
        }
    }

    fn make_packetizer(&self) -> Option<(Carries, Box<dyn Packetizer>)> {
        let format = &self.config.send.as_ref()?.format;
        let packetizer: Box<dyn Packetizer> = match format {
            MediaFormat::Audio(_) => Box::new(AudioPacketizer),
            MediaFormat::Video(video) => Box::new(H264Packetizer::new(video.mode)),
        };
        Some((Carries::from(format), packetizer))
    }
}

const fn window(kind: MediaKind) -> usize {
    if kind.is_video() { VIDEO_WINDOW } else { AUDIO_WINDOW }
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames")
            .field("carries", &self.road.as_ref().map(|road| road.carries))
            .field("held", &self.reorder.held())
            .finish_non_exhaustive()
    }
}
